#!/usr/bin/env bash
# Stage 2: GRPO on the format and on a judge's verdict, from stage 1.
#
#   bash scripts/train/stage2.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/stage2.yaml unless named. Runs from any folder; relative paths mean the caller's.
# Without judge.model_name_or_path a judge is trained first, by the judge.yaml beside CONFIG, next to output_dir. The
# paper's form, in which the policy itself judges, is stage2_verdict.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
judged_stage stage2 judge "$@"
