#!/usr/bin/env bash
# From photos with coordinates to GRE30K's three files: seeds, split, distil, judge, cot, verify, inspect.
#
#   bash scripts/data/gre30k.sh CONFIG [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/data/gre30k.yaml, or configs/data/regions.yaml, which needs no teacher. Keys are STEP.KEY. Killed at any
# moment, the same command goes on. Keys of endpoints come from the environment (OPENAI_API_KEY). See docs/data.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$root/environment.sh"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" -m data_prep.recipe "$@"
