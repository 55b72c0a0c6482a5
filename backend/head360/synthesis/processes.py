"""Worker processes of the studio: one thread each, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from head360.errors import TryAgain

Result = TypeVar("Result")
Tell = Callable[[tuple[int, int, str]], None]
Stopped = Callable[[], bool]

_told: Any = None
_stop: Any = None


def prepare_worker() -> None:
    """First call in a worker process of a pool."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    from numba import set_num_threads

    set_num_threads(1)


def share_out(
    work: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: int, tell: Tell
) -> Iterator[Result]:
    """Do every job, in this process or in several; yields the results as they come, in no order.

    Args:
        work: a module's function, called with a job's items, then ``tell`` and ``stopped``, which
            it asks now and then and raises ``Cancelled`` when True.
        jobs: what to call it with; picklable.
        workers: processes; with one, nothing is started.
        tell: called in this process with what the jobs tell: (done, of these kept, what).

    Raises:
        TryAgain: a worker process was killed.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield work(*job, tell, lambda: False)
        return
    context = multiprocessing.get_context("spawn")
    told, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=(told, stop)
    )
    waiting: set[Future[Result]] = set()
    try:
        waiting = {pool.submit(_do, work, job) for job in jobs}
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(told, tell)
            for future in done:
                yield future.result()
        _drain(told, tell, patience=0.05)
    except BrokenProcessPool as error:
        raise TryAgain(
            "A worker process was killed, perhaps for want of memory: run the same command again "
            "with fewer --workers; what was finished is kept."
        ) from error
    finally:
        stop.set()
        for future in waiting:
            future.cancel()
        wait(waiting)
        pool.shutdown()
        told.close()


def _begin(told: Any, stop: Any) -> None:
    global _told, _stop
    _told, _stop = told, stop
    prepare_worker()


def _do(work: Callable[..., Result], job: tuple[Any, ...]) -> Result:
    return work(*job, _told.put, _stop.is_set)


def _drain(told: Any, tell: Tell, patience: float = 0.0) -> None:
    while True:
        try:
            tell(told.get(timeout=patience) if patience else told.get_nowait())
        except queue.Empty:
            return


def _die_with_parent() -> None:
    """A pool's worker whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
