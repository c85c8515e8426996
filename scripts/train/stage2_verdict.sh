#!/usr/bin/env bash
# Stage 2 in the paper's form: GRPO on the policy's own verdicts about GRE30K-Judge rows, from stage 1.
#
#   bash scripts/train/stage2_verdict.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/stage2_verdict.yaml unless named. Runs from any folder; relative paths mean the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
stage stage2_verdict "$@"
