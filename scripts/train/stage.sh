# shellcheck shell=bash
# Sourced by the scripts beside it: `stage NAME [CONFIG] [key=value …]` trains one stage and takes the shell's place, so
# that a signal sent to the script reaches the training. `stage_then` trains one and comes back.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Python of the environment. The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a
# folder of his that is called `eval` or `stages` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }

stage() {
    stage_command "$@"
    PYTHONSAFEPATH=1 exec "${command[@]}"
}

# A shell that waits for a command dies of a signal and leaves the command behind: here it is handed on.
stage_then() {
    local child status
    stage_command "$@"
    PYTHONSAFEPATH=1 "${command[@]}" &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' TERM INT HUP  # a background command ignores INT
    trap 'kill -USR1 "$child" 2>/dev/null' USR1
    while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
    wait "$child" && status=0 || status=$?
    trap - TERM INT HUP USR1
    if [ "$status" -ne 0 ]; then exit "$status"; fi
}

# Sets `command` to what trains a stage.
stage_command() {
    local name=$1 argument config="$root/configs/gre7b/$1.yaml"
    shift
    for argument in "$@"; do
        case $argument in *=*) ;; *.yaml | *.yml) config= ;; esac  # the caller names the file
    done
    bash "$root/environment.sh"
    command=("$root/.venv/bin/python" -m "stages.$name" ${config:+"$config"} "$@")
}
