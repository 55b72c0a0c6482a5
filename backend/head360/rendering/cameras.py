"""Cameras, and every change of frame between the head, Blender and OpenGL. Needs numpy alone.

Conventions: head space is metres, +Y up, +Z out of the face, +X to the subject's left, origin
between the ears. A camera is OpenCV's: x right, y down, z forward; ``cam2world`` is 4×4 row-major
and rigid; ``intrinsics`` is 3×3, normalised by image width (first row) and height (second row).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]

# The box around head, bust and hair that the networks see as [-1, 1]^3 (metres, head space).
BOX_CENTRE = np.array([0.0, -0.035, -0.005])
BOX_HALF = 0.19

# (x, y, z) of head space in Blender's axes: the face looks along -Y, +Z is up.
HEAD_TO_BLENDER = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
# OpenCV camera axes (x right, y down, z forward) in Blender's and OpenGL's (y up, looks along -z).
_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])

YAWS = 24
PITCHES_DEG = (-30.0, 0.0, 30.0)
FRONT_YAW = 6  # index of the frontal view in a ring of 24


@dataclass(frozen=True)
class Camera:
    """One pinhole camera in head space.

    Attributes:
        cam2world: (4, 4) float64, rigid, OpenCV axes, metres.
        intrinsics: (3, 3) float64, normalised: pixel = K·(x/z, y/z, 1) × (width, height).
    """

    cam2world: Array
    intrinsics: Array

    @property
    def position(self) -> Array:
        """(3,) centre of projection, metres."""
        return self.cam2world[:3, 3]

    def world2cam(self) -> Array:
        """(4, 4) inverse of the rigid ``cam2world``."""
        rotation, position = self.cam2world[:3, :3], self.cam2world[:3, 3]
        inverse = np.eye(4)
        inverse[:3, :3] = rotation.T
        inverse[:3, 3] = -rotation.T @ position
        return inverse

    def project(self, points: ArrayLike, width: int, height: int) -> tuple[Array, Array]:
        """Project (N, 3) head-space points: ((N, 2) pixels, (N,) planar depth in metres).

        Pixel (0, 0) is the top-left corner of the image; pixel centres are at +0.5.
        """
        world2cam = self.world2cam()
        local = np.asarray(points, dtype=np.float64) @ world2cam[:3, :3].T + world2cam[:3, 3]
        depth = local[:, 2]
        image = local @ self.intrinsics.T
        return image[:, :2] / depth[:, None] * (width, height), depth

    def flat25(self) -> Array:
        """(25,) EG3D label: 16 row-major ``cam2world`` + 9 normalised ``intrinsics``."""
        return np.concatenate([self.cam2world.reshape(16), self.intrinsics.reshape(9)])

    @staticmethod
    def from_flat25(label: ArrayLike) -> Camera:
        """Inverse of :meth:`flat25`."""
        flat = np.asarray(label, dtype=np.float64)
        return Camera(flat[:16].reshape(4, 4).copy(), flat[16:25].reshape(3, 3).copy())


def intrinsics_from_fov(fov_deg: float, aspect: float = 1.0) -> Array:
    """(3, 3) normalised intrinsics of a centred camera; ``fov_deg`` spans the image *height*.

    ``aspect`` is width / height.
    """
    focal = 0.5 / np.tan(np.radians(fov_deg) / 2)
    return np.array([[focal / aspect, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 1.0, 0.0)) -> Array:
    """(4, 4) OpenCV ``cam2world`` at ``position`` looking at ``target`` (head space, metres)."""
    position = np.asarray(position, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    right = right / np.linalg.norm(right)
    cam2world = np.eye(4)
    cam2world[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    cam2world[:3, 3] = position
    return cam2world


def orbit(
    yaw_deg: float,
    pitch_deg: float,
    *,
    fov_deg: float = 20.0,
    distance: float | None = None,
    target: ArrayLike = BOX_CENTRE,
    aspect: float = 1.0,
) -> Camera:
    """A camera on a sphere around ``target``; yaw 0 sees the face, +90 the subject's left side.

    Positive pitch looks down from above. ``distance`` in metres; by default the middle of
    the box fits with a margin, in portrait pictures too.
    """
    if distance is None:
        distance = BOX_HALF * 1.08 / np.tan(np.radians(fov_deg) / 2) / min(1.0, aspect)
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    target = np.asarray(target, dtype=np.float64)
    return Camera(
        look_at(target + distance * direction, target), intrinsics_from_fov(fov_deg, aspect)
    )


def rig72(fov_deg: float = 20.0) -> list[Camera]:
    """The 72 views of the SYNHEAD layout: index = 24·pitch + yaw, index 30 is frontal.

    Yaw grows by 15° with the index, so index 6 of each ring of 24 looks at the face; the rings
    have pitch −30°, 0° and +30° (method notes §9: inferred from the release's loaders).
    """
    return [
        orbit((index - FRONT_YAW) * 360.0 / YAWS, pitch, fov_deg=fov_deg)
        for pitch in PITCHES_DEG
        for index in range(YAWS)
    ]


def to_normalised(points: ArrayLike) -> Array:
    """Head space (metres) → normalised space, [−1, 1]³ around head and hair. Shape (…, 3)."""
    return (np.asarray(points) - BOX_CENTRE) / BOX_HALF


def from_normalised(points: ArrayLike) -> Array:
    """Normalised space → head space (metres). Shape (…, 3)."""
    return np.asarray(points) * BOX_HALF + BOX_CENTRE


def camera_to_opengl(camera: Camera, width: int, height: int) -> tuple[Array, Array]:
    """(4, 4) OpenGL camera-to-world (x right, y up, looks along −z), (3, 3) K in pixels."""
    return camera.cam2world @ _FLIP_YZ, np.diag([width, height, 1.0]) @ camera.intrinsics


def camera_from_opengl(
    cam2world: ArrayLike, intrinsics: ArrayLike, width: int, height: int
) -> Camera:
    """Inverse of :func:`camera_to_opengl`.

    Raises:
        ValueError: not a rigid 4×4 matrix, or not finite.
    """
    matrix = np.asarray(cam2world, dtype=np.float64)
    pixels = np.asarray(intrinsics, dtype=np.float64)
    if matrix.shape != (4, 4) or not (np.isfinite(matrix).all() and np.isfinite(pixels).all()):
        raise ValueError("a camera needs a finite 4×4 matrix and finite intrinsics")
    rotation = matrix[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise ValueError("the camera's matrix is not a rotation and a position")
    return Camera(matrix @ _FLIP_YZ, pixels / np.array([[width], [height], [1.0]]))


def blender_to_head(matrix_world: ArrayLike) -> tuple[Array, float]:
    """Split a head object's ``matrix_world`` into (world → head (4, 4), uniform scale).

    The returned matrix maps Blender world points to head space in metres; it already contains the
    division by the scale. Raises ValueError where the matrix is singular, mirrored, or its axes
    differ in length or are sheared by more than 1 %: a pinhole camera cannot express that.
    """
    matrix = np.asarray(matrix_world, dtype=np.float64)
    linear = matrix[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    scale = float(lengths.mean())
    if scale < 1e-9 or np.linalg.det(linear) <= 0:
        raise ValueError("the head object's scale is zero or mirrored")
    if np.abs(linear.T @ linear / scale**2 - np.eye(3)).max() > 0.01:
        raise ValueError("the head object's scale is not uniform")
    return HEAD_TO_BLENDER.T @ np.linalg.inv(matrix), scale


def camera_from_blender(
    camera_matrix: ArrayLike, projection: ArrayLike, head_matrix: ArrayLike
) -> tuple[Camera, float]:
    """Blender camera → head-space camera, and the scale that turns its depth into Blender units.

    Args:
        camera_matrix: the camera object's (4, 4) ``matrix_world`` (its own scale is ignored).
        projection: (4, 4) from ``camera.calc_matrix_camera(...)``; lens shift, sensor fit and
            pixel aspect are all in it.
        head_matrix: the head object's (4, 4) ``matrix_world``.

    Raises:
        ValueError: the projection is orthographic, or the head's scale is not uniform.
    """
    clip = np.asarray(projection, dtype=np.float64)
    if abs(clip[3, 2] + 1.0) > 1e-6:
        raise ValueError("the camera is not a perspective camera")
    to_head, scale = blender_to_head(head_matrix)
    cam2head = to_head @ np.asarray(camera_matrix, dtype=np.float64)
    axes = cam2head[:3, :3] / np.linalg.norm(cam2head[:3, :3], axis=0)
    cam2world = np.eye(4)
    cam2world[:3, :3] = axes
    cam2world[:3, 3] = cam2head[:3, 3]
    # clip.x = P00·x + P02·z with z = -depth, and pixel = (clip.x/depth + 1)/2 × width.
    intrinsics = np.array(
        [
            [clip[0, 0] / 2, 0.0, (1.0 - clip[0, 2]) / 2],
            [0.0, clip[1, 1] / 2, (1.0 + clip[1, 2]) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
    return Camera(cam2world @ _FLIP_YZ, intrinsics), scale
