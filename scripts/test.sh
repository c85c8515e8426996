#!/usr/bin/env bash
# The tests: bash scripts/test.sh [pytest arguments]. No network, no GPU needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash environment.sh
exec .venv/bin/python -m pytest --durations=15 "$@"
