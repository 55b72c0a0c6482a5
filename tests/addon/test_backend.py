"""The whole path through a real backend process that serves the fake head."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import time

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from PIL import Image

from head360.arkit import INDEX


@pytest.fixture
def rigged(backend, bpy_scene):
    """A head created by the operator, animated jaw, moved by a scaled parent."""
    assert bpy.ops.head360.create_head(subject="Bob", style="long") == {"FINISHED"}
    head = bpy.context.view_layer.objects.active
    block = head.data.shape_keys.key_blocks["jawOpen"]
    for frame, value in ((3, 0.0), (7, 1.0)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    from blender_addon import compat

    for curve in compat.fcurves_of(head.data.shape_keys):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    parent = bpy.data.objects.new("Parent", None)
    bpy_scene.collection.objects.link(parent)
    parent.scale, parent.location = (0.5, 0.5, 0.5), (0.06, 0.1, 0.03)
    head.parent = parent
    bpy_scene.frame_start, bpy_scene.frame_end = 3, 7
    bpy_scene.frame_set(1)
    return head


def test_create_head(rigged):
    assert rigged.name == "Bob"
    settings = rigged.head360
    assert (settings.is_head, settings.model, settings.subject, settings.style) == (
        True,
        "fake",
        "Bob",
        "long",
    )
    assert len(rigged.data.shape_keys.key_blocks) == 53


def test_render_sequence(rigged, bpy_scene, tmp_path):
    bpy_scene.frame_set(5, subframe=0.25)
    out = tmp_path / "frames"
    assert bpy.ops.head360.render_sequence(directory=str(out)) == {"FINISHED"}
    assert (bpy_scene.frame_current, bpy_scene.frame_subframe) == (5, 0.25)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["0003.png", "0004.png", "0005.png", "0006.png", "0007.png", "frames.jsonl"]
    for number in range(3, 8):
        bpy_scene.frame_set(number)
        picture = np.asarray(Image.open(out / f"{number:04d}.png"))
        assert picture.shape == (64, 96, 4)
        inside = picture[..., 3] > 127
        # The picture shows this frame's jaw, and the head where Blender itself sees it.
        assert picture[inside][:, 1].mean() / 255 == pytest.approx((number - 3) / 4, abs=0.01)
        seen = world_to_camera_view(
            bpy_scene, bpy_scene.camera, rigged.matrix_world @ Vector((0, 0, 0))
        )
        y, x = np.argwhere(inside).mean(0) + 0.5
        assert x == pytest.approx(seen.x * 96, abs=0.6)
        assert y == pytest.approx((1 - seen.y) * 64, abs=0.6)


def test_the_sequence_is_shown(rigged, bpy_scene, tmp_path):
    for _ in range(2):  # again: replaced, not stacked
        bpy.ops.head360.render_sequence(directory=str(tmp_path / "shown"))
    (slot,) = bpy_scene.camera.data.background_images
    assert slot.image.source == "SEQUENCE"
    assert slot.image.alpha_mode == "STRAIGHT"
    assert bpy_scene.camera.data.show_background_images
    for frame in (3, 6, 7):
        bpy_scene.frame_set(frame)
        bpy.context.view_layer.update()
        path = slot.image.filepath_from_user(image_user=slot.image_user)
        assert path.endswith(f"{frame:04d}.png")


def test_files_are_never_touched_on_the_main_thread(rigged, tmp_path, monkeypatch):
    from head360.client import SequenceWriter

    seen = []
    for name in ("__init__", "is_done", "write"):
        real = getattr(SequenceWriter, name)

        def spy(self, *args, real=real, name=name, **kwargs):
            seen.append((name, threading.current_thread() is threading.main_thread()))
            time.sleep(0.02)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(SequenceWriter, name, spy)
    assert bpy.ops.head360.render_sequence(directory=str(tmp_path)) == {"FINISHED"}
    assert len(list(tmp_path.glob("*.png"))) == 5  # the last write was waited for
    assert sorted(set(seen)) == [("__init__", False), ("is_done", False), ("write", False)]


def test_resume_renders_only_what_changed(rigged, bpy_scene, tmp_path):
    out = tmp_path / "frames"
    bpy.ops.head360.render_sequence(directory=str(out))
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    (out / "0004.png").unlink()
    bpy.ops.head360.render_sequence(directory=str(out))
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert {name for name in stamps if stamps[name] != again[name]} == {"0004.png"}
    bpy_scene.camera.location.x += 0.01
    bpy.ops.head360.render_sequence(directory=str(out))
    moved = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert not set(moved.values()) & set(again.values())


def test_extract_and_export(rigged, bpy_scene, tmp_path):
    bpy.context.view_layer.update()
    assert bpy.ops.head360.extract_surface(resolution=32) == {"FINISHED"}
    (surface,) = bpy.context.selected_objects
    assert surface.matrix_world == rigged.matrix_world
    layer = surface.data.color_attributes.active_color
    assert (layer.data_type, layer.domain) == ("FLOAT_COLOR", "POINT")
    target = tmp_path / "head.glb"
    assert bpy.ops.head360.export_mesh(filepath=str(target)) == {"FINISHED"}
    assert [path.name for path in tmp_path.iterdir()] == ["head.glb"]
    raw = target.read_bytes()
    length = struct.unpack("<I", raw[12:16])[0]
    content = json.loads(raw[20 : 20 + length])
    primitive = content["meshes"][0]["primitives"][0]
    assert "COLOR_0" in primitive["attributes"]
    assert content["accessors"][primitive["attributes"]["POSITION"]]["count"] > 900


def test_surface_colours_are_linear(rigged):
    from addon_fake_head import FakeHead

    bpy.ops.head360.extract_surface(resolution=32)
    (surface,) = bpy.context.selected_objects
    found = np.zeros(len(surface.data.vertices) * 4, np.float32)
    surface.data.color_attributes.active_color.data.foreach_get("color", found)
    fake = FakeHead()
    wanted = fake.surface(None, 32).colours
    linear = np.where(wanted <= 0.04045, wanted / 12.92, ((wanted + 0.055) / 1.055) ** 2.4)
    assert np.abs(found.reshape(-1, 4)[:, :3] - linear).max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "nobody"}, "no model"),
        ({"subject": "Eve"}, "no subject"),
        ({"style": "mohawk"}, "no style"),
    ],
)
def test_wrong_names(backend, snapshot, arguments, words):
    before = snapshot()
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.head360.create_head(**arguments)
    assert snapshot() == before


@pytest.mark.parametrize("kind", ["file in the way", "unsaved", "ortho", "stretched"])
def test_a_failed_render_leaves_everything_untouched(rigged, bpy_scene, tmp_path, snapshot, kind):
    out, words = str(tmp_path / "frames"), ""
    if kind == "file in the way":
        (tmp_path / "file").write_text("")
        out, words = str(tmp_path / "file" / "frames"), "choose a folder"
    elif kind == "unsaved":
        out, words = "", "save the file"
    elif kind == "ortho":
        bpy_scene.camera.data.type, words = "ORTHO", "Perspective"
    else:
        rigged.scale.x, words = 2.0, "uniform"
    bpy_scene.frame_set(6)
    before = snapshot()
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.head360.render_sequence(directory=out)
    assert snapshot() == before
    assert not list(tmp_path.rglob("*.png"))


def test_a_stretch_in_the_middle_of_the_range(rigged, bpy_scene, tmp_path, snapshot):
    rigged.scale = (1.0, 1.0, 1.0)
    rigged.keyframe_insert("scale", frame=4)
    rigged.scale = (1.0, 1.0, 3.0)
    rigged.keyframe_insert("scale", frame=6)
    bpy_scene.frame_set(3)
    before = snapshot()
    with pytest.raises(RuntimeError, match="uniform"):
        bpy.ops.head360.render_sequence(directory=str(tmp_path))
    assert snapshot() == before
    assert not list(tmp_path.rglob("*.png"))


def test_cancelled_sequence_keeps_whole_frames(backend, rigged, bpy_scene, tmp_path, snapshot):
    """The modal path: a flow driven by the pump, as the timer does it, and stopped by Esc."""
    from blender_addon import rig

    from head360.errors import Cancelled

    bpy_scene.frame_start, bpy_scene.frame_end = 1, 2000
    bpy_scene.render.resolution_x = bpy_scene.render.resolution_y = 256
    before = snapshot()
    operator = type("Stub", (), {"resume": True})()
    from blender_addon.operators.sequence import HEAD360_OT_render_sequence as Render
    from blender_addon.operators.sequence import Place

    place = Place(bpy_scene.name, bpy.context.view_layer.name, rigged.name)
    steps = Render._render(operator, place, tmp_path)
    flow = backend.begin("Render Sequence", steps)
    longest, deadline = 0.0, time.monotonic() + 60
    while not list(tmp_path.glob("0*.png")) and time.monotonic() < deadline:
        start = time.perf_counter()
        backend.pump()
        longest = max(longest, time.perf_counter() - start)
        time.sleep(0.002)
    with pytest.raises(RuntimeError, match="being rendered"):
        bpy.ops.head360.render_sequence(directory=str(tmp_path))
    bpy.ops.head360.cancel_work(flow=flow.id + 1)  # somebody else's button
    backend.pump()
    assert not flow.finished
    bpy.ops.head360.cancel_work(flow=flow.id)
    flow.cancel()
    while not flow.finished and time.monotonic() < deadline:
        backend.pump()
        time.sleep(0.002)
    assert isinstance(flow.error, Cancelled)
    assert backend.flows == []
    assert snapshot() == before
    pictures = list(tmp_path.glob("*.png"))
    assert 0 < len(pictures) < 2000
    assert all(Image.open(path).size == (256, 256) for path in pictures)
    assert not list(tmp_path.glob(".*"))
    assert backend.message == ""  # who stops the work himself needs no red box
    assert longest < 0.25  # Blender never waits: slices of frame evaluation are 20 ms
    assert rig.is_head(rigged)


def test_a_killed_backend_is_noticed_and_started_again(backend, rigged, snapshot, tmp_path):
    from blender_addon.session import State

    backend._checked = 0.0
    before = snapshot()
    os.kill(backend.backend.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while backend.state is State.READY and time.monotonic() < deadline:
        backend.pump()
        time.sleep(0.02)
    assert backend.state is State.CRASHED
    assert "start it again" in backend.message
    with pytest.raises(RuntimeError, match="Start the backend first"):
        bpy.ops.head360.render_sequence(directory=str(tmp_path))
    assert snapshot() == before
    assert bpy.ops.head360.start_backend() == {"FINISHED"}
    assert bpy.ops.head360.render_sequence(directory=str(tmp_path)) == {"FINISHED"}


def test_a_full_disk_stops_the_sequence(backend, rigged, tmp_path, monkeypatch):
    from head360.client import SequenceWriter
    from head360.errors import BadInput

    def full(self, number, png, params):
        raise BadInput("Cannot write: free some space.")

    monkeypatch.setattr(SequenceWriter, "write", full)
    with pytest.raises(RuntimeError, match="free some space"):
        bpy.ops.head360.render_sequence(directory=str(tmp_path))
    assert "free some space" in backend.message
    assert backend.flows == []
    assert bpy.ops.head360.reset_expression() == {"FINISHED"}
    assert backend.message == ""


def test_a_head_that_goes_away_while_frames_are_read(backend, rigged, bpy_scene, monkeypatch):
    from blender_addon.operators import sequence

    from head360.errors import BadInput

    monkeypatch.setattr(sequence, "_SLICE", 0.0)
    place = sequence.Place(bpy_scene.name, bpy.context.view_layer.name, rigged.name)
    steps = sequence.frame_steps(place)
    next(steps)
    bpy.data.objects.remove(rigged)
    with pytest.raises(BadInput, match="changed meanwhile"):
        next(steps)
    assert bpy_scene.frame_current == 1


def test_objects_are_added_in_object_mode(backend, rigged):
    bpy.ops.object.mode_set(mode="EDIT")
    for add in (bpy.ops.head360.create_head, bpy.ops.head360.extract_surface):
        with pytest.raises(RuntimeError, match="Leave Edit Mode first"):
            add()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.ops.head360.create_head(style="none") == {"FINISHED"}
    assert bpy.context.view_layer.objects.active.head360.is_bald


def test_weights_reach_the_backend_exactly(backend, rigged, bpy_scene):
    from blender_addon import rig
    from blender_addon.operators.sequence import Place, frame_steps

    take = np.random.default_rng(1).uniform(0, 1, (5, 52))
    rig.key_take(rigged, "random", np.arange(3, 8), take)
    bpy_scene.frame_set(3)
    place = Place(bpy_scene.name, bpy.context.view_layer.name, rigged.name)
    frames = backend.run("Collect", frame_steps(place))
    assert [frame.number for frame in frames] == [3, 4, 5, 6, 7]
    for row, frame in zip(take, frames, strict=True):
        assert np.abs(frame.blendshapes - row).max() < 1e-6
    assert frames[0].blendshapes[INDEX["tongueOut"]] != frames[1].blendshapes[INDEX["tongueOut"]]
