"""One photograph as the later stages see it: cut around the head, its camera solved, parsed.

A *sight* is a square picture at the size the base renders, so that a texel and a pixel are about
equally large and one camera serves projection and inversion alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, map_coordinates

from head360.datasets import labels as classes
from head360.fitting.surface import SkinGraph
from head360.rendering import raster
from head360.rendering.cameras import Camera, from_normalised

Floats = NDArray[np.float32]

_BEHIND = 0.006  # metres that a texel may lie behind the nearest surface and still be seen
_GRAZING, _FACING = 0.3, 0.75  # cosines between which a texel's weight grows from 0 to 1
_MARGIN = 0.06  # of the side, around the head


@dataclass(frozen=True)
class Sight:
    """A square cut of one photograph.

    Attributes:
        pixels: (S, S, 3) float32 sRGB in [0, 1].
        known: (S, S) bool, inside the photograph.
        labels: (S, S) uint8 of ``datasets.labels``.
        matte: (S, S) float32 of the whole person; hair: (S, S) float32.
        camera: of the cut; blendshapes: (52,) float32.
    """

    pixels: Floats
    known: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    matte: Floats
    hair: Floats
    camera: Camera
    blendshapes: Floats

    @property
    def size(self) -> int:
        """S."""
        return len(self.pixels)

    def bare(self) -> NDArray[np.bool_]:
        """(S, S) pixels of skin, brows, eyes, lips and neck that no hair touches."""
        person = ~np.isin(self.labels, (classes.BACKGROUND, classes.HAIR))
        person &= self.known & (self.hair < 0.1) & (self.matte > 0.9)
        return np.asarray(binary_erosion(person, iterations=max(1, self.size // 128)))

    def face(self) -> NDArray[np.bool_]:
        """(S, S) of :meth:`bare` what is face: a neck may be a collar, and lies in shadow."""
        return self.bare() & (self.labels != classes.NECK)


def cut(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    matte: Floats,
    hair: Floats,
    camera: Camera,
    blendshapes: Floats,
    vertices: Floats,
    size: int,
) -> Sight:
    """Cut a photograph around the head of a fitted mesh.

    Args:
        pixels: (H, W, 3) uint8 sRGB; labels, matte, hair: (H, W) of the whole photograph.
        camera: of the whole photograph.
        vertices: (N, 3) float32 the posed mesh, metres.
        size: of the cut.
    """
    height, width = pixels.shape[:2]
    window = head_window(camera, vertices, width, height)
    left, top, side = window
    intrinsics = camera.intrinsics * np.array([[width], [height], [1.0]])
    intrinsics[0, 2] -= left
    intrinsics[1, 2] -= top
    intrinsics[:2] /= side
    inside = np.full((height, width), 255, dtype=np.uint8)
    soft = [np.clip(plane * 255 + 0.5, 0, 255).astype(np.uint8) for plane in (matte, hair)]
    return Sight(
        cut_out(pixels, window, size, ground=255).astype(np.float32) / np.float32(255),
        cut_out(inside, window, size) > 250,
        cut_out(labels, window, size, nearest=True),
        cut_out(soft[0], window, size).astype(np.float32) / np.float32(255),
        cut_out(soft[1], window, size).astype(np.float32) / np.float32(255),
        Camera(camera.cam2world, intrinsics),
        np.asarray(blendshapes, dtype=np.float32),
    )


def cut_out(
    plane: NDArray,
    window: tuple[float, float, float],
    size: int,
    nearest: bool = False,
    ground: int = 0,
) -> NDArray:
    """A square (left, top, side) of a uint8 picture, ``size`` pixels a side; ``ground`` outside."""
    padded, box = _padded(plane, window, ground)
    mode = Image.Resampling.BOX if box[2] - box[0] > size else Image.Resampling.BICUBIC
    mode = Image.Resampling.NEAREST if nearest else mode
    return np.asarray(Image.fromarray(padded).resize((size, size), mode, box=box))


def head_window(
    camera: Camera, vertices: Floats, width: int, height: int
) -> tuple[float, float, float]:
    """(left, top, side) in pixels of the square around head and hair; it may leave the picture."""
    points, _ = camera.project(vertices, width, height)
    # The bust reaches far below: what counts is the head and the room that hair may take.
    head = vertices[:, 1] > np.percentile(vertices[:, 1], 25)
    low, high = points[head].min(0), points[head].max(0)
    corner = np.array([[x, y, 0.0] for x in (-0.75, 0.75) for y in (-0.8, 0.95)])
    around, _ = camera.project(from_normalised(corner), width, height)
    low, high = np.minimum(low, around.min(0)), np.maximum(high, around.max(0))
    side = float((high - low).max() * (1 + _MARGIN))
    centre = (low + high) / 2
    return float(centre[0] - side / 2), float(centre[1] - side / 2), side


def _padded(
    plane: NDArray, window: tuple[float, float, float], ground: int
) -> tuple[NDArray, tuple[float, float, float, float]]:
    """``plane`` with enough empty room around it for the window, and the window in it."""
    left, top, side = window
    height, width = plane.shape[:2]
    room = [
        max(0, int(np.ceil(-top))), max(0, int(np.ceil(top + side - height))),
        max(0, int(np.ceil(-left))), max(0, int(np.ceil(left + side - width))),
    ]  # fmt: skip
    pads = [(room[0], room[1]), (room[2], room[3])] + [(0, 0)] * (plane.ndim - 2)
    first = (left + room[2], top + room[0])
    return np.pad(plane, pads, constant_values=ground), (*first, first[0] + side, first[1] + side)


@dataclass(frozen=True)
class Seen:
    """What one sight shows of the texels.

    Attributes:
        colour: (M, 3) float32 sRGB; weight: (M,) float32 in [0, 1], 0 where it is not seen.
        label: (M,) uint8 class of ``datasets.labels`` at the texel's pixel.
    """

    colour: Floats
    weight: Floats
    label: NDArray[np.uint8]


def facing(cosine: Floats) -> Floats:
    """Trust in a surface by the cosine between its normal and the way to the camera."""
    return np.clip((cosine - _GRAZING) / (_FACING - _GRAZING), 0, 1)


def seen(sight: Sight, graph: SkinGraph, vertices: Floats) -> Seen:
    """Project a sight onto the texels of the posed mesh ``vertices`` (N, 3)."""
    points, normals = graph.placed(vertices)
    size = sight.size
    pixel, depth = sight.camera.project(points, size, size)
    screen = raster.perspective_screen(vertices, sight.camera, size, size)
    surface = raster.rasterize(screen[None], graph.faces, size, size).depth[0]
    nearest = np.where(np.isfinite(surface), surface, 1e6)
    at = (pixel - 0.5).T[::-1]
    front = map_coordinates(nearest, np.rint(at), order=0, mode="constant", cval=-1.0)
    towards = sight.camera.position - points
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = (normals * towards).sum(1)
    bare = map_coordinates(sight.bare().astype(np.float32), at, order=1, mode="constant", cval=0.0)
    weight = facing(cosine) * (bare > 0.99)
    weight *= (depth < front + _BEHIND) & (depth > 0)
    colour = np.stack(
        [map_coordinates(sight.pixels[..., k], at, order=1, mode="nearest") for k in range(3)], 1
    )
    label = map_coordinates(sight.labels, np.rint(at), order=0, mode="constant", cval=0)
    # Skin never takes the colour of an eye or of the open mouth, nor the other way round.
    weight *= np.isin(label, (classes.EYES, classes.MOUTH)) != graph.skin
    return Seen(colour.astype(np.float32), weight.astype(np.float32), label.astype(np.uint8))
