#!/usr/bin/env bash
# DeepSpeed on two processes, a vLLM in each: the numbers of one process, and a killed run that goes on.
#
#   bash experiments/zero_proof.sh [run=quickstart] [stage=NAME] [key=value …] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.zero_proof "$@"
