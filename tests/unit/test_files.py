"""Files are whole or absent, also when the process dies or the disk is full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from head360 import files
from head360.errors import BadInput, TryAgain
from head360.files import sole_writer

OLD, NEW = b"old" * 1000, b"new" * 2000


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_bytes_and_text(tmp_path):
    assert files.write_bytes(tmp_path / "a", memoryview(NEW)) == tmp_path / "a"
    assert (tmp_path / "a").read_bytes() == NEW
    files.write_text(str(tmp_path / "b"), "ä×\n")
    assert (tmp_path / "b").read_bytes() == "ä×\n".encode()
    assert names(tmp_path) == ["a", "b"]


def test_replaces(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(OLD)
    files.write_bytes(target, NEW)
    assert target.read_bytes() == NEW
    assert names(tmp_path) == ["a"]


def test_old_content_stays_until_the_end(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(OLD)
    with files.atomic_path(target) as temporary:
        assert temporary.parent == target.parent  # a rename, not a copy across file systems
        temporary.write_bytes(NEW)
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW


def test_an_exception_in_between_keeps_the_old_file(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(OLD)

    def write_half():
        with files.atomic_path(target) as temporary:
            temporary.write_bytes(NEW[:10])
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("existing", [True, False])
def test_a_kill_in_between_leaves_no_torn_file(tmp_path, existing):
    target = tmp_path / "a"
    if existing:
        target.write_bytes(OLD)
    code = f"""
        import os, signal
        from head360 import files
        with files.atomic_path({str(target)!r}) as temporary:
            temporary.write_bytes({NEW[:10]!r})
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert target.exists() == existing
    if existing:
        assert target.read_bytes() == OLD
    left = [name for name in names(tmp_path) if name != "a"]
    assert len(left) == 1
    assert left[0].startswith(".a.")
    assert left[0].endswith(".tmp")
    files.write_bytes(target, NEW)  # what the killed process left does not disturb the next
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, call):
    target = tmp_path / "a"
    target.write_bytes(OLD)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(BadInput, match="free some space"):
        files.write_bytes(target, NEW)
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


def test_a_file_that_is_held_for_a_moment_is_replaced(tmp_path, monkeypatch):
    replace, held = os.replace, [1, 1]

    def busy(a, b):
        if held:
            held.pop()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replace(a, b)

    monkeypatch.setattr(os, "replace", busy)
    files.write_bytes(tmp_path / "a", NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_the_file_is_synced_before_the_rename(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    files.write_bytes(tmp_path / "a", NEW)
    assert order[:2] == ["fsync", "replace"]


def test_a_folder_that_is_gone(tmp_path):
    with pytest.raises(BadInput) as caught:
        files.write_bytes(tmp_path / "gone" / "a", NEW)
    assert caught.value.exit_code == 2
    assert str(tmp_path / "gone" / "a") in str(caught.value)


def test_writable_folder(tmp_path):
    folder = tmp_path / "x" / "y"
    assert files.writable_folder(str(folder)) == folder
    assert folder.is_dir()
    assert names(folder) == []
    assert files.writable_folder(folder) == folder


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "x").write_bytes(OLD)
    for folder in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(BadInput, match="output folder"):
            files.writable_folder(folder)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_a_folder_that_nobody_may_write_to():
    with pytest.raises(BadInput):
        files.writable_folder("/proc/head360")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_read_only_folder(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir(mode=0o555)
    with pytest.raises(BadInput):
        files.writable_folder(folder)
    with pytest.raises(BadInput):
        files.write_bytes(folder / "a", NEW)


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom head360.files import sole_writer\n"
        f"with sole_writer({str(tmp_path)!r}):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TryAgain, match="Another process"), sole_writer(tmp_path):
            pass
        with sole_writer(tmp_path / "elsewhere"):
            pass
        other.kill()
    with sole_writer(tmp_path):  # a lock dies with its process
        pass
    assert list(tmp_path.iterdir()) == []
