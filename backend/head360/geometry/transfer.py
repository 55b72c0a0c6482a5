"""Expressions that depend on the identity: deltas carried over by the local frame.

For every vertex v the linear map J_v takes the generic neutral's neighbourhood to the identity's
(deformation gradient after Sumner & Popović, "Deformation Transfer for Triangle Meshes", SIGGRAPH
2004), and ``delta_identity = J_v · delta_generic``. A wide mouth therefore smiles wide, and a
turned surface moves along its own normal, which plain addition of the generic deltas would miss.

The jaw is a bone, not a surface: jawOpen, jawForward, jawLeft, jawRight and mouthClose (which takes
jawOpen back) use one similarity for the whole head, fitted where jawOpen moves it. Teeth, gums and
tongue use the same one in every expression, so the chin never lets them through. Each eyeball has a
similarity of its own; lashes and lid helpers follow the nearest skin vertex.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.arkit import INDEX
from head360.geometry.ict import SKIN_PARTS, IctModel
from head360.geometry.lids import Aperture, find_aperture

Array = NDArray[np.floating]

# Rounds of neighbour averaging of J: about 1 cm on the face. Unsmoothed gradients pick up the
# crease of the lids, and then blinks of unusual eyes leave a gap.
SMOOTHING = 12
BRIDGE = 0.004  # metres
JAW_SHAPES = ("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose")
JAW_ROWS = [INDEX[name] for name in JAW_SHAPES]


def triangle_frames(points: Array, triangles: NDArray[np.integer]) -> NDArray[np.float64]:
    """(F, 3, 3) matrices with columns e1, e2 and the normal scaled by the root of twice the area.

    ``points``: (N, 3), any unit; degenerate triangles get a tiny normal rather than NaN.
    """
    p = np.asarray(points, dtype=np.float64)
    origin = p[triangles[:, 0]]
    e1, e2 = p[triangles[:, 1]] - origin, p[triangles[:, 2]] - origin
    normal = np.cross(e1, e2)
    length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    return np.stack([e1, e2, normal / np.sqrt(length)], axis=2)


def similarity(source: Array, target: Array, weights: Array | None = None) -> NDArray[np.float64]:
    """(3, 3) scale · rotation that best maps centred ``source`` (M, 3) onto ``target`` (M, 3).

    ``weights``: (M,), not negative.
    """
    a = np.asarray(source, dtype=np.float64)
    b = np.asarray(target, dtype=np.float64)
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = (w / w.sum())[:, None]
    a, b = a - (w * a).sum(axis=0), b - (w * b).sum(axis=0)
    u, sigma, vt = np.linalg.svd((w * b).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (u * sign) @ vt * float((sigma * sign).sum() / (w * a * a).sum())


class FrameTransfer:
    """Computes J for any neutral in the generic topology.

    Args:
        rest: (N, 3) generic neutral.
        triangles: (F, 3) of the parts that deform (skin).
        rigid_groups: vertex id arrays that get one similarity each.
        followers: vertices that take J from the nearest vertex of ``triangles`` at rest.
        smoothing: rounds of neighbour averaging.
        bridge: skin vertices closer than this at rest share their maps while smoothing, so that
            lips that touch move alike; in the unit of ``rest``, 0 for none.
        apertures: eye openings whose maps are bent until blinks close.
        jaw_weights: (N,) weight of each vertex in the jaw's similarity.
        jaw_group: vertex ids that follow the jaw's similarity in every expression.
    """

    def __init__(
        self,
        rest: Array,
        triangles: NDArray[np.integer],
        rigid_groups: Sequence[NDArray[np.integer]] = (),
        followers: NDArray[np.integer] | None = None,
        smoothing: int = SMOOTHING,
        bridge: float = 0.0,
        apertures: Sequence[Aperture] = (),
        jaw_weights: Array | None = None,
        jaw_group: NDArray[np.integer] | None = None,
    ) -> None:
        self.rest = np.asarray(rest, dtype=np.float64)
        self.triangles = np.asarray(triangles)
        self.rigid_groups = rigid_groups
        self.skin = np.unique(self.triangles)
        local = np.full(len(self.rest), -1)
        local[self.skin] = np.arange(len(self.skin))
        corners = local[self.triangles]
        frames = triangle_frames(self.rest, self.triangles)
        self._inverse = np.linalg.inv(frames)
        area = np.linalg.norm(frames[:, :, 2], axis=1) ** 2
        count, faces = len(self.skin), np.arange(len(corners))
        average = sp.csr_matrix(
            (np.repeat(area, 3), (corners.reshape(-1), np.repeat(faces, 3))),
            shape=(count, len(corners)),
        )
        self._average = sp.diags(1.0 / np.asarray(average.sum(axis=1)).ravel()) @ average
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        if bridge > 0.0:
            close = cKDTree(self.rest[self.skin]).query_pairs(bridge, output_type="ndarray")
            pairs = np.concatenate([pairs, close])
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        adjacency = sp.csr_matrix(
            (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count)
        )
        adjacency.data[:] = 1.0
        adjacency = adjacency + sp.eye(count)
        self._smooth = (
            sp.diags(1.0 / np.asarray(adjacency.sum(axis=1)).ravel()) @ adjacency
        ).tocsr()
        self.smoothing = smoothing
        self.apertures = apertures
        self.jaw_weights = jaw_weights
        self.jaw_group = np.asarray(jaw_group if jaw_group is not None else [], dtype=np.int64)
        self.followers = np.asarray(followers if followers is not None else [], dtype=np.int64)
        self._leaders = (
            cKDTree(self.rest[self.skin]).query(self.rest[self.followers])[1]
            if len(self.followers)
            else np.zeros(0, dtype=np.int64)
        )

    def gradients(self, neutral: Array) -> NDArray[np.float32]:
        """J of one identity: (N, 3, 3) float32; ``neutral`` (N, 3) in the unit of ``rest``."""
        per_triangle = triangle_frames(neutral, self.triangles) @ self._inverse
        skin = self._average @ per_triangle.reshape(-1, 9)
        for _ in range(self.smoothing):
            skin = self._smooth @ skin
        result = np.tile(np.eye(3, dtype=np.float32), (len(self.rest), 1, 1))
        result[self.skin] = skin.reshape(-1, 3, 3)
        for aperture in self.apertures:
            aperture.bend(result, neutral)
        result[self.followers] = result[self.skin[self._leaders]]
        for group in self.rigid_groups:
            result[group] = similarity(self.rest[group], np.asarray(neutral)[group])
        result[self.jaw_group] = self.jaw_map(neutral)
        return result

    def jaw_map(self, neutral: Array) -> NDArray[np.float64]:
        """(3, 3) similarity of the jaw, weighted by how far jawOpen moves each vertex."""
        if self.jaw_weights is None:
            return np.eye(3)
        ids = np.flatnonzero(self.jaw_weights)
        return similarity(self.rest[ids], np.asarray(neutral)[ids], self.jaw_weights[ids])


def ict_transfer(ict: IctModel, smoothing: int = SMOOTHING) -> FrameTransfer:
    """The transfer for the full ICT topology."""
    skin = [ict.part_names.index(name) for name in SKIN_PARTS]
    rigid = [
        ict.part_vertices("eyeball_left"),
        ict.part_vertices("eyeball_right"),
    ]
    followers = ict.part_vertices("lacrimal_fluid", "eye_blend", "eye_occlusion", "eyelashes")
    triangles = ict.triangles[np.isin(ict.triangle_part, skin)]
    eyes = [find_aperture(ict, side) for side in (0, 1)]
    return FrameTransfer(
        ict.neutral,
        triangles,
        rigid,
        followers,
        smoothing,
        BRIDGE,
        eyes,
        jaw_weights=np.linalg.norm(ict.expression_deltas[INDEX["jawOpen"]], axis=1),
        jaw_group=ict.part_vertices("gums_tongue", "teeth"),
    )


def apply_gradients(gradients: Array, deltas: Array) -> Array:
    """(N, 3, 3) J and (E, N, 3) generic deltas → (E, N, 3) deltas of the identity."""
    return np.matmul(gradients, np.moveaxis(deltas, 0, -1)).transpose(2, 0, 1)
