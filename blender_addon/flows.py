"""Work that takes time, without blocking Blender: generators that wait by yielding.

A flow is a generator. It yields what it waits for, and is resumed on the main thread with the
result, so one function reads from top to bottom although Blender stays responsive in between:

* a backend job (it has ``poll``), or ``(job, on_part)`` to take the frames of a sequence or the
  stages of a fit: ``on_part`` returns at once, with None or a future of what becomes of the part on
  another thread;
* a ``concurrent.futures.Future`` from :func:`in_thread`, whose function must not touch bpy;
* ``None``, or a :class:`Phase` to show: nothing to wait for, only give Blender a chance to draw.

The timer drives it when there is a window; ``Session.run`` drives the same generator in the
background. Errors arrive inside the generator, so its ``finally`` cleans up on every way out.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from head360.errors import Cancelled

Steps = Generator[Any, Any, Any]
_MOST_WRITES = 32  # frames taken but not written; a slow disk slows the backend down
_ids = itertools.count(1)


@dataclass(frozen=True)
class Phase:
    """What the flow itself is doing, and how far it is, for the progress bar."""

    name: str
    fraction: float


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run ``function`` on a daemon thread. It must never touch bpy."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, raised there
            future.set_exception(error)

    threading.Thread(target=work, name="head360-work", daemon=True).start()
    return future


class Flow:
    """One running generator and what the interface shows about it.

    Attributes:
        id: a number of its own, for the button that cancels it.
        title: what is being done, for the progress bar.
        phase: the backend's word for the present stage.
        fraction: finished part in [0, 1]; 0 also while nobody knows.
        seconds: since it began.
        finished: whether it ended, one way or the other.
        result: what the generator returned.
        error: why it ended without a result, or None.
    """

    def __init__(self, title: str, steps: Steps) -> None:
        self.id = next(_ids)
        self.title = title
        self.phase = ""
        self.fraction = 0.0
        self.finished = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._began = time.monotonic()
        self._steps = steps
        self._waiting: Any = None
        self._on_part: Callable[[Any], Future[Any] | None] | None = None
        self._writes: deque[Future[Any]] = deque()
        self._end: Any = None  # the job's last event, kept until the writes are done
        self._cancel_asked = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def cancel(self) -> None:
        """Ask it to stop; idempotent. It still runs until its clean-up is done."""
        if self.finished or self._cancel_asked:
            return
        self._cancel_asked = True
        if hasattr(self._waiting, "cancel") and hasattr(self._waiting, "poll"):
            self._waiting.cancel()

    def advance(self) -> bool:
        """Do what can be done now, without waiting. True when something moved."""
        if self.finished:
            return False
        waiting = self._waiting
        if waiting is None or isinstance(waiting, Future):
            if self._cancel_asked:
                self._resume(error=Cancelled(f"{self.title}: stopped."))
            elif waiting is None:
                self._resume(value=None)
            elif not waiting.done():
                return False
            elif (error := waiting.exception()) is not None:
                self._resume(error=error)
            else:
                self._resume(value=waiting.result())
            return True
        return self._poll_job(waiting)

    def _poll_job(self, job: Any) -> bool:
        from head360 import client as wire  # not before a backend is used: it loads pyzmq

        moved = False
        while self._writes and self._writes[0].done():
            moved = True
            if (error := self._writes.popleft().exception()) is not None:
                job.cancel()  # a full disk: stop the backend as well
                self._resume(error=error)
                return True
        if self._end is None and len(self._writes) < _MOST_WRITES:
            try:
                for event in job.poll():
                    moved = True
                    if isinstance(event, wire.Progress):
                        self.phase, self.fraction = event.phase, event.fraction
                    elif isinstance(event, wire.FrameDone):
                        self.fraction = event.step / max(event.of, 1)
                        self._take(event)
                    elif isinstance(event, wire.StageDone):
                        self._take(event)
                    else:
                        self._end = event
            except Exception as error:  # noqa: BLE001 - whatever on_part ran into ends the flow
                # The events after this one are lost, the job's last one perhaps among them.
                job.cancel()
                self._resume(error=error)
                return True
        if self._end is None or self._writes:
            return moved
        if isinstance(self._end, wire.Done):
            self._resume(value=self._end.result)
        elif isinstance(self._end, wire.Failed):
            self._resume(error=self._end.error)
        else:
            self._resume(error=Cancelled(f"{self.title}: stopped."))
        return True

    def _take(self, event: Any) -> None:
        written = self._on_part(event) if self._on_part is not None else None
        if written is not None:
            self._writes.append(written)

    def _resume(self, value: Any = None, error: BaseException | None = None) -> None:
        self._waiting = self._on_part = self._end = None
        self._writes.clear()
        try:
            step = self._steps.send(value) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.result = stop.value
            self.finished, self.fraction = True, 1.0
            return
        except Exception as raised:  # noqa: BLE001 - kept for the operator, which reports it
            self.finished, self.error = True, raised
            return
        if isinstance(step, tuple):
            step, self._on_part = step
        elif isinstance(step, Phase):
            self.phase, self.fraction, step = step.name, step.fraction, None
        self._waiting = step
