#!/usr/bin/env bash
# GREval-Bench: predictions of one model, the quality of their chains, the scores of both, and a page.
#
#   bash scripts/eval_bench/eval_greval-bench.sh MODEL [key=value …] [chain.key=value …] [--help] [--dry-run]
#
# MODEL: a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…. Reads
# benchmark/bench_data/{GREval-Bench.json,imgs}; writes eval/output/GREval-Bench/ unless out= says otherwise: OUT.jsonl,
# OUT.scores.json, OUT.html and, with chains, OUT.chain.json. Paths are the caller's.
#
# Chains are scored where their models are named; without them the scores and the page say that they were left out:
#   chain.clip=DIR chain.bert=DIR chain.bert_layer=N chain.llm.model=NAME   and chain.llm.url=URL, or
#   chain.cache=FILE with that LLM's replies (llm.jsonl beside OUT otherwise). All keys: python -m eval.chain --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../eval/evaluate.sh"
evaluate GREval-Bench "$@"
