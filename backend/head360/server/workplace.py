"""Where a fit or an edit is done: a hidden folder, and a locked file beside it while it is in use.

The lock ends with its process whatever happens to it, so the next backend can tell what was left
behind. Process ids cannot: they are used again, and in a container others are not even seen.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from pathlib import Path

from head360.files import take_lock

log = logging.getLogger(__name__)

PREFIX = ".making-"
LOCK = ".lock"


class Workplace:
    """A folder of one job that only this user may enter; it goes with everything in it.

    Args:
        root: folder in which it is made; packages can leave it by a rename.

    Attributes:
        folder: the place itself.

    Raises:
        OSError: the file system refused.
    """

    def __init__(self, root: Path) -> None:
        # The lock comes first: a folder is never to be seen without.
        self._lock, self._handle = _locked_file(root)
        self.folder = self._lock.with_suffix("")
        try:
            self.folder.mkdir(mode=0o700)
        except OSError:
            self._release()
            raise

    def clear(self) -> None:
        """Remove the folder and what is left in it, then the lock; idempotent."""
        if self._handle is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if not self.folder.exists():  # else the lock says: swept by the next backend
            _remove(self._lock, handle)
        else:
            os.close(handle)


def sweep(root: Path) -> None:
    """Remove the workplaces of processes that are gone."""
    for lock in root.glob(f"{PREFIX}*{LOCK}") if root.is_dir() else ():
        try:
            handle = os.open(lock, os.O_RDWR)
        except OSError:
            continue  # it went just now, or is not ours
        if not take_lock(handle):
            os.close(handle)  # somebody is at work there
            continue
        folder = lock.with_suffix("")
        if folder.is_dir():
            log.info("left by a backend that was killed: %s", folder)
            shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            os.close(handle)  # not everything could be removed: another time
        else:
            _remove(lock, handle)
    for folder in root.glob(f"{PREFIX}*") if root.is_dir() else ():
        # Nobody makes one without a lock.
        if folder.is_dir() and not folder.with_name(folder.name + LOCK).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _locked_file(root: Path) -> tuple[Path, int | None]:
    """A new file and its handle, which holds the lock."""
    for last in (False, False, True):
        path = root / f"{PREFIX}{secrets.token_hex(8)}{LOCK}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if take_lock(handle) and _is_there(path, handle):
            return path, handle
        if last:
            break
        # Between making and locking a sweep took it for a leftover.
        os.close(handle)
        path.unlink(missing_ok=True)
    # A file system without locks: whoever sweeps it gets none either, and leaves the place alone.
    log.warning("files cannot be locked in %s: what a killed backend leaves there stays", root)
    return path, handle


def _is_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _remove(lock: Path, handle: int) -> None:
    """Remove a lock that ``handle`` holds: before closing where the system lets us.

    One that somebody else has open, as virus scanners do, stays for the next sweep.
    """
    try:
        lock.unlink()
    except OSError:  # Windows does not remove what is open
        os.close(handle)
        with contextlib.suppress(OSError):
            lock.unlink()
    else:
        os.close(handle)
