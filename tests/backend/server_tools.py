"""How the server tests start a backend with the fake head, and what they wait with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from head360.client import SequenceFrame
from head360.launcher import LocalBackend
from head360.rendering.cameras import orbit

HERE = Path(__file__).resolve().parent
FACTORY = "fake_head:load"
ENV = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1] / "backend")])}


def start(folder: Path, models: Path, *extra: str) -> LocalBackend:
    """A backend with the fake head; the caller stops it. What it makes goes to ``made_in``."""
    return LocalBackend.start(
        runtime_dir=folder,
        extra_args=["--models", str(models), "--head-factory", FACTORY, *extra],
        env={**ENV, "XDG_DATA_HOME": str(folder / "data")},
    )


def made_in(backend: LocalBackend) -> Path:
    """The user's models folder of a backend that ``start`` made."""
    return backend.connection_file.parent / "data" / "head360" / "models"


def frames(count: int, first: int = 1) -> list[SequenceFrame]:
    """A sequence that opens the jaw while the camera turns."""
    return [
        SequenceFrame(
            first + index,
            np.full(52, index / max(1, count - 1), np.float32),
            orbit(index, 0),
        )
        for index in range(count)
    ]


def until(condition: Callable[[], bool], timeout: float = 10.0) -> float:
    """Wait for a condition; returns the seconds it took, fails after ``timeout``."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < timeout, "waited too long"
        time.sleep(0.02)
    return time.monotonic() - begin
