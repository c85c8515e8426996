#!/usr/bin/env bash
# Kill every stage at random moments; it must end with the weights of an uninterrupted run.
#
#   bash experiments/kill_proof.sh [run=quickstart] [kills=10] [stage=NAME] [key=value …] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.kill_proof "$@"
