#!/usr/bin/env bash
# GRE's Google StreetView (your own copy, benchmark.rows=N): predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_google_streetview.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/Google_StreetView/test/{img,label}; writes eval/output/Google_StreetView/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate Google_StreetView "$@"
