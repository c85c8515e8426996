#!/usr/bin/env bash
# GLOBE's reward model: whether a photo's place can be told from what is to be seen in it, learned from teachers.
#
#   bash scripts/train/localizability.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/globe7b/localizability.yaml unless named. Runs from any folder; relative paths mean the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
stage localizability "$@"
