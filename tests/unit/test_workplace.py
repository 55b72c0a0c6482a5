"""What fits and edits leave behind, and workers that do not go when they are killed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from head360.errors import TryAgain
from head360.server import lane as lanes
from head360.server import workbench, workplace
from head360.server.auth import Doorman
from head360.server.heads_table import HeadsTable
from head360.server.lane import Lane
from head360.server.workbench import MOST_WAITING, Workbench
from head360.server.workplace import Workplace, sweep

HOLD = """
import sys, time
from pathlib import Path
from head360.server.workplace import Workplace
place = Workplace(Path(sys.argv[1]))
(place.folder / "photo.jpg").write_bytes(b"a face")
print(place.folder, flush=True)
time.sleep(60)
"""


def test_a_place_is_swept_when_its_process_is_gone_and_not_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            theirs = Path(process.stdout.readline().strip())
            mine = Workplace(tmp_path)
            sweep(tmp_path)
            assert (theirs / "photo.jpg").is_file()
            assert mine.folder.is_dir()
            assert mine.folder.stat().st_mode & 0o077 == 0
        finally:
            process.kill()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [mine.folder.name, f"{mine.folder.name}.lock"]
    )
    mine.clear()
    mine.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_removed_ends_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "a virus scanner has it open")

    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(workbench, "user_models_dir", lambda: tmp_path)
    nothing: Any = None
    answers: list[tuple[Any, Any]] = []
    bench = Workbench(
        HeadsTable(), nothing, nothing, nothing, lambda job, answer: answers.append((job, answer))
    )
    job: Any = SimpleNamespace(stopping=None)
    bench.job, bench._place = job, Workplace(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        bench._end("made")
        sweep(tmp_path)
    assert answers == [(job, "made")]
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)  # the next one gets it
    assert list(tmp_path.iterdir()) == []
    # Whatever fails while clearing, the client hears how its job ended.
    bench.job = job
    monkeypatch.setattr(bench, "_clear", broken)
    with pytest.raises(RuntimeError):
        bench._end("again")
    assert answers[1:] == [(job, "again")]


def test_a_process_id_that_is_used_again_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / f".making-{os.getpid()}-12ab" / "photos").mkdir(parents=True)
    (tmp_path / ".making-0badcafe.lock").touch()  # killed before it made its folder
    (tmp_path / "Mia").mkdir()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Mia"]


def test_without_locks_everything_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workplace, "take_lock", lambda handle: False)
    place = Workplace(tmp_path)
    sweep(tmp_path)
    assert place.folder.is_dir()
    place.clear()
    assert list(tmp_path.iterdir()) == []


def test_waiting_jobs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "user_models_dir", lambda: tmp_path)
    nothing: Any = None
    bench = Workbench(HeadsTable(), nothing, nothing, nothing, nothing)
    jobs: list[Any] = [object() for _ in range(MOST_WAITING + 1)]
    for job in jobs[:-1]:
        bench.add(job)
    with pytest.raises(TryAgain, match="8 fits and edits are waiting"):
        bench.add(jobs[-1])
    assert bench.remove(jobs[3])
    bench.add(jobs[-1])
    assert len(bench) == MOST_WAITING


# --- a worker that does not go --------------------------------------------------------------------


class Stuck:
    """A process in an uninterruptible wait: killing it shows no effect until ``ended``."""

    pid = 4711

    def __init__(self, *_: Any, **__: Any) -> None:
        self.stdin, self.kills, self.waits, self.ended = io.BytesIO(), 0, 0, False

    def poll(self) -> int | None:
        return -9 if self.ended else None

    def kill(self) -> None:
        self.kills += 1

    def wait(self, timeout: float) -> int:
        self.waits += 1
        if not self.ended:
            raise subprocess.TimeoutExpired("worker", timeout)
        return -9


@pytest.mark.parametrize("once", [False, True])
def test_a_worker_that_does_not_go_blocks_nobody(
    monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    started: list[Stuck] = []

    def popen(*_: Any, **__: Any) -> Stuck:
        started.append(Stuck())
        return started[-1]

    monkeypatch.setattr(lanes.subprocess, "Popen", popen)
    with zmq.Context() as context:
        doorman = Doorman(context)
        lane = Lane(context, doorman, "cpu", "", once=once)
        lane.kill_after(-1.0)
        begin = time.monotonic()
        assert lane.check() is None  # killed, and nothing is waited for
        assert lane.check() is None
        assert time.monotonic() - begin < 0.5
        assert started[0].kills == 1
        started[0].ended = True
        assert "signal 9" in str(lane.check())
        if not once:
            assert len(started) == 2
            lane.kill()
            monkeypatch.setattr(lanes, "KILL_LIMIT", 0.0)
            assert "hangs" in str(lane.check())  # given up, and another takes its place
            assert len(started) == 3
            assert (lane.restarts, lane.state) == (2, "starting")
        last = started[-1]
        last.ended = False
        if once:  # the workbench's way: asked nicely, killed, waited for
            lane._killed = None
            lane.stop()
            assert (last.kills, last.waits) == (2, 2)
        monkeypatch.setattr(lanes, "KILL_LIMIT", 0.0)
        lane.kill()
        before = last.waits
        lane.stop()  # raises nothing either, and waits for nobody who was given up
        assert last.waits == before
        lane.socket.close()
        doorman.socket.close()
