"""A job as the caller sees it: events to poll, a result to wait for, one way to cancel.

Callers live on any thread (Blender's main thread, the command line); the I/O thread of the
transport is the only one that calls the ``_push`` methods. Nothing here touches ZeroMQ.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from head360.errors import Cancelled as CancelledError
from head360.errors import Head360Error, TryAgain

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Work goes on. ``fraction`` in [0, 1]; ``step`` of ``of`` where the work has steps, else 0."""

    phase: str
    fraction: float
    step: int = 0
    of: int = 0


@dataclass(frozen=True)
class FrameDone:
    """One frame of a sequence: ``number`` as given by the caller, ``png`` the encoded RGBA picture.

    ``seconds`` is the render time on the backend; ``step`` of ``of`` frames are finished.
    """

    number: int
    png: bytes
    seconds: float
    step: int
    of: int


@dataclass(frozen=True, eq=False)
class StageDone:
    """A stage of a fit is finished, or an edit has a newer preview.

    ``number`` of ``count``; ``picture`` (H, W, 3) uint8 sRGB, top row first, at most 256 a side.
    """

    name: str
    number: int
    count: int
    text: str
    picture: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Done:
    """Terminal: the job's result."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """Terminal: ``error``'s text is one sentence for the person at the screen."""

    error: Head360Error


@dataclass(frozen=True)
class Cancelled:
    """Terminal: stopped on request after ``reached`` finished frames."""

    reached: int = 0
    reason: str = ""


Event = Progress | FrameDone | StageDone | Done | Failed | Cancelled


@dataclass(frozen=True)
class SequenceResult:
    """What ``wait`` returns for a sequence: how many frames came and the time on the backend."""

    frames: int
    seconds: float


@dataclass(eq=False)
class Job(Generic[T]):
    """One request under way. Exactly one terminal event (Done, Failed, Cancelled) ends it.

    Attributes:
        id: chosen by the client, unique on its connection.
        kind: the request's wire name, such as ``render.sequence``.
        done: True once the terminal event has arrived (it may still wait to be polled).
    """

    id: str
    kind: str
    _cancel: Callable[[Job[Any]], None]
    _acknowledge: Callable[[Job[Any], int], None]
    deadline: float | None = None
    decode: Callable[[Any], Any] | None = field(default=None, repr=False)
    _events: deque[Event] = field(default_factory=deque, repr=False)
    _condition: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _terminal: Event | None = field(default=None, repr=False)
    _cancelling: bool = field(default=False, repr=False)

    @property
    def done(self) -> bool:
        return self._terminal is not None

    def poll(self) -> list[Event]:
        """Take the events that came since the last call, oldest first. Never blocks."""
        with self._condition:
            events = list(self._events)
            self._events.clear()
        frames = sum(isinstance(event, FrameDone) for event in events)
        if frames:
            self._acknowledge(self, frames)  # the backend renders only so far ahead of us
        return events

    def wait(
        self, on_event: Callable[[Event], None] | None = None, timeout: float | None = None
    ) -> T:
        """Block until the job ends; events go to ``on_event`` on the calling thread.

        Returns the result. A time-out leaves the job running: call ``wait`` again or ``cancel``.

        Raises:
            TryAgain: ``timeout`` seconds passed, or the backend went away.
            errors.Cancelled: the job was cancelled.
            Head360Error: the job failed; the text says why.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._condition:
                if not self._events and self._terminal is None:
                    left = 0.25 if limit is None else min(0.25, limit - time.monotonic())
                    if left > 0:  # short slices, so that Ctrl-C is noticed on every system
                        self._condition.wait(left)
            for event in self.poll():
                if on_event is not None:
                    on_event(event)
            with self._condition:
                if self._terminal is not None and not self._events:
                    return self._result()
            if limit is not None and time.monotonic() >= limit:
                raise TryAgain(f"The backend has not finished within {timeout:.0f} s: try again.")

    def result(self) -> T:
        """The result of a finished job; raises what ``wait`` raises (TryAgain if not done)."""
        if self._terminal is None:
            raise TryAgain("The job is still running.")
        return self._result()

    def cancel(self) -> None:
        """Ask the backend to stop; idempotent, returns at once. The terminal event still comes."""
        if not self.done and not self._cancelling:
            self._cancelling = True
            self._cancel(self)

    def _result(self) -> T:
        terminal = self._terminal
        if isinstance(terminal, Done):
            return cast(T, terminal.result)
        if isinstance(terminal, Failed):
            raise terminal.error
        raise CancelledError("The job was cancelled; what was finished is kept.")

    def _push(self, event: Event) -> None:
        """Called by the I/O thread; anything after the terminal event is dropped."""
        with self._condition:
            if self._terminal is not None:
                return
            if isinstance(event, Progress) and self._events:
                last = self._events[-1]
                if isinstance(last, Progress) and last.phase == event.phase:
                    self._events.pop()  # nobody polled: only the newest progress matters
            if isinstance(event, StageDone):
                older = [one for one in self._events if _same_stage(one, event)]
                for one in older:  # likewise previews, which are not small
                    self._events.remove(one)
            self._events.append(event)
            if isinstance(event, (Done, Failed, Cancelled)):
                self._terminal = event
            self._condition.notify_all()


def _same_stage(old: Event, new: StageDone) -> bool:
    return isinstance(old, StageDone) and old.name == new.name
