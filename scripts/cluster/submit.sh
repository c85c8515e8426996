#!/usr/bin/env bash
# Submit a chain of stages to Slurm, each starting when the one before has finished well.
#
#   bash scripts/cluster/submit.sh FOLDER [CONFIG …] [-- sbatch option …]
#
#   bash scripts/cluster/submit.sh configs/gre7b -- --nodes=1 --gpus-per-node=8 --cpus-per-task=64 --mem=0 --time=24:00:00
#
# FOLDER holds CONFIG.yaml for every CONFIG; unless named: stage1 → judge → stage2 → stage3. Its stage is what CONFIG's
# name begins with, else the script that its first line says to start it by. GLOBE's chain is named: bash
# scripts/cluster/submit.sh configs/globe7b localizability globe_three -- … (globe and globe_one ask no reward model.) What
# your cluster wants (partition, account, GPUs, time) goes behind --. Run it where the paths in the configs mean something:
# that folder is the jobs' too, and their logs go to slurm/ in it. Every stage's settings are read before the first job is
# submitted (--dry-run), and what it names has to be there or be written by a stage before it (chain.py).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

refuse() {
    echo "error: $1" >&2
    exit 2
}

folder=${1:-}
case $folder in "" | -*) refuse "usage: bash scripts/cluster/submit.sh FOLDER [CONFIG …] [-- sbatch option …]" ;; esac
shift
stages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    stages+=("$1")
    shift
done
if [ $# -gt 0 ]; then shift; fi
if [ ${#stages[@]} -eq 0 ]; then stages=(stage1 judge stage2 stage3); fi
command -v sbatch > /dev/null || refuse "there is no sbatch on this machine: submit where Slurm is"
known=(stage1 judge stage2 stage2_verdict stage3 globe localizability)  # the longer of two comes last
started="^#.*scripts/train/($(IFS='|'; echo "${known[*]}"))\.sh"
declare -A script=() judge=()  # of a config: the stage it is for, the folder of the judge it asks
for stage in "${stages[@]}"; do
    for name in "${known[@]}"; do
        if [[ $stage == "$name"* ]]; then script[$stage]=$name; fi
    done
    [ -f "$folder/$stage.yaml" ] || refuse "there is no $folder/$stage.yaml"
    IFS= read -r first < "$folder/$stage.yaml" || true
    if [ -z "${script[$stage]:-}" ] && [[ $first =~ $started ]]; then
        script[$stage]=${BASH_REMATCH[1]}
    fi
    [ "${script[$stage]:-}" ] || refuse "$folder/$stage.yaml: which stage is it for? Let its name begin with one of \
${known[*]}, or its first line be # bash scripts/train/STAGE.sh"
done

bash "$root/environment.sh"  # here, where packages can be fetched; the jobs find it made
setting() { PYTHONSAFEPATH=1 "$root/.venv/bin/python" "$root/scripts/train/setting.py" "$@"; }
for stage in "${stages[@]}"; do  # a stage takes its judge only by name
    case ${script[$stage]} in
        stage2) asked=judge ;;
        globe)
            weight=$(setting weights.localizability "$folder/$stage.yaml")
            if [ "$weight" = 0.0 ]; then continue; fi
            asked=localizability ;;
        *) continue ;;
    esac
    if [ -f "$folder/$asked.yaml" ]; then judge[$stage]=$(setting output_dir "$folder/$asked.yaml"); fi
done
if [[ " ${script[*]} " == *" globe "* && " ${script[*]} " == *" localizability "* && ${#judge[@]} -eq 0 ]]; then
    refuse "the reward model would be trained and never asked: weights.localizability is 0 in every config of GLOBE that \
is named. Name globe_three, or leave out localizability"
fi

# Sets arguments: of a stage's script.
arguments_of() {
    arguments=("$folder/$1.yaml" ${judge[$1]:+"judge.model_name_or_path=${judge[$1]}"})
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
    bash "$root/scripts/train/${script[$stage]}.sh" "${arguments[@]}" --dry-run > /dev/null ||
        refuse "$stage would refuse ${arguments[*]}: nothing is submitted"
done
mkdir -p slurm
before= submitted=
for stage in "${stages[@]}"; do
    arguments_of "$stage"
    job=$(sbatch --parsable --job-name="gre-$stage" --output="slurm/%j-$stage.log" \
        ${before:+"--dependency=afterok:$before" --kill-on-invalid-dep=yes} "$@" \
        "$root/scripts/cluster/stage.sbatch" "$root" "${script[$stage]}" "${arguments[@]}") ||
        refuse "sbatch does not take $stage${submitted:+; scancel$submitted takes back what was submitted before}"
    before=${job%%;*}  # --parsable adds ;cluster on federated machines
    [[ $before =~ ^[0-9]+$ ]] || refuse "sbatch --parsable answers '$job' for $stage, which is no job's number: see squeue"
    submitted+=" $before"
    echo "$stage: job $before"
done
