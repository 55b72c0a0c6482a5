"""The camera the backend gets projects exactly as Blender's own does."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector
from PIL import Image

from head360.errors import BadInput


def _errors(scene, head, points):
    """Largest pixel and depth difference to Blender's projection of head-space ``points``."""
    from blender_addon import rig
    from blender_addon import scene as conversion

    bpy.context.view_layer.update()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    camera, scale = conversion.head_camera(scene, head, depsgraph)
    render = scene.render
    size = np.array([render.resolution_x, render.resolution_y]) * render.resolution_percentage / 100
    pixels, depth = camera.project(points, *(int(edge) for edge in size))
    placed = head.evaluated_get(depsgraph).matrix_world
    seen = np.array(
        [
            world_to_camera_view(scene, scene.camera, placed @ Vector(point))
            for point in rig.to_blender(points).astype(float)
        ]
    )
    wanted = np.stack([seen[:, 0], 1.0 - seen[:, 1]], -1) * size
    assert (seen[:, 2] > 0).all()
    return np.abs(pixels - wanted).max(), np.abs(depth * scale - seen[:, 2]).max()


def _randomise(rng, scene, camera):
    """A random lens, sensor, shift and format, looking roughly at the origin."""
    data = camera.data
    data.lens = rng.uniform(20, 120)
    data.sensor_fit = rng.choice(["AUTO", "HORIZONTAL", "VERTICAL"])
    data.sensor_width, data.sensor_height = rng.uniform(20, 40, 2)
    data.shift_x, data.shift_y = rng.uniform(-0.4, 0.4, 2)
    # Blender's helper knows nothing of the percentage's rounding: odd sizes, or exact percentages.
    percentage = int(rng.choice([100, 50, 73]))
    step = 1 if percentage == 100 else 100
    width, height = (int(n) * step for n in rng.integers(100 // step, 1000 // step, 2))
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = percentage
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = rng.uniform(1, 2, 2)
    camera.location = rng.normal(size=3)
    camera.location *= rng.uniform(1.5, 4.0) / camera.location.length
    look = (-camera.location).to_track_quat("-Z", "Y").to_matrix().to_4x4()
    jitter = Euler(rng.uniform(-0.05, 0.05, 3)).to_matrix().to_4x4()
    camera.rotation_euler = (look @ jitter).to_euler()


@pytest.mark.parametrize("seed", range(12))
def test_projection(head, bpy_scene, seed):
    rng = np.random.default_rng(seed)
    _randomise(rng, bpy_scene, bpy_scene.camera)
    if seed % 3:
        head.location = rng.uniform(-0.2, 0.2, 3)
        head.rotation_euler = rng.uniform(-3, 3, 3)
        head.scale = [rng.uniform(0.3, 3.0)] * 3
    if seed % 3 == 2:
        parent = bpy.data.objects.new("Parent", None)
        bpy_scene.collection.objects.link(parent)
        parent.scale = (0.5, 0.5, 0.5)
        parent.rotation_euler = rng.uniform(-3, 3, 3)
        head.parent = parent
        head.matrix_parent_inverse = Matrix.Rotation(0.3, 4, "X")
    points = rng.uniform(-0.1, 0.1, (40, 3))
    pixel, depth = _errors(bpy_scene, head, points)
    assert pixel < 0.01
    assert depth < 1e-4


def test_constraints_and_a_scaled_camera(head, bpy_scene):
    target = bpy.data.objects.new("Target", None)
    bpy_scene.collection.objects.link(target)
    target.location = (0.05, 0.1, 0.02)
    head.constraints.new("COPY_LOCATION").target = target
    bpy_scene.camera.scale = (2.0, 2.0, 2.0)
    pixel, _ = _errors(bpy_scene, head, np.random.default_rng(0).uniform(-0.1, 0.1, (20, 3)))
    assert pixel < 0.01


@pytest.mark.parametrize(("width", "height", "percentage"), [(100, 97, 29), (150, 41, 58)])
def test_render_size_is_blenders(bpy_scene, tmp_path, width, height, percentage):
    from blender_addon import scene as conversion

    render = bpy_scene.render
    render.resolution_x, render.resolution_y = width, height
    render.resolution_percentage = percentage
    render.engine, bpy_scene.cycles.samples = "CYCLES", 1
    render.image_settings.file_format = "PNG"
    render.filepath = str(tmp_path / "picture.png")
    bpy.ops.render.render(write_still=True)
    assert conversion.render_size(bpy_scene) == Image.open(render.filepath).size


def _orthographic(scene, head):
    scene.camera.data.type = "ORTHO"


def _panoramic(scene, head):
    scene.camera.data.type = "PANO"


def _no_camera(scene, head):
    scene.camera = None


def _stretched(scene, head):
    head.scale = (1.0, 1.0, 1.2)


def _mirrored(scene, head):
    head.scale = (-1.0, 1.0, 1.0)


def _mirrored_camera(scene, head):
    scene.camera.scale = (-1.0, 1.0, 1.0)


def _flat(scene, head):
    head.scale = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_orthographic, "not a perspective camera"),
        (_panoramic, "not a perspective camera"),
        (_no_camera, "no camera"),
        (_stretched, "not uniform"),
        (_mirrored, "mirrored"),
        (_mirrored_camera, "mirrored"),
        (_flat, "zero"),
    ],
)
def test_what_a_pinhole_cannot_express(head, bpy_scene, break_it, words):
    from blender_addon import scene as conversion

    break_it(bpy_scene, head)
    bpy.context.view_layer.update()
    with pytest.raises(BadInput, match=words):
        conversion.head_camera(bpy_scene, head, bpy.context.evaluated_depsgraph_get())
