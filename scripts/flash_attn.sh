#!/usr/bin/env bash
# flash-attn into .venv, compiled against the torch that is there. `environment.sh cuda` calls this last.
#
#   bash scripts/flash_attn.sh
#
# MAX_JOBS=N compiles N files at a time (flash-attn chooses by cores and memory), FLASH_ATTN_CUDA_ARCHS=90 for these GPUs
# only. When it cannot be built: exit status 1, the cause in one line, and an environment as before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
log=.venv/flash-attn.log
uv() { "$python" -m uv pip "$@" >> "$log" 2>&1; }

give_up() {
    echo "flash_attn.sh: flash-attn was not built: $1" >&2
    exit 1
}

# What went wrong, as far as the log tells.
cause() {
    if grep -qE 'Killed|[Oo]ut of memory|signal 9|bad_alloc' "$log"; then
        echo "the compiler ran out of memory (MAX_JOBS=${MAX_JOBS:-unset}): compile fewer files at a time, MAX_JOBS=2 say"
    elif grep -q 'No space left' "$log"; then
        echo "no space is left on the disk"
    else
        { grep -iE 'error|failed' "$log" || tail -n 1 "$log"; } | tail -n 1 | sed 's/^[[:space:]]*//'
    fi
}

if "$python" -c 'import flash_attn' 2> /dev/null; then exit 0; fi
: > "$log"

found=$("$python" -c 'import torch.utils.cpp_extension as cpp; print(cpp.CUDA_HOME or "", torch.version.cuda or "none")')
cuda_home=${found% *}
torch_cuda=${found##* }
if ! release=$("$cuda_home/bin/nvcc" --version 2> /dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p'); then
    give_up "there is no nvcc: install the toolkit of CUDA $torch_cuda, or set CUDA_HOME to where it is"
elif [ "${release%%.*}" != "${torch_cuda%%.*}" ]; then
    give_up "$cuda_home is of CUDA $release and torch is built for CUDA $torch_cuda: set CUDA_HOME to a toolkit of that"
elif ! command -v "${CXX:-c++}" > /dev/null; then
    give_up "there is no C++ compiler: install one (on Debian: apt-get install g++)"
fi

echo "flash_attn.sh: compiling flash-attn with MAX_JOBS=${MAX_JOBS:-unset}: by its authors' word 3 to 5 minutes on 64" \
    "cores, accordingly longer on fewer, hours on a few. Ctrl-C leaves a working environment. Log: $log"
started=$SECONDS
pins=(--python "$python" --constraint constraints/cuda.txt --override constraints/override.txt)
uv install "${pins[@]}" setuptools wheel packaging psutil ninja || give_up "$(cause) (log: $log)"
uv install "${pins[@]}" --no-build-isolation-package flash-attn --editable ".[flash-attn]" ||
    give_up "$(cause) (log: $log)"
"$python" -c 'import flash_attn' >> "$log" 2>&1 || {
    uv uninstall --python "$python" flash-attn
    give_up "it was built and does not import, so it is out again: $(cause) (log: $log)"
}
echo "flash_attn.sh: built in $((SECONDS - started)) s"
