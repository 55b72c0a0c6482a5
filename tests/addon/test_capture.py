"""Capture Training Set: exact cameras, right pictures, a scene as it was, files that are whole."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest
from capture_scene import (
    SIZE,
    add_light,
    cast_of,
    complicate,
    differences,
    everything,
    piece,
    ready,
)

from head360.arkit import INDEX, NAMES
from head360.arkit.takes import read_take, write_take
from head360.datasets import monocular_check, synhead_check
from head360.datasets.monocular_read import MonocularDataset
from head360.datasets.synhead_read import SynheadDataset
from head360.errors import BadInput, Cancelled
from head360.rendering.cameras import (
    rig72,
)


@pytest.fixture
def mia(bpy_scene, tmp_path):
    return ready(bpy_scene, tmp_path)


def _capture():
    return bpy.ops.head360.capture_training_set()


def _renders(monkeypatch, fail_at=None, error=None):
    """Counts renders; the one numbered ``fail_at`` raises ``error``."""
    from blender_addon.capture.pictures import Photographer

    real, done = Photographer._render, []

    def render(self, scene):
        if len(done) + 1 == fail_at:
            raise error
        done.append(scene.name)
        return real(self, scene)

    monkeypatch.setattr(Photographer, "_render", render)
    return done


# --- the whole capture ----------------------------------------------------------------------------


def test_a_capture_is_whole_and_leaves_the_scene_as_it_was(mia, bpy_scene, tmp_path):
    complicate(bpy_scene, mia)
    bpy.ops.head360.find_hair()
    before = everything()
    assert _capture() == {"FINISHED"}
    after = everything()
    assert differences(before, after) == []
    assert synhead_check.check(tmp_path / "set") == []
    data = SynheadDataset.open(tmp_path / "set")
    assert [pose.expression for pose in data.manifest.poses] == ["neutral", "jawOpen"]
    assert data.manifest.landmarks == "none"
    assert data.subjects == ["mia"]
    for shot in data.shots:
        image, bald, mask = shot.load_rgba(), shot.load_bald(), shot.load_mask()
        assert (mask[..., 0].astype(int) + mask[..., 1] == image[..., 3]).all()
        assert not mask[..., 2].any()
        assert mask[..., 1].max() > 200  # the cap
        assert image[..., 3].sum() > bald[..., 3].sum()
        assert (image[..., 3] == 0).any()  # the wall is not in it
        assert shot.camera.flat25() == pytest.approx(rig72()[shot.view].flat25())
    neutral, spoken = data.shots[0], data.shots[2]
    assert np.abs(neutral.load_bald().astype(int) - spoken.load_bald()).max() > 20
    assert spoken.weights[INDEX["jawOpen"]] == 1  # the slider ends at 0.5, the capture does not


@pytest.mark.parametrize("error", [Cancelled("Stopped."), ValueError("a bug"), BadInput("No.")])
def test_what_stops_it_leaves_the_scene_as_it_was(mia, bpy_scene, monkeypatch, error):
    bpy.ops.head360.find_hair()
    complicate(bpy_scene, mia)
    before = everything()
    _renders(monkeypatch, fail_at=3, error=error)
    if isinstance(error, Cancelled):
        assert _capture() == {"CANCELLED"}
    else:
        with pytest.raises(RuntimeError, match=str(error)):
            _capture()
    assert differences(before, everything()) == []


def test_between_two_pictures_the_scene_is_as_it_was(mia, bpy_scene, tmp_path):
    """With a window the artist works on meanwhile, and Esc may come at any time."""
    from blender_addon.capture import multiview, plan
    from blender_addon.flows import Flow

    before = everything()
    made = plan.make(bpy_scene, mia)
    cast = cast_of(bpy_scene, mia, [piece("Hair Cap")])
    flow = Flow("Test", multiview.shoot(made, cast, tmp_path / "set", ("", "")))
    phases = []
    for _ in range(8):
        flow.advance()
        phases.append(flow.phase)
        assert differences(before, everything()) == []
    assert any("left" in phase for phase in phases)
    flow.cancel()
    while not flow.finished:
        flow.advance()
    assert isinstance(flow.error, Cancelled)
    assert differences(before, everything()) == []


def test_a_second_run_goes_on_where_the_first_stopped(mia, bpy_scene, tmp_path, monkeypatch):
    bpy.ops.head360.find_hair()
    bpy.ops.head360.show_head_frame()
    bpy_scene.head360_capture.frame_object = bpy_scene.objects["Head Frame"]
    with monkeypatch.context() as patch:
        _renders(patch, fail_at=8, error=Cancelled("Stopped."))
        assert _capture() == {"CANCELLED"}
    done = _renders(monkeypatch)
    assert _capture() == {"FINISHED"}
    assert len(done) == (4 - 2) * 3  # two shots of three renders were whole
    assert synhead_check.check(tmp_path / "set") == []
    done.clear()
    assert _capture() == {"FINISHED"}
    assert not done
    next((tmp_path / "set" / "bald").rglob("*.png")).unlink()
    assert _capture() == {"FINISHED"}
    assert len(done) == 3
    done.clear()
    bpy_scene.objects["Sun"].data.energy = 1.0  # every picture depends on it
    assert _capture() == {"FINISHED"}
    assert len(done) == 12
    done.clear()
    mia.data.shape_keys.key_blocks["jawOpen"].data[300].co.x += 0.01  # only one pose does
    assert _capture() == {"FINISHED"}
    assert len(done) == 6


def test_frames_of_the_timeline(mia, bpy_scene, tmp_path):
    settings = bpy_scene.head360_capture
    settings.source, settings.views, settings.step = "FRAMES", 1, 5
    settings.bald = settings.mask = False
    block = mia.data.shape_keys.key_blocks["jawOpen"]
    for frame, value in ((1, 0.0), (11, 1.0)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
        mia.location.x = frame * 0.3
        mia.keyframe_insert("location", frame=frame)
    bpy_scene.frame_start, bpy_scene.frame_end = 1, 11
    bpy_scene.frame_set(3)
    before = everything()
    assert _capture() == {"FINISHED"}
    assert differences(before, everything()) == []
    assert synhead_check.check(tmp_path / "set") == []
    data = SynheadDataset.open(tmp_path / "set")
    assert data.manifest.expressions == ["frame_00001", "frame_00006", "frame_00011"]
    assert data.manifest.kinds == ["image"]
    jaw = [shot.weights[INDEX["jawOpen"]] for shot in data.shots]
    assert jaw[0] == 0
    assert jaw[2] == 1
    assert 0.3 < jaw[1] < 0.7
    # The head moved three metres; the camera went with it.
    columns = [shot.load_rgba()[..., 3].any(0) for shot in data.shots]
    assert (columns[0] == columns[2]).mean() > 0.9


def test_a_take_filmed_by_a_moving_camera(mia, bpy_scene, tmp_path):
    weights = np.zeros((4, 52), np.float32)
    weights[:, INDEX["jawOpen"]] = (0.0, 0.25, 0.5, 1.0)
    write_take(tmp_path / "take.csv", None, weights, fps=12.0)
    bpy_scene.render.fps = 24
    settings = bpy_scene.head360_capture
    settings.layout, settings.source, settings.step = "MONOCULAR", "TAKE", 2
    settings.take = str(tmp_path / "take.csv")
    before = everything()
    assert _capture() == {"FINISHED"}
    assert differences(before, everything()) == []
    assert monocular_check.check(tmp_path / "set") == []
    data = MonocularDataset.open(tmp_path / "set")
    take = read_take(tmp_path / "take.csv")
    moments = np.arange(len(data.frames)) / 12
    assert moments[-1] == pytest.approx(take.duration, abs=1 / 12)
    transforms = json.loads((tmp_path / "set" / "transforms.json").read_text())
    for frame, wanted in zip(transforms["frames"], take.at(moments), strict=True):
        assert frame["exp_ori"] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert _capture() == {"FINISHED"}  # everything is kept
    assert monocular_check.check(tmp_path / "set") == []


def test_our_own_heads_stand_in_head_space(head, bpy_scene, tmp_path):
    add_light(bpy_scene)
    bpy_scene.render.engine = "BLENDER_WORKBENCH"
    settings = bpy_scene.head360_capture
    settings.size, settings.views, settings.count = 32, 1, 0
    settings.output = str(tmp_path / "set")
    head.location, head.scale = (1, 2, 3), [2.0] * 3
    bpy.context.view_layer.update()
    assert _capture() == {"FINISHED"}
    (shot,) = SynheadDataset.open(tmp_path / "set").shots
    alpha = shot.load_rgba()[..., 3] > 127
    mesh = (tmp_path / "set" / "neutral" / "meshes" / "ada_neutral.obj").read_text()
    points = np.array([line.split()[1:4] for line in mesh.splitlines() if line.startswith("v ")])
    assert np.abs(np.ptp(points.astype(float), axis=0) - (0.15, 0.22, 0.18)).max() < 0.003
    centre = np.argwhere(alpha).mean(0) + 0.5
    assert centre == pytest.approx(shot.camera.project(np.zeros((1, 3)), 32, 32)[0][0, ::-1], abs=1)


def test_landmarks_of_vertex_groups(mia, bpy_scene, tmp_path):
    for number in range(68):
        mia.vertex_groups.new(name=f"landmark_{number:02d}").add([number * 5], 1.0, "REPLACE")
    settings = bpy_scene.head360_capture
    settings.count, settings.bald, settings.mask = 0, False, False
    assert _capture() == {"FINISHED"}
    assert synhead_check.check(tmp_path / "set") == []
    data = SynheadDataset.open(tmp_path / "set")
    shot = data.shots[0]
    mesh = (tmp_path / "set" / data.manifest.poses[0].files["mesh"]).read_text()
    points = np.array([line.split()[1:4] for line in mesh.splitlines() if line.startswith("v ")])
    wanted, _ = shot.camera.project(points.astype(float)[np.arange(68) * 5], SIZE, SIZE)
    assert np.abs(shot.load_landmarks() - wanted).max() < 0.01


# --- what cannot be done --------------------------------------------------------------------------


def test_exchanged_sides_are_noticed_before_any_picture(mia, bpy_scene, monkeypatch):
    from blender_addon import check_rig
    from blender_addon.capture.frame import other_side

    check_rig.rename(mia, {name: other_side(name) for name in NAMES})
    done = _renders(monkeypatch)
    with pytest.raises(RuntimeError, match="Left and right of Mia are exchanged: press Check Rig"):
        _capture()
    assert not done


def _no_jaw(scene, head):
    head.data.shape_keys.key_blocks["jawOpen"].name = "JawOpn"


def _unsaved(scene, head):
    scene.head360_capture.output = "//set/"


def _other_set(scene, head):
    from pathlib import Path

    folder = Path(scene.head360_capture.output)
    (folder / "bald" / "someone").mkdir(parents=True)
    (folder / "bald" / "someone" / "0001.png").write_bytes(b"")


def _dark(scene, head):
    scene.objects["Sun"].hide_render = True


def _hidden(scene, head):
    head.hide_render = True


def _absolute(scene, head):
    head.data.shape_keys.use_relative = False


def _no_take(scene, head):
    scene.head360_capture.source = "TAKE"


def _no_face(scene, head):
    for block in list(head.data.shape_keys.key_blocks)[1:]:
        if not block.name.startswith(("eyeLook", "jawOpen")):
            head.shape_key_remove(block)


def _full(scene, head):
    scene.head360_capture.size, scene.head360_capture.views = 4096, 72
    scene.head360_capture.source = "FRAMES"
    scene.frame_end = 20_000
    scene.frame_start = 1


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_no_jaw, "lacks 1 of the expressions .jawOpen.: press Check Rig, or switch on Skip"),
        (_unsaved, "save the file"),
        (_other_set, "already holds bald/someone/0001.png"),
        (_dark, "black: add lights"),
        (_hidden, "hidden from renders"),
        (_absolute, "absolute"),
        (_no_take, "Choose a Live Link Face take"),
        (_no_face, "Only 1 of the blendshapes"),
        (_full, "GiB free"),
    ],
)
def test_what_cannot_be_done_is_said(mia, bpy_scene, break_it, words):
    break_it(bpy_scene, mia)
    before = everything()
    with pytest.raises(RuntimeError, match=words):
        _capture()
    assert differences(before, everything()) == []


def test_missing_shapes_can_be_left_out(mia, bpy_scene, tmp_path):
    _no_jaw(bpy_scene, mia)
    settings = bpy_scene.head360_capture
    settings.skip_missing, settings.count, settings.views = True, 2, 1
    settings.bald = settings.mask = False
    assert _capture() == {"FINISHED"}
    data = SynheadDataset.open(tmp_path / "set")
    assert data.manifest.expressions == ["neutral", "mouthSmileLeft"]


def test_the_panel_estimates(mia, bpy_scene):
    from blender_addon.operators.capture import estimate

    bpy.ops.head360.find_hair()
    assert estimate(bpy.context) == "2 poses × 2 views × 3 renders"
    bpy_scene.head360_capture.seconds = 100.0
    assert estimate(bpy.context).endswith("≈ 20 min at 100.0 s each")
