"""Check Rig: names, geometry and settings judged in words; Fix Names mends what it can."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from capture_scene import add_character

from head360.arkit import NAMES


@pytest.fixture
def mia(bpy_scene):
    return add_character(bpy_scene)


def _blocks(head):
    return head.data.shape_keys.key_blocks


def _check():
    assert bpy.ops.head360.check_rig() == {"FINISHED"}
    return bpy.context.window_manager.head360_rig


def _warnings():
    return [line.name for line in _check().warnings]


def _shape(block):
    flat = np.empty(len(block.data) * 3, np.float32)
    block.data.foreach_get("co", flat)
    return flat


def test_a_sound_rig_has_nothing_to_mend(mia):
    found = _check()
    assert found.summary == "52 of 52 present"
    assert not found.warnings
    assert not any(row.use for row in found.rows)
    assert not bpy.ops.head360.fix_names.poll()


def test_names_are_reported_and_mended(mia):
    blocks = _blocks(mia)
    blocks["jawOpen"].name = "Jaw_Open"
    blocks["eyeBlinkLeft"].name = "A14_eyeBlink_L"
    blocks["mouthPucker"].name = "mouthPuker"
    mia.shape_key_remove(blocks["tongueOut"])
    mia.shape_key_add(name="Elf Ears", from_mix=False)
    found = _check()
    assert found.summary == "48 of 52 present, 3 to rename, 1 missing, 1 extra"
    rows = {row.source or row.name: row for row in found.rows if row.use or not row.source}
    assert rows["Jaw_Open"].target == "jawOpen"
    assert rows["tongueOut"].how == "missing"
    rows["mouthPuker"].use = False  # the artist knows better
    rows["A14_eyeBlink_L"].target = "eyeBlinkLeft"
    extra = next(row for row in found.rows if row.source == "Elf Ears")
    extra.target, extra.use = "elfEars", True
    assert bpy.ops.head360.fix_names() == {"FINISHED"}
    names = {block.name for block in _blocks(mia)}
    assert {"jawOpen", "eyeBlinkLeft", "mouthPuker", "elfEars"} <= names
    assert not {"Jaw_Open", "A14_eyeBlink_L", "Elf Ears"} & names
    assert found.summary == "50 of 52 present, 1 to rename, 1 missing, 1 extra"


@pytest.mark.parametrize("convention", ["{}_L", "Head.{}"])
def test_a_whole_convention_in_one_go(mia, convention):
    before = {block.name: _shape(block) for block in _blocks(mia)}
    for block in list(_blocks(mia))[1:]:
        block.name = (
            convention.format(block.name)
            if convention != "{}_L"
            else block.name.replace("Left", "_L").replace("Right", "_R")
        )
    _check()
    assert bpy.ops.head360.fix_names() == {"FINISHED"}
    assert [block.name for block in _blocks(mia)] == ["Basis", *NAMES]
    assert all(np.array_equal(_shape(block), before[block.name]) for block in _blocks(mia))
    assert bpy.context.window_manager.head360_rig.summary == "52 of 52 present"


def test_animation_and_drivers_follow(mia, bpy_scene):
    from blender_addon import compat

    blocks = _blocks(mia)
    blocks["jawOpen"].name = "JawOpen"
    blocks["JawOpen"].keyframe_insert("value", frame=1)
    blocks["eyeBlinkLeft"].name = "eyeBlink_L"
    blocks["eyeBlink_L"].driver_add("value")
    follower = bpy.data.objects.new("Follower", None)
    bpy_scene.collection.objects.link(follower)
    driver = follower.driver_add("location", 0).driver
    variable = driver.variables.new()
    variable.type = "SINGLE_PROP"
    target = variable.targets[0]
    target.id_type, target.id = "KEY", mia.data.shape_keys
    target.data_path = 'key_blocks["JawOpen"].value'
    _check()
    assert bpy.ops.head360.fix_names() == {"FINISHED"}
    keys = mia.data.shape_keys
    assert [c.data_path for c in compat.fcurves_of(keys)] == ['key_blocks["jawOpen"].value']
    assert [c.data_path for c in keys.animation_data.drivers] == [
        'key_blocks["eyeBlinkLeft"].value'
    ]
    assert target.data_path == 'key_blocks["jawOpen"].value'


def test_two_keys_may_exchange_their_names(mia):
    from blender_addon import check_rig

    blocks = _blocks(mia)
    left, right = _shape(blocks["mouthLeft"]), _shape(blocks["mouthRight"])
    assert check_rig.rename(mia, {"mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}) == 2
    assert np.array_equal(_shape(blocks["mouthRight"]), left)
    assert np.array_equal(_shape(blocks["mouthLeft"]), right)


def test_a_taken_name_is_refused_and_nothing_done(mia):
    _blocks(mia)["mouthPucker"].name = "kiss"
    _blocks(mia)["jawOpen"].name = "Jaw_Open"
    found = _check()
    for source, target in (("kiss", "mouthFunnel"), ("Jaw_Open", "jawOpen")):
        row = next(row for row in found.rows if row.source == source)
        row.target, row.use = target, True
    with pytest.raises(RuntimeError, match="has a shape key mouthFunnel already"):
        bpy.ops.head360.fix_names()
    assert "kiss" in _blocks(mia)
    assert "Jaw_Open" in _blocks(mia)


def test_halves_are_joined_into_a_new_key(mia):
    blocks = _blocks(mia)
    whole = _shape(blocks["browInnerUp"])
    rest = _shape(blocks["Basis"])
    left = mia.shape_key_add(name="browInnerUp_L", from_mix=False)
    right = mia.shape_key_add(name="browInnerUp_R", from_mix=False)
    side = rest.reshape(-1, 3)[:, :1] > 0
    delta = (whole - rest).reshape(-1, 3)
    left.data.foreach_set("co", (rest + (delta * side).ravel()).ravel())
    right.data.foreach_set("co", (rest + (delta * ~side).ravel()).ravel())
    mia.shape_key_remove(blocks["browInnerUp"])
    found = _check()
    assert found.summary == "51 of 52 present, 1 split"
    assert bpy.ops.head360.fix_names() == {"FINISHED"}
    assert np.abs(_shape(_blocks(mia)["browInnerUp"]) - whole).max() < 1e-6
    assert {"browInnerUp_L", "browInnerUp_R"} <= set(_blocks(mia).keys())
    assert found.summary == "52 of 52 present, 2 extra"


# --- what geometry and settings say ---------------------------------------------------------------


def _still(head):
    blocks = _blocks(head)
    blocks["mouthDimpleLeft"].data.foreach_set("co", _shape(blocks["Basis"]))


def _swap_pair(head):
    blocks = _blocks(head)
    one, other = _shape(blocks["eyeWideLeft"]), _shape(blocks["eyeWideRight"])
    blocks["eyeWideLeft"].data.foreach_set("co", other)
    blocks["eyeWideRight"].data.foreach_set("co", one)


def _swap_all(head):
    from blender_addon import check_rig
    from blender_addon.capture.frame import other_side

    check_rig.rename(head, {name: other_side(name) for name in NAMES})


def _wrong_way(head):
    blocks = _blocks(head)
    rest = _shape(blocks["Basis"])
    blocks["jawOpen"].data.foreach_set("co", 2 * rest - _shape(blocks["jawOpen"]))


def _muted(head):
    _blocks(head)["cheekPuff"].mute = True


def _narrow(head):
    _blocks(head)["jawLeft"].slider_max = 0.5


def _relative(head):
    _blocks(head)["jawLeft"].relative_key = _blocks(head)["jawOpen"]


def _decimated(head):
    head.modifiers.new("Fewer", "DECIMATE")


def _pinned(head):
    head.show_only_shape_key = True


def _duplicate(head):
    head.shape_key_add(name="JawOpen", from_mix=False)


def _shuffled(head):
    from blender_addon import check_rig

    rng = np.random.default_rng(0)
    check_rig.rename(head, dict(zip(NAMES, rng.permutation(NAMES).tolist(), strict=True)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_still, "Without any effect: mouthDimpleLeft"),
        (_swap_pair, "eyeWideLeft and eyeWideRight are exchanged"),
        (_swap_all, "exchanged throughout"),
        (_wrong_way, "jawOpen moves up instead of down"),
        (_muted, "Muted, so they do nothing: cheekPuff"),
        (_narrow, "do not reach from 0 to 1: jawLeft"),
        (_relative, "Relative to another key than Basis: jawLeft"),
        (_decimated, "The modifier Fewer changes the number of vertices"),
        (_pinned, "switch off the pin"),
        (_duplicate, "JawOpen spells jawOpen, which another key already is"),
        (_shuffled, "do not lie where a face has them"),
    ],
)
def test_what_looks_wrong_is_said(mia, spoil, words):
    assert _warnings() == []
    spoil(mia)
    assert any(words in line for line in _warnings()), _warnings()


def test_checking_changes_nothing(mia, bpy_scene):
    from capture_scene import differences, everything

    _blocks(mia)["jawOpen"].name = "Jaw_Open"
    _blocks(mia)["cheekPuff"].value = 0.4
    before = everything()
    _check()
    assert differences(before, everything()) == []


def test_a_mesh_without_shape_keys_is_no_head(bpy_scene):
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.head360.check_rig.poll()
    assert not bpy.ops.head360.capture_training_set.poll()
