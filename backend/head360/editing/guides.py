"""What the head knows of a picture of itself: where skin, hair, eyes and lips are seen, and which.

Editors that paint need more than pixels. Points of the skin are named by their place on the generic
head, so a freckle stays where it is whatever the view, the expression or the person.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from head360.geometry.bilinear import BilinearModel
from head360.synthesis.blur import blur
from head360.synthesis.parsing import SIZE, mouth_masks
from head360.synthesis.texel_map import SurfaceMap, smooth_step

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MAP = 512  # texels per side of what is painted
_FACE_PARTS = ("face", "head_neck")
_STEP = 0.0004  # metres between the points that a curve is measured by


@dataclass
class Places:
    """The generic head as a canvas: every map is (MAP, MAP), top row first, in texture coordinates.

    Attributes:
        surface: which point of the generic head lies under each texel.
        lips: (MAP, MAP) float32 share of each texel that is lip; inner: inside the lips' contour.
    """

    surface: SurfaceMap
    lips: Floats
    inner: Floats

    @staticmethod
    def of(model: BilinearModel) -> Places:
        """The canvas of a mesh; made once per topology."""
        topology = model.topology
        if id(topology) not in _places:
            inner, lips = (_reduced(mask) for mask in mouth_masks(topology))
            surface = SurfaceMap.of(topology, model.neutral(model.mean_shape), MAP)
            _places[id(topology)] = Places(surface, lips, inner)
            # The next topology may get the same id.
            weakref.finalize(topology, _places.pop, id(topology), None).atexit = False
        return _places[id(topology)]

    @cached_property
    def skin(self) -> Floats:
        """Skin without lips."""
        return (self.surface.on(*_FACE_PARTS) * (1 - np.maximum(self.lips, self.inner))).astype(
            np.float32
        )

    @cached_property
    def eyes(self) -> Floats:
        """Eyeballs."""
        return self.surface.on("eyeball").astype(np.float32)

    @cached_property
    def mouth(self) -> Floats:
        """Teeth, gums, tongue."""
        return self.surface.on("teeth", "gums", "mouth").astype(np.float32)

    @cached_property
    def face(self) -> Floats:
        """The front of the face, soft towards ears and neck: where expression lives."""
        _, y, z = np.moveaxis(self.surface.positions, -1, 0)
        front = smooth_step(z, 0.035, 0.075) * smooth_step(y, -0.105, -0.085)
        return (front * self.surface.on("face") * (1 - smooth_step(y, 0.085, 0.1))).astype(
            np.float32
        )

    @cached_property
    def brows(self) -> Floats:
        """A band around the brows of the generic head; which texels are hair, pixels must tell."""
        lines = [self.surface.landmarks[part] * 1000 for part in (slice(17, 22), slice(22, 27))]
        band = np.maximum(*(self.curve(line[:, :2], 5.0) for line in lines))
        return smooth_step(band, 0.25, 0.6).astype(np.float32) * self.skin

    def spot(self, x: float, y: float, radius: float, z: float | None = None) -> Floats:
        """A soft ball around a point of the face and its mirror image; millimetres."""
        total = np.zeros((MAP, MAP), dtype=np.float32)
        height = self._relief(np.array([[x, y]]))[0] if z is None else z / 1000
        for sign in (-1, 1):
            centre = np.array([sign * x / 1000, y / 1000, height], dtype=np.float32)
            squared = ((self.surface.positions - centre) ** 2).sum(-1)
            np.maximum(total, np.exp(-squared / (radius / 1000) ** 2), out=total)
        return total

    def curve(self, line: NDArray[np.floating], width: float, mirror: bool = False) -> Floats:
        """A soft line on the face through (P, 2) points seen from the front; millimetres."""
        return np.exp(-((self.distance(line, mirror)[0] / width) ** 2)).astype(np.float32)

    def distance(
        self, line: NDArray[np.floating], mirror: bool = False
    ) -> tuple[Floats, Floats, Floats]:
        """Where texels lie beside a line on the face, given as :meth:`curve` takes it.

        Returns:
            Millimetres in space from the line, how far along it (0 … 1), and how far above the
            nearest point of it in millimetres; of all, the nearer side's with ``mirror``.
        """
        from scipy.interpolate import CubicSpline
        from scipy.spatial import cKDTree

        points = np.asarray(line, dtype=np.float64)
        lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        along = np.linspace(0, 1, max(2, int(lengths[-1] / 1000 / _STEP)))
        dense = CubicSpline(lengths, points)(along * lengths[-1])
        dense = np.column_stack([dense / 1000, self._relief(dense)])
        if mirror:
            dense = np.concatenate([dense, dense * (-1, 1, 1)])
        skin = self.surface.on(*_FACE_PARTS)
        places = self.surface.positions[skin]
        far, near = cKDTree(dense).query(places, distance_upper_bound=0.04)
        found = near < len(dense)
        near = np.minimum(near, len(dense) - 1)
        values = (
            np.where(found, far * 1000, 1e3), along[near % len(along)],
            (places[:, 1] - dense[near, 1]) * 1000,
        )  # fmt: skip
        maps = []
        for value, outside in zip(values, (1e3, 0.0, 0.0), strict=True):
            out = np.full((MAP, MAP), outside, dtype=np.float32)
            out[skin] = value
            maps.append(out)
        return maps[0], maps[1], maps[2]

    def _relief(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """(P,) metres: how far to the front the generic face lies at (P, 2) millimetres."""
        tree, height = self._front
        _, near = tree.query(np.asarray(points) / 1000, k=4)
        return np.asarray(height[near].mean(1))

    @cached_property
    def _front(self):  # type: ignore[no-untyped-def]
        from scipy.spatial import cKDTree

        positions, normals = self.surface.positions, self.surface.normals
        front = self.surface.on(*_FACE_PARTS) & (normals[..., 2] > 0.05) & (positions[..., 2] > 0)
        # The lids lie before the sockets; of texels above each other the foremost one is seen.
        return cKDTree(positions[front][:, :2]), positions[front][:, 2]

    def noise(self, size: float, seed: int) -> Floats:
        """Smooth noise in space, mean 0, deviation about 1; ``size`` of its blotches in mm.

        Defined at the points of the head, not on the atlas: it has no seams.
        """
        rng = np.random.default_rng([seed, 81])
        cells = 48
        grid = rng.standard_normal((cells, cells, cells)).astype(np.float32)
        at = (self.surface.positions * 1000 / size).reshape(-1, 3).T % cells
        out = map_coordinates(grid, at, order=1, mode="grid-wrap").reshape(MAP, MAP)
        return np.asarray(out * 1.7, dtype=np.float32)

    def dots(self, chance: Floats, count: int, radius: tuple[float, float], seed: int) -> Floats:
        """Dots of ``radius`` (low, high) millimetres, strewn with the given chance; 0 … 1.

        ``chance`` counts by area of the head, so dense charts get no more dots than others.
        """
        rng = np.random.default_rng([seed, 82])
        weight = np.cumsum((chance * self._area).reshape(-1), dtype=np.float64)
        chosen = np.searchsorted(weight, rng.random(count) * weight[-1])
        centres = self.surface.positions.reshape(-1, 3)[np.minimum(chosen, MAP * MAP - 1)]
        out = np.zeros(MAP * MAP, dtype=np.float32)
        skin = np.flatnonzero(self.surface.on(*_FACE_PARTS))
        from scipy.spatial import cKDTree

        tree = cKDTree(self.surface.positions.reshape(-1, 3)[skin])
        sizes = rng.uniform(*radius, count) / 1000
        depths = rng.uniform(0.4, 1.0, count)
        for centre, size, deep in zip(centres, sizes, depths, strict=True):
            near = skin[tree.query_ball_point(centre, 2.5 * size)]
            offset = self.surface.positions.reshape(-1, 3)[near] - centre
            # Not round: each dot is drawn out a little in a direction of its own.
            axis = rng.standard_normal(3)
            along = offset @ (axis / np.linalg.norm(axis))
            squared = (offset**2).sum(1) - 0.45 * along**2
            np.maximum.at(out, near, (deep * np.exp(-squared / size**2)).astype(np.float32))
        return out.reshape(MAP, MAP)

    @cached_property
    def _area(self) -> Floats:
        """Relative area of the head under each texel; 0 beside the charts."""
        positions = self.surface.positions
        across = np.linalg.norm(np.gradient(positions, axis=1), axis=-1)
        along = np.linalg.norm(np.gradient(positions, axis=0), axis=-1)
        # A seam lies between texels that are far apart in space: it has no area.
        area = np.minimum(across, 0.003) * np.minimum(along, 0.003)
        return np.where(self.surface.face >= 0, area, 0).astype(np.float32)


_places: dict[int, Places] = {}


def _reduced(mask: Mask) -> Floats:
    share = SIZE // MAP
    small = mask.astype(np.float32).reshape(MAP, share, MAP, share).mean((1, 3))
    return np.asarray(blur(small, 0.7))


@dataclass(frozen=True)
class Tones:
    """Mean colours of the head before the edit, (3,) float32 sRGB; hair is None when bald."""

    skin: Floats
    hair: Floats | None


@dataclass(frozen=True)
class Guide:
    """What is seen where in one picture of the head.

    Attributes:
        alpha: (H, W) float32 coverage by head and hair.
        hair: (H, W) float32 share that is hair.
        uv: (H, W, 2) float32 texture coordinates of the mesh, v up; 0 where it is not seen.
        seen: (H, W) bool, where the mesh is at the centre of the pixel, also behind hair.
        normals: (H, W, 3) float32 of the mesh, head space; 0 where it is not seen.
        places: maps of the generic head.
        tones: of the head before the edit.
        scale: millimetres per pixel at the face.
    """

    alpha: Floats
    hair: Floats
    uv: Floats
    seen: Mask
    normals: Floats
    places: Places
    tones: Tones
    scale: float

    def of(self, painted: Floats) -> Floats:
        """(MAP, MAP) or (MAP, MAP, C) map → (H, W) or (H, W, C) seen here; 0 beside the mesh."""
        at = np.stack([(1 - self.uv[..., 1]) * MAP - 0.5, self.uv[..., 0] * MAP - 0.5])
        if painted.ndim == 2:
            found = map_coordinates(painted, at, order=1, mode="nearest")
            return np.asarray(found * self.seen, dtype=np.float32)
        return np.stack([self.of(painted[..., k]) for k in range(painted.shape[2])], -1)

    @cached_property
    def skin(self) -> Floats:
        """(H, W) share that is visible skin, lips not counted."""
        return self.of(self.places.skin) * (1 - self.hair)

    @cached_property
    def lips(self) -> Floats:
        """(H, W) share that is lips."""
        return self.of(self.places.lips) * (1 - self.hair)

    @cached_property
    def eyes(self) -> Floats:
        """(H, W) share that is eyeball."""
        return self.of(self.places.eyes) * (1 - self.hair)

    @cached_property
    def mouth(self) -> Floats:
        """(H, W) share that is the inside of the mouth."""
        return self.of(self.places.mouth) * (1 - self.hair)
