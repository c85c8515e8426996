#!/usr/bin/env bash
# GLOBE: GRPO on the place's name, on what is seen and on localizability, from the base or a stage 1.
#
#   bash scripts/train/globe.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/globe7b/globe.yaml unless named. Runs from any folder; relative paths mean the caller's.
# Where weights.localizability is above 0 and no judge.model_name_or_path is given, the reward model is trained first, by
# the localizability.yaml beside CONFIG, next to output_dir.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
bash "$root/environment.sh"
needed=$(in_environment "$root/scripts/train/judge_needed.py" globe "$@")
if [ -n "$needed" ]; then
    judge=()
    while IFS= read -r argument; do judge+=("$argument"); done <<< "$needed"
    for argument in "$@"; do
        if [ "$argument" = --dry-run ]; then judge+=(--dry-run); fi
    done
    folder=${judge[1]#output_dir=}
    echo "globe.sh: no judge.model_name_or_path is given, so the reward model is trained first, into $folder"
    forwarding stage localizability "${judge[@]}"
    set -- "$@" "judge.model_name_or_path=$folder"
fi
stage globe "$@"
