# shellcheck shell=bash
# Sourced by the scripts beside it: `stage NAME [CONFIG] [key=value …]` trains one stage and becomes its process.
#
# How many processes: one for each GPU that is seen, one on a machine without; NPROC=… says otherwise. Several machines:
# the same command on each with NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT, or under srun with one task a machine.
# SIGTERM and SIGUSR1 reach every training process; they have STOP_SECONDS (600) to write a checkpoint.
# CHECK_MEMORY=no starts what the planner says does not fit.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH"  # DeepSpeed and vLLM look for ninja there when they compile

# The environment's Python. The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a
# folder of his that is called `eval` or `stages` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }
become_python() { exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }

refuse() {
    echo "error: $1" >&2
    exit 2
}

stage() {
    local name=$1 argument config="$root/configs/gre7b/$1.yaml" only_shows=
    shift
    for argument in "$@"; do
        case $argument in
            *=*) ;;
            *.yaml | *.yml) config= ;;  # the caller names the file
            --help | -h | --dry-run) only_shows=yes ;;
        esac
    done
    bash "$root/environment.sh"
    set -- ${config:+"$config"} "$@"
    if [ "$only_shows" ]; then become_python -m "stages.$name" "$@"; fi
    count_processes
    find_nodes
    check_ready "$name" "$@"
    if [ $((processes * nodes)) -eq 1 ]; then become_python -m "stages.$name" "$@"; fi
    echo "stage.sh: $name on $((processes * nodes)) processes, $processes on each of $nodes machines"
    # torchrun passes on only the signals it is told, and by default kills after 30 s what still writes a checkpoint.
    become_python -m torch.distributed.run --nnodes "$nodes" --nproc-per-node "$processes" "${meeting[@]}" \
        --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout "${STOP_SECONDS:-600}" \
        -m "stages.$name" "$@"
}

# Sets gpus (seen here) and processes (to start here).
count_processes() {
    local driver
    driver=$({ nvidia-smi -L 2> /dev/null || true; } | grep -c '^GPU' || true)
    gpus=$driver
    if [ "${CUDA_VISIBLE_DEVICES+set}" ]; then
        case $CUDA_VISIBLE_DEVICES in
            "" | -1 | NoDevFiles) gpus=0 ;;
            *) gpus=$(tr ',' '\n' <<< "$CUDA_VISIBLE_DEVICES" | grep -c .) ;;
        esac
    fi
    if [ "$gpus" -gt 0 ] && [ "$driver" -eq 0 ]; then
        refuse "CUDA_VISIBLE_DEVICES names $gpus GPUs and nvidia-smi sees none: repair the driver, or unset it to train \
on the CPU"
    fi
    processes=${NPROC:-$((gpus > 0 ? gpus : 1))}
    [[ $processes =~ ^[1-9][0-9]*$ ]] || refuse "NPROC is '$processes': write a number of processes"
    if [ "$gpus" -gt 0 ] && [ "$processes" -gt "$gpus" ]; then
        refuse "NPROC=$processes, and this machine shows $gpus GPUs: ask for more of them or lower NPROC"
    fi
    if [ "$gpus" -gt "$processes" ] && [ "$processes" -eq 1 ]; then  # one process would be given all of them
        CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
        export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES%%,*}
    fi
}

# Sets nodes and meeting, torchrun's arguments by which processes find each other.
find_nodes() {
    nodes=${NNODES:-1}
    local rank=${NODE_RANK:-} host=${MASTER_ADDR:-} port=${MASTER_PORT:-29500}
    if [ -z "${NNODES:-}" ] && [ "${SLURM_STEP_ID:-}" ]; then  # srun started this process
        nodes=$SLURM_STEP_NUM_NODES
        if [ "$SLURM_STEP_NUM_TASKS" -ne "$nodes" ]; then
            refuse "srun starts $SLURM_STEP_NUM_TASKS tasks on $nodes machines: write --ntasks-per-node=1, torchrun \
starts the others"
        fi
        rank=$SLURM_NODEID
        host=${host:-$(scontrol show hostnames "$SLURM_STEP_NODELIST")}
        host=${host%%$'\n'*}  # not by head: closing the pipe early may kill scontrol, and with pipefail this script
        port=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}  # two jobs may share a machine
    elif [ -z "${NNODES:-}" ] && [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
        refuse "this job has $SLURM_JOB_NUM_NODES machines and this process runs on one: start it with srun \
--ntasks-per-node=1, as scripts/cluster/stage.sbatch does, or write NNODES=1"
    fi
    [[ $nodes =~ ^[1-9][0-9]*$ ]] || refuse "NNODES is '$nodes': write a number of machines"
    if [ "$nodes" -eq 1 ]; then
        meeting=(--standalone)
        return
    fi
    if [ -z "$rank" ] || [ -z "$host" ]; then
        refuse "NNODES=$nodes needs NODE_RANK (0 to $((nodes - 1)), this machine's) and MASTER_ADDR (machine 0's name)"
    fi
    meeting=(--node-rank "$rank" --master-addr "$host" --master-port "$port")
}

# One process looks before many start, and before any of them loads torch: each would print the same error.
check_ready() {
    local name=$1 gib=0 shown=()
    shift
    case ${CUDA_VISIBLE_DEVICES:-} in "" | MIG-*) ;; *) shown=(-i "$CUDA_VISIBLE_DEVICES") ;; esac
    if [ "$gpus" -gt 0 ] && [ "${CHECK_MEMORY:-yes}" != no ]; then
        gib=$(nvidia-smi ${shown+"${shown[@]}"} --query-gpu=memory.total --format=csv,noheader,nounits | sort -n |
            awk 'NR == 1 { printf "%.1f", $1 / 1024 }')
    fi
    in_environment "$root/scripts/train/ready.py" "$name" "$((processes * nodes))" "$processes" "$gib" "$@"
}

# Run a command that is not the last one, and hand on signals to it: bash would sit them out until it ends.
forwarding() {
    local child status=0 told=
    set -m  # without job control bash lets what it starts in the background ignore Ctrl-C
    "$@" &
    child=$!
    trap 'told=yes; kill -s TERM "$child"' TERM
    trap 'told=yes; kill -s USR1 "$child"' USR1
    trap 'told=yes; kill -s INT "$child"' INT
    while :; do
        told=
        wait "$child" && status=0 || status=$?
        if [ -z "$told" ]; then break; fi  # else a signal ended the wait, not the child
    done
    set +m
    trap - TERM USR1 INT
    return "$status"
}
