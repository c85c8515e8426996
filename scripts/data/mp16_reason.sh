#!/usr/bin/env bash
# From photos with coordinates to MP16-Reason in GLOBE's order: seeds, distil, cot, verify, reason, inspect.
#
#   bash scripts/data/mp16_reason.sh CONFIG [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/data/mp16_reason.yaml. Keys are STEP.KEY. Killed at any moment, the same command goes on. Keys of
# endpoints come from the environment (OPENAI_API_KEY). See docs/data.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$root/environment.sh"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" -m data_prep.recipe "$@"
