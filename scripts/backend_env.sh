#!/usr/bin/env bash
# backend_env.sh [PYTHON]: .venv, the backend with its developer tools.
# TORCH_PIP_ARGS: further options of pip for torch alone, such as the index of its CPU builds.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/find_python.sh "${1:-}")
scripts/make_venv.sh "$python" .venv
# First and by the pin: as a mere dependency of something else, pip would choose the newest torch,
# whose usual Linux build brings several gigabytes of CUDA packages.
# shellcheck disable=SC2086 # options are meant to split
.venv/bin/python -m pip install ${TORCH_PIP_ARGS:-} -c constraints.txt torch
.venv/bin/python -m pip install -c constraints.txt -e '.[backend,dev]'
touch .venv/.ready
