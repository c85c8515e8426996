#!/usr/bin/env bash
# Stage 2: GRPO on the format and on a judge's verdict, from the checkpoint of stage 1.
#
#   bash scripts/train/stage2.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/stage2.yaml unless named. Runs from any folder; relative paths mean the caller's.
# Without judge.model_name_or_path a judge is trained first, by the judge.yaml beside CONFIG, next to output_dir.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
needed=$(judge_needed "$@")
if [ -n "$needed" ]; then
    config=${needed%%$'\t'*} output_dir=${needed#*$'\t'}
    echo "stage2.sh: no judge.model_name_or_path is given; training one into $output_dir first"
    stage judge "$config" "output_dir=$output_dir"
    set -- "$@" "judge.model_name_or_path=$output_dir"
fi
stage stage2 "$@"
