#!/usr/bin/env bash
# Everything once, on the tiny world: make it, train three stages and a judge, evaluate, report.
#
#   bash scripts/quickstart.sh [run=NAME] [seed=N] [key=value …] [--help]
#
# Ends in runs/NAME/report.html and runs/NAME/results.json of the folder it is called from (NAME: quickstart).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/train/stage.sh"
bash "$root/environment.sh"
# Two processes of one thread, whatever the machine has: a second thread gains the tiny model nothing, and numbers do not
# depend on the number of cores. One process where there is one GPU: the steps stay the same, see quickstart.py.
count_processes
export NPROC=${NPROC:-$((gpus == 1 ? 1 : 2))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$root/scripts/quickstart.py" "$@"
