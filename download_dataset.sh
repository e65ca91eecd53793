#!/usr/bin/env bash
# Downloads MiniPlaces into ./data (or the folder given); run it again after a break, it continues where it stopped.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/scenelab ] || make install
exec .venv/bin/scenelab data download "${1:-data}"
