#!/usr/bin/env bash
# YFCC26k: predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_yfcc26k.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/YFCC26k/test/{img,label}; writes eval/output/YFCC26k/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate YFCC26k "$@"
