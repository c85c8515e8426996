# shellcheck shell=bash
# Sourced by the scripts beside it: `stage NAME [CONFIG] [key=value …]` trains one stage and becomes its process,
# `judged_stage NAME JUDGE [CONFIG] [key=value …]` trains JUDGE before it where it is missing, and
# `own_stage FILE.py [CONFIG] [key=value …]` trains one of the user's own.
#
# How many processes: one for each GPU that is seen, one on a machine without; NPROC=… says otherwise. Several machines:
# the same command on each with NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT, or under srun with one task a machine.
# SIGTERM, SIGUSR1 and Ctrl-C reach every training process; they have STOP_SECONDS (600) to write a checkpoint, and a
# second Ctrl-C ends them at once. CHECK_MEMORY=no starts what the planner says does not fit.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH"  # DeepSpeed and vLLM look for ninja there when they compile
export PYTHONFAULTHANDLER=1           # a process that a signal ends, such as an abort in C++, says where it was

# The environment's Python. The caller's folder stays current, so that relative paths mean his; PYTHONSAFEPATH keeps a
# folder of his that is called `eval` or `stages` from hiding ours.
in_environment() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }
become_python() { exec env PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$@"; }

refuse() {
    echo "error: $1" >&2
    exit 2
}

stage() {
    local name=$1 argument config="$root/configs/gre7b/$1.yaml"
    case $name in globe | localizability) config="$root/configs/globe7b/$name.yaml" ;; esac
    shift
    for argument in "$@"; do  # as gre.config tells files from keys
        if [[ $argument != -* && ($argument != *=* || -f $argument) ]]; then config=; fi  # the caller names the file
    done
    bash "$root/environment.sh"
    start "$name" -m "stages.$name" -- ${config:+"$config"} "$@"
}

judged_stage() {
    local name=$1 trainer=$2 needed folder argument judge=()
    shift 2
    bash "$root/environment.sh"
    needed=$(in_environment "$root/scripts/train/judge_needed.py" "$name" "$@")
    if [ -n "$needed" ]; then
        while IFS= read -r argument; do judge+=("$argument"); done <<< "$needed"
        for argument in "$@"; do
            if [ "$argument" = --dry-run ]; then judge+=(--dry-run); fi
        done
        folder=${judge[1]#output_dir=}
        echo "$name.sh: no judge.model_name_or_path is given, so it is trained first, by $trainer.sh, into $folder"
        forwarding stage "$trainer" "${judge[@]}"
        set -- "$@" "judge.model_name_or_path=$folder"
    fi
    stage "$name" "$@"
}

own_stage() {
    local file=${1:-}
    case $file in
        *.py) shift ;;
        *) refuse "usage: bash scripts/train/run.sh FILE.py [CONFIG] [key=value …] [--help] [--dry-run]" ;;
    esac
    [ -f "$file" ] || refuse "there is no $file"
    bash "$root/environment.sh"
    become_python() { exec env -u PYTHONSAFEPATH "$root/.venv/bin/python" "$@"; }  # it may import its neighbours
    start "" "$file" -- "$@"
}

# start NAME TARGET … -- ARGUMENT …: NAME is the planner's, empty where it knows none; TARGET is what Python runs.
start() {
    local name=$1 target=() argument
    shift
    while [ "$1" != -- ]; do
        target+=("$1")
        shift
    done
    shift
    for argument in "$@"; do
        case $argument in --help | -h | --dry-run) become_python "${target[@]}" "$@" ;; esac
    done
    count_processes
    find_nodes
    check_ready "$name" "$@"
    forget_others
    settle
    if [ $((processes * nodes)) -eq 1 ]; then become_python "${target[@]}" "$@"; fi
    echo "stage.sh: ${name:-${target[0]}} on $((processes * nodes)) processes, $processes on each of $nodes machines$met"
    # torchrun passes on only the signals it is told, and by default kills after 30 s what still writes a checkpoint.
    become_python "$root/scripts/train/launch.py" --nnodes "$nodes" --nproc-per-node "$processes" "${meeting[@]}" \
        --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout "${STOP_SECONDS:-600}" \
        "${target[@]}" "$@"
}

# Sets gpus (seen here) and processes (to start here).
count_processes() {
    local listed driver
    listed=$(nvidia-smi -L 2> /dev/null || true)
    driver=$(grep -c '^GPU' <<< "$listed" || true)
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
    if [ "$gpus" -gt 0 ] && [ "${CUDA_VISIBLE_DEVICES:-}" ]; then check_named "$listed" "$driver"; fi
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

# Every GPU that CUDA_VISIBLE_DEVICES names is there, once: CUDA hides one that is not, and all that follow it.
check_named() {
    local listed=$1 driver=$2 named=() name seen=,
    IFS=', ' read -r -a named <<< "$CUDA_VISIBLE_DEVICES"
    for name in "${named[@]}"; do
        if [[ $name =~ ^[0-9]+$ ]]; then
            ((10#$name < driver)) || refuse "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES names GPU $name, and this machine \
has GPU 0 to $((driver - 1))"
        else
            grep -qF "UUID: $name" <<< "$listed" || refuse "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES names $name, \
which nvidia-smi -L does not list"
        fi
        case $seen in *",$name,"*) refuse "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES names $name twice" ;; esac
        seen+=$name,
    done
}

# Sets nodes, and meeting: torchrun's arguments by which processes find each other; met says it to people.
find_nodes() {
    nodes=${NNODES:-1} met=
    local rank=${NODE_RANK:-} host=${MASTER_ADDR:-} port=${MASTER_PORT:-29500} name
    if [ -z "${NNODES:-}" ] && [ "${SLURM_STEP_ID:-}" ]; then  # srun started this process
        nodes=${SLURM_STEP_NUM_NODES:-${SLURM_JOB_NUM_NODES:-1}}
        if [ "${SLURM_STEP_NUM_TASKS:-$nodes}" != "$nodes" ]; then
            refuse "srun starts $SLURM_STEP_NUM_TASKS tasks on $nodes machines: write --ntasks-per-node=1, torchrun \
starts the others"
        fi
        if [ "$nodes" != 1 ]; then
            for name in SLURM_NODEID SLURM_STEP_NODELIST SLURM_JOB_ID; do
                [ "${!name:-}" ] || refuse "srun starts this on $nodes machines, and $name is not set here: hand Slurm's \
variables on (a container may drop them), or write NNODES, NODE_RANK and MASTER_ADDR"
            done
            rank=$SLURM_NODEID
            if [ -z "$host" ]; then host=$(first_of "$SLURM_STEP_NODELIST"); fi
            port=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}  # two jobs may share a machine
        fi
    elif [ -z "${NNODES:-}" ] && [ "${SLURM_JOB_NUM_NODES:-1}" != 1 ]; then
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
    [[ $rank =~ ^[0-9]+$ ]] && ((10#$rank < nodes)) ||
        refuse "NODE_RANK is '$rank': with NNODES=$nodes it is 0 to $((nodes - 1))"
    [[ $port =~ ^[1-9][0-9]*$ ]] || refuse "MASTER_PORT is '$port': write a number"
    meeting=(--node-rank "$rank" --master-addr "$host" --master-port "$port")
    met="; this is machine $rank, and it waits until all $nodes have come to $host:$port"
}

# The first machine of Slurm's short list, such as n[1-4].
first_of() {
    local hosts
    command -v scontrol > /dev/null || refuse "there is no scontrol here to tell the first machine of $1: write MASTER_ADDR"
    hosts=$(scontrol show hostnames "$1") || refuse "scontrol does not know $1: write MASTER_ADDR"
    echo "${hosts%%$'\n'*}"  # not by head: closing the pipe early may kill scontrol, and with pipefail this script
}

# What another launcher left in the environment would make this training wait for processes that nobody starts. torchrun
# sets its own; accelerate asks MPI's first.
forget_others() {
    if [ "${WORLD_SIZE:-1}" != 1 ] || [ "${RANK:-0}" != 0 ]; then
        echo "stage.sh: WORLD_SIZE=${WORLD_SIZE:-} and RANK=${RANK:-} of the environment are not heeded; processes are \
counted by NPROC and NNODES" >&2
    fi
    unset WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK MASTER_ADDR MASTER_PORT \
        PMI_SIZE PMI_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_RANK MV2_COMM_WORLD_SIZE MV2_COMM_WORLD_RANK
}

# What processes on GPUs would else choose worse for themselves. Threads: torchrun gives each one, which decodes photos,
# packs rows and, where the optimizer is offloaded, makes its step. Memory: rollouts and training meet in it, and what
# fits no gap is mapped anew. Caches: compiled kernels, which many processes would write into one home over a network.
settle() {
    local cores caches=${TMPDIR:-/tmp}/gre-$UID
    if [ "$gpus" -eq 0 ]; then return; fi
    if [ -z "${OMP_NUM_THREADS:-}" ]; then
        cores=$(nproc)
        export OMP_NUM_THREADS=$((cores > processes ? cores / processes : 1))
    fi
    export PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}}
    if mkdir -p -m 700 "$caches" 2> /dev/null && [ -O "$caches" ]; then  # nobody else's code is run
        export VLLM_CACHE_ROOT=${VLLM_CACHE_ROOT:-$caches/vllm} TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$caches/triton}
    fi
}

# One process looks before many start, and before any of them loads torch: each would print the same error.
check_ready() {
    local name=$1 gib=0 shown=()
    shift
    case ${CUDA_VISIBLE_DEVICES:-} in "" | MIG-*) ;; *) shown=(-i "$CUDA_VISIBLE_DEVICES") ;; esac
    if [ "$gpus" -gt 0 ] && [ "$name" ] && [ "${CHECK_MEMORY:-yes}" != no ]; then
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
