"""The connection file: where a running backend listens and the keys that open it.

The server writes ``connection-<boot id>.json`` (mode 0600) into a runtime folder only the user may
enter (mode 0700). It holds the server's *public* key and the one client key pair that the server
accepts; the server's secret key never leaves its process.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import msgspec

from head360.errors import BadInput, Head360Error, TryAgain

PREFIX = "connection-"
_OWN_NAMES = (PREFIX, f".{PREFIX}", "backend.log", ".probe.")


class Connection(msgspec.Struct, frozen=True):
    """Content of a connection file. Keys are Z85 text as ``zmq.curve_keypair`` makes them."""

    endpoint: str
    server_public: str
    client_public: str
    client_secret: str
    pid: int
    boot_id: str
    version: str


def default_runtime_dir() -> Path:
    """The per-user folder for connection files on this system (not created here)."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "head360" / "run"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "head360"
    return Path.home() / ".cache" / "head360" / "run"


def prepare_runtime_dir(folder: Path) -> Path:
    """Create the runtime folder, or tighten one that only we use, to mode 0700.

    Raises:
        BadInput: it cannot be made, belongs to somebody else, or is a shared folder with other
            files in it (whose mode is not ours to change).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.stat()
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise BadInput(
            f"Cannot use the runtime folder {folder} ({error.strerror}): choose another one with "
            "--runtime-dir."
        ) from error
    if sys.platform == "win32":  # mode bits do nothing there; the profile folder's ACL protects
        return folder
    if info.st_uid != os.getuid():
        raise BadInput(f"The runtime folder {folder} belongs to another user: choose another one.")
    if stat.S_IMODE(info.st_mode) & 0o077:
        if any(not name.startswith(_OWN_NAMES) for name in names):
            raise BadInput(
                f"Others may enter the runtime folder {folder}: use an empty folder, or make it "
                "private (mode 0700)."
            )
        folder.chmod(0o700)
    return folder


def file_path(folder: Path, boot_id: str) -> Path:
    """Where the server with ``boot_id`` writes its file."""
    return folder / f"{PREFIX}{boot_id}.json"


def write(folder: Path, connection: Connection) -> Path:
    """Write the file atomically; at no moment is it readable by others.

    Raises:
        BadInput: the file system refused.
    """
    target = file_path(folder, connection.boot_id)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as handle:
            handle.write(msgspec.json.encode(connection))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadInput(f"Cannot write the connection file {target} ({error.strerror}).") from error
    return target


def read(path: Path | str) -> Connection:
    """Read a connection file.

    Raises:
        TryAgain: there is none (the backend is not running).
        BadInput: the file is not private to this user, or is damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            info = os.fstat(handle.fileno())
            raw = handle.read(65536)
    except FileNotFoundError:
        raise TryAgain("No backend is running: start it and try again.") from None
    except OSError as error:
        raise BadInput(f"Cannot read the connection file {path} ({error.strerror}).") from error
    if sys.platform != "win32" and (info.st_uid != os.getuid() or info.st_mode & 0o077):
        raise BadInput(f"The connection file {path} is not private to you: it is not used.")
    try:
        return msgspec.json.decode(raw, type=Connection)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"The connection file {path} is damaged: restart the backend.") from error


def find(folder: Path) -> list[Path]:
    """Connection files in ``folder`` whose server may still run, newest first."""
    try:
        files = [(path.stat().st_mtime, path) for path in folder.glob(f"{PREFIX}*.json")]
    except OSError:
        return []
    return [path for _, path in sorted(files, reverse=True) if not _is_stale(path)]


def sweep(folder: Path) -> None:
    """Remove the files of servers that were killed without a chance to do it themselves."""
    for path in folder.glob(f"{PREFIX}*.json"):
        if _is_stale(path):
            path.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    try:
        return not process_exists(read(path).pid)
    except Head360Error:
        return False  # whose it is cannot be told: leave it, and let the reader say why


def process_exists(pid: int) -> bool:
    """Whether a process with this id runs. On Windows signal 0 would hit it, so it is opened."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        if not handle:
            return False
        try:
            return kernel.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT: still running
        finally:
            kernel.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
