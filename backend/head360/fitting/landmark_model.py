"""The points that landmark finders see, as a bilinear function of identity and expression.

``BilinearModel`` is linear in s and linear in b; only some hundreds of its points are ever compared
with a picture. Their slice of the core, with the identity in whitened axes, is small enough to be
kept whole, and then positions and derivatives are plain products.

Of the 68 the first 17 lie on the outline of the jaw. Where a finder follows the outline that is
*seen*, the far half slides over the cheek as the head turns: every such landmark therefore has a
path of candidates on the surface, across the jaw line towards the middle of the face.
"""

from __future__ import annotations

import importlib.resources
import io

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from head360.arkit import COUNT
from head360.geometry.bilinear import BilinearModel
from head360.geometry.topology import Topology
from head360.geometry.transfer import JAW_ROWS
from head360.synthesis.dense import COUNT as DENSE_COUNT

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SPARSE = 68
JAW = 17  # the first landmarks
NOSE_TIP = 30
STEPS = 16  # candidates of a jaw landmark, the first is the landmark itself
_REACH_SIDE, _REACH_CHIN = 0.055, 0.025  # metres along the surface
# Metres on the average head: where its ears are, and how far from a height a rim is looked for.
_EAR_HEIGHTS, _EAR_BAND = (-0.03, -0.02, -0.01, 0.0, 0.01), 0.005
_DENSE_FILE = "dense_landmarks.npz"
_PINNED = 1e-2  # of the largest axis: identity axes thinner than this do not vary


class LandmarkModel:
    """Points of the mesh as functions of whitened identity w and blendshapes b.

    Rows are first the 68, then MediaPipe's 468, the jaw's candidates, and the rims of the ears.

    Attributes:
        axes: (K, S) float64: s = mean + w @ axes, w standard normal under the Tucker prior.
        mean: (S,) float64.
        tensor: (P, 3, 1 + K, 1 + 52) float32: X(w, b) = tensor ×₂ [1, w] ×₃ [1, b], metres.
        paths: (17, 16) rows of the candidates of each jaw landmark.
        ears: (2, 5) rows of the rims of the right and of the left ear, from below.
    """

    def __init__(self, model: BilinearModel) -> None:
        self.mean = model.mean_shape.astype(np.float64)
        self.axes = whitened_axes(model)
        self.tensor = _slice(model, self.mean, self.axes)
        first = SPARSE + DENSE_COUNT
        self.paths: Ints = first + np.arange(JAW * STEPS, dtype=np.int64).reshape(JAW, STEPS)
        rims = np.arange(2 * len(_EAR_HEIGHTS), dtype=np.int64)
        self.ears: Ints = first + JAW * STEPS + rims.reshape(2, -1)

    @property
    def size(self) -> int:
        """K, how many numbers an identity has."""
        return len(self.axes)

    def shape(self, w: ArrayLike) -> Floats:
        """(K,) → (S,) float32 coefficients of the bilinear model."""
        return (self.mean + np.asarray(w, dtype=np.float64) @ self.axes).astype(np.float32)

    def whiten(self, shape: ArrayLike) -> Array:
        """(S,) → (K,) the nearest w of an identity."""
        offset = np.asarray(shape, dtype=np.float64) - self.mean
        return np.asarray(np.linalg.lstsq(self.axes.T, offset, rcond=None)[0], dtype=np.float64)

    def identity(self, w: ArrayLike, rows: Ints | slice = slice(None)) -> Floats:
        """(K,) → (R, 3, 53) float32 the neutral and the 52 deltas of some rows."""
        return np.matmul(_with_one(w), self.tensor[rows])

    def posed(self, w: ArrayLike, b: ArrayLike, rows: Ints | slice = slice(None)) -> Array:
        """(K,), (52,) → (R, 3) float64 metres, head space."""
        return np.asarray(self.identity(w, rows) @ _with_one(b), dtype=np.float64)


def bend(tensor: Floats, w: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Positions (R, 3) of rows of a tensor; their derivatives by w (R, 3, K), by b (R, 3, 52)."""
    by_identity = tensor @ _with_one(b)
    by_expression = np.matmul(_with_one(w), tensor)
    places = by_expression @ _with_one(b)
    return places, by_identity[:, :, 1:], by_expression[:, :, 1:]


def _with_one(values: ArrayLike) -> Floats:
    return np.concatenate([[1.0], np.asarray(values, dtype=np.float64)]).astype(np.float32)


def whitened_axes(model: BilinearModel) -> Array:
    """(K, S) principal axes of the Tucker prior, each scaled by its standard deviation.

    (s − μ)ᵀΣ⁻¹(s − μ) = |w|². Axes along which no identity of the model varies are left out: the
    prior pins them.
    """
    centred = (model.shape_factors - model.mean_shape).astype(np.float64)
    _, sigma, axes = np.linalg.svd(centred, full_matrices=False)
    kept = sigma > _PINNED * sigma[0]
    return sigma[kept, None] * axes[kept] / np.sqrt(max(1, len(centred) - 1))


def landmark_model(model: BilinearModel) -> LandmarkModel:
    """The points of a model; the last model's are kept."""
    global _last
    if _last is None or _last[0] is not model:
        _last = model, LandmarkModel(model)
    return _last[1]


_last: tuple[BilinearModel, LandmarkModel] | None = None


def _selection(model: BilinearModel) -> sp.csc_matrix:
    """(P, N) weights of the mesh's vertices in every point."""
    stored = importlib.resources.files("head360") / "data" / _DENSE_FILE
    with np.load(io.BytesIO(stored.read_bytes()), allow_pickle=False) as archive:
        dense = archive["vertices"], archive["weights"]
    topology, count = model.topology, model.vertex_count
    single = topology.landmarks68[:, None], np.ones((SPARSE, 1))
    corners, weights = jaw_paths(topology, model.neutral(model.mean_shape))
    across = corners.reshape(-1, 2), weights.reshape(-1, 2)
    blocks = []
    rims = ear_rims(topology, model.neutral(model.mean_shape)).reshape(-1, 1)
    for vertices, shares in (single, dense, across, (rims, np.ones(rims.shape))):
        starts = np.arange(0, vertices.size + 1, vertices.shape[1])
        places = (shares.ravel().astype(np.float32), vertices.ravel().astype(np.int64), starts)
        blocks.append(sp.csr_matrix(places, shape=(len(vertices), count)))
    return sp.vstack(blocks).tocsc()


def _slice(model: BilinearModel, mean: Array, axes: Array) -> Floats:
    """See :attr:`LandmarkModel.tensor`."""
    selection = _selection(model)
    ids = np.flatnonzero(np.diff(selection.indptr))
    mixed = selection[:, ids].tocsr()
    change = np.concatenate([mean[None], axes]).astype(np.float32)  # (1 + K, S)
    neutral = np.tensordot(change, model.neutral_core[:, ids], axes=1)  # (1 + K, U, 3)
    small = np.einsum("ks,bsj->kbj", change, model.frame_core, optimize=True)
    deltas = np.ascontiguousarray(model.generic_deltas[:, ids].transpose(1, 2, 0))  # (U, 3, 52)
    jaw = np.tensordot(change, model.jaw_core, axes=1)
    out = np.empty((selection.shape[0], 3, len(change), 1 + COUNT), dtype=np.float32)
    for k in range(len(change)):
        frames = (model.frame_basis[ids] @ small[k]).reshape(-1, 3, 3)
        moved = np.matmul(frames, deltas)  # (U, 3, 52)
        moved[:, :, JAW_ROWS] = np.matmul(jaw[k], deltas[:, :, JAW_ROWS])
        stacked = np.concatenate([neutral[k][:, :, None], moved], axis=2)
        out[:, :, k] = (mixed @ stacked.reshape(len(ids), -1)).reshape(-1, 3, 1 + COUNT)
    return out


def ear_rims(topology: Topology, neutral: Floats) -> Ints:
    """(2, 5) vertices that stand out furthest to the right and to the left at some heights."""
    skin = topology.part_vertices("face")
    out = []
    for side in (-1, 1):
        for height in _EAR_HEIGHTS:
            level = skin[np.abs(neutral[skin, 1] - height) < _EAR_BAND]
            out.append(int(level[(side * neutral[level, 0]).argmax()]))
    return np.array(out, dtype=np.int64).reshape(2, -1)


# --- the jaw's candidates -------------------------------------------------------------------------


def jaw_paths(topology: Topology, neutral: Floats) -> tuple[Ints, Array]:
    """Candidates of the jaw landmarks: (17, 16, 2) vertices and weights, from the jaw inwards.

    A path is where the skin meets the plane through the landmark across the jaw line.
    """
    faces = topology.faces[topology.part_faces("face", "head_neck")].astype(np.int64)
    points = neutral.astype(np.float64)
    jaw = points[topology.landmarks68[:JAW]]
    nose = points[topology.landmarks68[NOSE_TIP]]
    along = np.gradient(jaw, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    corners = np.zeros((JAW, STEPS, 2), dtype=np.int64)
    weights = np.zeros((JAW, STEPS, 2))
    for k in range(JAW):
        chin = 1 - abs(k - JAW // 2) / (JAW // 2)
        reach = _REACH_SIDE + (_REACH_CHIN - _REACH_SIDE) * chin
        corners[k], weights[k] = _path(
            points, faces, int(topology.landmarks68[k]), along[k], nose, reach
        )
    return corners, weights


def _path(
    points: Array, faces: Ints, start: int, normal: Array, aim: Array, reach: float
) -> tuple[Ints, Array]:
    """One path: (16, 2) vertices and weights, evenly spaced along the surface."""
    side = (points - points[start]) @ normal - 1e-7  # never exactly through a vertex
    crossed = faces[np.ptp((side[faces] > 0).astype(np.int8), axis=1) > 0]
    crossings: dict[tuple[int, int], list[int]] = {}
    ends: list[list[tuple[int, int]]] = []
    for number, face in enumerate(crossed.tolist()):
        ends.append([])
        for a, b in ((face[0], face[1]), (face[1], face[2]), (face[2], face[0])):
            if (side[a] > 0) != (side[b] > 0):
                edge = (min(a, b), max(a, b))
                crossings.setdefault(edge, []).append(number)
                ends[-1].append(edge)

    def place(edge: tuple[int, int]) -> Array:
        share = side[edge[0]] / (side[edge[0]] - side[edge[1]])
        return points[edge[0]] * (1 - share) + points[edge[1]] * share

    edges = list(crossings)
    near = min(edges, key=lambda edge: float(np.linalg.norm(place(edge) - points[start])))
    branches = []
    for first in crossings[near]:
        chain, face, edge, length = [near], first, near, 0.0
        while length < reach:
            onward = ends[face][1] if ends[face][0] == edge else ends[face][0]
            length += float(np.linalg.norm(place(onward) - place(edge)))
            chain.append(onward)
            neighbours = [other for other in crossings[onward] if other != face]
            if not neighbours:
                break
            face, edge = neighbours[0], onward
        branches.append(chain)
    chain = min(branches, key=lambda c: float(np.linalg.norm(place(c[-1]) - aim)))
    places = np.array([place(edge) for edge in chain])
    walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    wanted = np.linspace(0.0, min(reach, walked[-1]), STEPS)
    chosen = [chain[int(np.abs(walked - distance).argmin())] for distance in wanted]
    corners = np.array([(start, start), *chosen[1:]], dtype=np.int64)
    share = np.array([1.0, *(side[a] / (side[a] - side[b]) for a, b in chosen[1:])])
    share[0] = 0.0
    return corners, np.stack([1 - share, share], axis=1)
