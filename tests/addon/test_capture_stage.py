"""The stage of a capture: head space, exact cameras, hair told from head."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from capture_scene import (
    cast_of,
    complicate,
    material,
    piece,
    ready,
)
from mathutils import Matrix, Vector

from head360.arkit import INDEX
from head360.rendering.cameras import (
    HEAD_TO_BLENDER,
    Camera,
    camera_from_blender,
    orbit,
    rig72,
)


@pytest.fixture
def mia(bpy_scene, tmp_path):
    return ready(bpy_scene, tmp_path)


def _frame(scene, head):
    from blender_addon.capture.frame import Finder

    return Finder(cast_of(scene, head)).at()


# --- head space -----------------------------------------------------------------------------------


def test_head_space_is_where_the_face_is(mia, bpy_scene):
    found = _frame(bpy_scene, mia)
    assert found.believable
    assert not found.swapped
    at = found.world @ HEAD_TO_BLENDER.T  # the ball was made in head space
    assert np.abs(at[:3, :3] / found.scale - np.eye(3)).max() < 0.1
    assert np.linalg.norm(at[:3, 3]) < 0.03
    assert found.scale == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_head_space_follows_scale_turn_and_parents(mia, bpy_scene, seed):
    before = _frame(bpy_scene, mia)
    rng = np.random.default_rng(seed)
    parent = bpy.data.objects.new("Parent", None)
    bpy_scene.collection.objects.link(parent)
    parent.rotation_euler, parent.location = rng.uniform(-3, 3, 3), rng.uniform(-9, 9, 3)
    parent.scale = [rng.uniform(0.01, 100)] * 3
    mia.parent = parent
    mia.rotation_euler = rng.uniform(-3, 3, 3)
    bpy.context.view_layer.update()
    after = _frame(bpy_scene, mia)
    matrix = np.array(mia.matrix_world, dtype=np.float64)
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    assert after.scale == pytest.approx(before.scale * scale, rel=1e-4)
    assert np.abs(after.world - matrix @ before.world).max() < 1e-4 * max(scale, 1)


def test_head_space_follows_an_armature(mia, bpy_scene):
    before = _frame(bpy_scene, mia)
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy_scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.data.edit_bones.new("neck")
    bone.head, bone.tail = (0, 0, -0.1), (0, 0, 0.1)
    bpy.ops.object.mode_set(mode="OBJECT")
    mia.vertex_groups.new(name="neck").add(range(len(mia.data.vertices)), 1.0, "REPLACE")
    mia.modifiers.new("Armature", "ARMATURE").object = armature
    mia.modifiers.new("Smooth", "SUBSURF").levels = 1
    turn = Matrix.Rotation(0.7, 4, "Z")
    armature.pose.bones["neck"].matrix = turn @ armature.pose.bones["neck"].matrix
    bpy.context.view_layer.update()
    after = _frame(bpy_scene, mia)
    assert np.abs(after.world - np.array(turn) @ before.world).max() < 1e-3


def test_the_shown_frame_can_be_picked(mia, bpy_scene):
    from blender_addon.capture.frame import given_frame

    mia.scale, mia.rotation_euler = [3.0] * 3, (0.3, 0.2, 0.1)
    for _ in range(2):  # pressing again replaces it
        assert bpy.ops.head360.show_head_frame() == {"FINISHED"}
    bpy.context.view_layer.update()
    shown = [one for one in bpy_scene.objects if one.type == "EMPTY"]
    assert [one.name for one in shown] == ["Head Frame", "Head Frame Box"]
    found, given = _frame(bpy_scene, mia), given_frame(bpy_scene.objects["Head Frame"])
    assert np.abs(found.world - given.world).max() < 1e-5
    assert given.scale == pytest.approx(found.scale, rel=1e-5)


# --- cameras --------------------------------------------------------------------------------------


def _cameras():
    rng = np.random.default_rng(5)
    yield from (rig72()[view] for view in (0, 30, 55))
    for _ in range(5):
        base = orbit(rng.uniform(-180, 180), rng.uniform(-60, 60), fov_deg=rng.uniform(10, 70))
        shifted = base.intrinsics.copy()
        shifted[:2, 2] = rng.uniform(0.3, 0.7, 2)
        yield Camera(base.cam2world, shifted)


def test_cameras_are_exact(mia, bpy_scene):
    from blender_addon.capture.camera import place
    from blender_addon.capture.changes import Changes

    mia.scale, mia.rotation_euler, mia.location = [7.0] * 3, (0.3, 0.2, 2.1), (1, 2, 3)
    frame = _frame(bpy_scene, mia)
    render = bpy_scene.render
    render.resolution_x = render.resolution_y = 500
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.1, 0.1, (30, 3))
    world = points @ frame.world[:3, :3].T + frame.world[:3, 3]
    for camera in _cameras():
        with Changes() as changes:
            item = place(changes, bpy_scene, camera, frame)
            bpy.context.view_layer.update()
            seen = np.array([world_to_camera_view(bpy_scene, item, Vector(p)) for p in world])
            projection = item.calc_matrix_camera(
                bpy.context.evaluated_depsgraph_get(), x=500, y=500
            )
            back, scale = camera_from_blender(
                item.matrix_world, projection, frame.world @ HEAD_TO_BLENDER.T
            )
        pixels, depth = camera.project(points, 500, 500)
        wanted = np.stack([seen[:, 0], 1.0 - seen[:, 1]], -1) * 500
        assert np.abs(pixels - wanted).max() < 0.01
        assert np.abs(depth * frame.scale - seen[:, 2]).max() < 1e-4
        assert np.abs(back.flat25() - camera.flat25()).max() < 1e-5
        assert scale == pytest.approx(frame.scale)
    assert len(bpy.data.cameras) == 1  # the scene's own


def _silhouette(camera, vertices, faces, size):
    """Which pixel centres a mesh covers: the plainest rasteriser there is."""
    pixels, _depth = camera.project(vertices, size, size)
    y, x = np.mgrid[:size, :size] + 0.5
    covered = np.zeros((size, size), bool)
    for a, b, c in pixels[faces]:
        low = np.floor(np.minimum(np.minimum(a, b), c)).astype(int).clip(0, size)
        high = np.ceil(np.maximum(np.maximum(a, b), c)).astype(int).clip(0, size)
        part = np.s_[low[1] : high[1], low[0] : high[0]]
        px, py = x[part], y[part]
        edges = [
            (q[0] - p[0]) * (py - p[1]) - (q[1] - p[1]) * (px - p[0])
            for p, q in ((a, b), (b, c), (c, a))
        ]
        inside = np.all([e >= 0 for e in edges], 0) | np.all([e <= 0 for e in edges], 0)
        covered[part] |= inside
    return covered


def test_pictures_show_what_the_camera_says_to_a_pixel(mia, bpy_scene):
    """Small lamps around the head, and the outline of the head itself."""
    from blender_addon.capture.pictures import Photographer
    from blender_addon.capture.plan import Pose
    from blender_addon.capture.stage import HairShown, Moment
    from blender_addon.capture.survey import Surveyor

    mia.scale, mia.rotation_euler = [3.0] * 3, (0.3, 0.2, 2.1)
    bpy.context.view_layer.update()
    frame = _frame(bpy_scene, mia)
    spots = np.array(
        [[0.14, 0.05, 0.02], [-0.14, 0.0, 0.03], [0.13, -0.12, 0.0], [-0.12, -0.13, 0]]
    )
    glow = material("Glow", (1, 1, 1))
    for spot in spots:
        bpy.ops.mesh.primitive_uv_sphere_add(
            radius=0.004 * frame.scale, segments=12, ring_count=8,
            location=frame.world[:3, :3] @ spot + frame.world[:3, 3],
        )  # fmt: skip
        ball = bpy.context.object
        ball.data.materials.append(glow)
        ball.parent, ball.matrix_parent_inverse = mia, mia.matrix_world.inverted()
    size, camera, pose = 128, rig72()[31], Pose("neutral", Moment(np.zeros(52)), np.zeros(52))
    cast = cast_of(bpy_scene, mia)
    bpy_scene.cycles.samples = 16
    with Photographer(cast, size) as photographer:
        alpha = photographer.take(pose.moment, camera, frame)[..., 3] / 255.0
    expected, _depth = camera.project(spots, size, size)
    for x, y in expected:
        left, top = int(x) - 5, int(y) - 5
        blob = alpha[top : top + 11, left : left + 11]
        rows, columns = np.mgrid[top : top + 11, left : left + 11] + 0.5
        centre = np.array([(blob * columns).sum(), (blob * rows).sum()]) / blob.sum()
        assert np.abs(centre - (x, y)).max() < 0.5

    bald = cast_of(bpy_scene, mia, [piece("Hair Cap")])
    surface = Surveyor(bald).surface(pose, frame)
    for one in [one for one in mia.children if "Sphere" in one.name]:
        one.hide_render = True
    with Photographer(cast_of(bpy_scene, mia, [piece("Hair Cap")]), size) as photographer:
        seen = photographer.take(pose.moment, camera, frame, HairShown.HIDDEN)[..., 3] > 127
    drawn = _silhouette(camera, surface.vertices, surface.faces, size)
    assert drawn.sum() > 1000
    assert (seen & drawn).sum() / (seen | drawn).sum() > 0.985


# --- hair -----------------------------------------------------------------------------------------


def test_hair_is_found_and_told_from_brows(mia, bpy_scene):
    complicate(bpy_scene, mia)
    mia.modifiers.new("Brows", "PARTICLE_SYSTEM")
    mia.particle_systems[1].settings.type = "HAIR"
    mia.particle_systems[1].name = "Eyebrows"
    curves = bpy.data.objects.new("Strands", bpy.data.hair_curves.new("Strands"))
    curves.parent = mia
    bpy_scene.collection.objects.link(curves)
    bpy.ops.head360.find_hair()
    found = {(row.name, row.system): row.use for row in bpy_scene.head360_capture.hair}
    assert found == {
        ("Mia", "Locks"): True, ("Mia", "Eyebrows"): False,
        ("Hair Cap", ""): True, ("Strands", ""): True,
    }  # fmt: skip
    bpy_scene.head360_capture.hair[0].use = False
    name = bpy_scene.head360_capture.hair[0].name
    bpy.ops.head360.find_hair()
    assert not next(row for row in bpy_scene.head360_capture.hair if row.name == name).use


@pytest.mark.parametrize("engine", ["CYCLES", "BLENDER_WORKBENCH"])
def test_masks_tell_hair_from_head(mia, bpy_scene, engine):
    """Particles of the head itself, and a cap; before the head, and behind it."""
    from blender_addon.capture.pictures import Photographer
    from blender_addon.capture.stage import HairShown, Moment

    complicate(bpy_scene, mia)
    bpy_scene.render.engine = engine
    frame = _frame(bpy_scene, mia)
    moment = Moment(np.zeros(52))
    colours = {item.name: tuple(item.color) for item in bpy_scene.objects}
    for hair in ([piece("Hair Cap")], [piece("Mia", "Locks")]):
        with Photographer(cast_of(bpy_scene, mia, hair), 64) as photographer:
            image = photographer.take(moment, rig72()[30], frame)
            bald = photographer.take(moment, rig72()[30], frame, HairShown.HIDDEN)
            alpha, part = photographer.take_mask(moment, rig72()[30], frame, image)
        assert np.array_equal(alpha, image[..., 3] / np.float32(255))
        assert (part <= alpha + 1e-6).all()
        grown = (image[..., 3] == 255) & (bald[..., 3] == 0)  # nothing but hair is there
        assert grown.any()
        assert part[grown].min() > 0.95
        if hair[0].system == "":
            row = np.flatnonzero(alpha.any(1))[-1] - 3
            assert part[row].max() < 0.05  # the chin is no hair
    assert len(bpy.data.scenes) == 1
    assert {item.name: tuple(item.color) for item in bpy_scene.objects} == colours


def test_other_objects_of_the_character_act_along(mia, bpy_scene):
    from blender_addon.capture.frame import evaluate
    from blender_addon.capture.stage import Moment, staged

    teeth = bpy.data.objects.new("Teeth", bpy.data.meshes.new("Teeth"))
    teeth.data.from_pydata([(0, 0, 0), (0.01, 0, 0), (0, 0, 0.01)], [], [(0, 1, 2)])
    teeth.shape_key_add(name="Basis")
    jaw = teeth.shape_key_add(name="jawOpen")
    jaw.data[0].co.z, jaw.value = -0.5, 0.0
    teeth.parent = mia
    bpy_scene.collection.objects.link(teeth)
    weights = np.zeros(52, np.float32)
    weights[INDEX["jawOpen"]] = 1
    with staged(cast_of(bpy_scene, mia), Moment(weights)) as stage:
        lowered = teeth.evaluated_get(evaluate(stage)).data.vertices[0].co.z
    assert lowered == pytest.approx(-0.5)
    assert jaw.value == 0
