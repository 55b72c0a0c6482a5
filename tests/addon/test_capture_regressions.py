"""Capture and Check Rig: what once went wrong."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from capture_scene import SIZE, add_character, cast_of, complicate, piece, ready

from head360.arkit.takes import write_take
from head360.datasets import monocular_check, synhead_check
from head360.datasets.monocular_read import MonocularDataset
from head360.datasets.synhead_read import SynheadDataset
from head360.errors import BadInput


@pytest.fixture
def mia(bpy_scene, tmp_path):
    return ready(bpy_scene, tmp_path)


def _capture():
    return bpy.ops.head360.capture_training_set()


# --- pictures that are kept though something changed ----------------------------------------------


def _digests(scene, head):
    from blender_addon.capture import keys
    from blender_addon.capture.stage import Moment, staged

    cast = cast_of(scene, head, [piece("Hair Cap")])
    with staged(cast, Moment(np.zeros(52, np.float32))) as stage:
        return keys.looks(cast, scene), keys.pose(cast, stage)


def _ramp(scene, head):
    nodes = head.data.materials[0].node_tree.nodes
    nodes["Ramp"].color_ramp.elements[0].color = (1, 0, 0, 1)


def _node_curve(scene, head):
    nodes = head.data.materials[0].node_tree.nodes
    nodes["Curves"].mapping.curves[0].points[0].location = (0.1, 0.5)


def _lock(scene, head):
    scene.objects["Lock"].data.splines[0].points[0].co = (0.3, 0.2, 0.1, 1)


def _uv(scene, head):
    head.data.uv_layers[0].data[0].uv = (0.9, 0.9)


def _face(scene, head):
    head.data.polygons[0].material_index = 1


def _paint(scene, head):
    head.data.color_attributes["Blush"].data[0].color = (1, 0, 0, 1)


@pytest.mark.parametrize("change", [_ramp, _node_curve, _lock, _uv, _face, _paint])
def test_what_shows_makes_pictures_stale(mia, bpy_scene, change):
    nodes = mia.data.materials[0].node_tree.nodes
    nodes.new("ShaderNodeValToRGB").name = "Ramp"
    nodes.new("ShaderNodeRGBCurve").name = "Curves"
    mia.data.materials.append(bpy.data.materials["Hair"])
    mia.data.color_attributes.new("Blush", "BYTE_COLOR", "CORNER")
    curve = bpy.data.curves.new("Lock", "CURVE")
    curve.splines.new("POLY").points.add(2)
    curve.bevel_depth = 0.01
    lock = bpy.data.objects.new("Lock", curve)
    lock.parent = mia
    bpy_scene.collection.objects.link(lock)
    before = _digests(bpy_scene, mia)
    assert _digests(bpy_scene, mia) == before
    change(bpy_scene, mia)
    assert _digests(bpy_scene, mia) != before


def test_combed_hair_is_told_apart(bpy_scene, mia):
    from blender_addon.capture.keys import _combed

    complicate(bpy_scene, mia)
    bpy.ops.particle.particle_edit_toggle()  # makes the hair editable
    bpy.ops.particle.particle_edit_toggle()
    hair = mia.particle_systems[0]
    before = _combed(hair)
    assert before == _combed(hair)
    hair.particles[3].hair_keys[-1].co_local = (0.1, 0.2, 0.3)
    assert _combed(hair) != before


def test_moved_landmarks_are_written_though_pictures_are_kept(mia, bpy_scene, tmp_path):
    groups = [mia.vertex_groups.new(name=f"landmark_{number:02d}") for number in range(68)]
    for number, group in enumerate(groups):
        group.add([number * 5], 1.0, "REPLACE")
    settings = bpy_scene.head360_capture
    settings.count, settings.views, settings.bald, settings.mask = 0, 1, False, False
    assert _capture() == {"FINISHED"}
    before = SynheadDataset.open(tmp_path / "set").shots[0].load_landmarks()
    groups[3].remove([15])
    groups[3].add([300], 1.0, "REPLACE")
    assert _capture() == {"FINISHED"}
    after = SynheadDataset.open(tmp_path / "set").shots[0].load_landmarks()
    assert np.abs(after[3] - before[3]).max() > 1
    assert (np.delete(after, 3, 0) == np.delete(before, 3, 0)).all()
    assert synhead_check.check(tmp_path / "set") == []


@pytest.mark.parametrize("layout", ["SYNHEAD", "MONOCULAR"])
def test_a_look_that_changes_meanwhile_is_not_kept_as_the_old_one(
    mia, bpy_scene, tmp_path, monkeypatch, layout
):
    from blender_addon.capture.pictures import Photographer

    real, done = Photographer._render, []

    def render(self, scene):
        done.append(1)
        if len(done) == 2:  # as if the artist had done it between two pictures
            bpy_scene.objects["Sun"].data.energy = 0.5
        return real(self, scene)

    monkeypatch.setattr(Photographer, "_render", render)
    settings = bpy_scene.head360_capture
    settings.layout, settings.count, settings.views = layout, 3, 1
    settings.bald = settings.mask = False
    with pytest.raises(RuntimeError, match="changed while pictures were taken"):
        _capture()
    bpy_scene.objects["Sun"].data.energy = 3.0
    assert _capture() == {"FINISHED"}
    assert len(done) == 2 + 3  # the first one is kept, the second is not
    check = synhead_check if layout == "SYNHEAD" else monocular_check
    assert check.check(tmp_path / "set") == []


# --- colours --------------------------------------------------------------------------------------


def test_plain_pictures_know_no_white_balance(mia, bpy_scene):
    from blender_addon.capture.pictures import configure

    view = bpy_scene.view_settings
    if not hasattr(view, "use_white_balance"):
        pytest.skip("before Blender 4.3 there is none")
    view.use_white_balance = True
    configure(bpy_scene, SIZE, keep_view=True)
    assert view.use_white_balance
    configure(bpy_scene, SIZE, keep_view=False)
    assert not view.use_white_balance


# --- going on -------------------------------------------------------------------------------------


def test_a_nearly_full_disk_does_not_keep_the_rest_from_being_taken(mia, bpy_scene, tmp_path,
                                                                    monkeypatch):  # fmt: skip
    from blender_addon.capture import plan as planning

    plan = planning.make(bpy_scene, mia)
    free = planning._MARGIN + plan.bytes() / 4
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with pytest.raises(BadInput, match=r"GiB more and .* GiB free"):
        planning.check_space(tmp_path, plan)
    (tmp_path / "bald").mkdir()
    (tmp_path / "bald" / "0030.png").write_bytes(bytes(int(plan.bytes() * 0.8)))
    planning.check_space(tmp_path, plan)


def test_a_film_says_which_take_it_shows(mia, bpy_scene, tmp_path):
    write_take(tmp_path / "smile.csv", None, np.zeros((2, 52), np.float32), fps=12.0)
    settings = bpy_scene.head360_capture
    settings.layout, settings.source, settings.step = "MONOCULAR", "TAKE", 2
    settings.take, bpy_scene.render.fps = str(tmp_path / "smile.csv"), 24
    assert _capture() == {"FINISHED"}
    assert monocular_check.check(tmp_path / "set") == []
    manifest = MonocularDataset.open(tmp_path / "set").manifest
    assert (manifest.take.name, len(manifest.take.sha256)) == ("smile", 64)
    assert manifest.take.rows == "sampled 12 times a second"
    assert "smile" in manifest.notices[1].what


def test_the_estimate_reckons_with_hair_that_nobody_listed_yet(mia, bpy_scene):
    from blender_addon.operators.capture import estimate

    assert bpy_scene.head360_capture.hair_of == ""
    assert "up to 3 renders" in estimate(bpy.context)
    assert bpy.ops.head360.find_hair() == {"FINISHED"}
    assert "× 3 renders" in estimate(bpy.context)
    for row in bpy_scene.head360_capture.hair:
        row.use = False
    assert "renders" not in estimate(bpy.context)


# --- the artist's own work ------------------------------------------------------------------------


def test_a_corrected_frame_is_not_deleted(mia, bpy_scene):
    assert bpy.ops.head360.show_head_frame() == {"FINISHED"}
    mine = bpy_scene.objects["Head Frame"]
    mine.location.x = 0.5
    bpy_scene.head360_capture.frame_object = mine
    assert bpy.ops.head360.show_head_frame() == {"FINISHED"}
    assert bpy_scene.head360_capture.frame_object == mine
    assert mine.location.x == 0.5
    assert [item.name for item in bpy_scene.objects if item.parent == mine] == ["Head Frame Box"]
    bpy.ops.head360.show_head_frame()  # the second pair is replaced
    assert len([item for item in bpy_scene.objects if item.type == "EMPTY"]) == 4


def test_a_name_that_windows_keeps_for_itself(mia, bpy_scene, tmp_path):
    from blender_addon.capture.plan import folder_name

    assert [folder_name(name) for name in ("Con", "Conny", "Мия", "Mia Aux")] == [
        "con_head", "conny", "head", "mia_aux"
    ]  # fmt: skip


def test_fix_names_does_all_or_nothing(bpy_scene):
    head = add_character(bpy_scene)
    blocks = head.data.shape_keys.key_blocks
    blocks["jawOpen"].name = "Jaw_Open"
    blocks["browInnerUp"].name = "browInnerUp_L"
    head.shape_key_add(name="browInnerUp_R", from_mix=False)
    assert bpy.ops.head360.check_rig() == {"FINISHED"}
    rows = bpy.context.window_manager.head360_rig.rows
    split = next(row for row in rows if row.other)
    split.target = "cheekPuff"  # which there is already
    before = list(blocks.keys())
    with pytest.raises(RuntimeError, match="has a shape key cheekPuff already"):
        bpy.ops.head360.fix_names()
    assert list(blocks.keys()) == before
    split.target = "jawOpen"  # which another key becomes
    with pytest.raises(RuntimeError, match="Two shape keys shall become jawOpen"):
        bpy.ops.head360.fix_names()
    assert list(blocks.keys()) == before
    split.target = "browInnerUp"
    assert bpy.ops.head360.fix_names() == {"FINISHED"}
    assert {"jawOpen", "browInnerUp", "browInnerUp_L"} <= set(blocks.keys())
