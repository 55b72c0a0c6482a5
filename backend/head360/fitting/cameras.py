"""The camera as a fit moves it: numbers that hardly disturb each other, and their derivatives.

A pose is a rotation, where in the picture the middle of the face lies, how large the face is there,
and the lens. With σ pixels per metre at the middle, c its place and κ = 1/f, a point whose offset
from the middle is (x, y, z) in camera axes is seen at

    (σ·(x, y) + c) / (1 + σ·κ·z).

Moving the lens alone changes nothing but the perspective, so the long valley "longer lens, further
away" of the usual parameters is gone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from head360.rendering.cameras import Camera

Array = NDArray[np.float64]

# Middle of the face, about which a pose turns (metres, head space).
PIVOT = np.array([0.0, -0.015, 0.075])
POSE = 6  # numbers of a pose: turn about x, y, z of the camera, place x, y, log size
_FULL_FRAME = 43.27  # mm, diagonal


@dataclass(frozen=True)
class Pose:
    """Head to camera.

    Attributes:
        rotation: (3, 3) float64 head axes → camera axes (OpenCV).
        place: (2,) float64 pixels of the pivot from the principal point, which is the middle.
        size: log of pixels per metre at the pivot.
        lens: log of the focal length in pixels.
    """

    rotation: Array
    place: Array
    size: float
    lens: float

    @property
    def log_distance(self) -> float:
        """Log of the pivot's planar distance in metres."""
        return self.lens - self.size

    def moved(self, step: Array, lens: float = 0.0) -> Pose:
        """The pose after a step (6,) and a change of the lens."""
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        return Pose(
            turn @ self.rotation, self.place + step[3:5], self.size + float(step[5]),
            self.lens + lens,
        )  # fmt: skip

    def with_lens(self, lens: float) -> Pose:
        """The same with another lens: as large, at the same place."""
        return dataclasses.replace(self, lens=lens)


def project(pose: Pose, points: ArrayLike) -> Array:
    """(R, 3) head space → (R, 2) pixels from the principal point."""
    local = (np.asarray(points, dtype=np.float64) - PIVOT) @ pose.rotation.T
    sigma = np.exp(pose.size)
    depth = 1 + sigma * np.exp(-pose.lens) * local[:, 2]
    seen: Array = (sigma * local[:, :2] + pose.place) / depth[:, None]
    return seen


def derivatives(pose: Pose, points: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """Pixels (R, 2) and what moves them: by the point (R, 2, 3), by the pose (R, 2, 6), by the
    log of the focal length (R, 2)."""
    local = (np.asarray(points, dtype=np.float64) - PIVOT) @ pose.rotation.T
    sigma, kappa = np.exp(pose.size), np.exp(-pose.lens)
    depth = 1 + sigma * kappa * local[:, 2]
    plane = sigma * local[:, :2]
    pixels = (plane + pose.place) / depth[:, None]
    by_local = np.zeros((len(local), 2, 3))
    by_local[:, 0, 0] = by_local[:, 1, 1] = sigma / depth
    by_local[:, :, 2] = -pixels * (sigma * kappa / depth)[:, None]
    by_pose = np.zeros((len(local), 2, POSE))
    for axis in range(3):
        # A small turn about this axis moves local by axis × local.
        by_pose[:, :, axis] = np.einsum("rij,rj->ri", by_local, np.cross(np.eye(3)[axis], local))
    by_pose[:, 0, 3] = by_pose[:, 1, 4] = 1 / depth
    bent = pixels * (sigma * kappa * local[:, 2] / depth)[:, None]
    by_pose[:, :, 5] = plane / depth[:, None] - bent
    return pixels, by_local @ pose.rotation, by_pose, bent


def weak_perspective(points: ArrayLike, pixels: ArrayLike, lens: float) -> Pose:
    """A first guess that needs none: the best scaled rotation.

    Args:
        points: (R, 3) head space, not in one plane; pixels: (R, 2) from the principal point.
        lens: log of the focal length in pixels.
    """
    space = np.asarray(points, dtype=np.float64) - PIVOT
    flat = np.asarray(pixels, dtype=np.float64)
    table = np.concatenate([space, np.ones((len(space), 1))], axis=1)
    solved = np.linalg.lstsq(table, flat, rcond=None)[0]  # (4, 2)
    u, sizes, vt = np.linalg.svd(solved[:3].T, full_matrices=False)
    rows = u @ vt
    rotation = np.stack([*rows, np.cross(rows[0], rows[1])])
    return Pose(rotation, solved[3], float(np.log(max(sizes.mean(), 1e-9))), lens)


def to_camera(pose: Pose, width: int, height: int) -> Camera:
    """The pinhole camera of a pose; the principal point is the picture's middle."""
    focal, distance = np.exp(pose.lens), np.exp(pose.log_distance)
    world2cam = np.eye(4)
    world2cam[:3, :3] = pose.rotation
    pivot = np.append(pose.place / focal, 1.0) * distance
    world2cam[:3, 3] = pivot - pose.rotation @ PIVOT
    intrinsics = np.array([[focal / width, 0.0, 0.5], [0.0, focal / height, 0.5], [0.0, 0.0, 1.0]])
    cam2world = np.eye(4)
    cam2world[:3, :3] = pose.rotation.T
    cam2world[:3, 3] = -pose.rotation.T @ world2cam[:3, 3]
    return Camera(cam2world, intrinsics)


def from_camera(camera: Camera, width: int, height: int) -> Pose:
    """Inverse of :func:`to_camera`; a principal point beside the middle is not kept."""
    world2cam = camera.world2cam()
    turn = np.asarray(world2cam[:3, :3], dtype=np.float64)
    pivot = turn @ PIVOT + world2cam[:3, 3]
    focal = (camera.intrinsics[0, 0] * width + camera.intrinsics[1, 1] * height) / 2
    size = float(np.log(focal / pivot[2]))
    return Pose(turn, pivot[:2] / pivot[2] * focal, size, float(np.log(focal)))


def lens_of_fov(fov_deg: float, height: int) -> float:
    """Log of the focal length in pixels of a field of view that spans the picture's height."""
    return float(np.log(0.5 * height / np.tan(np.radians(fov_deg) / 2)))


def lens_of_mm(millimetres: float, width: int, height: int) -> float:
    """Log of the focal length in pixels of a full-frame lens with the same diagonal view."""
    return float(np.log(millimetres / _FULL_FRAME * np.hypot(width, height)))
