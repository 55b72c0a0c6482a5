"""Make the backend's environment: runs in a Python process of its own, never inside Blender.

Usage: ``python install_backend.py FOLDER HEAD360_WHEEL [--parent-pipe]``. Everything it says goes
to the log that the extension opened. An earlier environment is set aside and comes back when the
new one fails; ``.complete`` in the folder says that it is whole. With ``--parent-pipe`` the end of
standard input (Blender cancelled, or died) stops it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

COMPLETE = ".complete"
CANCELLED = 75


class Stop:
    """Ends pip, and what pip started, once the parent closes our standard input."""

    def __init__(self) -> None:
        self.asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Wait for the end of standard input; for a daemon thread."""
        sys.stdin.buffer.read()
        self.end()

    def end(self) -> None:
        """End what runs, and let nothing else begin."""
        with self._lock:
            self.asked = True
            self._end()

    def call(self, command: list[str]) -> int:
        """Run a command as its own process group; its exit code."""
        options = {} if sys.platform == "win32" else {"start_new_session": True}
        with self._lock:
            if self.asked:
                return CANCELLED
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        return self._process.wait()

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        if sys.platform == "win32":
            subprocess.call(["taskkill", "/T", "/F", "/PID", str(process.pid)])
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def install(folder: Path, wheel: Path, stop: Stop) -> int:
    """Build the environment and return an exit code."""
    import venv  # here: the extension reads COMPLETE, and some systems package venv apart

    inside = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")
    aside = folder.with_name(f"{folder.name}.old")
    try:
        _restore(folder, aside)  # what a killed installation left
        if folder.exists():
            folder.rename(aside)
        # Environments contain absolute paths: it is made in place.
        venv.EnvBuilder(with_pip=True).create(folder)
        python = str(folder / inside)
        code = stop.call([python, "-m", "pip", "install", "--no-input", f"{wheel}[backend]"])
        if code == 0:
            (folder / COMPLETE).touch()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    _restore(folder, aside)
    return code


def _restore(folder: Path, aside: Path) -> None:
    """Keep the complete environment, the new one first, and remove the other."""
    if not (folder / COMPLETE).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        if aside.exists():
            aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    stopping = Stop()
    if "--parent-pipe" in sys.argv[3:]:
        threading.Thread(target=stopping.watch, daemon=True).start()
    sys.exit(install(Path(sys.argv[1]), Path(sys.argv[2]), stopping))
