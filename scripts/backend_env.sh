#!/usr/bin/env bash
# backend_env.sh [PYTHON]: .venv, the backend with its developer tools.
# TORCH_PIP_ARGS: further options of pip for torch alone, such as the index of its CPU builds.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/find_python.sh "${1:-}")
rm -f .venv/.ready
scripts/make_venv.sh "$python" .venv "${1:-}"
# First and alone, so that TORCH_PIP_ARGS reaches it and nothing else: on a machine without a GPU it
# can point pip at the CPU builds. constraints.txt keeps the version that is tested.
# shellcheck disable=SC2086 # options are meant to split
.venv/bin/python -m pip install ${TORCH_PIP_ARGS:-} -c constraints.txt torch
.venv/bin/python -m pip install -c constraints.txt -e '.[backend,edit,dev]'
echo "python=${1:-}" >.venv/.ready   # the Makefile compares it
