#!/usr/bin/env bash
# Everything once, on the tiny world: make it, train three stages and a judge, evaluate, report.
#
#   bash scripts/quickstart.sh [run=NAME] [seed=N] [key=value …] [--help]
#
# Ends in runs/NAME/report.html and runs/NAME/results.json of the folder it is called from (NAME: quickstart).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$root/scripts/quickstart.py" "$@"
