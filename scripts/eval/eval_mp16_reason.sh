#!/usr/bin/env bash
# MP16-Reason-Test, GLOBE's: predictions of one model, their scores by name and by distance, and a page.
#
#   bash scripts/eval/eval_mp16_reason.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. One that answers with
# coordinates: score.answer=coordinates. Reads eval/eval_data/MP16-Reason-Test/test/{img,label}; writes
# eval/output/MP16-Reason-Test/ unless out= says otherwise. Paths are the caller's. Another test file of this form, such as
# scripts/data/mp16_reason.sh makes, is none of 12,000 rows: scripts/eval/eval_csv.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate MP16-Reason-Test score.answer=names score.min_population=15000 "$@"
