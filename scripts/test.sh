#!/usr/bin/env bash
# The tests: bash scripts/test.sh [pytest arguments]. No network, no GPU needed.
# Two processes of one thread take the test files in turn; -n 0 keeps them in one, as --pdb needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash environment.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --durations=25 "$@"
