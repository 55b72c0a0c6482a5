"""Clients and their jobs, and which of them the worker takes next. No sockets, no torch.

Two queues: what a person waits for (create, mesh, single frames) and long work (sequences,
surfaces). A sequence is handed out frame by frame, so a viewport stays usable beside it and a
cancel is seen at every frame.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from head360 import protocol
from head360.server.heads_table import HeadEntry, Model

LONG = (protocol.RenderSequence, protocol.ExtractSurface)
IN_A_ROW = 4  # short tasks before long work gets a turn


@dataclass(eq=False)
class Client:
    """One connection. ``outbox`` holds messages its socket could not take yet."""

    routing: bytes
    heard: float
    outbox: deque[list[Any]] = field(default_factory=deque)
    jobs: dict[str, Job] = field(default_factory=dict)


@dataclass(eq=False)
class Job:
    """One accepted request until its terminal answer.

    Attributes:
        head: of render, mesh and extract requests. ``model``: of create requests.
        deadline: monotonic seconds after which a waiting job is not started any more.
        next: index of the frame that is rendered next (sequences).
        acknowledged: frames the client has taken.
        stopping: why it is being cancelled; None while it is wanted.
    """

    client: Client
    id: str
    body: Any
    blobs: dict[str, Any]
    head: HeadEntry | None = None
    model: Model | None = None
    deadline: float | None = None
    next: int = 0
    acknowledged: int = 0
    seconds: float = 0.0
    stopping: str | None = None

    @property
    def frames(self) -> int:
        """Length of a sequence, else 1."""
        numbers = self.blobs.get("numbers")
        return 1 if numbers is None else int(numbers.size)


class Queue:
    """Waiting jobs. The running one is not in it."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._short) + len(self._long)

    def __iter__(self) -> Any:
        return iter([*self._short, *self._long])

    def add(self, job: Job) -> Job | None:
        """Append a job; returns an older waiting one of the same view that it replaces."""
        if isinstance(job.body, LONG):
            self._long.append(job)
            return None
        replaced = None
        if isinstance(job.body, protocol.RenderFrame) and job.body.view:
            replaced = next((old for old in self._short if _same_view(old, job)), None)
        if replaced is None:
            self._short.append(job)
        else:  # in place, so that a busy viewport does not lose its turn again and again
            self._short[self._short.index(replaced)] = job
        return replaced

    def remove(self, job: Job) -> bool:
        """Take out a waiting job; False if it is not here."""
        for queue in (self._short, self._long):
            if job in queue:
                queue.remove(job)
                return True
        return False

    def take(self) -> Job | None:
        """The job whose next task the worker gets, removed from the queue; None: nothing to do.

        Clients that do not read their answers, and sequences whose frames nobody takes, wait.
        """
        turn_of_long = self._in_a_row >= IN_A_ROW
        for queue in (self._long, self._short) if turn_of_long else (self._short, self._long):
            job = next((job for job in queue if self._may_run(job)), None)
            if job is not None:
                queue.remove(job)
                self._in_a_row = self._in_a_row + 1 if queue is self._short else 0
                return job
        return None

    def expired(self) -> list[Job]:
        """Remove and return waiting jobs whose deadline has passed."""
        now = time.monotonic()
        late = [job for job in self if job.deadline is not None and now > job.deadline]
        for job in late:
            self.remove(job)
        return late

    def _may_run(self, job: Job) -> bool:
        if job.client.outbox:
            return False
        if isinstance(job.body, protocol.RenderSequence):
            return job.next - job.acknowledged < self._window
        return True


def _same_view(old: Job, new: Job) -> bool:
    return (
        isinstance(old.body, protocol.RenderFrame)
        and old.client is new.client
        and old.body.view == new.body.view
    )
