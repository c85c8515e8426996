# shellcheck shell=bash
# Sourced by the scripts beside it and in ../eval_bench: `evaluate BENCHMARK MODEL [key=value …]` predicts, then scores.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

evaluate() {
    local benchmark=$1 argument model='' out='' keys=() scored=true
    shift
    for argument in "$@"; do
        case $argument in
            --help | -h | --dry-run) scored=; keys+=("$argument") ;;
            out=*) out=${argument#out=} ;;
            model=*) model=${argument#model=} ;;
            *=* | -*) keys+=("$argument") ;;
            *) if [ -n "$model" ]; then keys+=("$argument"); else model=$argument; fi ;;
        esac
    done
    if [ -z "$model" ] && [ -n "$scored" ]; then
        echo "usage: bash $0 MODEL [key=value …] [--help] [--dry-run]; MODEL is a stage's folder or a plain model's," \
             "which also needs prompt=… min_pixels=… max_pixels=…" >&2
        exit 2
    fi
    local name=${model%/}
    if [ -z "$out" ]; then  # the last two parts of the model's path tell runs/a/stage3 from runs/b/stage3
        out=eval/output/$benchmark/$(basename "$(dirname "${name:-model}")")-$(basename "${name:-model}").jsonl
    fi
    bash "$root/environment.sh"
    in_environment -m eval.predict ${model:+model="$model"} benchmark.name="$benchmark" out="$out" ${keys+"${keys[@]}"}
    if [ -n "$scored" ]; then
        in_environment -m eval.score predictions="$out"
    fi
}

# The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a folder of his that is called
# `eval` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }
