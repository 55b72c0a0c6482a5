"""Cameras and changes of frame: properties that hold for any pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from head360.rendering.cameras import (
    BOX_CENTRE,
    BOX_HALF,
    FRONT_YAW,
    HEAD_TO_BLENDER,
    PITCHES_DEG,
    YAWS,
    Camera,
    blender_to_head,
    camera_from_blender,
    from_normalised,
    intrinsics_from_fov,
    look_at,
    orbit,
    rig72,
    to_normalised,
)

FRONT = 30
yaws = st.floats(-180, 180)
pitches = st.floats(-80, 80)
fovs = st.floats(5, 100)
coordinates = st.floats(-2, 2)
points = st.tuples(coordinates, coordinates, coordinates)


def rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """(3, 3), by Rodrigues' formula."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def similarity(axis, angle, scale, offset) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(axis, angle) * scale
    matrix[:3, 3] = offset
    return matrix


def unproject(camera: Camera, pixels: np.ndarray, depth: np.ndarray, width: int, height: int):
    """(N, 3) head-space points; written independently of ``Camera.project``."""
    focal_x, focal_y = camera.intrinsics[0, 0] * width, camera.intrinsics[1, 1] * height
    centre_x, centre_y = camera.intrinsics[0, 2] * width, camera.intrinsics[1, 2] * height
    x = (pixels[:, 0] - centre_x) / focal_x * depth
    y = (pixels[:, 1] - centre_y) / focal_y * depth
    local = np.stack([x, y, depth], 1)
    return np.einsum("ij,nj->ni", camera.cam2world[:3, :3], local) + camera.cam2world[:3, 3]


@given(points, points)
def test_look_at_is_rigid_and_looks_at_the_target(position, target):
    forward = np.subtract(target, position)
    distance = np.linalg.norm(forward)
    assume(distance > 1e-3)
    assume(np.linalg.norm(np.cross(forward / distance, (0, 1, 0))) > 1e-3)
    cam2world = look_at(position, target)
    axes = cam2world[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_allclose(axes[:, 2], forward / distance, atol=1e-9)
    assert axes[1, 1] <= 0  # y is down in the image, so it points down in the world
    assert axes[1, 0] == pytest.approx(0.0, abs=1e-9)  # and the horizon is level
    np.testing.assert_array_equal(cam2world[3], (0, 0, 0, 1))


@given(yaws, pitches, fovs)
def test_world2cam_inverts(yaw, pitch, fov):
    camera = orbit(yaw, pitch, fov_deg=fov)
    np.testing.assert_allclose(camera.world2cam() @ camera.cam2world, np.eye(4), atol=1e-9)


@given(yaws, pitches, fovs, st.integers(0, 2**31))
def test_project_inverts_unproject(yaw, pitch, fov, seed):
    rng = np.random.default_rng(seed)
    camera = orbit(yaw, pitch, fov_deg=fov, aspect=16 / 9)
    pixels = rng.uniform((-50, -50), (690, 410), (32, 2))
    depth = rng.uniform(0.05, 5, 32)
    there = unproject(camera, pixels, depth, 640, 360)
    again, planar = camera.project(there, 640, 360)
    np.testing.assert_allclose(again, pixels, atol=1e-6)
    np.testing.assert_allclose(planar, depth, rtol=1e-9)


def test_project_directions():
    """From the front: the subject's left is at the image's right, up is at the top."""
    camera = orbit(0, 0)
    (centre, left, up, face), depth = camera.project(
        BOX_CENTRE + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]),
        200,
        100,
    )
    np.testing.assert_allclose(centre, (100, 50), atol=1e-9)
    assert left[0] > centre[0]
    assert up[1] < centre[1]
    np.testing.assert_allclose(face, centre, atol=1e-9)
    assert depth[3] == pytest.approx(depth[0] - 0.1)


@given(fovs, st.floats(0.3, 3))
def test_intrinsics_span_the_height(fov, aspect):
    camera = Camera(np.eye(4), intrinsics_from_fov(fov, aspect))
    half = np.tan(np.radians(fov) / 2)
    pixels, _ = camera.project([(0, half, 1), (half * aspect, 0, 1), (0, 0, 1)], 300, 200)
    np.testing.assert_allclose(pixels, [(150, 200), (300, 100), (150, 100)], atol=1e-6)


@given(yaws, pitches, fovs)
def test_orbit_fits_the_box_face(yaw, pitch, fov):
    camera = orbit(yaw, pitch, fov_deg=fov)
    pixel, depth = camera.project([BOX_CENTRE], 64, 64)
    np.testing.assert_allclose(pixel[0], (32, 32), atol=1e-6)
    assert depth[0] * np.tan(np.radians(fov) / 2) > BOX_HALF


@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.5])
def test_orbit_fits_the_middle_of_the_box_in_any_format(aspect):
    edge = [(sx * BOX_HALF, sy * BOX_HALF, 0) for sx in (-1, 1) for sy in (-1, 1)]
    pixels, _ = orbit(0, 0, aspect=aspect).project(BOX_CENTRE + edge, 100 * aspect, 100)
    assert (pixels > 0).all()
    assert (pixels < (100 * aspect, 100)).all()


def test_orbit_sides():
    assert orbit(90, 0).position[0] > 0.5  # the subject's left side
    assert orbit(0, 45).position[1] > 0.5  # above
    assert orbit(180, 0).position[2] < -0.5  # behind
    np.testing.assert_allclose(orbit(0, 0, distance=2.0, target=(0, 0, 0)).position, (0, 0, 2))


def test_rig72():
    rig = rig72()
    assert len(rig) == YAWS * len(PITCHES_DEG) == 72
    assert YAWS + FRONT_YAW == FRONT
    front = rig[FRONT]
    np.testing.assert_allclose(front.cam2world[:3, :3], np.diag([1, -1, -1]), atol=1e-12)
    np.testing.assert_allclose(front.position[:2], BOX_CENTRE[:2], atol=1e-12)
    assert front.position[2] > BOX_CENTRE[2] + BOX_HALF
    directions = np.array([camera.position - BOX_CENTRE for camera in rig])
    distance = np.linalg.norm(directions, axis=1)
    np.testing.assert_allclose(distance, distance[0])
    pitch = np.degrees(np.arcsin(directions[:, 1] / distance)).reshape(3, YAWS)
    np.testing.assert_allclose(pitch, np.repeat(PITCHES_DEG, YAWS).reshape(3, YAWS), atol=1e-9)
    yaw = np.degrees(np.arctan2(directions[:, 0], directions[:, 2])).reshape(3, YAWS)
    step = (np.diff(yaw, axis=1) + 180) % 360 - 180
    np.testing.assert_allclose(step, 15, atol=1e-9)
    np.testing.assert_allclose(yaw[:, FRONT_YAW], 0, atol=1e-9)


@given(yaws, pitches, fovs)
def test_flat25_round_trip(yaw, pitch, fov):
    camera = orbit(yaw, pitch, fov_deg=fov, aspect=1.5)
    label = camera.flat25()
    assert label.shape == (25,)
    again = Camera.from_flat25(label)
    np.testing.assert_array_equal(again.cam2world, camera.cam2world)
    np.testing.assert_array_equal(again.intrinsics, camera.intrinsics)
    label[:] = 0  # the camera keeps no view of the label
    np.testing.assert_array_equal(again.cam2world, camera.cam2world)


@given(st.integers(0, 2**31))
def test_normalised_round_trip(seed):
    cloud = np.random.default_rng(seed).normal(size=(3, 5, 3))
    np.testing.assert_allclose(from_normalised(to_normalised(cloud)), cloud, atol=1e-12)
    np.testing.assert_allclose(to_normalised(BOX_CENTRE + BOX_HALF), 1)


def test_head_axes_in_blender():
    assert np.linalg.det(HEAD_TO_BLENDER[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_array_equal(HEAD_TO_BLENDER[:3, :3] @ (0, 0, 1), (0, -1, 0))  # face: -Y
    np.testing.assert_array_equal(HEAD_TO_BLENDER[:3, :3] @ (0, 1, 0), (0, 0, 1))  # up: +Z
    np.testing.assert_array_equal(HEAD_TO_BLENDER[:3, :3] @ (1, 0, 0), (1, 0, 0))  # left: +X


@given(
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 1)),
    st.floats(-3, 3),
    st.floats(0.01, 100),
    points,
    st.integers(0, 2**31),
)
def test_blender_to_head_round_trip(axis, angle, scale, offset, seed):
    """Head space → Blender world, by hand, → head space again."""
    matrix_world = similarity(axis, angle, scale, offset)
    cloud = np.random.default_rng(seed).uniform(-0.3, 0.3, (8, 3))
    x, y, z = cloud.T
    local = np.stack([x, -z, y], 1)  # the mesh's own coordinates in Blender
    world = local @ matrix_world[:3, :3].T + matrix_world[:3, 3]
    to_head, found = blender_to_head(matrix_world)
    assert found == pytest.approx(scale, rel=1e-9)
    again = world @ to_head[:3, :3].T + to_head[:3, 3]
    np.testing.assert_allclose(again, cloud, atol=1e-9)


@pytest.mark.parametrize(
    "linear",
    [
        np.diag([1, 1, 1.05]),
        np.diag([1, 1, -1]),
        np.diag([1, 1, 0]),
        np.zeros((3, 3)),
        np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]),
    ],
    ids=["non-uniform", "mirrored", "flat", "zero", "sheared"],
)
def test_blender_to_head_refuses(linear):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((1, 2, 3), 0.7) @ linear
    with pytest.raises(ValueError, match="scale"):
        blender_to_head(matrix)


def test_blender_to_head_forgives_rounding():
    matrix = np.diag([2.0, 2.004, 1.996, 1.0])
    assert blender_to_head(matrix)[1] == pytest.approx(2.0)


def perspective(lens_x, lens_y, shift_x, shift_y, near=0.1, far=100.0) -> np.ndarray:
    """OpenGL's projection, as Blender's ``calc_matrix_camera`` returns it."""
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = lens_x, shift_x
    matrix[1, 1], matrix[1, 2] = lens_y, shift_y
    matrix[2, 2], matrix[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = -1
    return matrix


@given(st.integers(0, 2**31), st.floats(0.05, 20))
def test_camera_from_blender_sees_what_opengl_sees(seed, scale):
    rng = np.random.default_rng(seed)
    head = similarity(rng.normal(size=3), rng.uniform(-3, 3), scale, rng.normal(size=3))
    camera_matrix = similarity(rng.normal(size=3), rng.uniform(-3, 3), 1.7, rng.normal(size=3))
    rigid = camera_matrix.copy()
    rigid[:3, :3] /= 1.7  # Blender ignores a camera's scale
    projection = perspective(rng.uniform(1, 5), rng.uniform(1, 5), *rng.uniform(-0.4, 0.4, 2))
    width, height = 640, 360

    view = rng.uniform((-1, -1, -9), (1, 1, -0.2), (16, 3)) * scale  # in front of the camera
    world = view @ rigid[:3, :3].T + rigid[:3, 3]
    clip = np.concatenate([view, np.ones((16, 1))], 1) @ projection.T
    expected = (clip[:, :2] / clip[:, 3:] * (1, -1) + 1) / 2 * (width, height)

    camera, found = camera_from_blender(camera_matrix, projection, head)
    to_head = np.linalg.inv(head @ HEAD_TO_BLENDER)
    pixels, depth = camera.project(world @ to_head[:3, :3].T + to_head[:3, 3], width, height)
    np.testing.assert_allclose(pixels, expected, atol=1e-6, rtol=1e-9)
    np.testing.assert_allclose(depth * found, -view[:, 2], rtol=1e-9)
    axes = camera.cam2world[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def test_camera_from_blender_refuses_orthographic():
    with pytest.raises(ValueError, match="perspective"):
        camera_from_blender(np.eye(4), np.diag([1, 1, -0.02, 1]), np.eye(4))
