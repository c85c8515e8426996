#!/usr/bin/env bash
# What of a small adapter's change the next stage, evaluation, a judge and vLLM see, in bfloat16.
#
#   bash experiments/adapter_rounding.sh [run=quickstart] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.adapter_rounding "$@"
