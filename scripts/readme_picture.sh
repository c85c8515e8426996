#!/usr/bin/env bash
# README's picture, cut from a finished quickstart: bash scripts/readme_picture.sh [run=quickstart] [row=ID]
#
# Writes docs/example.png. Needs Chromium (Debian: apt-get install chromium).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=quickstart
rest=()
for argument in "$@"; do
    case $argument in run=*) run=${argument#run=} ;; *) rest+=("$argument") ;; esac
done
command -v chromium > /dev/null || { echo "error: there is no chromium (Debian: apt-get install chromium)" >&2; exit 2; }
bash "$root/environment.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PYTHONSAFEPATH=1 "$root/.venv/bin/python" -m eval.drawing.example run="runs/$run" data="runs/$run/data" \
    out="$work/example.html" ${rest+"${rest[@]}"}
chromium --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --user-data-dir="$work/profile" --force-device-scale-factor=1.5 --window-size=1080,640 \
    --screenshot="$root/docs/example.png" "file://$work/example.html" 2> /dev/null
echo "$root/docs/example.png"
