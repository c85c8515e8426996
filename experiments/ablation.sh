#!/usr/bin/env bash
# What each part of the recipe is worth, on a finished quickstart: every arm trained once, all on the same test rows.
#
#   bash experiments/ablation.sh [run=NAME] [seed=N] [arm=NAME] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.ablation "$@"
