#!/usr/bin/env bash
# make_venv.sh PYTHON FOLDER [NAMED]: a virtual environment with pip, unless a working one is there.
# NAMED, not empty: PYTHON was asked for by name, and an environment of another Python is replaced.
set -euo pipefail
python=$1 folder=$2 named=${3:-}

origin() { "$1" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])'; }

if "$folder/bin/python" -m pip --version >/dev/null 2>&1 \
    && { [ -z "$named" ] || [ "$(origin "$folder/bin/python")" = "$(origin "$python")" ]; }; then
    exit 0
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian and Ubuntu ship the venv module apart from the interpreter.
    package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
    else
        echo "$python has no venv module: install it as root, apt-get install -y $package" >&2
        exit 1
    fi
fi
"$python" -m venv --clear "$folder"
