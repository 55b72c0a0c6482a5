"""Progress of long work: a bar on a terminal, a line now and then elsewhere; with rate and rest."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from head360.commands import say

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal


class Progress:
    """Shows how far work is, always on standard error.

    Args:
        unit: what is counted, in the plural.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._bar: Any = None
        self._terminal = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` are finished, at the moment it is ``what``."""
        if self._first is None:
            # What was there before is no measure of speed: the first call may report it.
            self._first, self._started = done - 1 if done else 0, time.monotonic()
        if self._terminal:
            self._draw(done, total, what)
            return
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY or done == total:
            self._last = now
            say(f"{done}/{total} {self.unit}, {what}{self._rest(done, total, now)}")

    def _draw(self, done: int, total: int, what: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {self.unit}", file=sys.stderr, initial=done)
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update(done - self._bar.n)

    def _rest(self, done: int, total: int, now: float) -> str:
        seconds = now - self._started
        new = done - (self._first or 0)
        if new < 2 or seconds < 1:
            return ""
        rate = new / seconds
        left = "" if done >= total else f", about {duration((total - done) / rate)} left"
        return f", {rate:.2g} {self.unit} a second{left}"


def duration(seconds: float) -> str:
    """Seconds for people: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
