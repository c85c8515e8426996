#!/usr/bin/env bash
# MP16-Reason-Test, GLOBE's: predictions of one model, their scores by name and by distance, and a page.
#
#   bash scripts/eval/eval_mp16_reason.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# eval/eval_data/MP16-Reason-Test/test/{img,label}; for the test file that scripts/data/mp16_reason.sh makes, benchmark.labels=
# and benchmark.images= say where it lies. A model that answers with coordinates: score.answer=coordinates. Writes
# eval/output/MP16-Reason-Test/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/evaluate.sh"
evaluate MP16-Reason-Test score.answer=names score.min_population=15000 "$@"
