"""The frames of one video as a Gaussian head learns from them: tensors, posed meshes, the box."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.arkit import NAMES
from head360.datasets.monocular_read import Frame, MonocularDataset
from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel, IdentityMesh
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]

_KEPT_BYTES = 1 << 30  # of decoded frames; a longer video is read again and again
_LOOKED_AT = 48  # frames that say where the head is
_HEAD_FRAME_PULL = 1e-3  # towards the origin where a still camera leaves the distance open
_MARGIN = 1.15  # of the box around what the mattes show
_COVERED = 128  # of 255


@dataclass(frozen=True)
class Shot:
    """One frame, ready for a training step.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB; matte: (H, W) uint8.
        expression: (E,) float32.
        camera: head space.
        vertices: (V, 3) float32 posed mesh, metres; None where nothing is carried by one.
    """

    rgb: Tensor
    matte: Tensor
    expression: Tensor
    camera: Camera
    vertices: Tensor | None

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        sizes = [self.rgb.nbytes, self.matte.nbytes]
        return sum(sizes) + (0 if self.vertices is None else self.vertices.nbytes)


class Footage:
    """A monocular data set split into frames to learn from and its held-out tail.

    Args:
        data: set that was opened.
        mesh: whether posed meshes are wanted.
        test: how many or which share of the frames at the end; None: as the set says.

    Raises:
        BadInput: meshes are wanted of a set whose expressions are not ARKit's, or that does not
            say where the head is; or nothing is left to learn from.
    """

    def __init__(self, data: MonocularDataset, mesh: bool, test: int | float | None = None) -> None:
        self.data = data
        try:
            self.train, self.held_out = data.split(test)
        except ValueError as error:
            raise BadInput(f"{data.root} cannot be split ({error}): film more frames.") from error
        self.arkit = speaks_arkit(data)
        if mesh and not (self.arkit and data.manifest is not None):
            raise BadInput(
                f"{data.root} does not say where the head is and how the mesh is posed (it needs a "
                "manifest in head space and the 52 ARKit blendshapes): train with --rig free."
            )
        self.model = BilinearModel.builtin()
        self.shape = subject_shape(data, self.model)
        self.identity: IdentityMesh | None = self.model.identity(self.shape) if mesh else None
        self._kept: OrderedDict[int, Shot] = OrderedDict()
        self._bytes = 0

    @property
    def expression(self) -> int:
        """E."""
        return len(self.data.frames[0].expression)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the expression's numbers as the head takes them; empty where unknown."""
        return tuple(NAMES) if self.arkit else self.data.expressions

    def numbers(self, frame: Frame) -> Floats:
        """(E,) expression of a frame, in ``arkit`` order where it is ARKit's."""
        return np.asarray(frame.blendshapes if self.arkit else frame.expression, np.float32)

    def span(self) -> tuple[Floats, Floats]:
        """(E,) smallest and largest numbers of the training frames."""
        table = np.stack([self.numbers(frame) for frame in self.train])
        return table.min(0), table.max(0)

    def shot(self, frame: Frame) -> Shot:
        """A frame decoded; the latest ones are kept up to a gigabyte.

        Raises:
            BadInput: its pictures cannot be read.
        """
        if frame.img_id in self._kept:
            self._kept.move_to_end(frame.img_id)
            return self._kept[frame.img_id]
        numbers = self.numbers(frame)
        posed = None if self.identity is None else torch.from_numpy(self.identity.pose(numbers))
        shot = Shot(
            torch.from_numpy(frame.load_rgb().copy()), torch.from_numpy(frame.load_matte().copy()),
            torch.from_numpy(numbers.copy()), frame.camera, posed,
        )  # fmt: skip
        self._kept[frame.img_id] = shot
        self._bytes += shot.bytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].bytes
        return shot

    def looked_at(self) -> list[Frame]:
        """Training frames spread over the video, enough to see where the head is."""
        count = min(_LOOKED_AT, len(self.train))
        return [self.train[int(k)] for k in np.linspace(0, len(self.train) - 1, count)]

    def box(self) -> tuple[NDArray[np.float64], float]:
        """Centre (3,) and half side of a cube around what the mattes show, in the set's unit.

        Raises:
            BadInput: no frame shows anything.
        """
        rays, extents = [], []
        for frame in self.looked_at():
            rows, columns = np.nonzero(self.shot(frame).matte.numpy() >= _COVERED)
            if not len(rows):
                continue
            low = np.array([columns.min(), rows.min()], dtype=np.float64)
            high = np.array([columns.max(), rows.max()], dtype=np.float64) + 1
            rays.append((frame.camera.position, _direction(frame, (low + high) / 2)))
            extents.append((frame, high - low))
        if not rays:
            raise BadInput(f"The mattes of {self.data.root} are empty: there is no head to learn.")
        centre = nearest_point(rays)
        halves = []
        for frame, extent in extents:
            depth = float((frame.camera.world2cam() @ np.append(centre, 1.0))[2])
            focal = np.diag(frame.camera.intrinsics)[:2] * (frame.width, frame.height)
            halves.append(float((extent / 2 / focal * depth).max()))
        half = _MARGIN * float(np.quantile(halves, 0.9))
        if not half > 0:
            raise BadInput(f"The cameras of {self.data.root} look away from the head.")
        return centre, half

    def hull(self, points: NDArray[np.floating], share: float = 0.95) -> NDArray[np.bool_]:
        """Which of (M, 3) points lie inside nearly all mattes of the frames that see them."""
        seen = np.zeros(len(points))
        inside = np.zeros(len(points))
        for frame in self.looked_at():
            place, depth = frame.camera.project(points, frame.width, frame.height)
            with np.errstate(invalid="ignore"):
                column, row = np.floor(np.nan_to_num(place, nan=-1.0)).astype(np.int64).T
            within = (depth > 0) & (column >= 0) & (row >= 0)
            within &= (column < frame.width) & (row < frame.height)
            matte = self.shot(frame).matte.numpy()
            seen += within
            inside[within] += matte[row[within], column[within]] >= _COVERED
        return np.asarray((seen > 0) & (inside >= share * seen))


def over_white(rgb: NDArray[np.uint8], matte: NDArray[np.uint8]) -> Floats:
    """(H, W, 3) uint8 and (H, W) uint8 → (H, W, 3) float32 over white, blended as encoded."""
    share = matte[..., None].astype(np.float32) / 255
    return np.asarray(rgb.astype(np.float32) / 255 * share + 1 - share, dtype=np.float32)


def speaks_arkit(data: MonocularDataset) -> bool:
    """Whether the expressions are the 52 of ARKit, by name or, without names, by number."""
    if data.expressions:
        return set(data.expressions) == set(NAMES)
    return len(data.frames[0].expression) == len(NAMES)


def subject_shape(data: MonocularDataset, model: BilinearModel) -> Floats:
    """(S,) identity coefficients of the sitter, the average head's where the set has none."""
    known = data.manifest.subject.shape if data.manifest is not None else []
    if len(known) == model.shape_size:
        return np.asarray(known, dtype=np.float32)
    return np.asarray(model.mean_shape, dtype=np.float32)


def nearest_point(
    rays: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> NDArray[np.float64]:
    """(3,) point with the least squared distance to rays of (origin, unit direction).

    The origin pulls a little: rays that are all alike leave the distance open, and heads sit there.
    """
    total, right = _HEAD_FRAME_PULL * len(rays) * np.eye(3), np.zeros(3)
    for origin, direction in rays:
        across = np.eye(3) - np.outer(direction, direction)
        total += across
        right += across @ origin
    return np.asarray(np.linalg.solve(total, right), dtype=np.float64)


def _direction(frame: Frame, pixel: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) unit direction in head space through a pixel (x, y)."""
    x, y = pixel / (frame.width, frame.height)
    local = np.linalg.solve(frame.camera.intrinsics, np.array([x, y, 1.0]))
    ray = frame.camera.cam2world[:3, :3] @ local
    return np.asarray(ray / np.linalg.norm(ray), dtype=np.float64)
