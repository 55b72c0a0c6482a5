#!/usr/bin/env bash
# Print the Python that the environments are made with: the one that is named (Makefile: PYTHON=),
# else the first of python3, python3.11, python3.13 that is a 3.11 or a 3.13, the two versions that
# a release of the bpy module exists for.
set -euo pipefail

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

named=${1:-}
if [ -n "$named" ]; then
    found=$(version "$named") || {
        echo "There is no Python at $named: correct PYTHON=." >&2
        exit 1
    }
    case $found in
        3.11 | 3.13) ;;
        2.* | 3.? | 3.10)
            echo "$named is Python $found: Head360 needs 3.11 or newer." >&2
            exit 1
            ;;
        *) echo "Note: no bpy module exists for Python $found; a blender on the PATH is used." >&2 ;;
    esac
    echo "$named"
    exit 0
fi
for candidate in python3 python3.11 python3.13; do
    case $(version "$candidate" || true) in
        3.11 | 3.13)
            echo "$candidate"
            exit 0
            ;;
    esac
done
echo "Neither Python 3.11 nor 3.13 was found: install one of them, for example with" >&2
echo "apt-get install python3.11 python3.11-venv, or name one with make PYTHON=/path/to/python." >&2
exit 1
