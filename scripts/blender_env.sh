#!/usr/bin/env bash
# blender_env.sh [PYTHON]: .venv-blender, a Python with the bpy module that fits it and the thin
# core of head360. Where no bpy module fits or starts, a blender on the PATH takes its place and
# .venv-blender holds nothing but the packages that the tests need inside it.
# BPY: another version of the module, for example BPY=4.5.15.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=('pytest~=9.0' 'pytest-timeout~=2.4') # as in pyproject.toml

# First line: module, or the path of a blender. The Makefile compares the others.
ready() { printf '%s\n' "$1" "python=$named" "bpy=${BPY:-}" >.venv-blender/.ready; }
named=${1:-}

# bpy 4.5 may hang at interpreter exit; os._exit avoids it.
starts() {
    local home
    home=$(mktemp -d)
    BLENDER_USER_RESOURCES=$home timeout 120 .venv-blender/bin/python -c \
        'import os, bpy; print("Blender", bpy.app.version_string, "(bpy)", flush=True); os._exit(0)' \
        && rm -rf "$home"
}

install_module() {
    local pip=(.venv-blender/bin/python -m pip install)
    if [ -n "${BPY:-}" ]; then
        "${pip[@]}" -e . "bpy==$BPY" 'pillow>=11' "${tools[@]}"
    elif [ "$minor" = 11 ]; then
        "${pip[@]}" -e '.[blender]' "${tools[@]}" \
            || "${pip[@]}" -e . 'bpy>=4.5,<4.6' 'pillow>=11' "${tools[@]}"
    elif [ "$minor" = 13 ]; then
        "${pip[@]}" -e '.[blender]' "${tools[@]}"
    else
        return 1
    fi
}

rm -f .venv-blender/.ready
obstacle=python # why there is no bpy module
if python=$(scripts/find_python.sh "$named"); then
    scripts/make_venv.sh "$python" .venv-blender "$named"
    minor=$(.venv-blender/bin/python -c 'import sys; print(sys.version_info[1])')
    if install_module; then
        if starts; then
            ready module
            exit 0
        fi
        obstacle=start
        echo "The bpy module is installed but does not start; see the lines above." >&2
    elif [ -n "${BPY:-}" ] || [ "$minor" = 11 ] || [ "$minor" = 13 ]; then
        obstacle=pip
    fi
fi

if blender=$(command -v blender); then
    echo "Using $blender in place of the bpy module."
    rm -rf .venv-blender
    mkdir .venv-blender
    version=$("$blender" --background --factory-startup --python-expr \
        'import sys; print("PYTHON %d.%d" % sys.version_info[:2])' | sed -n 's/^PYTHON //p')
    # Without dependencies: numpy must stay Blender's own, which its other modules are built for.
    .venv/bin/python -m pip install --quiet --target .venv-blender/site --only-binary=:all: \
        --python-version "$version" --no-deps msgspec pyzmq 'pillow>=11' \
        "${tools[@]}" iniconfig packaging pluggy pygments
    ready "$blender"
    exit 0
fi

{
    case $obstacle in
        pip)
            echo "pip did not install the bpy module; its lines above say why. Without a network, or"
            echo "where the package index does not offer bpy, put a blender 4.2 or newer on the PATH."
            ;;
        start)
            echo "There is no Blender that starts: install the libraries that scripts/system_libs.sh"
            echo "lists, or put a blender 4.2 or newer on the PATH, and run make again."
            ;;
        *)
            echo "There is no Blender: install Python 3.11 or 3.13 (pip then finds the bpy module), or"
            echo "put a blender 4.2 or newer on the PATH, and run make again."
            ;;
    esac
    echo "SKIP_BLENDER=1 runs the tests that need no Blender."
} >&2
exit 1
