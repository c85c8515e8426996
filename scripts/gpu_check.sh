#!/usr/bin/env bash
# Does this machine's GPU do what training asks of it? In under ten minutes, on one GPU, without model or data.
#
#   bash scripts/gpu_check.sh [out=FILE.md] [commit=HASH]
#
# Prints a table, and writes it to FILE.md and FILE.json, in the order of what matters: the compiler that Triton needs,
# the vision tower's first layer, attention kernels against SDPA, two GRPO steps of a model of random weights in the
# largest published shape that fits, the training's vLLM over two phases, and the arithmetic a second of an update. Each
# is a process of its own, and what failed or is missing is made again by the same command. What is not installed is
# named and skipped. Exit status 1: something failed, or there is no GPU. commit: what to write where the folder is no
# git checkout.
# PYTHON=… checks with that interpreter as it is, not with .venv; torch, torchvision, transformers and accelerate are
# enough.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then bash "$root/environment.sh"; fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
visible=${CUDA_VISIBLE_DEVICES:-0}  # one process that sees several GPUs is refused
exec env PYTHONSAFEPATH=1 CUDA_VISIBLE_DEVICES="${visible%%,*}" "${PYTHON:-$root/.venv/bin/python}" \
    "$root/bench/gpu_check.py" "$@"
