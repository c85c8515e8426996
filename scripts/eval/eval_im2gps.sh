#!/usr/bin/env bash
# Im2GPS (237 photos): predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_im2gps.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/Im2GPS/test/{img,label}; writes eval/output/Im2GPS/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate Im2GPS "$@"
