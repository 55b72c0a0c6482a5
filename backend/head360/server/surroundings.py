"""What the gateway was asked for, and the world it lives in: address, parent, log file."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from head360 import connection
from head360.errors import BadInput

log = logging.getLogger(__name__)

MAX_LOG = 8 << 20


@dataclass(frozen=True)
class Options:
    """What ``head360 serve`` was asked for.

    Attributes:
        bind: ``tcp://127.0.0.1:PORT``; port 0 picks a free one.
        parent_pipe: file descriptor whose end of file means that the parent is gone.
        parent_pid: the same by process id, for parents that cannot pass a pipe.
        idle_exit: leave after so many seconds without a client or a job.
        factory: ``module:function`` that replaces ``heads.load`` in tests.
        diffusion: folder or hub id of the diffusion model for edits by text; "": there is none.
    """

    runtime_dir: Path
    bind: str = "tcp://127.0.0.1:0"
    models: Sequence[Path] = ()
    device: str = "auto"
    boot_id: str = field(default_factory=lambda: secrets.token_hex(8))
    parent_pipe: int | None = None
    parent_pid: int | None = None
    idle_exit: float | None = None
    factory: str = ""
    diffusion: str = ""


def check_bind(bind: str) -> str:
    """The endpoint to bind, normalised for ZeroMQ.

    Raises:
        BadInput: not TCP, or an address other machines could reach.
    """
    try:
        parts = urlsplit(bind)
        host, port = parts.hostname, parts.port or 0
    except ValueError:
        host, port = None, 0
    if host is None or parts.scheme != "tcp":
        raise BadInput(f'"{bind}" is not an address: write it like tcp://127.0.0.1:0.')
    if host not in ("127.0.0.1", "localhost"):
        raise BadInput(
            f"The backend listens on this machine only, not on {host}: use tcp://127.0.0.1:0, and "
            "an SSH tunnel to reach it from elsewhere."
        )
    return f"tcp://127.0.0.1:{port or '*'}"


def watch_parent(options: Options, stop: Callable[[str], None]) -> None:
    """Call ``stop`` from a thread when the parent named in the options is gone."""

    def until_gone(watch: Callable[[int], None], value: int) -> None:
        watch(value)
        stop("the parent process is gone")

    for value, watch in (
        (options.parent_pipe, wait_for_pipe),
        (options.parent_pid, wait_for_process),
    ):
        if value is not None:
            threading.Thread(target=until_gone, args=(watch, value), daemon=True).start()


def wait_for_pipe(descriptor: int) -> None:
    """Return when the other end of the pipe is closed."""
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError as error:
        log.warning("the parent's pipe cannot be read: %s", error)


def wait_for_process(pid: int) -> None:
    """Return when the process has ended (looked at twice a second)."""
    while connection.process_exists(pid):
        time.sleep(0.5)


def cap_log() -> None:
    """Keep a log file that is our standard error from growing without end."""
    try:
        info = os.fstat(2)
        if stat.S_ISREG(info.st_mode) and info.st_size > MAX_LOG:
            os.ftruncate(2, 0)  # opened for appending by the launcher, so writing goes on at 0
    except OSError:
        return
