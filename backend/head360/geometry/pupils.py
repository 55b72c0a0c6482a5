"""Close the pupils: the iris has a hole through which the eye socket would show."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from head360.geometry.atlas import ATLAS_TILES, UNIT
from head360.geometry.topology import Topology

_RADIUS = 6.0 / UNIT  # atlas uv around the middle of an iris tile: the rim of the pupil, not more


def close_pupils(topology: Topology, neutral: NDArray[np.floating]) -> Topology:
    """Cap each pupil with a fan over the vertices of its rim.

    The fan keeps the vertices' texture coordinates, so it shows the black middle of the iris.

    Args:
        topology: the reduced topology.
        neutral: (N, 3) a neutral head, metres; the caps face its +Z.
    """
    faces, face_uvs, parts = [topology.faces], [topology.face_uvs], [topology.parts]
    for side in ("left", "right"):
        x, y, w, h = ATLAS_TILES[f"iris_{side}"]
        centre = np.array([x + w / 2, y + h / 2]) / UNIT
        index = topology.part_faces(f"eyeball_{side}")
        corners = topology.faces[index].reshape(-1)
        corner_uvs = topology.face_uvs[index].reshape(-1)
        near = np.linalg.norm(topology.uvs[corner_uvs] - centre, axis=1) < _RADIUS
        rim, first = np.unique(corners[near], return_index=True)
        if len(rim) < 3:
            continue
        rim_uvs = corner_uvs[near][first]
        offset = neutral[rim] - neutral[rim].mean(axis=0)
        order = np.argsort(np.arctan2(offset[:, 1], offset[:, 0]))
        fan = np.array([[0, k, k + 1] for k in range(1, len(rim) - 1)])
        faces.append(rim[order][fan].astype(np.int32))
        face_uvs.append(rim_uvs[order][fan].astype(np.int32))
        part = topology.part_names.index(f"eyeball_{side}")
        parts.append(np.full(len(fan), part, dtype=np.uint8))
    return dataclasses.replace(
        topology,
        faces=np.concatenate(faces),
        face_uvs=np.concatenate(face_uvs),
        parts=np.concatenate(parts),
    )
