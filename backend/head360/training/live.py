"""Training groups drawn while training: nothing is written, and any step can be drawn again.

The group of step n is a pure function of the spec and n, so a resumed run sees the very pictures
that an uninterrupted one would have seen, whatever the number of processes.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from head360.errors import TryAgain
from head360.synthesis.processes import prepare_worker
from head360.training.shoot import Part, Photographer, who_and_what
from head360.training.shots import MAX_GROUPS, Moment, SynthSpec

# Groups below are those of kept sets: what is drawn live shares no group with the hull's.
FIRST_GROUP = MAX_GROUPS
_AHEAD_PER_WORKER = 3  # groups: one being drawn, two ready
_HULL_GROUPS = 24  # per hair style


class LiveStream:
    """Draws the group of each step, a few steps ahead, in processes of its own.

    At most ``ahead`` groups are drawn or waiting at any time, so memory does not grow with steps.

    Args:
        spec: what to draw.
        workers: processes; 0 draws in this process when asked.
        rank, world: this training process among those that share the run; together they see the
            groups that one process would see in more steps.
    """

    def __init__(self, spec: SynthSpec, workers: int, rank: int = 0, world: int = 1) -> None:
        self._rank, self._world = rank, world
        styles, shapes = who_and_what(spec.checked())
        self.photographer = Photographer(spec, shapes, styles)
        self.ahead = _AHEAD_PER_WORKER * workers
        self._waiting: dict[int, Future[Part]] = {}
        self._pool: ProcessPoolExecutor | None = None
        if workers > 0:
            self._pool = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self.photographer,),
            )

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def moment(self, step: int) -> Moment:
        """The group of a step; steps are asked for in growing order.

        Raises:
            TryAgain: a process that draws was killed.
        """
        group = FIRST_GROUP + step * self._world + self._rank
        if self._pool is None:
            part = self.photographer.shoot([group])
        else:
            try:
                part = self._ask(group).result()
            except BrokenProcessPool as error:
                raise TryAgain(
                    "A process that takes pictures was killed, perhaps for memory: add --resume "
                    "and use fewer --workers."
                ) from error
        blendshapes, cameras, rgba, hair = (values[0] for values in part)
        subject, style = self.photographer.planned(group)
        return Moment(subject, style, blendshapes, cameras, rgba, hair)

    @property
    def waiting(self) -> int:
        """How many groups are being drawn or lie ready."""
        return len(self._waiting)

    def close(self) -> None:
        """End the processes; what they were drawing is thrown away."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def _ask(self, group: int) -> Future[Part]:
        """The future of ``group``; those of the next groups are on their way."""
        assert self._pool is not None
        for old in [number for number in self._waiting if number < group]:
            self._waiting.pop(old).cancel()
        for number in range(group, group + self.ahead * self._world, self._world):
            if number not in self._waiting:
                self._waiting[number] = self._pool.submit(_draw, number)
        return self._waiting.pop(group)


def hull_spec(spec: SynthSpec, styles: int) -> SynthSpec:
    """The small kept set from which the hulls of the hair are carved in a live run."""
    return dataclasses.replace(spec, groups=_HULL_GROUPS * max(1, styles), bald=0.0, live=0)


_photographer: Any = None


def _begin(photographer: Photographer) -> None:
    """First call in a worker process."""
    global _photographer
    _photographer = photographer
    prepare_worker()


def _draw(group: int) -> Part:
    part: Part = _photographer.shoot([group])
    return part
