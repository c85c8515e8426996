#!/usr/bin/env bash
# The judge: a True/False verifier of photo, chain and answer, trained on GRE30K-Judge.
#
#   bash scripts/train/judge.sh [CONFIG] [key=value …] [--help] [--dry-run]
#
# CONFIG: configs/gre7b/judge.yaml unless named. Runs from any folder; relative paths mean the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
stage judge "$@"
