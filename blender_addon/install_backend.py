"""Make the backend's environment: runs in a Python process of its own, never inside Blender.

Usage: ``python install_backend.py FOLDER HEAD360_WHEEL``. Everything it says goes to the log that
the extension opened. A failed installation leaves no half environment behind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path


def install(folder: Path, wheel: Path) -> int:
    """Build the environment and return an exit code."""
    inside = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        # Environments contain absolute paths: it is made in place and removed on failure.
        venv.EnvBuilder(with_pip=True).create(folder)
        command = [str(folder / inside), "-m", "pip", "install", "--no-input", f"{wheel}[backend]"]
        code = subprocess.call(command)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    if code:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1]), Path(sys.argv[2])))
