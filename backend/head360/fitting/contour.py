"""Where the face ends in a photograph: jaw, cheeks and ears against what lies behind them.

Landmark finders are least sure about the jaw, lean towards the average face where they are not
sure, and half close smiling mouths. The parsed picture shows the edges themselves. That of the face
is drawn of the mesh, too, with the same classes, so that a border that is a convention (between
chin and neck) is one on both sides; what lies between the two is by how much the mesh is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.datasets.labels import BACKGROUND, BROWS, EYES, HAIR, LIPS, MOUTH, NECK, SKIN
from head360.fitting import cameras
from head360.fitting.cameras import Pose
from head360.fitting.landmark_model import LandmarkModel
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.synthesis.parsing import below_jaw

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BELOW_EARS = slice(3, 14)  # of the 17 of the jaw
_EYES = 72  # pixels between the eyes in the pictures that are compared
# All in shares of the distance between the eyes.
_REACH = 0.35  # how far from the mesh's outline an edge is looked for
_OWN = 0.15  # how far from a point the mesh itself may end: else it lies on no edge from here
_HIDDEN = 0.12  # edges further within the mesh are those of a hand or a scarf before the face
_FIRM = 3  # pixels that must be face within and something else beyond
_ERROR = {BACKGROUND: 0.02, NECK: 0.035}  # expected before each: a jaw fades into a neck
_EAR = 2.5  # times that for ears: they stick out as they like
_LIP = 0.015  # expected error of the border between lips and mouth
_LIP_REACH = 0.3  # how far from the middle of the mouth it is looked for
_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))  # of the 68: the inner rim of the lips, above and below
_ALONG = 20.0  # errors by which a place may slide along the edge
# What each class counts as: the face is one.
_UNKNOWN = 255
_KIND = np.full(256, _UNKNOWN, dtype=np.uint8)
_KIND[[SKIN, BROWS, EYES, LIPS, MOUTH]] = SKIN
for _label in (BACKGROUND, NECK, HAIR):
    _KIND[_label] = _label


@dataclass(frozen=True)
class Rim:
    """Points of the mesh where it ends in a picture.

    Attributes:
        rows: (M,) of the landmark model. seen: (M, 2) pixels of the picture.
        normals: (M, 2) unit, outward. doubt: (M,) by what the expected error grows.
    """

    rows: Ints
    seen: Array
    normals: Array
    doubt: Array


@dataclass(frozen=True)
class Contour:
    """Where they should be, as in ``evidence.Evidence``: (E,) rows of the landmark model, (E, 2)
    pixels of the picture, and (E, 2, 2) root."""

    rows: Ints
    pixels: Array
    root: Array

    def joined(self, other: Contour) -> Contour:
        """Both."""
        return Contour(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.pixels, other.pixels]),
            np.concatenate([self.root, other.root]),
        )


def contour_of(rows: list[int], pixels: list[Array], roots: list[Array]) -> Contour:
    """Lists of any length as arrays."""
    return Contour(
        np.array(rows, dtype=np.int64),
        np.array(pixels, dtype=np.float64).reshape(-1, 2),
        np.array(roots, dtype=np.float64).reshape(-1, 2, 2),
    )


def lip_edges(labels: NDArray[np.uint8], landmarks: NDArray[np.floating], eyes: float) -> Contour:
    """Where lips end and the open mouth begins, which the inner landmarks of the lips lie on.

    Args:
        labels: (H, W) classes of ``datasets.labels``.
        landmarks: (68, 2) pixels of the picture, as they were found.
        eyes: pixels between the eyes.
    """
    down = landmarks[8] - landmarks[27]
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    across = np.array([-down[1], down[0]]) / _ALONG
    steps = np.arange(-_LIP_REACH, _LIP_REACH, 1 / _EYES) * eyes
    rows, pixels, roots = [], [], []
    for above, below in _LIP_PAIRS:
        middle = (landmarks[above] + landmarks[below]) / 2
        if not np.isfinite(middle).all():
            continue
        ray = middle + down * steps[:, None]
        open_mouth = np.flatnonzero(_looked_up(labels, ray) == MOUTH)
        if len(open_mouth) < 2 or np.diff(open_mouth).max() > 2:
            continue  # closed, or something is in it
        first, last = int(open_mouth[0]), int(open_mouth[-1])
        if first == 0 or last == len(steps) - 1:
            continue
        for row, edge in ((above, (first - 0.5)), (below, (last + 0.5))):
            rows.append(row)
            pixels.append(middle + down * (steps[0] + edge * (steps[1] - steps[0])))
            roots.append(np.stack([down, across]) / (_LIP * eyes))
    return contour_of(rows, pixels, roots)


def rim(
    points: LandmarkModel, pose: Pose, w: Array, b: Array, jaw: tuple[Ints, Array, Array],
    middle: Array,
) -> Rim:  # fmt: skip
    """Jaw and ears of a mesh.

    Args:
        points: of its model.
        pose: of the head; w: (K,) identity; b: (52,) blendshapes.
        jaw: (17,) rows, (17, 2) pixels from the principal point and (17, 2) outward normals of the
            outline of the jaw.
        middle: (2,) pixels of the principal point.
    """
    rows, seen, normals = (values[_BELOW_EARS] for values in jaw)
    ears = points.ears
    across = pose.rotation[:2, 0] / max(float(np.linalg.norm(pose.rotation[:2, 0])), 1e-9)
    sides = np.repeat([-1.0, 1.0], ears.shape[1])[:, None] * across
    places = cameras.project(pose, points.posed(w, b, ears.ravel()))
    doubt = np.concatenate([np.ones(len(rows)), np.full(ears.size, _EAR)])
    return Rim(
        np.concatenate([rows, ears.ravel()]), np.concatenate([seen, places]) + middle,
        np.concatenate([normals, sides]), doubt,
    )  # fmt: skip


class EdgeFinder:
    """Compares the edge of the face of a mesh with that of parsed photographs."""

    def __init__(self, model: BilinearModel) -> None:
        topology = model.topology
        self.faces = topology.faces[topology.part_faces("face", "head_neck")]
        self.below = below_jaw(model.neutral(model.mean_shape)).astype(np.float32)[:, None]

    def compare(
        self, labels: NDArray[np.uint8], vertices: Floats, pose: Pose, rim: Rim, eyes: float
    ) -> Contour:
        """Edges near the rim of the mesh.

        Args:
            labels: (H, W) classes of ``datasets.labels``.
            vertices: (N, 3) float32 of the mesh, metres, head space.
            pose: of the head.
            rim: of the mesh.
            eyes: pixels between the eyes.
        """
        height, width = labels.shape
        zoom, reach = _EYES / eyes, _REACH * eyes
        corner = rim.seen.min(0) - 1.5 * reach
        size = np.ceil((rim.seen.max(0) + 1.5 * reach - corner) * zoom).astype(int)
        camera = cameras.to_camera(pose, width, height)
        screen = raster.perspective_screen(vertices, camera, width, height)
        screen[:, :2] = (screen[:, :2] - corner) * zoom
        drawn = raster.rasterize(screen[None], self.faces, int(size[0]), int(size[1]))
        below = raster.interpolate(drawn, 0, self.faces, self.below)[..., 0]
        mesh = np.where(drawn.face[0] < 0, BACKGROUND, np.where(below > 0, NECK, SKIN))
        steps = np.arange(-int(_REACH * _EYES), int(_REACH * _EYES) + 1)
        rows, pixels, roots = [], [], []
        for row, seen, outward, doubt in zip(
            rim.rows, rim.seen, rim.normals, rim.doubt, strict=True
        ):
            ray = (seen - corner) * zoom + outward * steps[:, None]
            told = _KIND[_looked_up(labels, ray / zoom + corner)]
            here, there = _edge(_looked_up(mesh, ray), steps), _edge(told, steps)
            if here is None or there is None or abs(int(steps[here])) > _OWN * _EYES:
                continue
            error = _ERROR.get(int(told[there]))
            if error is None or steps[there] - steps[here] < -_HIDDEN * _EYES:
                continue  # hair hides the edge, the picture ends, or something stands before it
            rows.append(int(row))
            pixels.append(seen + outward * (steps[there] - steps[here]) / zoom)
            along = np.array([-outward[1], outward[0]]) / _ALONG
            roots.append(np.stack([outward, along]) / (error * doubt * eyes))
        return contour_of(rows, pixels, roots)


def _looked_up(picture: NDArray[np.integer], places: Array) -> NDArray[np.uint8]:
    """(K,) pixels at (K, 2) x, y; unknown outside."""
    columns, rows = np.floor(places).astype(np.int64).T
    height, width = picture.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = picture[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return np.where(inside, found, _UNKNOWN).astype(np.uint8)


def _edge(kinds: NDArray[np.uint8], steps: Ints) -> int | None:
    """Which step is the first beyond the face, of several the one nearest to the middle."""
    face = kinds == SKIN
    edges = [
        k
        for k in range(_FIRM, len(kinds) - _FIRM + 1)
        if face[k - _FIRM : k].all() and not face[k : k + _FIRM].any()
    ]
    return min(edges, key=lambda k: abs(int(steps[k]))) if edges else None


def edge_finder(model: BilinearModel) -> EdgeFinder:
    """Of a model; the last model's is kept."""
    global _last
    if _last is None or _last[0] is not model:
        _last = model, EdgeFinder(model)
    return _last[1]


_last: tuple[BilinearModel, EdgeFinder] | None = None
