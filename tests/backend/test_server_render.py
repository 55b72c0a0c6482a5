"""A real backend process with a fake head: what a client gets, and in which order."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from fake_head import RADIUS
from PIL import Image
from server_tools import frames, until

from head360.arkit.names import INDEX
from head360.client import (
    Cancelled,
    Client,
    Done,
    FrameDone,
    Job,
    Progress,
    SequenceWriter,
    parameters_hash,
)
from head360.errors import BadInput, Head360Error, ModelInvalid, TryAgain
from head360.errors import Cancelled as CancelledError
from head360.rendering.cameras import BOX_CENTRE, Camera, orbit

NEUTRAL = np.zeros(52, np.float32)
FRONT = orbit(0, 0)


def test_welcome_tells_device_limits_and_models(client: Client) -> None:
    welcome = client.welcome
    assert welcome.device_kind == "cpu"
    assert welcome.device
    assert welcome.models[0] == "fake"
    assert welcome.limits.width == 4096
    assert {"frames", "depth", "sequences", "surfaces", "cancel"} <= client.features
    assert "time travel" not in client.features
    assert client.alive
    assert client.state == "connected"


def test_models_carry_names_licence_and_thumbnail(client: Client) -> None:
    model = client.models()[0]
    assert (model.name, model.licence, model.styles) == ("fake", "CC0", ("short",))
    assert model.subjects[:2] == ("ann", "ben")
    assert model.thumbnail is not None


def test_head_ids_depend_on_the_choice_alone(client: Client) -> None:
    first = client.create_head("fake")
    assert (first.subject, first.style) == ("ann", "short")
    assert client.create_head("fake", "ann", "short").head_id == first.head_id
    assert client.create_head("fake", "ben").head_id != first.head_id
    assert client.create_head("fake", "ann", None).style is None


def test_mesh_arrives_with_shapes_and_types(client: Client) -> None:
    mesh = client.head_mesh(client.create_head("fake").head_id)
    assert mesh.vertices.dtype == np.float32
    assert mesh.deltas.shape == (52, 3, 3)
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.part_names == ("skin",)


def test_a_frame_has_colour_alpha_and_planar_depth(client: Client) -> None:
    head = client.create_head("fake")
    weights = NEUTRAL.copy()
    weights[INDEX["jawOpen"]] = 0.6
    rgba, depth = client.render_frame(head.head_id, weights, FRONT, 65, 33)
    assert rgba.shape == (33, 65, 4)
    assert rgba.dtype == np.uint8
    assert depth.dtype == np.float32
    assert rgba[16, 32].tolist() == [153, 128, 64, 255]
    assert rgba[0, 0, 3] == 0
    assert depth[0, 0] == np.inf
    distance = np.linalg.norm(FRONT.position - BOX_CENTRE) - RADIUS
    assert depth[16, 32] == pytest.approx(distance, rel=1e-3)


def test_a_picture_larger_than_one_chunk_is_whole(client: Client) -> None:
    head = client.create_head("fake")
    rgba, depth = client.render_frame(head.head_id, NEUTRAL, FRONT, 800, 600)
    small, _ = client.render_frame(head.head_id, NEUTRAL, FRONT, 80, 60)
    cover = rgba[:, :, 3].reshape(60, 10, 80, 10).mean((1, 3))
    inside, outside = small[:, :, 3] > 0, small[:, :, 3] == 0
    assert cover[inside].min() > 100
    assert cover[outside].max() < 155
    assert np.isfinite(depth[300, 400])


def test_a_surface_arrives_whole(client: Client) -> None:
    head = client.create_head("fake")
    surface = client.extract_surface(head.head_id, NEUTRAL, 400).wait(timeout=30)
    expected = np.random.default_rng(0).normal(size=(160000, 3)).astype(np.float32)
    assert np.array_equal(surface.vertices, expected)
    assert surface.colours.shape == surface.normals.shape == (160000, 3)


def test_a_sequence_reports_each_frame_once_and_in_order(client: Client) -> None:
    head = client.create_head("fake")
    job = client.render_sequence(head.head_id, frames(40, first=5), 32, 16)
    events: list[object] = []
    result = job.wait(events.append, timeout=30)
    done = [event for event in events if isinstance(event, FrameDone)]
    assert [event.number for event in done] == list(range(5, 45))
    assert [event.step for event in done] == list(range(1, 41))
    assert isinstance(events[-1], Done)
    assert result.frames == 40
    with Image.open(io.BytesIO(done[-1].png)) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (32, 16))
        assert picture.getpixel((16, 8)) == (255, 128, 64, 255)


def test_a_cancelled_sequence_ends_soon_and_once(client: Client) -> None:
    slow = client.create_head("fake", "slow")
    job = client.render_sequence(slow.head_id, frames(200), 16, 16)
    events: list[object] = []

    def stop_at_third(event: object) -> None:
        events.append(event)
        if isinstance(event, FrameDone) and event.step == 3:
            job.cancel()
            job.cancel()

    begin = time.monotonic()
    with pytest.raises(CancelledError):
        job.wait(stop_at_third, timeout=20)
    assert time.monotonic() - begin < 5
    assert isinstance(events[-1], Cancelled)
    assert 3 <= events[-1].reached < 10
    assert job.poll() == []


def test_waiting_jobs_are_cancelled_at_once(client: Client) -> None:
    slow = client.create_head("fake", "slow")
    running = client.render_sequence(slow.head_id, frames(100), 16, 16)
    waiting = client.render_sequence(slow.head_id, frames(100), 16, 16)
    waiting.cancel()
    until(lambda: waiting.done, 2)
    running.cancel()
    until(lambda: running.done, 2)


def test_single_frames_and_pings_get_through_beside_a_sequence(client: Client) -> None:
    slow = client.create_head("fake", "slow")
    job = client.render_sequence(slow.head_id, frames(100), 16, 16)
    until(lambda: client.status().worker == "busy")
    assert max(client.ping() for _ in range(20)) < 0.1  # the worker sleeps 0.1 s a frame
    fast = client.create_head("fake")
    begin = time.monotonic()
    client.render_frame(fast.head_id, NEUTRAL, FRONT, 16, 16)
    assert time.monotonic() - begin < 2
    assert not job.done
    job.cancel()


def test_a_view_shows_only_its_newest_state(client: Client) -> None:
    slow = client.create_head("fake", "slow")
    jobs = [
        client.submit_render_frame(
            slow.head_id, np.full(52, index / 20), FRONT, 16, 16, view="main"
        )
        for index in range(20)
    ]
    newest = jobs[-1].wait(timeout=10)
    assert newest.rgba[8, 8, 0] == round(19 / 20 * 255)
    until(lambda: all(job.done for job in jobs))
    replaced = [event for job in jobs for event in job.poll() if isinstance(event, Cancelled)]
    assert len(replaced) >= 15


def test_a_sequence_nobody_reads_stops_ahead_of_the_reader(client: Client) -> None:
    head = client.create_head("fake")
    job = client.render_sequence(head.head_id, frames(60), 16, 16)
    time.sleep(1.0)
    assert client.status().worker == "ready"
    assert not job.done
    waiting = job.poll()
    assert 0 < len(waiting) <= client.welcome.limits.window
    assert job.wait(timeout=20).frames == 60


def test_a_sequence_resumes_at_what_is_missing_or_changed(client: Client, tmp_path: Path) -> None:
    head = client.create_head("fake")
    sequence = frames(6)
    hashes = {f.number: parameters_hash(head.head_id, f, 32, 32) for f in sequence}

    def render(resume: bool) -> list[int]:
        writer = SequenceWriter(tmp_path, resume=resume)
        todo = [f for f in sequence if not writer.is_done(f.number, hashes[f.number])]
        if not todo:
            return []

        def on_event(event: object) -> None:
            if isinstance(event, FrameDone):
                writer.write(event.number, event.png, hashes[event.number])

        client.render_sequence(head.head_id, todo, 32, 32).wait(on_event, timeout=20)
        return [f.number for f in todo]

    assert render(resume=False) == [1, 2, 3, 4, 5, 6]
    assert render(resume=True) == []
    (tmp_path / "0002.png").unlink()
    (tmp_path / "0004.png").write_bytes(b"torn")
    (tmp_path / ".0005.png.99.tmp").write_bytes(b"stale")
    listing = tmp_path / "frames.jsonl"
    listing.write_text(listing.read_text()[:-20])  # the last line was cut by a kill
    assert render(resume=True) == [2, 4, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"{number:04d}.png" for number in range(1, 7)),
        "frames.jsonl",
    ]
    hashes[3] = "other parameters"
    assert render(resume=True) == [3]


@pytest.mark.parametrize(
    ("subject", "kind", "text"),
    [
        ("nan", ModelInvalid, "not finite"),
        ("memory", Head360Error, "memory"),
        ("nobody", BadInput, "There is no subject"),
    ],
)
def test_failures_are_sentences(
    client: Client, subject: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        client.render_frame(client.create_head("fake", subject).head_id, NEUTRAL, FRONT, 8, 8)
    client.create_head("fake")  # and life goes on


def test_what_cannot_be_rendered_is_refused(client: Client) -> None:
    head = client.create_head("fake").head_id
    skewed = FRONT.cam2world.copy()
    skewed[0, 0] *= 2
    for arguments in (
        (head, np.full(52, np.nan), FRONT, 8, 8),
        (head, np.full(52, 2.0), FRONT, 8, 8),
        (head, np.zeros(51), FRONT, 8, 8),
        (head, NEUTRAL, Camera(skewed, FRONT.intrinsics), 8, 8),
        (head, NEUTRAL, Camera(FRONT.cam2world * np.nan, FRONT.intrinsics), 8, 8),
        (head, NEUTRAL, FRONT, 0, 8),
        (head, NEUTRAL, FRONT, 4097, 8),
        ("no such head", NEUTRAL, FRONT, 8, 8),
    ):
        with pytest.raises(BadInput):
            client.render_frame(*arguments)
    with pytest.raises(BadInput):
        client.extract_surface(head, NEUTRAL, 513).wait(timeout=5)
    with pytest.raises(BadInput):
        client.render_sequence(head, [], 8, 8)
    with pytest.raises(ModelInvalid, match=r"installed ones \(fake, "):
        client.create_head("../../etc")
    client.ping()


def test_a_wait_that_times_out_leaves_the_job_running(client: Client) -> None:
    slow = client.create_head("fake", "slow")
    job: Job = client.render_sequence(slow.head_id, frames(20), 8, 8)
    with pytest.raises(TryAgain):
        job.wait(timeout=0.3)
    assert not job.done
    assert job.wait(timeout=20).frames == 20


def test_progress_events_are_coalesced() -> None:
    job: Job = Job("1", "test", lambda _: None, lambda _, __: None)
    for fraction in (0.1, 0.2, 0.3):
        job._push(Progress("phase", fraction))
    job._push(Done(1))
    job._push(Done(2))
    assert job.poll() == [Progress("phase", 0.3), Done(1)]
    assert job.wait() == 1
