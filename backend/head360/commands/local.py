"""A backend of one command's own, and the progress line: what ``render`` and ``extract`` share."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from head360.client import Client, HeadInfo
from head360.commands import say, style_of
from head360.launcher import LocalBackend
from head360.server.heads_table import Model, resolve


@contextmanager
def open_head(arguments: argparse.Namespace) -> Iterator[tuple[Client, HeadInfo, Model]]:
    """Start a backend for ``arguments.model``, make the head, and stop the backend at the end.

    The command line goes the way Blender goes: same server, same client, same pictures.

    Raises:
        ModelInvalid: no such model. NoDevice: no such device. BadInput: no such subject or style.
        TryAgain: the backend does not start.
    """
    model = resolve(arguments.model)
    folder = Path(tempfile.mkdtemp(prefix="head360-"))  # mode 0700
    # The child must run this very package, also from a checkout that is not installed; it has
    # another working folder, so entries of the path are made absolute.
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = [str(Path(__file__).resolve().parents[2]), *map(os.path.abspath, inherited)]
    path = os.pathsep.join(entries)
    backend = None
    try:
        backend = LocalBackend.start(
            runtime_dir=folder,
            extra_args=["--models", str(model.path), "--device", arguments.device],
            env={"PYTHONPATH": path},
        )
        with Client.connect(backend.wait_ready(300.0)) as client:
            head = client.create_head(
                model.info.name, arguments.subject, style_of(arguments), timeout=600.0
            )
            yield client, head, model
    finally:
        if backend is not None:
            backend.stop()
            if "HEAD360_KEEP_LOG" in os.environ:
                sys.stderr.write(backend.log_path.read_text(errors="replace"))
        shutil.rmtree(folder, ignore_errors=True)


class ProgressLine:
    """A bar on a terminal, a line now and then elsewhere; always on standard error."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._bar = sys.stderr.isatty()
        self._last = 0.0

    def show(self, done: int) -> None:
        """``done`` of the total are finished."""
        now = time.monotonic()
        if done < self._total and now - self._last < (0.1 if self._bar else 10.0):
            return
        self._last = now
        text = f"{self._what} {done}/{self._total}"
        if self._bar:
            filled = "█" * round(24 * done / max(1, self._total))
            sys.stderr.write(f"\r{filled:░<24} {text} ")
            sys.stderr.write("\n" if done >= self._total else "")
            sys.stderr.flush()
        else:
            say(text)
