"""Samples drawn beside the training, each used a few times; the same seed gives the same steps."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np

from head360.synthesis.processes import prepare_worker

Item = TypeVar("Item")
_AHEAD = 12  # steps that workers draw in advance


class Stream(Generic[Item]):
    """Batches of which ``fresh`` samples are new and the others drawn from the last ones.

    Which samples a step holds depends on the seed and the step alone, and sample ``k`` on ``k``
    alone, so a run that is resumed sees what it would have seen.

    Args:
        make: number of a sample → the sample; a method of the pool's object, if there is a pool.
        batch: samples per step; fresh: new ones among them.
        memory: samples that are kept.
        seed: of the choice.
        pool: processes that draw, see :class:`Pool`; None draws in this one.
    """

    def __init__(
        self,
        make: Callable[[int], Item],
        batch: int,
        fresh: int,
        memory: int,
        seed: int,
        pool: Pool | None = None,
    ) -> None:
        self._make, self._batch, self._fresh = make, batch, min(fresh, batch)
        self._memory, self._seed = max(memory, batch), seed
        self._kept: dict[int, Item] = {}
        self._coming: dict[int, Future[Item]] = {}
        self._pool = pool

    def numbers(self, step: int) -> list[int]:
        """Which samples step ``step`` holds."""
        first = step * self._fresh
        new = list(range(first, first + self._fresh))
        rest = self._batch - self._fresh
        rng = np.random.default_rng([self._seed, step, 3])
        low = max(0, first + self._fresh - self._memory)
        return new + [int(k) for k in rng.integers(low, first + self._fresh, rest)]

    def batch(self, step: int) -> list[Item]:
        """The samples of a step."""
        if self._pool is not None:
            for ahead in range(_AHEAD):
                for number in self.numbers(step + ahead)[: self._fresh]:
                    if number not in self._kept and number not in self._coming:
                        self._coming[number] = self._pool.submit(self._make, number)
        out = [self._sample(number) for number in self.numbers(step)]
        oldest = step * self._fresh - self._memory
        for number in [k for k in self._kept if k < oldest]:
            del self._kept[number]
        return out

    def _sample(self, number: int) -> Item:
        if number not in self._kept:
            coming = self._coming.pop(number, None)
            self._kept[number] = self._make(number) if coming is None else coming.result()
        return self._kept[number]


class Pool:
    """Worker processes that call methods of one object, which is sent to them once.

    Args:
        maker: picklable.
        workers: processes, one or more.
    """

    def __init__(self, maker: object, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, _begin, (maker,))

    def submit(self, method: Callable[[int], Item], number: int) -> Future[Item]:
        """Have a worker call a method of the object; ``method`` is that of this process's one."""
        future: Future[Item] = self._pool.submit(_draw, method.__name__, number)
        return future

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


_maker: object = None


def _begin(maker: object) -> None:
    global _maker
    _maker = maker
    prepare_worker()


def _draw(method: str, number: int) -> Any:
    return getattr(_maker, method)(number)
