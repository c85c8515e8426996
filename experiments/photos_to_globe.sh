#!/usr/bin/env bash
# GLOBE from a folder of photos: two teachers behind addresses, checks, a reward model, three rewards, scores by name.
#
#   bash experiments/photos_to_globe.sh [run=photos_globe] [seed=N] [photos=N] [rl_steps=N] [out=FILE.json] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" -m experiments.photos_to_globe "$@"
