"""The rig: Apple's names, the right vertices, and weights as the depsgraph sees them."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.errors import BadInput


def _weights(head):
    from blender_addon import rig

    return rig.weights(head, bpy.context.evaluated_depsgraph_get())


def test_shape_keys_are_apples(head):
    blocks = head.data.shape_keys.key_blocks
    assert [block.name for block in blocks] == ["Basis", *NAMES]
    assert all((block.slider_min, block.slider_max) == (0, 1) for block in blocks[1:])


def test_the_head_faces_minus_y_and_stands_upright(head):
    from addon_fake_head import FakeHead

    fake = FakeHead()
    mesh = fake.mesh(fake.codes())
    found = np.zeros(len(mesh.vertices) * 3, np.float32)
    head.data.vertices.foreach_get("co", found)
    x, y, z = mesh.vertices.T
    assert np.allclose(found.reshape(-1, 3), np.stack([x, -z, y], -1), atol=1e-7)
    key = head.data.shape_keys.key_blocks["jawOpen"]
    key.data.foreach_get("co", found)
    x, y, z = (mesh.vertices + mesh.deltas[INDEX["jawOpen"]]).T
    assert np.allclose(found.reshape(-1, 3), np.stack([x, -z, y], -1), atol=1e-7)
    assert len(head.data.uv_layers) == 1
    assert all(polygon.use_smooth for polygon in head.data.polygons)
    # Faces point outwards: away from the middle of this convex shape.
    assert all(polygon.normal.dot(polygon.center) > 0 for polygon in head.data.polygons)


def test_weights_follow_sliders_drivers_and_mutes(head):
    blocks = head.data.shape_keys.key_blocks
    blocks["jawOpen"].value = 0.6
    blocks["mouthPucker"].value = 0.4
    blocks["mouthPucker"].mute = True
    head["dial"] = 0.25
    driver = blocks["eyeBlinkLeft"].driver_add("value").driver
    variable = driver.variables.new()
    variable.name = "dial"
    variable.targets[0].id = head
    variable.targets[0].data_path = '["dial"]'
    driver.expression = "dial * 2"
    head.data.shape_keys.update_tag()
    bpy.context.view_layer.update()
    found = _weights(head)
    assert found[INDEX["jawOpen"]] == pytest.approx(0.6)
    assert found[INDEX["mouthPucker"]] == 0
    assert found[INDEX["eyeBlinkLeft"]] == pytest.approx(0.5)
    assert np.count_nonzero(found) == 2


def test_weights_follow_names_not_positions(head):
    head.active_shape_key_index = 3
    bpy.ops.object.shape_key_move(type="BOTTOM")
    head.data.shape_keys.key_blocks["jawOpen"].value = 0.5
    bpy.context.view_layer.update()
    assert _weights(head)[INDEX["jawOpen"]] == 0.5


def test_a_lost_shape_key_is_named(head):
    head.data.shape_keys.key_blocks["jawOpen"].name = "jawAjar"
    with pytest.raises(BadInput, match="jawOpen"):
        _weights(head)


def test_reset_expression(head):
    for block in head.data.shape_keys.key_blocks[1:]:
        block.value = 1.0
    assert bpy.ops.head360.reset_expression() == {"FINISHED"}
    assert not _weights(head).any()


def test_active_head(head, bpy_scene):
    from blender_addon import rig

    bpy.context.view_layer.objects.active = bpy_scene.camera
    assert rig.active_head(bpy.context) == head  # the only one
    bpy_scene.collection.objects.unlink(head)
    assert rig.active_head(bpy.context) is None
