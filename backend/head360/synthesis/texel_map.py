"""Which point of the generic head lies under each texel of the atlas: what painters paint by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from head360.geometry.attach import vertex_normals
from head360.geometry.topology import Topology
from head360.rendering import raster

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_BLEED = 3  # texels beyond the triangles that are painted too, for filtered look-ups


@dataclass(frozen=True)
class SurfaceMap:
    """The generic head spread out over the atlas, top row first.

    Attributes:
        size: texels per side.
        positions: (size, size, 3) float32 metres, head space; near triangles the closest one's.
        normals: (size, size, 3) float32, unit on triangles.
        parts: (size, size) int16 index into ``part_names``, −1 where nothing is near.
        face: (size, size) int32 triangle, −1 where nothing is near.
        part_names: names of the topology's parts.
        landmarks: (68, 3) float32 of the generic head, metres.
    """

    size: int
    positions: Floats
    normals: Floats
    parts: NDArray[np.int16]
    face: NDArray[np.int32]
    part_names: tuple[str, ...]
    landmarks: Floats

    def on(self, *names: str) -> Mask:
        """(size, size) texels of the named parts; a name may be a prefix such as ``eyeball``."""
        # One place more than there are parts: −1 looks up the last one, which is never wanted.
        wanted = [part.startswith(names) for part in self.part_names] + [False]
        return np.array(wanted, dtype=np.bool_)[self.parts]

    @staticmethod
    def of(topology: Topology, generic: Floats, size: int) -> SurfaceMap:
        """Spread ``generic`` ((N, 3) float32, metres) over an atlas of ``size``² texels."""
        uvs = topology.uvs
        ones = np.ones(len(uvs))
        screen = np.stack([uvs[:, 0] * size, (1 - uvs[:, 1]) * size, ones, ones], 1)
        fragments = raster.rasterize(screen[None].astype(np.float32), topology.face_uvs, size, size)
        # Corners of the uv triangles carry the values of the mesh's: unshare them.
        corners = topology.faces.reshape(-1)
        unshared = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        normals = vertex_normals(generic, topology.faces)
        values = np.concatenate([generic, normals], 1).astype(np.float32)[corners]
        found = raster.interpolate(fragments, 0, unshared, values)
        face = fragments.face[0]
        distance, nearest = distance_transform_edt(face < 0, return_indices=True)
        rows, columns = nearest
        found, face = found[rows, columns], np.where(distance <= _BLEED, face[rows, columns], -1)
        parts = np.where(face >= 0, topology.parts[face].astype(np.int16), -1)
        return SurfaceMap(
            size, found[..., :3], found[..., 3:], parts.astype(np.int16), face.astype(np.int32),
            tuple(topology.part_names), generic[topology.landmarks68].astype(np.float32),
        )  # fmt: skip


def smooth_step(value: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """0 below ``low``, 1 above ``high``, a cubic between; ``low`` may be the larger one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
