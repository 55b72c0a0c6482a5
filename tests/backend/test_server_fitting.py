"""Fits and edits through real processes and real sockets, with fakes for the work itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server_tools import frames, made_in, start, until

from head360.client import Client, Failed, Photo, Progress, StageDone
from head360.errors import BadInput, Cancelled, ModelInvalid, TryAgain
from head360.launcher import LocalBackend
from head360.rendering.cameras import orbit
from head360.server import workbench

OWN = "my own picture"
FACE = Photo("me at home.jpg", b"\xff\xd8 a face")
NEUTRAL = np.zeros(52, np.float32)


@pytest.fixture(autouse=True)
def nothing_left(backend: LocalBackend) -> Iterator[None]:
    """Whatever happens, a job leaves no folder of its own, and so no photograph."""
    yield
    until(lambda: not list(made_in(backend).glob(".*")), 15)


def test_a_fit_tells_its_stages_and_becomes_a_model(client: Client, backend: LocalBackend) -> None:
    assert {"fit", "edit"} <= client.features
    job = client.fit_head(
        [FACE, Photo("side: 2?.png", b"side")],
        "Mia",
        consent=OWN,
        model="fake",
        style=None,
        steps=3,
    )
    events: list[object] = []
    made = job.wait(events.append, timeout=30)
    stages = [event for event in events if isinstance(event, StageDone)]
    assert [(s.name, s.number, s.count) for s in stages] == [
        ("detect", 1, 3), ("hair", 2, 3), ("head", 3, 3)
    ]  # fmt: skip
    assert stages[0].text == "Mia is next"
    picture = stages[1].picture
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((256, 128, 3), np.uint8)
    assert (picture == 160).all()
    assert any(isinstance(event, Progress) for event in events)
    assert (made.model, made.subject, made.style) == ("Mia", "ann", "short")
    assert made.styles == [("short", 0.75), ("bald", 0.25)]
    assert made.facts == {"landmark_px": 1.5}  # the figure that is not a number is left out
    assert made.notes == ["One picture is enough."]
    manifest = json.loads((made_in(backend) / "Mia" / "manifest.json").read_text())
    provenance = manifest["provenance"]
    assert manifest["name"] == "Mia"
    assert provenance["declaration"] == OWN
    assert provenance["from"] == [FACE.name, "side_ 2_.png"]
    settings = provenance["settings"]
    assert (settings["style"], settings["steps"], settings["face"]) == (None, 3, None)
    info = next(model for model in client.models() if model.name == "Mia")
    assert info.made_by == "head360 fit"
    assert client.create_head("Mia").subject == "ann"


def test_names_do_not_collide_and_nothing_is_overwritten(client: Client) -> None:
    names = [
        client.fit_head([FACE], "twin", consent=OWN, model="fake").wait(timeout=30).model
        for _ in range(2)
    ]
    assert names == ["twin", "twin 2"]
    other = client.fit_head([FACE], "FAKE", consent=OWN, model="fake").wait(timeout=30)
    assert other.model == "FAKE 2"  # file systems may not tell capitals apart


def test_what_is_wrong_is_said_before_or_by_the_fit(client: Client, backend: LocalBackend) -> None:
    def refused(match: str, kind: type[Exception] = BadInput, **changes: object) -> None:
        arguments = {"consent": OWN, "model": "fake", "photos": [FACE], "name": "x"} | changes
        with pytest.raises(kind, match=match):
            client.fit_head(**arguments).wait(timeout=30)

    refused("may use the photograph", consent=" ")
    refused("1 to 8 photographs", photos=[])
    refused("at most 8", photos=[FACE] * 9)
    refused("is empty", photos=[Photo("a.jpg", b"")])
    refused("33 MiB", photos=[Photo("a.jpg", bytes(33 << 20))])
    refused("66 MiB together", photos=[Photo("a.jpg", bytes(22 << 20))] * 3)
    refused("seed", seed=-1)
    refused("no model", ModelInvalid, model="../secret")
    refused("no face in who.png", photos=[Photo("who.png", b"nobody")])
    assert "x" not in [model.name for model in client.models()]
    assert not (made_in(backend) / "x").exists()


def test_a_cancelled_fit_leaves_nothing(client: Client, backend: LocalBackend) -> None:
    slow = Photo("slow.jpg", b"slow")
    job = client.fit_head([slow], "gone", consent=OWN, model="fake")
    waiting = client.fit_head([slow], "later", consent=OWN, model="fake")
    until(lambda: any(isinstance(event, Progress) for event in job.poll()))
    waiting.cancel()
    until(lambda: waiting.done, 2)
    begin = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(timeout=10)
    assert time.monotonic() - begin < 3
    assert not {"gone", "later"} & {path.name for path in made_in(backend).iterdir()}


def test_only_so_many_fits_wait(client: Client) -> None:
    slow = Photo("slow.jpg", b"slow")
    jobs = [client.fit_head([slow], "queue", consent=OWN, model="fake")]
    until(lambda: client.status().making == jobs[0].id)
    for _ in range(workbench.MOST_WAITING):
        jobs.append(client.fit_head([slow], "queue", consent=OWN, model="fake"))
    until(lambda: client.status().queued == workbench.MOST_WAITING)
    with pytest.raises(TryAgain, match="8 fits and edits are waiting"):
        client.fit_head([slow], "queue", consent=OWN, model="fake").wait(timeout=10)
    jobs.pop().cancel()  # one place is free again, and the refused one left no trace
    until(lambda: client.status().queued == workbench.MOST_WAITING - 1)
    jobs.append(client.fit_head([slow], "queue", consent=OWN, model="fake"))
    until(lambda: client.status().queued == workbench.MOST_WAITING)
    for job in reversed(jobs):
        job.cancel()
    until(lambda: all(job.done for job in jobs))


def test_the_renderer_is_free_beside_a_fit(client: Client) -> None:
    job = client.fit_head([Photo("a", b"slow")], "beside", consent=OWN, model="fake")
    head = client.create_head("fake").head_id
    until(lambda: client.status().making == job.id)
    begin = time.monotonic()
    client.render_frame(head, NEUTRAL, orbit(0, 0), 16, 16)
    client.render_sequence(head, frames(5), 16, 16).wait(timeout=10)
    assert time.monotonic() - begin < 3
    assert not job.done
    job.cancel()
    until(lambda: job.done, 5)


def test_a_fit_that_does_not_listen_is_killed(
    client: Client, backend: LocalBackend, tmp_path: Path
) -> None:
    job = client.fit_head([Photo("a", b"deaf")], "deaf", consent=OWN, model="fake")
    until(lambda: any(isinstance(e, StageDone) and e.number == 3 for e in job.poll()))
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(timeout=workbench.CANCEL_GRACE + 5)
    assert client.status().restarts == 0  # the renderer had nothing to do with it


def test_a_crash_is_one_sentence_and_the_next_fit_works(client: Client) -> None:
    job = client.fit_head([Photo("a", b"crash")], "crash", consent=OWN, model="fake")
    with pytest.raises(TryAgain, match="stopped unexpectedly"):
        job.wait(timeout=30)
    again = client.fit_head([FACE], "after the crash", consent=OWN, model="fake")
    assert again.wait(timeout=30).model == "after the crash"


def test_an_edit_is_a_new_model_of_the_same_person(client: Client, backend: LocalBackend) -> None:
    assert client.editors() == {"filter:red": "Redder", "filter:slow": "Never ends"}
    head = client.create_head("fake", "ben")
    job = client.edit_head(head.head_id, "ben in red", "filter:red", "red", strength=0.5, seed=4)
    events: list[object] = []
    made = job.wait(events.append, timeout=30)
    previews = [event for event in events if isinstance(event, StageDone)]
    assert previews
    assert previews[0].picture is not None
    assert previews[0].picture.shape == (8, 8, 3)
    manifest = json.loads((made_in(backend) / made.model / "manifest.json").read_text())
    told = {"subject": "ben", "prompt": "red", "strength": 0.5, "seed": 4, "editor": "filter:red"}
    assert told.items() <= manifest["provenance"].items()
    assert made.model in [model.name for model in client.models()]


def test_edits_are_refused_and_cancelled(client: Client) -> None:
    head = client.create_head("fake").head_id
    for changes in (
        {"editor": "filter:blue"},
        {"editor": "diffusers"},  # this backend was started without one
        {"editor": "diffusers:/etc"},  # which it is, is not for a client to say
        {"strength": 1.5},
        {"strength": float("nan")},
        {"prompt": "x" * 1001},
        {"head_id": "unknown"},
    ):
        with pytest.raises(BadInput):
            client.edit_head(
                **{"head_id": head, "name": "x", "editor": "filter:red"} | changes
            ).wait(timeout=30)
    job = client.edit_head(head, "x", "filter:slow")
    until(lambda: any(isinstance(event, StageDone) for event in job.poll()))
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(timeout=10)


def test_a_client_that_goes_away_takes_its_fit_along(client: Client, backend: LocalBackend) -> None:
    with Client.connect(backend.connection_file) as other:
        other.fit_head([Photo("a", b"slow")], "left", consent=OWN, model="fake")
        until(lambda: bool(client.status().making))
    # A closed socket shows only when something is sent to it: progress is.
    until(lambda: not client.status().making, 15)
    assert not (made_in(backend) / "left").exists()


def test_killed_backends_leave_folders_that_the_next_one_removes(
    tmp_path: Path, models_dir: Path
) -> None:
    backend = start(tmp_path, models_dir)
    with Client.connect(backend.wait_ready(30.0)) as client:
        job = client.fit_head([Photo("a", b"slow")], "killed", consent=OWN, model="fake")
        until(lambda: any(isinstance(event, StageDone) for event in job.poll()))
        (left,) = (path for path in made_in(backend).iterdir() if path.is_dir())
        assert left.stat().st_mode & 0o077 == 0  # a stranger's photograph is nobody's business
        os.kill(backend.pid, signal.SIGKILL)
        until(lambda: job.done, 10)
        assert isinstance(job.poll()[-1], Failed)
    backend.stop()
    assert left.exists()
    again = start(tmp_path, models_dir)
    again.wait_ready(30.0)
    again.stop()
    assert list(made_in(again).iterdir()) == []
