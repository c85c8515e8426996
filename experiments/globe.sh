#!/usr/bin/env bash
# GLOBE on the world of a finished quickstart: one, two and three rewards, beside fine-tuning and rejection sampling.
#
#   bash experiments/globe.sh [run=NAME] [seed=N] [arm=NAME] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.globe "$@"
