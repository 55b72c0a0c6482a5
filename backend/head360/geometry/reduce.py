"""The shipped topology: ICT-FaceKit reduced to about 10,000 vertices, same parts and UVs.

Left out: lacrimal_fluid, eye_blend and eye_occlusion (shader helpers without a picture), the
cornea faces that would hide the iris, and the back of the inner eye mesh that the sclera covers.
Lids, lips and the tongue keep more vertices than cheeks; skull, neck and teeth keep fewer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360 import arkit
from head360.geometry.atlas import material_to_atlas
from head360.geometry.decimate import Decimated, decimate
from head360.geometry.ict import IctModel
from head360.geometry.topology import Topology

# Vertices to keep. The sum is about 10,000.
BUDGETS: dict[str, int] = {
    "face": 5600,
    "head_neck": 820,
    "mouth_socket": 560,
    "eye_socket_left": 130,
    "eye_socket_right": 130,
    "gums_tongue": 720,
    "teeth": 1080,
    "eyeball_left": 300,
    "eyeball_right": 300,
    "eyelashes_left": 220,
    "eyelashes_right": 220,
}
# Weighted sums of expressions whose shape must survive beside the neutral.
GUIDES: tuple[dict[str, float], ...] = (
    {"jawOpen": 1.0, "tongueOut": 1.0},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 1.0, "cheekSquintRight": 1.0},
    {"mouthPucker": 1.0},
    {"mouthFunnel": 1.0, "jawOpen": 0.3},
    {"browInnerUp": 1.0, "noseSneerLeft": 1.0, "noseSneerRight": 1.0, "cheekPuff": 1.0},
)


def guide_shapes(ict: IctModel) -> NDArray[np.float64]:
    """(1 + len(GUIDES), N, 3) float64 metres: neutral first."""
    shapes = [ict.neutral.astype(np.float64)]
    for weights in GUIDES:
        moved = sum(w * ict.expression_deltas[arkit.INDEX[name]] for name, w in weights.items())
        shapes.append(ict.neutral + moved)
    return np.stack(shapes)


def visible_triangles(ict: IctModel) -> NDArray[np.int64]:
    """Ids of the triangles that ship before reduction."""
    hidden = ict.triangle_hidden.copy()
    for side in (0, 1):
        iris = ict.material_names.index(("M_IrisLeft", "M_IrisRight")[side])
        away = ict.neutral[ict.triangles].mean(axis=1) - ict.eye_centres[side]
        cosine = away @ ict.gaze_axes[side] / np.linalg.norm(away, axis=1)
        hidden |= (ict.triangle_material == iris) & (cosine < 0.7)
    return np.flatnonzero(~hidden)


def importance(ict: IctModel) -> NDArray[np.float64]:
    """(N,) how much a vertex matters: lids, lips, nostrils and tongue above the rest."""
    value = np.ones(len(ict.neutral))
    face = ict.part_vertices("face", "mouth_socket", "eye_socket")
    marks = ict.neutral[ict.landmarks68]
    for ids, radius, factor in ((range(36, 48), 0.012, 6.0), (range(48, 68), 0.010, 6.0),
                                (range(30, 36), 0.010, 3.0)):
        offset = ict.neutral[face][:, None] - marks[list(ids)]
        distance = np.linalg.norm(offset, axis=2).min(axis=1)
        value[face] += (factor - 1.0) * np.exp(-((distance / radius) ** 2))
    value[ict.tongue] = 30.0
    return value


def reduce_topology(ict: IctModel) -> tuple[Decimated, Topology]:
    """Decimate and build the shipped :class:`Topology` (about half a minute)."""
    visible = visible_triangles(ict)
    budgets = np.array([BUDGETS.get(name, 0) for name in ict.part_names])
    result = decimate(
        guide_shapes(ict),
        ict.triangles[visible],
        ict.triangle_uvs[visible],
        ict.uvs,
        ict.triangle_part[visible],
        ict.vertex_part,
        budgets,
        importance(ict),
        ict.landmarks68,
    )
    source = visible[result.source]
    # Two scleras share uv rows with the face tile: one atlas uv per (material, uv) pair.
    material = ict.triangle_material[source].astype(np.int64)
    key = material[:, None] * len(ict.uvs) + result.triangle_uvs
    unique, inverse = np.unique(key, return_inverse=True)
    atlas = np.zeros((len(unique), 2), dtype=np.float32)
    for index in np.unique(material):
        rows = unique // len(ict.uvs) == index
        atlas[rows] = material_to_atlas(
            ict.material_names[index], ict.uvs[unique[rows] % len(ict.uvs)]
        )
    present = sorted(BUDGETS, key=ict.part_names.index)
    renumber = np.full(len(ict.part_names), 255, dtype=np.uint8)
    for new, name in enumerate(present):
        renumber[ict.part_names.index(name)] = new
    topology = Topology(
        faces=result.triangles,
        uvs=atlas,
        face_uvs=inverse.reshape(key.shape).astype(np.int32),
        parts=renumber[ict.triangle_part[source]],
        part_names=tuple(present),
        vertex_parts=renumber[ict.vertex_part[result.kept]],
        landmarks68=np.searchsorted(result.kept, ict.landmarks68).astype(np.int32),
        ict_vertices=result.kept.astype(np.int32),
    )
    return result, topology
