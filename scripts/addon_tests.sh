#!/usr/bin/env bash
# Tests of the extension inside Blender: the bpy module, or the blender that blender_env.sh found.
# Bounded in time, because bpy has been seen to hang at interpreter exit.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${ADDON_TESTS_TIMEOUT:-900}

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export BLENDER_USER_RESOURCES=$home/blender   # the user's own Blender settings stay out of it

kind=$(head -n 1 .venv-blender/.ready)
if [ "$kind" = module ]; then
    timeout -k 10 "$limit" .venv-blender/bin/python -m pytest tests/addon "$@"
else
    timeout -k 10 "$limit" "$kind" --background --factory-startup --python-exit-code 1 \
        --python scripts/pytest_in_blender.py -- tests/addon "$@"
fi
