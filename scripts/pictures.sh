#!/usr/bin/env bash
# The pictures of README and docs/gallery.md, taken of a finished quickstart: bash scripts/pictures.sh [run=quickstart]
#
# Writes docs/example.png and docs/gallery/. Needs Chromium (Debian: apt-get install chromium).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/environment.sh"
exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" "$root/scripts/pictures.py" "$@"
