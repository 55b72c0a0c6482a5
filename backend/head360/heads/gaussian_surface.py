"""The surface of Gaussians: where their added-up opacity turns solid, by marching cubes."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, map_coordinates

from head360.errors import BadInput
from head360.geometry.isosurface import extract, solid_components, vertex_normals
from head360.heads.base import Surface
from head360.networks.posed import RenderInputs
from head360.networks.quaternions import matrices
from head360.rendering import sh

Floats = NDArray[np.float32]

RESOLUTIONS = (32, 512)
_LEVEL = 0.5  # of added-up opacity
_FAINT = 0.05  # Gaussians with less opacity are mist
_REACH = 3.0  # standard deviations
_LEAST_CELLS = 0.6  # a Gaussian thinner than its grid would fall between the points
_CLOSING = 2  # cells between Gaussians that are bridged before the inside is filled
_KEEP = 0.01


def extract_surface(
    drawn: RenderInputs, resolution: int, progress: Callable[[float, str], None] | None = None
) -> Surface:
    """Triangles with vertex colours around Gaussians, metres, head space.

    What they enclose is filled, so that the surface is the outer one and closed.

    Args:
        drawn: Gaussians, colours without viewing direction.
        resolution: cells along the longest edge, 32 … 512.
        progress: called with (fraction, phase); what it raises stops the work.

    Raises:
        BadInput: resolution out of range, or nothing is opaque enough for a surface.
    """
    if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise BadInput(f"Cannot extract at resolution {resolution}: use 32 to 512.")
    report = progress or (lambda fraction, phase: None)
    report(0.0, "measuring")
    opacity = drawn.opacities.cpu().numpy()
    kept = np.flatnonzero(opacity >= _FAINT)
    if not len(kept):
        raise BadInput("The head has no surface: every Gaussian is transparent.")
    means = drawn.means.cpu().numpy()[kept].astype(np.float64)
    low, high = np.quantile(means, 0.001, axis=0), np.quantile(means, 0.999, axis=0)
    cell = float((high - low).max()) / (resolution - 8)
    low = low - 4 * cell
    shape = np.ceil((high - low) / cell).astype(np.int64) + 5
    turns = matrices(drawn.quaternions).cpu().numpy()[kept].astype(np.float64)
    scales = np.maximum(drawn.scales.abs().cpu().numpy()[kept], _LEAST_CELLS * cell)
    plain = (drawn.sh[:, 0] * sh.C0 + sh.OFFSET).clamp(0, 1).cpu().numpy()[kept]
    grid = np.zeros((*shape, 4), dtype=np.float32)
    step = max(1, len(kept) // 20)
    for first in range(0, len(kept), step):
        report(0.05 + 0.55 * first / len(kept), "sampling")
        part = slice(first, first + step)
        _add(grid, (means[part] - low) / cell, turns[part], scales[part] / cell,
             opacity[kept[part]], plain[part], _REACH)  # fmt: skip
    report(0.6, "extracting")
    values = _filled(grid[..., 0])
    vertices, faces = extract(
        values, _LEVEL, lower=low, upper=low + (shape - 1) * cell, keep_fraction=0.0
    )
    kept_vertices, kept_faces, removed = solid_components(vertices, faces, _KEEP)
    vertices, faces = kept_vertices.astype(np.float32), kept_faces.astype(np.int32)
    if not len(faces):
        raise BadInput("The head has no surface at this resolution: try another one.")
    report(0.9, "colouring")
    places = ((vertices - low) / cell).T
    weight = map_coordinates(grid[..., 0], places, order=1, mode="nearest")
    colours = [map_coordinates(grid[..., 1 + k], places, order=1, mode="nearest") for k in range(3)]
    colour = np.stack(colours, 1) / np.maximum(weight, 1e-4)[:, None]
    report(1.0, "done")
    return Surface(
        vertices, faces, colour.clip(0, 1).astype(np.float32),
        vertex_normals(vertices, faces).astype(np.float32), removed=removed,
    )  # fmt: skip


def _filled(density: Floats) -> Floats:
    """The density with everything it encloses solid, slice by slice where it is open below."""
    shell = binary_closing(np.pad(density >= _LEVEL, _CLOSING + 1), iterations=_CLOSING)
    solid = binary_fill_holes(shell)
    # A bust is open at the neck: there, every level of its own is a closed ring.
    for level in range(solid.shape[1]):
        solid[:, level] = binary_fill_holes(solid[:, level])
    margin = _CLOSING + 1
    inner = solid[margin:-margin, margin:-margin, margin:-margin]
    return np.asarray(np.where(inner, np.maximum(density, 2 * _LEVEL), density), dtype=np.float32)


@numba.njit(cache=True)
def _add(grid, means, turns, scales, opacities, colours, reach):  # type: ignore[no-untyped-def]
    """Add Gaussians (cells) to (X, Y, Z, 4): opacity, and colour weighted by it."""
    for n in range(len(means)):
        radius = reach * max(scales[n, 0], scales[n, 1], scales[n, 2])
        first = np.empty(3, dtype=np.int64)
        last = np.empty(3, dtype=np.int64)
        for axis in range(3):
            first[axis] = max(0, int(np.ceil(means[n, axis] - radius)))
            last[axis] = min(grid.shape[axis] - 1, int(np.floor(means[n, axis] + radius)))
        for x in range(first[0], last[0] + 1):
            for y in range(first[1], last[1] + 1):
                for z in range(first[2], last[2] + 1):
                    dx, dy, dz = x - means[n, 0], y - means[n, 1], z - means[n, 2]
                    power = 0.0
                    for axis in range(3):
                        along = (
                            turns[n, 0, axis] * dx + turns[n, 1, axis] * dy + turns[n, 2, axis] * dz
                        ) / scales[n, axis]
                        power += along * along
                    if power > reach * reach:
                        continue
                    weight = opacities[n] * np.exp(-0.5 * power)
                    grid[x, y, z, 0] += weight
                    for channel in range(3):
                        grid[x, y, z, 1 + channel] += weight * colours[n, channel]
