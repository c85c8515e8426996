#!/usr/bin/env bash
# GWS15k (your own copy): predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_gws15k.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/GWS15k/test/{img,label}; writes eval/output/GWS15k/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate GWS15k "$@"
