#!/usr/bin/env bash
# A stage of your own, such as a copy of stages/stage1.py anywhere, on the processes and machines of the others.
#
#   bash scripts/train/run.sh FILE.py [CONFIG] [key=value …] [--help] [--dry-run]
#
# Processes, machines, signals and what is looked for before the start are those of the stages (scripts/train/stage.sh);
# memory is not planned. Relative paths mean the caller's folder; FILE.py may import what lies beside it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
own_stage "$@"
