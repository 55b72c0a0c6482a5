"""Iso-surfaces of large grids in bounded memory: bricks near the surface, the rest is a sign.

Every grid point is sampled at most once and vertices are identified by the grid edge they lie on,
so neighbouring bricks meet without seams, whatever the field's rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Brick = tuple[int, int, int]
Field = Callable[[Floats], Floats]
Progress = Callable[[float, str], None]

SIZE = 32  # points per axis of a brick
_HALO = 3  # points that smoothing reaches
_LEAST = 2e-3  # values nearer to the level would put a vertex onto a grid point
_NEIGHBOURS = tuple((axis, step) for axis, step in itertools.product(range(3), (-1, 1)))


class BrickGrid:
    """Values of a field in [−1, 1], positive inside, on (cells + 1)³ points of a cube.

    Args:
        field: (M, 3) float32 points → (M,) float32; clipped to [−1, 1].
        cells: cells per axis.
        lower, upper: corners of the cube along each axis.
        blur: sigma in cells of a Gaussian over the values; 0 leaves them.
    """

    def __init__(
        self, field: Field, cells: int, lower: float = -1.0, upper: float = 1.0, blur: float = 0.0
    ) -> None:
        self._field = field
        self._points = cells + 1
        self._axis = np.linspace(lower, upper, self._points, dtype=np.float64)
        self._blur = blur
        self.count = -(-self._points // SIZE)
        self._values: dict[Brick, Floats] = {}
        self._signs: dict[Brick, float] = {}

    @property
    def sampled(self) -> int:
        """Bricks that hold values."""
        return len(self._values)

    def bricks_at(self, points: Floats, margin: int = 4) -> set[Brick]:
        """Bricks within ``margin`` cells of any of (M, 3) points."""
        step = self._axis[1] - self._axis[0]
        index = (points - self._axis[0]) / step
        found: set[Brick] = set()
        for corner in itertools.product((-margin, margin), repeat=3):
            brick = np.floor((index + corner) / SIZE).astype(int)
            brick = brick[((brick >= 0) & (brick < self.count)).all(1)]
            found.update(map(tuple, np.unique(brick, axis=0).tolist()))
        return found

    def sample(self, bricks: set[Brick], progress: Progress | None = None) -> None:
        """Sample ``bricks`` and every other one that the surface turns out to reach."""
        waiting = sorted(bricks | self._solid_borders())
        done = 0
        while waiting:
            brick = waiting.pop()
            if brick in self._values:
                continue
            if progress is not None:
                progress(done / (done + len(waiting) + 1), "sampling")
            self._values[brick] = self._sample(brick)
            done += 1
            waiting += self._spread(brick)

    def _solid_borders(self) -> set[Brick]:
        """Bricks at the sides of the cube that seem solid: the surface is closed there."""
        last = self.count - 1
        every = range(self.count)
        sides: list[Brick] = [
            (x, y, z)
            for x, y, z in itertools.product(every, every, every)
            if min(x, y, z) == 0 or max(x, y, z) == last
        ]
        middles = [[self._middle(k) for k in brick] for brick in sides]
        values = self._field(np.array(middles, dtype=np.float32))
        self._signs.update(
            (brick, 1.0 if value > 0 else -1.0) for brick, value in zip(sides, values, strict=True)
        )
        return {brick for brick in sides if self._signs[brick] > 0}

    def _middle(self, index: int) -> float:
        return float(self._axis[min(index * SIZE + SIZE // 2, self._points - 1)])

    def _spread(self, brick: Brick) -> list[Brick]:
        """Neighbours that are not sampled although the border here has another sign than they."""
        values = self._values[brick]
        found = []
        for axis, step in _NEIGHBOURS:
            other = list(brick)
            other[axis] += step
            neighbour = (other[0], other[1], other[2])
            if not 0 <= other[axis] < self.count or neighbour in self._values:
                continue
            border = np.take(values, range(_HALO) if step < 0 else range(-_HALO, 0), axis)
            sign = self._sign(neighbour)
            if (border * sign <= 0).any():
                found.append(neighbour)
        return found

    def _sign(self, brick: Brick) -> float:
        """±1 for a brick that is not sampled, by its middle."""
        if brick not in self._signs:
            middle = [self._middle(k) for k in brick]
            value = self._field(np.array([middle], dtype=np.float32))
            self._signs[brick] = 1.0 if value[0] > 0 else -1.0
        return self._signs[brick]

    def _sample(self, brick: Brick) -> Floats:
        """(SIZE,)*3 values; points beyond the grid are outside."""
        spans = [self._axis[k * SIZE : (k + 1) * SIZE] for k in brick]
        points = np.stack(np.meshgrid(*spans, indexing="ij"), -1).astype(np.float32)
        values = np.full((SIZE,) * 3, -1.0, dtype=np.float32)
        found = np.nan_to_num(self._field(points.reshape(-1, 3)), nan=-1.0)
        x, y, z = points.shape[:3]
        values[:x, :y, :z] = np.clip(found, -1.0, 1.0).reshape(x, y, z)
        return values

    def _window(self, brick: Brick) -> Floats:
        """Values of a brick's points, the next plane, and a halo all around."""
        side = SIZE + 1 + 2 * _HALO
        out = np.empty((side,) * 3, dtype=np.float32)
        # Pieces of the three neighbours along one axis: (their offset, from, to) in the window.
        pieces = ((-1, 0, _HALO), (0, _HALO, _HALO + SIZE), (1, _HALO + SIZE, side))
        for chosen in itertools.product(pieces, repeat=3):
            x, y, z = (k + piece[0] for k, piece in zip(brick, chosen, strict=True))
            target = tuple(slice(piece[1], piece[2]) for piece in chosen)
            values = self._values.get((x, y, z))
            if values is not None:
                source = tuple(
                    slice(start - _HALO - offset * SIZE, stop - _HALO - offset * SIZE)
                    for offset, start, stop in chosen
                )
                out[target] = values[source]
            elif min(x, y, z) < 0 or max(x, y, z) >= self.count:
                out[target] = -1.0
            else:
                out[target] = self._sign((x, y, z))
        return out

    def extract(self, progress: Progress | None = None) -> tuple[Floats, Ints]:
        """Triangles of the zero level, welded, counter-clockwise seen from outside.

        Returns:
            (N, 3) float32 vertices in the field's frame and (F, 3) int32 faces. The surface is
            closed where it meets the cube.
        """
        keys: list[NDArray[np.int64]] = []
        places: list[NDArray[np.float64]] = []
        triangles: list[NDArray[np.int64]] = []
        total = 0
        # Bricks outside the grid's low sides own the cells that close the surface there.
        bricks = sorted(self._with_border())
        for number, brick in enumerate(bricks):
            if progress is not None:
                progress(number / len(bricks), "triangulating")
            window = self._window(brick)
            if self._blur > 0:
                smooth = gaussian_filter(window, self._blur, truncate=_HALO / self._blur)
                # What is thinner than the blur (a strand, an ear's rim) keeps half its value.
                window = np.where(window > 0, np.maximum(smooth, 0.5 * window), smooth)
            cube = window[_HALO:-_HALO, _HALO:-_HALO, _HALO:-_HALO]
            cube = np.where(np.abs(cube) < _LEAST, np.where(cube > 0, _LEAST, -_LEAST), cube)
            if cube.min() > 0 or cube.max() < 0:
                continue
            # "ascent": as skimage winds it, counter-clockwise seen from the negative side.
            vertices, faces, _, _ = marching_cubes(cube, 0.0, gradient_direction="ascent")
            origin = np.array(brick) * SIZE
            keys.append(_edge_keys(vertices, origin, self._points + 2, total))
            places.append(vertices.astype(np.float64) + origin)
            triangles.append(faces.astype(np.int64) + total)
            total += len(vertices)
        if not triangles:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        _, first, index = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
        grid = np.clip(np.concatenate(places)[first], 0, self._points - 1)
        step = self._axis[1] - self._axis[0]
        vertices = (self._axis[0] + grid * step).astype(np.float32)
        return vertices, index.reshape(-1)[np.concatenate(triangles)].astype(np.int32)

    def _with_border(self) -> set[Brick]:
        bricks = set(self._values)
        for brick in self._values:
            for axis in range(3):
                if brick[axis] == 0:
                    for other in itertools.product((-1, 0), repeat=3):
                        x, y, z = (k + o for k, o in zip(brick, other, strict=True))
                        if min(x, y, z) < 0:
                            bricks.add((max(x, -1), max(y, -1), max(z, -1)))
        return bricks


def _edge_keys(
    vertices: NDArray[np.floating], origin: NDArray[np.int64], side: int, first: int
) -> NDArray[np.int64]:
    """(N,) one number for each grid edge; vertices inside a cell get numbers of their own."""
    nearest = np.rint(vertices)
    fraction = np.abs(vertices - nearest)
    axis = fraction.argmax(1)
    base = nearest.astype(np.int64)
    rows = np.arange(len(vertices))
    base[rows, axis] = np.floor(vertices[rows, axis]).astype(np.int64)
    base += origin + 1
    key = ((base[:, 0] * side + base[:, 1]) * side + base[:, 2]) * 3 + axis
    own = (fraction > _LEAST / 4).sum(1) > 1
    return np.where(own, -1 - (first + rows), key)
