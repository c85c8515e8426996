#!/usr/bin/env bash
# Any table of photos: predictions of one model, their scores, and a page.
#
#   bash scripts/eval/eval_csv.sh MODEL benchmark.labels=FILE.csv benchmark.images=DIR [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. FILE.csv has a header and
# columns for the photo's name, latitude and longitude (eval/benchmarks/reader.py lists the names they may have).
# Writes eval/output/csv/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate csv "$@"
