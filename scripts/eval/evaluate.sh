# shellcheck shell=bash
# Sourced by the scripts beside it and in ../eval_bench: `evaluate BENCHMARK MODEL [key=value …]` predicts, scores and
# draws the page. Beside OUT.jsonl that leaves OUT.scores.json and OUT.html. score.KEY=… are keys of eval.score.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

evaluate() {
    local benchmark=$1 argument model='' out='' keys=() score=() chain=() beside=() pictures=() scored=true
    shift
    for argument in "$@"; do
        case $argument in
            --help | -h | --dry-run) scored=; keys+=("$argument") ;;
            shard=*) scored=; keys+=("$argument") ;;  # the last command, without shard, joins the parts and scores them
            out=*) out=${argument#out=} ;;
            model=*) model=${argument#model=} ;;
            score.*=*) score+=("${argument#score.}") ;;
            chain.*=*)
                if [ "$benchmark" = GREval-Bench ]; then chain+=("${argument#chain.}"); else keys+=("$argument"); fi ;;
            benchmark.labels=*) keys+=("$argument"); beside+=("data=${argument#*=}") ;;
            benchmark.images=*)
                keys+=("$argument"); beside+=("image_root=${argument#*=}"); pictures=("images=${argument#*=}") ;;
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
    local stem=${out%.jsonl}
    if [ ${#chain[@]} -gt 0 ]; then
        chain=(predictions="$out" out="$stem.chain.json" cache="$(dirname "$out")/llm.jsonl" ${beside+"${beside[@]}"}
               "${chain[@]}")
    fi
    bash "$root/environment.sh"
    if [ ${#chain[@]} -gt 0 ] && [ -n "$scored" ]; then  # a missing key is told before the model answers for hours
        in_environment -m eval.chain "${chain[@]}" --dry-run > /dev/null || {
            echo "the keys of eval.chain are written chain.KEY=… here" >&2
            exit 2
        }
    fi
    if [ ${#score[@]} -gt 0 ] && [ -n "$scored" ]; then
        in_environment -m eval.score predictions="$out" "${score[@]}" --dry-run > /dev/null || {
            echo "the keys of eval.score are written score.KEY=… here" >&2
            exit 2
        }
    fi
    in_environment -m eval.predict ${model:+model="$model"} benchmark.name="$benchmark" out="$out" ${keys+"${keys[@]}"}
    if [ -z "$scored" ]; then
        return
    fi
    if [ ${#chain[@]} -gt 0 ]; then
        in_environment -m eval.chain "${chain[@]}"
    fi
    in_environment -m eval.score predictions="$out" out="$stem.scores.json" ${chain+chain="$stem.chain.json"} \
        ${score+"${score[@]}"}
    in_environment -m eval.compare scores="[\"$stem.scores.json\"]" page="$stem.html" ${pictures+"${pictures[@]}"}
}

# The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a folder of his that is called
# `eval` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 PATH="$root/.venv/bin:$PATH" "$root/.venv/bin/python" "$@"; }
