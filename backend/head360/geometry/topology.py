"""What all heads of one bilinear model share: triangles, UVs, parts, landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Topology:
    """Shared by every identity and expression.

    Attributes:
        faces: (F, 3) int32, counter-clockwise seen from outside.
        uvs: (U, 2) float32 in [0, 1], origin bottom-left (see ``geometry.atlas``).
        face_uvs: (F, 3) int32 into ``uvs``.
        parts: (F,) uint8 into ``part_names``.
        part_names: names of the parts, ICT-FaceKit's.
        vertex_parts: (N,) uint8 into ``part_names``; a border vertex belongs to the lower part.
        landmarks68: (68,) int32 Multi-PIE vertex ids.
        ict_vertices: (N,) int32 vertex ids in the original ICT-FaceKit, ascending.
    """

    faces: Ints
    uvs: Floats
    face_uvs: Ints
    parts: NDArray[np.uint8]
    part_names: tuple[str, ...]
    vertex_parts: NDArray[np.uint8]
    landmarks68: Ints
    ict_vertices: Ints

    def part_vertices(self, *names: str) -> NDArray[np.int64]:
        """Sorted vertex ids of the named parts; a name may be a prefix such as ``eyeball``."""
        wanted = [i for i, part in enumerate(self.part_names) if part.startswith(names)]
        return np.flatnonzero(np.isin(self.vertex_parts, wanted))

    def part_faces(self, *names: str) -> NDArray[np.int64]:
        """Sorted triangle ids of the named parts; a name may be a prefix."""
        wanted = [i for i, part in enumerate(self.part_names) if part.startswith(names)]
        return np.flatnonzero(np.isin(self.parts, wanted))
