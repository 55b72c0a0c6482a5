"""Start and stop a local backend process without ever waiting for it.

The child gets the write end of nothing and the read end of a pipe (its standard input): when this
process dies, however it dies, the pipe closes and the backend leaves. Works the same on Windows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from head360 import connection, files
from head360.errors import BadInput, Head360Error, ModelInvalid, NoDevice, TryAgain

MAX_LOG = 2 << 20  # an older log beyond this size is moved to <name>.1 at start


class State(Enum):
    """``STARTING`` → ``READY`` → ``CRASHED`` (ended by itself) or ``STOPPED`` (by ``stop``)."""

    STARTING = "starting"
    READY = "ready"
    CRASHED = "crashed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Poll:
    """What ``LocalBackend.poll`` saw.

    Attributes:
        state: see :class:`State`.
        exit_code: of a crashed process (the command line's codes: 2, 3, 69, …), else None.
        log: the last lines of the log, newest last; filled when the process crashed.
        seconds: since the start.
    """

    state: State
    exit_code: int | None
    log: list[str]
    seconds: float

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    def error(self) -> Head360Error | None:
        """Why a crashed backend ended, in its own last words; None while nothing is wrong."""
        if self.state is not State.CRASHED:
            return None
        said = [line.removeprefix("head360: ") for line in self.log if line.startswith("head360: ")]
        last = said or [f"The backend stopped: {line[:300]}" for line in self.log]
        text = last[-1] if last else f"The backend stopped (code {self.exit_code}) without a word."
        kinds = {kind.exit_code: kind for kind in (BadInput, ModelInvalid, NoDevice)}
        return kinds.get(self.exit_code or 0, TryAgain)(text)


class LocalBackend:
    """One backend process that belongs to this process. Make it with :meth:`start`.

    Attributes:
        connection_file: where the backend will write its connection file; pass it to
            ``Client.connect`` once ``poll().ready``.
        log_path: its log.
        pid: the child's process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], file: Path, log_path: Path) -> None:
        self._process = process
        self.connection_file = file
        self.log_path = log_path
        self.pid = process.pid
        self._started = time.monotonic()
        self._stopped = False

    @classmethod
    def start(
        cls,
        python: Path | str | None = None,
        runtime_dir: Path | str | None = None,
        log_path: Path | str | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> LocalBackend:
        """Spawn ``python -m head360 serve`` and return at once; watch it with :meth:`poll`.

        Args:
            python: interpreter that has head360 with the ``backend`` extra (default: this one).
            runtime_dir: private folder for the connection file (default: the user's own).
            log_path: default ``<runtime_dir>/backend.log``.
            extra_args: more arguments of ``serve``, such as ``["--models", "DIR"]``.
            env: variables added to the cleaned environment.

        Raises:
            BadInput: interpreter or folders cannot be used.
        """
        folder = connection.prepare_runtime_dir(
            Path(runtime_dir) if runtime_dir else connection.default_runtime_dir()
        )
        log = Path(log_path) if log_path else folder / "backend.log"
        files.writable_folder(log.parent)
        boot_id = secrets.token_hex(8)
        command = [
            str(python or sys.executable),
            # Nothing is imported from the working folder; -I would also hide ``env``'s PYTHONPATH.
            "-P",
            "-m",
            "head360",
            "serve",
            "--runtime-dir",
            str(folder),
            "--boot-id",
            boot_id,
            "--parent-pipe",
            "0",
            *extra_args,
        ]
        options: dict[str, int] = {}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NO_WINDOW
        try:
            _rotate(log)
            with open(log, "ab") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=clean_environment(env),
                    cwd=folder,
                    **options,  # type: ignore[call-overload]
                )
        except OSError as error:
            raise BadInput(
                f"Cannot start the backend with {command[0]} ({error.strerror}): check the Python "
                "interpreter of the backend."
            ) from error
        return cls(process, connection.file_path(folder, boot_id), log)

    def poll(self) -> Poll:
        """State of the process right now. Never blocks."""
        code = self._process.poll()
        seconds = time.monotonic() - self._started
        if self._stopped:
            return Poll(State.STOPPED, code, [], seconds)
        if code is not None:
            return Poll(State.CRASHED, code, self.log_tail(), seconds)
        ready = self.connection_file.exists()
        return Poll(State.READY if ready else State.STARTING, None, [], seconds)

    def wait_ready(self, timeout: float = 120.0) -> Path:
        """Block until the backend listens; for the command line, never for a user interface.

        Raises:
            TryAgain: it ended or is not ready in time.
            NoDevice, BadInput, ModelInvalid: it ended for that reason (its last words).
        """
        while True:
            seen = self.poll()
            if seen.ready:
                return self.connection_file
            if (error := seen.error()) is not None:
                raise error
            if seen.state is not State.STARTING or seen.seconds > timeout:
                raise TryAgain(f"The backend is not ready yet: see {self.log_path}.")
            time.sleep(0.05)

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the log, newest last."""
        try:
            with open(self.log_path, "rb") as handle:
                handle.seek(max(0, os.fstat(handle.fileno()).st_size - 16384))
                text = handle.read().decode("utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def stop(self, timeout: float = 5.0) -> None:
        """Ask (close the pipe), then terminate at half of the time, then kill; only our child.

        Blocks for at most about ``timeout`` seconds; see :meth:`stop_in_background`.
        """
        self._stopped = True
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        for end in (lambda: None, process.terminate, process.kill):
            with contextlib.suppress(OSError):
                end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout / 2)
                return

    def stop_in_background(self) -> threading.Thread:
        """:meth:`stop` on its own thread, for a user interface. Returns the thread."""
        self._stopped = True
        thread = threading.Thread(target=self.stop, name="head360-stop", daemon=True)
        thread.start()
        return thread


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what belongs to Blender's own Python, plus ``extra``."""
    dropped = {
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONEXECUTABLE",
        "__PYVENV_LAUNCHER__",
    }
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept.update({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"})
    kept.update(extra or {})
    return kept


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > MAX_LOG:
        os.replace(log, log.with_name(f"{log.name}.1"))
