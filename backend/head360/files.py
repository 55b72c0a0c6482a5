"""Files that are either whole or absent: write beside the target, sync, rename.

A killed process leaves at worst a hidden ``.<name>.<pid>-<thread>.tmp`` file, never a torn result.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from head360.errors import BadInput, TryAgain


def writable_folder(folder: Path | str) -> Path:
    """Create ``folder`` if needed and prove that a file can be written into it.

    Raises:
        BadInput: the path is a file, or this user may not write there.
    """
    folder = Path(folder)
    probe = folder / f".probe.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise BadInput(
            f"Cannot write into the output folder {folder} ({error.strerror}): "
            "choose a folder you may write to."
        ) from error
    return folder


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it becomes the target.

    Raises:
        BadInput: the file system refused (full, read-only, folder gone).
    """
    target = Path(target)
    unique = f"{os.getpid()}-{threading.get_ident()}"
    temporary = target.with_name(f".{target.name}.{unique}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        _replace(temporary, target)
    except OSError as error:
        raise BadInput(
            f"Cannot write {target} ({error.strerror}): free some space or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """``os.replace``, again for a second: on Windows a virus scanner may hold a fresh file."""
    for pause in (0.05, 0.1, 0.2, 0.3, 0.4):
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    os.replace(source, target)


def write_bytes(target: Path | str, data: bytes | memoryview) -> Path:
    """Write ``data`` atomically and return the target's path."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return Path(target)


def write_text(target: Path | str, text: str) -> Path:
    """Write UTF-8 ``text`` atomically and return the target's path."""
    return write_bytes(target, text.encode("utf-8"))


@contextmanager
def sole_writer(folder: Path | str) -> Iterator[None]:
    """Keep other processes from writing the same folder; the lock ends with the process.

    The lock file lies in the system's temporary folder, so the data set stays as it is.

    Raises:
        TryAgain: another process writes it at the moment.
    """
    digest = hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / f"head360-{digest}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadInput(
            f"Cannot open the lock {path} ({error.strerror}): choose another temporary folder "
            "with TMPDIR."
        ) from error
    try:
        if not take_lock(handle):
            raise TryAgain(
                f"Another process is writing {folder}: wait until it ends, or stop it, and run the "
                "same command again."
            )
        yield
    finally:
        os.close(handle)


def take_lock(handle: int) -> bool:
    """Take an exclusive lock on an open file without waiting; False when somebody else has it.

    It ends when the file is closed, and so with the process.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
