#!/usr/bin/env bash
# A vLLM of its own: `vllm serve` of a stage that locates photos, of a teacher for data_prep, or, for a stage of RL, of its
# policy or its judge.
#
#   bash scripts/serve.sh locate model=runs/NAME/stage3 [key=value …] [--dry-run] [-- vllm serve option …]
#   bash scripts/serve.sh teacher model=PATH [key=value …] [--dry-run] [-- vllm serve option …]
#   bash scripts/serve.sh rollouts CONFIG [key=value …] [--dry-run] [-- vllm serve option …]
#   bash scripts/serve.sh judge CONFIG [key=value …] [--dry-run] [-- vllm serve option …]
#
# locate and teacher speak OpenAI's protocol on url=; see docs/use.md, docs/data.md and locate --help. Of the others,
# CONFIG and keys are those the stage is trained with. Prints the exact command, then becomes it: CUDA_VISIBLE_DEVICES
# says on which GPU. It listens on the host and port of rollout.url, or judge.url: this machine alone unless that names
# another host. Whoever reaches one of rollouts or judge can load weights into it. See docs/rollouts.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}  # vLLM's own processes load files of ours by name
exec env PYTHONSAFEPATH=1 PATH="$root/.venv/bin:$PATH" "$root/.venv/bin/python" "$root/scripts/serve.py" "$@"
