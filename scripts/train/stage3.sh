#!/usr/bin/env bash
# Stage 3: GRPO on the format and on the distance to the truth, from the checkpoint of stage 2.
#
#   bash scripts/train/stage3.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/stage3.yaml unless named. Runs from any folder; relative paths mean the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
stage stage3 "$@"
