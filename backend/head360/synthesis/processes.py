"""Worker processes of the studio: one thread each, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def prepare_worker() -> None:
    """First call in a worker process of a pool."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    from numba import set_num_threads

    set_num_threads(1)


def _die_with_parent() -> None:
    """A pool's worker whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
