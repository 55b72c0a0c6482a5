"""Takes become keys at the right seconds, whatever the scene's rate."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import bpy
import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.arkit.takes import read_take, synthetic_take, write_take

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "backend/head360/data/takes/demo_take.csv"
RATES = {"24": (24, 1.0), "25": (25, 1.0), "29.97": (30, 1.001), "30": (30, 1.0), "60": (60, 1.0)}


def _curves(head):
    from blender_addon import compat

    found = {}
    for curve in compat.fcurves_of(head.data.shape_keys):
        co = np.zeros(len(curve.keyframe_points) * 2)
        curve.keyframe_points.foreach_get("co", co)
        found[curve.data_path.split('"')[1]] = co.reshape(-1, 2)
    return found


@pytest.mark.parametrize("rate", RATES)
def test_key_seconds(head, bpy_scene, rate):
    bpy_scene.render.fps, bpy_scene.render.fps_base = RATES[rate]
    per_second = RATES[rate][0] / RATES[rate][1]
    assert bpy.ops.head360.import_take(filepath=str(BUNDLED), start_frame=11.0) == {"FINISHED"}
    take = read_take(BUNDLED)
    curves = _curves(head)
    assert sorted(curves) == sorted(NAMES)
    for name in NAMES:
        seconds = (curves[name][:, 0] - 11.0) / per_second
        assert np.abs(seconds - take.seconds).max() < 1e-3
        assert np.abs(curves[name][:, 1] - take.weights[:, INDEX[name]]).max() < 1e-6
    assert bpy_scene.render.fps == RATES[rate][0]


def test_the_take_moves_the_head(head, bpy_scene):
    from blender_addon import rig, scene

    bpy.ops.head360.import_take(filepath=str(BUNDLED), start_frame=1.0)
    take = read_take(BUNDLED)
    for frame in (1, 17, 60, 300):
        bpy_scene.frame_set(frame)
        found = rig.weights(head, bpy.context.evaluated_depsgraph_get())
        wanted = take.at((frame - 1) / scene.frames_per_second(bpy_scene))
        assert np.abs(found - wanted).max() < 1e-4


def test_real_take_values(head, bpy_scene):
    assets = Path(os.environ.get("HEAD360_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    path = assets / "arkit_takes" / "rom3_jaw_smile.csv"
    if not path.is_file():
        pytest.skip("the real takes are not here (HEAD360_ASSETS or ../shared/assets)")
    bpy_scene.render.fps = 60
    bpy.ops.head360.import_take(filepath=str(path), start_frame=0.0)
    rows = list(csv.DictReader(path.open()))
    curves = _curves(head)
    exchanged = {"MouthLeft": "MouthRight", "MouthRight": "MouthLeft",
                 "JawLeft": "JawRight", "JawRight": "JawLeft"}  # fmt: skip
    for name in NAMES:
        label = name[0].upper() + name[1:]
        column = [min(max(float(row[exchanged.get(label, label)]), 0), 1) for row in rows]
        assert np.abs(curves[name][:, 1] - column).max() < 1e-6
    # The timecode counts 60 a second: at 60 fps frames are timecode frames.
    first, last = (row["Timecode"].split(":") for row in (rows[0], rows[-1]))
    span = (int(last[2]) - int(first[2]) + 60 * (int(last[1]) - int(first[1]))) * 60
    span += float(last[3]) - float(first[3])
    assert curves["jawOpen"][-1, 0] == pytest.approx(span, abs=0.06)


def test_a_part_of_the_take(head, bpy_scene):
    assert bpy.ops.head360.import_take(
        filepath=str(BUNDLED), start_frame=1, first_second=1.0, last_second=2.0, set_range=True
    ) == {"FINISHED"}
    keys = _curves(head)["jawOpen"]
    assert keys[0, 0] == pytest.approx(1.0, abs=0.9)
    assert keys[-1, 0] == pytest.approx(25.0, abs=0.9)
    assert (bpy_scene.frame_start, bpy_scene.frame_end) == (1, 25)


def test_a_second_take_replaces_the_first(head):
    bpy.ops.head360.import_take(filepath=str(BUNDLED))
    bpy.ops.head360.import_take(filepath=str(BUNDLED), last_second=0.5)
    assert len(_curves(head)) == 52
    assert len(_curves(head)["jawOpen"]) == 16
    assert len(bpy.data.actions) == 2  # the first is still there to go back to


def test_sides_as_labelled(head, tmp_path):
    made = synthetic_take(2.0)
    path = write_take(tmp_path / "t.csv", made.seconds, made.weights)
    bpy.ops.head360.import_take(filepath=str(path), sides="as_labelled")
    assert np.allclose(
        _curves(head)["mouthRight"][:, 1], made.weights[:, INDEX["mouthLeft"]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Cannot read"),
        (b"", "empty"),
        (b",,,\n", "empty"),
        (b"\x89PNG\xff", "not a CSV"),
        (b"a,b\n1,2\n", "not a Live Link Face take"),
    ],
)
def test_bad_files_leave_the_scene_untouched(head, tmp_path, snapshot, content, words):
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    before = snapshot()
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.head360.import_take(filepath=str(path))
    assert snapshot() == before


def test_a_damaged_row_leaves_the_scene_untouched(head, tmp_path, snapshot):
    lines = BUNDLED.read_text().splitlines()
    lines[50] = lines[50][:100]
    path = tmp_path / "cut.csv"
    path.write_text("\n".join(lines))
    before = snapshot()
    with pytest.raises(RuntimeError, match="Row 51"):
        bpy.ops.head360.import_take(filepath=str(path))
    with pytest.raises(RuntimeError, match="choose a part inside"):
        bpy.ops.head360.import_take(filepath=str(BUNDLED), first_second=90.0)
    assert snapshot() == before
