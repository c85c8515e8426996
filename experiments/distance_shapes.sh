#!/usr/bin/env bash
# The distance rewards that systems publish, on a finished quickstart: stage 3 once by each, at equal samples.
#
#   bash experiments/distance_shapes.sh [run=NAME] [seed=N] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.distance_shapes "$@"
