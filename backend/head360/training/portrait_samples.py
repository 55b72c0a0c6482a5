"""What the landmark net and the face finder are shown: crops of faces, and pictures of several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from head360.datasets.face_points import POINTS, mirrors, uneven
from head360.networks.portrait import MARGIN, STRIDE
from head360.rendering.cameras import Camera
from head360.rendering.crops import window
from head360.training import portrait_camera, portrait_scenery
from head360.training.portrait_augment import Chances, Sample, draw_sample
from head360.training.portraits import PortraitSet

Floats = NDArray[np.floating]

FRONT, BEHIND = 78.0, 105.0  # degrees between view and face: up to which it is one, from which not
CANVAS = 160  # pixels per side of what the finder is trained on
_LOW, _HIGH = 15.0, 68.0  # pixels: the boxes that it is to find


@dataclass
class Crop:
    """One sample of the landmark net.

    Attributes:
        pixels: (S, S, 3) uint8.
        points: (536, 2) float32 in [−1, 1] over the crop.
        weight: (536,) float32 how much each counts; all zero where there is no face.
        face: 1 a face, 0 none, −1 neither the one nor the other.
    """

    pixels: NDArray[np.uint8]
    points: Floats
    weight: Floats
    face: float


@dataclass
class Canvas:
    """One sample of the finder: (S, S, 3) uint8, and (n, 3) centre and side of its faces."""

    pixels: NDArray[np.uint8]
    boxes: Floats


def box_of(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Centre (2,) and side of the square box around (68, 2) landmarks."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    return (low + high) / 2, float((high - low).max())


def view_angle(camera: NDArray[np.float64]) -> float:
    """Degrees between the line of sight and where the face looks."""
    position = Camera.from_flat25(camera).position
    return float(np.degrees(np.arccos(position[2] / np.linalg.norm(position))))


@dataclass
class Maker:
    """Draws samples of one set by number; picklable, the set is opened where it is used.

    Attributes:
        folder: of the set; size: of the crops; seed: of everything.
        rows: of the set that are used, so that a set may grow meanwhile.
        calm: held-out samples have fewer faults, and no bad crops.
    """

    folder: Path
    size: int
    seed: int
    rows: NDArray[np.int64]
    calm: bool = False

    @cached_property
    def data(self) -> PortraitSet:
        """Opened when first needed."""
        return PortraitSet.load(self.folder)

    @cached_property
    def angles(self) -> Floats:
        """(N,) see :func:`view_angle`; 180 for what is not drawn yet."""
        out = np.full(len(self.data.camera), 180.0, dtype=np.float32)
        out[self.rows] = [view_angle(self.data.camera[row]) for row in self.rows]
        return out

    def _row(self, rng: np.random.Generator, behind: bool = False) -> int:
        angles = self.angles[self.rows]
        wanted = angles > BEHIND if behind else angles < BEHIND
        rows = self.rows[wanted] if wanted.any() else self.rows
        return int(rng.choice(rows))

    def _chances(self) -> Chances:
        return Chances(faults=0.5, patches=0.1) if self.calm else Chances()

    def crop(self, number: int) -> Crop:
        """Sample ``number`` of the landmark net."""
        rng = np.random.default_rng([self.seed, number, 31])
        kind = rng.random()
        if kind < 0.11:
            return self._nothing(rng)
        behind = kind < 0.17
        bad = not behind and kind < 0.24 and not self.calm
        row = self._row(rng, behind)
        flip = bool(rng.random() < 0.5)
        centre, side = box_of(self.data.points[row, :68])
        turn = rng.normal(0, 8) if rng.random() < 0.5 else rng.uniform(-50, 50)
        zoom = float(np.exp(np.clip(rng.normal(0, 0.13), -0.35, 0.35)))
        shift = np.clip(rng.normal(0, 0.06, 2), -0.16, 0.16)
        if bad:
            if rng.random() < 0.6:
                away = rng.uniform(0, 2 * np.pi)
                shift = np.array([np.cos(away), np.sin(away)]) * rng.uniform(0.55, 1.1)
            else:
                zoom = float(rng.choice([rng.uniform(0.25, 0.45), rng.uniform(2.3, 4.0)]))
        crop = window(centre + shift * side, side * MARGIN * zoom, turn, self.size, flip)
        sample = draw_sample(self.data, row, crop, self.size, rng, self._chances(), mirrors())
        angle = self.angles[row]
        face = 0.0 if behind or bad else 1.0 if angle < FRONT else -1.0
        weight = self._weights(sample) if face else np.zeros(POINTS, dtype=np.float32)
        return Crop(sample.pixels, sample.points / self.size * 2 - 1, weight, face)

    @staticmethod
    def _weights(sample: Sample) -> Floats:
        """Hidden points count less; some of the dense ones have no exact twin."""
        weight = np.where(sample.visible, 1.0, 0.4).astype(np.float32)
        if sample.mirrored:
            weight[68 + uneven()] = 0.0
        return weight

    def _nothing(self, rng: np.random.Generator) -> Crop:
        picture = portrait_scenery.background(rng, self.size, self.data)
        pixels = portrait_camera.take(rng, picture, self._chances().faults)
        zeros = np.zeros((POINTS, 2), dtype=np.float32)
        return Crop(pixels, zeros, zeros[:, 0], 0.0)

    def canvas(self, number: int) -> Canvas:
        """Sample ``number`` of the finder: none to four people before one background."""
        rng = np.random.default_rng([self.seed, number, 32])
        picture = portrait_scenery.background(rng, CANVAS, self.data)
        if rng.random() < 0.3:  # something with sharp edges behind
            blurred = Image.fromarray((picture * 255).astype(np.uint8))
            picture = np.asarray(blurred.filter(ImageFilter.SHARPEN), dtype=np.float32) / 255
        picture = np.array(picture)
        boxes: list[tuple[float, float, float]] = []
        for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.15, 0.4, 0.25, 0.12, 0.08]))):
            placed = self._place(rng, picture, boxes)
            if placed is not None:
                boxes.append(placed)
        pixels = portrait_camera.take(rng, picture, self._chances().faults)
        return Canvas(pixels, np.array(boxes, dtype=np.float32).reshape(-1, 3))

    def _place(
        self, rng: np.random.Generator, picture: Floats, boxes: list[tuple[float, float, float]]
    ) -> tuple[float, float, float] | None:
        """Paint one person into ``picture``; returns centre and side of the face, if it is one."""
        behind, huge = bool(rng.random() < 0.12), bool(rng.random() < 0.08)
        row = self._row(rng, behind)
        side = float(np.exp(rng.uniform(np.log(_LOW), np.log(_HIGH))))
        if huge:  # larger than what the finder looks for: not its business
            side = float(rng.uniform(105, 170))
        turn = rng.normal(0, 8) if rng.random() < 0.5 else rng.uniform(-42, 42)
        flip = bool(rng.random() < 0.5)
        middle, box = box_of(self.data.points[row, :68])
        size = max(16, round(side * min(2.6, 1.15 * self.data.spec.size / box)))
        edge = 0.35 * min(side, CANVAS)
        place = rng.uniform(edge, CANVAS - edge, 2)
        if any(np.abs(place - other[:2]).max() < 0.75 * max(side, other[2]) for other in boxes):
            return None
        crop = window(middle, box * size / side, turn, size, flip)
        chances = Chances(faults=0.0, clothes=0.9, patches=0.1)
        sample = draw_sample(self.data, row, crop, size, rng, chances, mirrors(), picture, place)
        if behind or huge or self.angles[row] > FRONT:
            return None
        centre, side = box_of(sample.points[:68])
        corner = np.round(place - size / 2)
        return float(centre[0] + corner[0]), float(centre[1] + corner[1]), side


def heat(boxes: Floats, cells: int) -> tuple[Floats, Floats]:
    """What the finder should say of a canvas.

    Returns:
        (cells, cells) how much each cell is a face's centre, 0…1, and (n, 6) row, column, log size
        and place in the cell of each face, and its weight.
    """
    out = np.zeros((cells, cells), dtype=np.float32)
    rows = []
    y, x = np.mgrid[0:cells, 0:cells] + 0.5
    for centre_x, centre_y, side in boxes:
        cx, cy = centre_x / STRIDE, centre_y / STRIDE
        if not (0 <= cx < cells and 0 <= cy < cells):
            continue
        spread = 0.25 + (0.11 * side / STRIDE) ** 2
        column, row = int(cx), int(cy)
        out = np.maximum(out, np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread)))
        out[row, column] = 1.0
        rows.append((row, column, np.log(side / 32), cx - column, cy - row, 1.0))
    return out.astype(np.float32), np.array(rows, dtype=np.float32).reshape(-1, 6)
