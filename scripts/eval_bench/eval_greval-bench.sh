#!/usr/bin/env bash
# GREval-Bench, its localization half: predictions of one model, and their scores.
#
#   bash scripts/eval_bench/eval_greval-bench.sh MODEL [key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# benchmark/bench_data/{GREval-Bench.json,imgs}; writes eval/output/GREval-Bench/ unless out= says otherwise. Paths are the caller's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../eval/evaluate.sh"
evaluate GREval-Bench "$@"
