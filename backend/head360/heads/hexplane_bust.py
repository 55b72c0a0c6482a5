"""A lid for the open bust: seen from below and behind, a rendered head looks cut and not hollow.

The mesh ends below the shoulders in an open rim, and the studio photographs it like that: heads
learn the inside of their own shell. Finished pictures get a flat lid over the rim instead, in the
colour of the skin there. It is drawn after everything else; training and comparisons with the
studio's pictures leave it out (``HexPlaneHead.open_bust``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from head360.geometry.carving import close_rim, longest_rim
from head360.geometry.topology import Topology
from head360.heads.base import Frame
from head360.rendering import raster
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_SAMPLES = 3  # per axis of a pixel
_LARGE, _SAMPLES_LARGE = 1024, 2  # pixels per side above which fewer do
_BAND, _LEAST_ROWS = 1_000_000, 8  # samples drawn at a time, some 40 MB; rows
_AROUND = 2  # pixels
_EDGE, _MIDDLE = 0.82, 0.62  # of the skin's colour: what faces down gets less light
_BEFORE, _RAMP = 0.004, 0.006  # metres by which hair is in front of mesh and lid


@dataclass(frozen=True)
class Lid:
    """The closed mesh of one pose.

    Attributes:
        vertices: (N + 1, 3) float32 metres; the last one is the middle of the rim.
        faces: (F + K, 3) int32; the last K are the lid's, counter-clockwise seen from outside.
        count: K.
        skin: (3,) float32 sRGB around the rim.
    """

    vertices: Floats
    faces: Ints
    count: int
    skin: Floats

    def faces_towards(self, camera: Camera) -> bool:
        """Whether any of the lid's triangles shows its outside."""
        a, b, c = (self.vertices[self.faces[-self.count :, k]] for k in range(3))
        outward = np.cross(b - a, c - a)
        return bool((((camera.position - a) * outward).sum(1) > 0).any())


def bottom_rim(topology: Topology, vertices: Floats) -> list[int]:
    """Vertex ids around the lowest open rim of the skin, in the order of its triangles.

    Eyelids and lips have rims as well, and so has every part that is a shell of its own.
    """
    skin = topology.part_faces("face", "head_neck", "mouth_socket", "eye_socket")
    return longest_rim(vertices, topology.faces[skin])


def put_lid(vertices: Floats, faces: Ints, rim: list[int], skin: Floats) -> Lid:
    """Close a rim with a fan.

    Args:
        vertices: (N, 3) of the posed mesh.
        faces: (F, 3) of what hides the lid.
        rim: from :func:`bottom_rim`.
        skin: (3,) sRGB around the rim.
    """
    closed, fan = close_rim(vertices, faces, rim)
    return Lid(closed, fan, len(rim), np.clip(skin, 0.0, 1.0).astype(np.float32))


def cover(frame: Frame, lid: Lid, camera: Camera) -> Frame:
    """Draw the lid into a finished picture; hair in front of it stays."""
    height, width = frame.depth.shape
    if not lid.faces_towards(camera):
        return frame
    screen = raster.perspective_screen(lid.vertices, camera, width, height)
    spread = screen[np.unique(lid.faces[-lid.count :])]
    if spread[:, 2].min() < raster.NEAR:
        return frame
    left, top = np.clip(np.floor(spread[:, :2].min(0)).astype(int) - 1, 0, (width, height))
    right, bottom = np.clip(np.ceil(spread[:, :2].max(0)).astype(int) + 1, 0, (width, height))
    if left >= right or top >= bottom:
        return frame
    samples = _SAMPLES if max(width, height) <= _LARGE else _SAMPLES_LARGE
    rows = max(_LEAST_ROWS, _BAND // (int(right - left) * samples**2))
    rgba, depths = frame.rgba.copy(), frame.depth.copy()
    for first in range(int(top), int(bottom), rows):
        last = min(first + rows, int(bottom))
        # Whether hair is in front is asked around each pixel: rows next to the band belong to it.
        start, stop = max(first - _AROUND, int(top)), min(last + _AROUND, int(bottom))
        seen = frame.rgba[start:stop, left:right], frame.depth[start:stop, left:right]
        colour, depth = _band(*seen, lid, screen, (int(left), start), samples)
        keep = slice(first - start, last - start)
        rgba[first:last, left:right] = colour[keep]
        depths[first:last, left:right] = depth[keep]
    return Frame(rgba, depths)


def _band(
    below: Floats, old: Floats, lid: Lid, screen: Floats, corner: tuple[int, int], samples: int
) -> tuple[Floats, Floats]:
    """The lid over a part of a picture.

    Args:
        below, old: (H, W, 4) sRGB with straight alpha and (H, W) metres of that part.
        lid: to draw.
        screen: (N, 4) of its vertices in the whole picture.
        corner: column and row at which the part begins.
        samples: per axis of a pixel.

    Returns:
        (H, W, 4) and (H, W), new.
    """
    high, wide = old.shape
    fine = screen.copy()
    fine[:, :2] = (screen[:, :2] - corner) * samples
    seen = raster.rasterize(fine[None], lid.faces, wide * samples, high * samples)
    is_lid = seen.face[0] >= len(lid.faces) - lid.count
    blocks = high, samples, wide, samples
    share = is_lid.reshape(blocks).mean((1, 3), dtype=np.float32)
    nearest = seen.depth[0].reshape(blocks).min((1, 3))
    depth = np.where(is_lid, seen.depth[0], np.inf).reshape(blocks).min((1, 3))
    # Depth comes in blocks of rays: next to an outline it may be the skin's, which is no hair.
    with np.errstate(invalid="ignore"):
        front = minimum_filter(nearest, 2 * _AROUND + 1) - old
        hair = np.where(np.isfinite(old), np.clip((front - _BEFORE) / _RAMP, 0.0, 1.0), 0.0)
    # The last corner of every triangle of the fan is its middle.
    middle = np.where(is_lid, 1 - seen.bary[0].sum(-1), 0.0).reshape(blocks).sum((1, 3))
    middle /= np.maximum(share * samples**2, 1)
    shade = (_EDGE + (_MIDDLE - _EDGE) * middle)[..., None]
    share = share * (1 - hair.astype(np.float32))
    rest = below[..., 3] * (1 - share)
    alpha = share + rest
    light = share[..., None] * shade * lid.skin + rest[..., None] * below[..., :3]
    colour = np.concatenate([light / np.maximum(alpha, 1e-6)[..., None], alpha[..., None]], -1)
    return colour, np.where(share > 0.5, depth, old)
