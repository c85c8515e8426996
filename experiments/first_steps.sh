#!/usr/bin/env bash
# The first steps of every tiny stage, to the last bit: what a change that must change no number is held to.
#
#   bash experiments/first_steps.sh [run=quickstart] [out=FILE.json] [against=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
export NPROC=1 OMP_NUM_THREADS=1  # last bits depend on both
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.first_steps "$@"
