# shellcheck shell=bash
# Sourced by the scripts beside it: `stage NAME [CONFIG] [key=value …]` trains one stage.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Python of the environment. The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a
# folder of his that is called `eval` or `stages` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }

stage() {
    local name=$1 argument config="$root/configs/gre7b/$1.yaml"
    shift
    for argument in "$@"; do
        case $argument in *=*) ;; *.yaml | *.yml) config= ;; esac  # the caller names the file
    done
    bash "$root/environment.sh"
    in_environment -m "stages.$name" ${config:+"$config"} "$@"
}
