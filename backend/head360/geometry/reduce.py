"""The shipped topology: ICT-FaceKit reduced to about 10,000 vertices, same parts and UVs.

Left out: lacrimal_fluid, eye_blend and eye_occlusion (shader helpers without a picture), the
cornea faces that would hide the iris, and the back of the inner eye mesh that the sclera covers.
The pupil, a hole in ICT, is closed with a fan that shows the middle of the iris picture.
Lids, lips and the tongue keep more vertices than cheeks; skull, neck and teeth keep fewer.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360 import arkit
from head360.geometry.atlas import material_to_atlas
from head360.geometry.decimate import Decimated, decimate
from head360.geometry.ict import IctModel
from head360.geometry.population import draw_coefficients
from head360.geometry.topology import Topology
from head360.geometry.transfer import triangle_frames

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
    {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 1.0, "eyeSquintRight": 1.0},
    {"mouthPucker": 1.0},
    {"mouthFunnel": 1.0, "jawOpen": 0.3},
    {"browInnerUp": 1.0, "noseSneerLeft": 1.0, "noseSneerRight": 1.0, "cheekPuff": 1.0},
)
GUIDE_IDENTITIES = 5
IRISES = ("M_IrisLeft", "M_IrisRight")
PUPIL_RADIUS = 0.002  # metres from the gaze axis: contains the pupil's rim, not the iris's


def guide_shapes(ict: IctModel) -> NDArray[np.float64]:
    """(1 + len(GUIDES) + GUIDE_IDENTITIES, N, 3) float64 metres: neutral first."""
    shapes = [ict.neutral.astype(np.float64)]
    for weights in GUIDES:
        moved = sum(w * ict.expression_deltas[arkit.INDEX[name]] for name, w in weights.items())
        shapes.append(ict.neutral + moved)
    # Folds that only some heads have: behind the ear, at the nostrils, under the chin.
    coefficients = draw_coefficients(GUIDE_IDENTITIES, len(ict.identity_deltas), seed=1)
    return np.concatenate([np.stack(shapes), ict.identities(coefficients)])


def visible_triangles(ict: IctModel) -> NDArray[np.int64]:
    """Ids of the triangles that ship before reduction."""
    hidden = ict.triangle_hidden.copy()
    for side in (0, 1):
        iris = ict.material_names.index(IRISES[side])
        away = ict.neutral[ict.triangles].mean(axis=1) - ict.eye_centres[side]
        cosine = away @ ict.gaze_axes[side] / np.linalg.norm(away, axis=1)
        frames = triangle_frames(ict.neutral, ict.triangles)[:, :, 2]
        facing = frames @ ict.gaze_axes[side] / np.linalg.norm(frames, axis=1)
        hidden |= (ict.triangle_material == iris) & ((cosine < 0.7) | (facing < 0.1))
    return np.flatnonzero(~hidden)


def pupil_cap(
    ict: IctModel, visible: NDArray[np.integer], side: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Close one pupil (0 left, 1 right): (T, 3) corners and uv corners of a fan over its rim.

    ICT's iris is a shell with a hole, and the inside of the ball behind it is not shipped. The fan
    shows the dark middle of the iris picture instead.

    Raises:
        ValueError: the visible iris has no single open rim around the gaze axis.
    """
    index = ict.material_names.index(IRISES[side])
    rows = visible[ict.triangle_material[visible] == index]
    triangles, uvs = ict.triangles[rows], ict.triangle_uvs[rows]
    offset = ict.neutral - ict.eye_centres[side]
    across = np.linalg.norm(np.cross(offset, ict.gaze_axes[side]), axis=1)
    following: dict[int, int] = {}
    corner_uv: dict[int, int] = {}
    present = {(a, b) for t in triangles.tolist() for a, b in zip(t, t[1:] + t[:1], strict=True)}
    for t, w in zip(triangles.tolist(), uvs.tolist(), strict=True):
        for k in range(3):
            a, b = t[k], t[(k + 1) % 3]
            if (b, a) not in present and max(across[a], across[b]) < PUPIL_RADIUS:
                following[b] = a  # the cap runs against its neighbours
                corner_uv[a], corner_uv[b] = w[k], w[(k + 1) % 3]
    if not following:
        raise ValueError(f"{IRISES[side]} has no open rim")
    loop = [min(following)]
    while (upcoming := following[loop[-1]]) != loop[0]:
        loop.append(upcoming)
    if len(loop) != len(following):
        raise ValueError(f"{IRISES[side]} has more than one open rim")
    fan = np.array([(loop[0], loop[k], loop[k + 1]) for k in range(1, len(loop) - 1)])
    return fan.astype(np.int32), np.vectorize(corner_uv.__getitem__)(fan).astype(np.int32)


def importance(ict: IctModel) -> NDArray[np.float64]:
    """(N,) how much a vertex matters: lids, lips, nostrils and tongue above the rest."""
    value = np.ones(len(ict.neutral))
    face = ict.part_vertices("face", "mouth_socket", "eye_socket")
    marks = ict.neutral[ict.landmarks68]
    for ids, radius, factor in (
        (range(36, 48), 0.012, 6.0),
        (range(48, 68), 0.010, 6.0),
        (range(30, 36), 0.010, 3.0),
    ):
        offset = ict.neutral[face][:, None] - marks[list(ids)]
        distance = np.linalg.norm(offset, axis=2).min(axis=1)
        value[face] += (factor - 1.0) * np.exp(-((distance / radius) ** 2))
    value[ict.tongue] = 30.0
    return value


def reduce_topology(ict: IctModel) -> tuple[Decimated, Topology]:
    """Decimate and build the shipped :class:`Topology` (about half a minute)."""
    visible = visible_triangles(ict)
    triangles, triangle_uvs = ict.triangles[visible], ict.triangle_uvs[visible]
    parts, materials = ict.triangle_part[visible], ict.triangle_material[visible]
    for side, name in enumerate(IRISES):
        cap, cap_uvs = pupil_cap(ict, visible, side)
        triangles = np.concatenate([triangles, cap])
        triangle_uvs = np.concatenate([triangle_uvs, cap_uvs])
        eyeball = ict.part_names.index(("eyeball_left", "eyeball_right")[side])
        parts = np.append(parts, np.full(len(cap), eyeball, dtype=parts.dtype))
        index = ict.material_names.index(name)
        materials = np.append(materials, np.full(len(cap), index, dtype=materials.dtype))
    budgets = np.array([BUDGETS.get(name, 0) for name in ict.part_names])
    result = decimate(
        guide_shapes(ict),
        triangles,
        triangle_uvs,
        ict.uvs,
        parts,
        ict.vertex_part,
        budgets,
        importance(ict),
        ict.landmarks68,
    )
    # Two scleras share uv rows with the face tile: one atlas uv per (material, uv) pair.
    material = materials[result.source].astype(np.int64)
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
        parts=renumber[parts[result.source]],
        part_names=tuple(present),
        vertex_parts=renumber[ict.vertex_part[result.kept]],
        landmarks68=np.searchsorted(result.kept, ict.landmarks68).astype(np.int32),
        ict_vertices=result.kept.astype(np.int32),
    )
    return result, topology


def bind(
    shapes: NDArray[np.floating], vertices: NDArray[np.integer], topology: Topology
) -> sp.csr_matrix:
    """Carry original vertices on the reduced triangles by barycentric coordinates, no offset.

    The nearest point is searched in the joint space of all ``shapes``, so that a point of the
    upper lip is never bound to the lower one that it touches at rest.

    Args:
        shapes: (S, N, 3) original positions, metres.
        vertices: (M,) original ids to carry; they and their triangles are of the part ``face``.

    Returns:
        (M, n) sparse float32, three weights per row, each row sums to 1.
    """
    joint = np.ascontiguousarray(shapes.transpose(1, 0, 2)).reshape(shapes.shape[1], -1)
    reduced = joint[topology.ict_vertices]
    triangles = topology.faces[topology.part_faces("face")]
    corners = reduced[triangles]
    centres = corners.mean(axis=1)
    _, candidates = cKDTree(centres).query(joint[vertices], k=24)
    best = np.full(len(vertices), np.inf)
    weights = np.zeros((len(vertices), 3))
    chosen = np.zeros(len(vertices), dtype=np.int64)
    for column in candidates.T:
        a, b, c = corners[column].transpose(1, 0, 2)
        w = _closest_barycentric(joint[vertices], a, b, c)
        point = w[:, :1] * a + w[:, 1:2] * b + w[:, 2:] * c
        distance = ((point - joint[vertices]) ** 2).sum(axis=1)
        better = distance < best
        best[better], weights[better], chosen[better] = distance[better], w[better], column[better]
    rows = np.repeat(np.arange(len(vertices)), 3)
    return sp.csr_matrix(
        (weights.astype(np.float32).ravel(), (rows, triangles[chosen].ravel())),
        shape=(len(vertices), len(topology.ict_vertices)),
    )


def _closest_barycentric(
    p: NDArray[np.floating],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    c: NDArray[np.floating],
) -> NDArray[np.float64]:
    """(M, 3) weights of the point of triangle abc nearest to p, in any dimension."""

    def dot(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
        return (x * y).sum(axis=1)

    ab, ac, ap = b - a, c - a, p - a
    aa, bb, mixed = dot(ab, ab), dot(ac, ac), dot(ab, ac)
    d1, d2 = dot(ap, ab), dot(ap, ac)
    determinant = np.maximum(aa * bb - mixed * mixed, 1e-30)
    v, w = (bb * d1 - mixed * d2) / determinant, (aa * d2 - mixed * d1) / determinant
    options = [np.stack([1 - v - w, v, w], axis=1)]
    zero = np.zeros(len(p))
    t = np.clip(d1 / np.maximum(aa, 1e-30), 0, 1)
    options.append(np.stack([1 - t, t, zero], axis=1))
    t = np.clip(d2 / np.maximum(bb, 1e-30), 0, 1)
    options.append(np.stack([1 - t, zero, t], axis=1))
    bc, bp = c - b, p - b
    t = np.clip(dot(bp, bc) / np.maximum(dot(bc, bc), 1e-30), 0, 1)
    options.append(np.stack([zero, 1 - t, t], axis=1))
    edges = np.stack(options[1:])
    points = edges[..., :1] * a + edges[..., 1:2] * b + edges[..., 2:] * c
    nearest = ((points - p) ** 2).sum(axis=2).argmin(axis=0)
    on_edge = edges[nearest, np.arange(len(p))]
    inside = (options[0] >= 0).all(axis=1, keepdims=True)
    return np.where(inside, options[0], on_edge)
