"""Small files for textures and hair planes: few bits, nothing where nobody looks, deflate.

Rendering with 6 bits differs from the unrounded network by less than a hundredth of the head's own
error, and texels outside the atlas' triangles or a style's hull are never looked up.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from head360.geometry.topology import Topology
from head360.rendering import raster

BITS = 6
_MARGIN = 2  # texels beyond what is used that are kept: look-ups are bilinear, hulls are coarse

Mask = NDArray[np.bool_]


def pack(
    values: NDArray[np.float32], used: Mask, bits: int = BITS
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Deflated bytes of ``values``, and one scale per channel.

    Args:
        values: (planes, rows, columns, C).
        used: (planes, rows, columns) what has to be kept; the rest comes back as zero.
        bits: of a value, with its sign.

    Returns:
        (K,) uint8 and (C,) float32; :func:`unpack` is the inverse.
    """
    limit = 2 ** (bits - 1) - 1
    kept = np.where(used[..., None], values, np.float32(0))
    peak = np.abs(kept).reshape(-1, kept.shape[-1]).max(0)
    scale = (np.maximum(peak, 1e-8) / limit).astype(np.float32)
    whole = np.clip(np.rint(kept / scale), -limit, limit).astype(np.int8)
    # A channel's values lie side by side: neighbours are alike, and deflate looks for that.
    planar = np.ascontiguousarray(np.moveaxis(whole, -1, 0))
    return np.frombuffer(zlib.compress(planar.tobytes(), 9), dtype=np.uint8), scale


def unpack(
    packed: NDArray, scale: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """What :func:`pack` was given, rounded; also reads plain int8 arrays, as first written.

    Args:
        packed: (K,) uint8, or an int8 array of ``shape``.
        scale: (C,) float32.
        shape: (planes, rows, columns, C) that is expected.

    Raises:
        ValueError, zlib.error: the bytes do not hold an array of ``shape``.
    """
    if packed.dtype != np.uint8:
        whole = packed
    else:
        count = int(np.prod(shape))
        inflater = zlib.decompressobj()
        # Never more than expected: a few bytes can inflate to gigabytes.
        data = inflater.decompress(packed.tobytes(), count)
        if len(data) != count or inflater.unconsumed_tail or not inflater.eof:
            raise ValueError("a packed plane has another size than the configuration says")
        planar = np.frombuffer(data, dtype=np.int8).reshape(shape[-1], *shape[:-1])
        whole = np.moveaxis(planar, 0, -1)
    if whole.shape != shape or scale.shape != shape[-1:]:
        raise ValueError("a plane has another shape than the configuration says")
    return np.ascontiguousarray(whole * scale, dtype=np.float32)


def texture_cover(topology: Topology, size: int) -> Mask:
    """(1, size, size) texels of a neural texture, first row at v = 0, that look-ups can reach."""
    fine = 2 * size
    ones = np.ones(len(topology.uvs))
    screen = np.stack([topology.uvs[:, 0] * fine, topology.uvs[:, 1] * fine, ones, ones], 1)
    fragments = raster.rasterize(screen[None].astype(np.float32), topology.face_uvs, fine, fine)
    seen = (fragments.face[0] >= 0).reshape(size, 2, size, 2).any((1, 3))
    return _grown(seen)[None]


def hair_cover(occupancy: NDArray[np.uint8], size: int) -> Mask:
    """(3, size, size) texels of hair planes that points inside a hull can reach.

    Args:
        occupancy: (G, G, G) indexed [z, y, x], canonical space.
        size: of the planes, which lie as in ``networks.hexplane.plane_positions``.
    """
    by_axis = (occupancy > 0).transpose(2, 1, 0)  # [x, y, z]
    shadows = [
        np.asarray(by_axis.transpose(row, column, hidden).any(2))
        for column, row, hidden in raster.PLANES
    ]
    return np.stack([_grown(_resized(shadow, size)) for shadow in shadows])


def _resized(mask: Mask, size: int) -> Mask:
    """Every cell of ``size``² that a true cell of the (G, G) mask touches."""
    grid = len(mask)
    first = np.arange(size) * grid // size
    last = -(-(np.arange(size) + 1) * grid // size)
    rows = np.stack([mask[a:b].any(0) for a, b in zip(first, last, strict=True)])
    return np.stack([rows[:, a:b].any(1) for a, b in zip(first, last, strict=True)], 1)


def _grown(mask: Mask) -> Mask:
    return np.asarray(binary_dilation(mask, np.ones((3, 3), dtype=np.bool_), iterations=_MARGIN))
