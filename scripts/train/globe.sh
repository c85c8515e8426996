#!/usr/bin/env bash
# GLOBE: GRPO on the place's name, on what is seen and on localizability, from the base or a stage 1.
#
#   bash scripts/train/globe.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/globe7b/globe.yaml unless named. Runs from any folder; relative paths mean the caller's.
# Where weights.localizability is above 0 and no judge.model_name_or_path is given, the reward model is trained first, by
# the localizability.yaml beside CONFIG, next to output_dir, from the same parent and seed where these are given here.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
judged_stage globe localizability "$@"
