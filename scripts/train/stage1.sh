#!/usr/bin/env bash
# Stage 1: supervised fine-tuning on GRE30K-CoT, from a base model.
#
#   bash scripts/train/stage1.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/stage1.yaml unless named. Runs from any folder; relative paths mean the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
stage stage1 "$@"
