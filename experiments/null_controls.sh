#!/usr/bin/env bash
# Two controls that must fail, for a finished quickstart: stage 3 on shuffled truths, stage 1 trained longer.
#
#   bash experiments/null_controls.sh [run=NAME] [seed=N] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.null_controls "$@"
