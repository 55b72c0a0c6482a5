"""Run pytest inside a Blender: ``blender -b --python pytest_in_blender.py -- ARGUMENTS``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / ".venv-blender" / "site"), str(ROOT / "backend"), str(ROOT)]

import pytest  # noqa: E402  (found in the folder above)

os.chdir(ROOT)
code = int(pytest.main(sys.argv[sys.argv.index("--") + 1 :]))
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # Blender returns 0 after sys.exit in some versions, and may hang at exit
