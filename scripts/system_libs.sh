#!/usr/bin/env bash
# The system libraries that the bpy module loads. Present: nothing happens. Missing: root on a
# machine with apt gets them installed, anybody else is told their names. Never fails: Blender's
# own check comes later (scripts/blender_env.sh), and a backend alone needs none of them.
set -euo pipefail

# The first seven start bpy and Cycles, the last two the viewport engines and the gpu module.
packages=(libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1 libegl1 libgl1-mesa-dri)

[ "$(uname -s)" = Linux ] || exit 0
missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$state" = "install ok installed" ] || missing+=("$package")
    done
else
    known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
    for library in libX11.so.6 libXrender.so.1 libXfixes.so.3 libXi.so.6 libxkbcommon.so.0 \
        libSM.so.6 libGL.so.1 libEGL.so.1; do
        grep -q "$library" <<<"$known" || missing+=("$library")
    done
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries for Blender: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; then
        exit 0
    fi
    echo "apt-get did not install them; see its lines above." >&2
fi
echo "Blender needs system libraries that are missing here: ${missing[*]}" >&2
echo "Install them as root: apt-get update && apt-get install -y ${packages[*]}" >&2
