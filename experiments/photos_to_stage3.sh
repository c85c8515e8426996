#!/usr/bin/env bash
# From a folder of photos to a trained model: seeds, a teacher behind an address, judge and CoT rows, checks, all stages.
#
#   bash experiments/photos_to_stage3.sh [run=photos] [seed=N] [photos=N] [steps=SHARE] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.photos_to_stage3 "$@"
