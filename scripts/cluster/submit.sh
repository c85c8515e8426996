#!/usr/bin/env bash
# Submit a chain of stages to Slurm, each starting when the one before has finished well.
#
#   bash scripts/cluster/submit.sh FOLDER [STAGE …] [-- sbatch option …]
#
#   bash scripts/cluster/submit.sh configs/gre7b -- --nodes=1 --gpus-per-node=8 --cpus-per-task=64 --mem=0 --time=24:00:00
#
# FOLDER holds STAGE.yaml for every STAGE (all four unless named): stage1 → judge → stage2 → stage3. GLOBE's chain is
# named: bash scripts/cluster/submit.sh configs/globe7b localizability globe -- … What your cluster
# wants (partition, account, GPUs, time) goes behind --. Run it where the paths in the configs mean something: that
# folder is the jobs' too, and their logs go to slurm/ in it. Every stage's settings are read before the first job is
# submitted (--dry-run), and what it names has to be there or be written by a stage before it (chain.py).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

refuse() {
    echo "error: $1" >&2
    exit 2
}

folder=${1:-}
case $folder in "" | -*) refuse "usage: bash scripts/cluster/submit.sh FOLDER [STAGE …] [-- sbatch option …]" ;; esac
shift
stages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    stages+=("$1")
    shift
done
if [ $# -gt 0 ]; then shift; fi
if [ ${#stages[@]} -eq 0 ]; then stages=(stage1 judge stage2 stage3); fi
command -v sbatch > /dev/null || refuse "there is no sbatch on this machine: submit where Slurm is"
for stage in "${stages[@]}"; do
    [ -f "$root/scripts/train/$stage.sh" ] && [ "$stage" != stage ] || refuse "there is no stage $stage"
    [ -f "$folder/$stage.yaml" ] || refuse "there is no $folder/$stage.yaml"
done

bash "$root/environment.sh"  # here, where packages can be fetched; the jobs find it made
judge=
for pair in stage2:judge globe:localizability; do  # a stage takes its judge only by name
    asks=${pair%:*} asked=${pair#*:}
    if [[ " ${stages[*]} " == *" $asks "* && -f "$folder/$asked.yaml" ]]; then
        judge=$(PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$root/scripts/train/setting.py" output_dir \
            "$folder/$asked.yaml")
    fi
done

# Sets arguments: of a stage's script.
arguments_of() {
    arguments=("$folder/$1.yaml")
    if [[ $1 == stage2 || $1 == globe ]] && [ "$judge" ]; then arguments+=("judge.model_name_or_path=$judge"); fi
}

chain=()
for stage in "${stages[@]}"; do
    arguments_of "$stage"
    chain+=("${arguments[@]}")
done
PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$root/scripts/cluster/chain.py" "${chain[@]}" ||
    refuse "a stage of this chain would not start: nothing is submitted"
for stage in "${stages[@]}"; do  # a key that the last one does not know is told now, not in days
    arguments_of "$stage"
    bash "$root/scripts/train/$stage.sh" "${arguments[@]}" --dry-run > /dev/null ||
        refuse "$stage would refuse ${arguments[*]}: nothing is submitted"
done
mkdir -p slurm
before= submitted=
for stage in "${stages[@]}"; do
    arguments_of "$stage"
    job=$(sbatch --parsable --job-name="gre-$stage" --output="slurm/%j-$stage.log" \
        ${before:+"--dependency=afterok:$before" --kill-on-invalid-dep=yes} "$@" \
        "$root/scripts/cluster/stage.sbatch" "$root" "$stage" "${arguments[@]}") ||
        refuse "sbatch does not take $stage${submitted:+; scancel$submitted takes back what was submitted before}"
    before=${job%%;*}  # --parsable adds ;cluster on federated machines
    [[ $before =~ ^[0-9]+$ ]] || refuse "sbatch --parsable answers '$job' for $stage, which is no job's number: see squeue"
    submitted+=" $before"
    echo "$stage: job $before"
done
