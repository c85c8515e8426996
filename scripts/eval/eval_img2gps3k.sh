#!/usr/bin/env bash
# Im2GPS3k: predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_img2gps3k.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/Im2GPS3k/test/{img,label}; writes eval/output/Im2GPS3k/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate Im2GPS3k "$@"
