#!/usr/bin/env bash
# Geo-R beside GRE on the world of a finished quickstart, at equal samples.
#
#   bash experiments/geor.sh [run=NAME] [seed=N] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.geor "$@"
