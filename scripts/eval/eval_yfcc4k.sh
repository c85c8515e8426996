#!/usr/bin/env bash
# YFCC4k: predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_yfcc4k.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/YFCC4k/test/{img,label}; writes eval/output/YFCC4k/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate YFCC4k "$@"
