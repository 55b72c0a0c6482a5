"""What the landmarks of one picture say: which points of the mesh, where, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.errors import BadInput
from head360.fitting.cameras import Pose, project
from head360.fitting.contour import Contour
from head360.fitting.landmark_model import JAW, SPARSE, LandmarkModel
from head360.synthesis.dense import COUNT as DENSE

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Jaw = Literal["auto", "skin", "outline"]

EYES = 0.063  # metres between the eyes of most people: a measure of how large a face is seen
_USUAL = 0.018  # expected error of a landmark as a share of that, where a finder names none
_MODEL = 0.006  # no mesh of the model is anybody's face: added to every expected error
_BROWS = slice(17, 27)
# Brows are hair and may sit off the mesh's; the jaw's places are vague; the 468 err together.
_BROW_DOUBT, _JAW_DOUBT, _ALONG_DOUBT = 1.5, 1.5, 3.0
_DENSE_DOUBT, _DENSE_DOUBT_OF_MANY = 5.0, 2.5  # of one picture; several hold lens and distance
# Share of a finder's squared error that it makes again in every picture of the same face.
_LASTING = 0.1
_FEWEST = 12  # landmarks besides the jaw, of 51


@dataclass(frozen=True)
class View:
    """Landmarks of one photograph.

    Attributes:
        landmarks: (68, 2) pixels, iBUG-68, pixel centres at +0.5; NaN where one is not known.
        deviation: (68,) pixels expected error of each; None for a usual one.
        dense: (468, 2) pixels in MediaPipe's order, or None.
        width, height: of the photograph, pixels.
        jaw: what the first 17 are: places of the "skin", points of the "outline" that is seen, or
            "auto" to let the picture tell.
        labels: (H, W) uint8 classes of ``datasets.labels``, or None: where the face ends.
    """

    landmarks: NDArray[np.floating]
    deviation: NDArray[np.floating] | None
    dense: NDArray[np.floating] | None
    width: int
    height: int
    jaw: Jaw = "auto"
    labels: NDArray[np.uint8] | None = None

    def checked(self, number: int = 1) -> View:
        """The same, if something can be made of it.

        Raises:
            BadInput: shapes are wrong, or too few landmarks are known.
        """
        shapes: list[tuple[NDArray[np.floating], tuple[int, ...], str]] = [
            (self.landmarks, (SPARSE, 2), "landmarks")
        ]
        if self.deviation is not None:
            shapes.append((self.deviation, (SPARSE,), "deviations"))
        if self.dense is not None:
            shapes.append((self.dense, (DENSE, 2), "dense landmarks"))
        for values, shape, what in shapes:
            if np.shape(values) != shape:
                raise BadInput(
                    f"The {what} of photograph {number} have the shape {np.shape(values)} instead "
                    f"of {shape}: take them from a landmark finder."
                )
        if self.labels is not None and self.labels.shape != (self.height, self.width):
            raise BadInput(
                f"The labels of photograph {number} have the shape {self.labels.shape} instead of "
                f"{(self.height, self.width)}: a parser gives one for every pixel."
            )
        known = int(np.isfinite(self.landmarks[JAW:]).all(axis=1).sum())
        if known < _FEWEST:
            raise BadInput(
                f"Only {known} of the 51 landmarks of the eyes, nose and mouth are known in "
                f"photograph {number}: choose one that shows more of the face."
            )
        return self

    @property
    def middle(self) -> Array:
        """(2,) pixels of the principal point."""
        return np.array([self.width / 2, self.height / 2])

    def eyes(self) -> float:
        """Pixels between the eyes as seen; too few where the head is turned away."""
        left, right = self.landmarks[36:42], self.landmarks[42:48]
        return float(np.linalg.norm(np.nanmean(left, axis=0) - np.nanmean(right, axis=0)))


@dataclass(frozen=True)
class Evidence:
    """Rows of the landmark model against pixels.

    Attributes:
        rows: (R,) of the landmark model.
        pixels: (R, 2) from the principal point.
        root: (R, 2, 2): root @ (seen − pixels) has unit variance where all is as expected.
    """

    rows: Ints
    pixels: Array
    root: Array


@dataclass(frozen=True)
class Outline:
    """The seen outline of the jaw.

    Attributes:
        rows: (17,) of the landmark model. seen: (17, 2) pixels from the principal point.
        normals: (17, 2) outward unit normals in the picture.
    """

    rows: Ints
    seen: Array
    normals: Array


def outline(points: LandmarkModel, pose: Pose, w: ArrayLike, b: ArrayLike) -> Outline:
    """The candidate of every jaw landmark that lies furthest out."""
    rows = points.paths
    seen = project(pose, points.posed(w, b, rows.ravel())).reshape(*rows.shape, 2)
    chosen = np.zeros(JAW, dtype=np.int64)
    for _ in range(2):  # the outline's direction depends on the outline
        line = seen[np.arange(JAW), chosen]
        along = np.gradient(line, axis=0)
        # From the subject's right ear over the chin to the left one, outside is always on the left.
        normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        chosen = np.einsum("jsd,jd->js", seen, normals).argmax(axis=1)
    return Outline(rows[np.arange(JAW), chosen], seen[np.arange(JAW), chosen], normals)


def gather(
    view: View,
    scale: float,
    jaw: Jaw,
    edge: Outline | None = None,
    views: int = 1,
    contour: Contour | None = None,
) -> Evidence:
    """The evidence of one picture.

    Args:
        view: its landmarks.
        scale: pixels per metre at the face.
        jaw: "skin" or "outline"; "auto" leaves the jaw out.
        edge: the outline, where that is wanted.
        views: how many pictures of the same person are looked at together: what a finder gets
            wrong about a face it gets wrong in all of them, so many do not make it surer.
        contour: where the face ends.
    """
    eyes = scale * EYES
    error = np.full(SPARSE, _USUAL * eyes)
    if view.deviation is not None:
        error = np.asarray(view.deviation, dtype=np.float64).copy()
        error[~np.isfinite(error)] = _USUAL * eyes
    lasting = np.sqrt(1 + _LASTING * (views - 1))
    error = np.hypot(error, _MODEL * eyes) * lasting
    typical = float(np.median(error[JAW:]))
    error[:JAW] *= _JAW_DOUBT
    error[_BROWS] *= _BROW_DOUBT
    rows = np.arange(SPARSE)
    root = np.eye(2)[None] / error[:, None, None]
    if jaw == "outline" and edge is not None:
        rows[:JAW] = edge.rows
        along = np.stack([-edge.normals[:, 1], edge.normals[:, 0]], axis=1)
        root[:JAW] = np.stack([edge.normals, along / _ALONG_DOUBT], axis=1)
        root[:JAW] /= error[:JAW, None, None]
    pixels = np.asarray(view.landmarks, dtype=np.float64) - view.middle
    if view.dense is not None:
        doubt = (_DENSE_DOUBT if views == 1 else _DENSE_DOUBT_OF_MANY) * typical
        rows = np.concatenate([rows, np.arange(SPARSE, SPARSE + DENSE)])
        pixels = np.concatenate([pixels, np.asarray(view.dense, np.float64) - view.middle])
        root = np.concatenate([root, np.tile(np.eye(2) / doubt, (DENSE, 1, 1))])
    kept = np.asarray(np.isfinite(pixels).all(axis=1))
    if jaw == "auto":
        kept[:JAW] = False
    if contour is not None:
        rows = np.concatenate([rows, contour.rows])
        pixels = np.concatenate([pixels, contour.pixels - view.middle])
        root = np.concatenate([root, contour.root / lasting])
        kept = np.concatenate([kept, np.ones(len(contour.rows), dtype=np.bool_)])
    return Evidence(rows[kept], pixels[kept], root[kept])


def which_jaw(
    view: View, points: LandmarkModel, pose: Pose, w: ArrayLike, b: ArrayLike
) -> Literal["skin", "outline"]:
    """What the jaw landmarks of a picture are, from where both readings differ."""
    if view.jaw != "auto":
        return view.jaw
    edge = outline(points, pose, w, b)
    fixed = project(pose, points.posed(w, b, slice(0, JAW)))
    seen = project(pose, points.posed(w, b, edge.rows))
    given = np.asarray(view.landmarks[:JAW], dtype=np.float64) - view.middle
    apart = ((seen - fixed) * edge.normals).sum(axis=1)
    telling = np.isfinite(given).all(axis=1) & (apart > 0.04 * EYES * np.exp(pose.size))
    if not telling.any():
        return "skin"
    # 0 where a landmark lies on the skin's place, 1 on the outline.
    share = ((given - fixed) * edge.normals).sum(axis=1)[telling] / apart[telling]
    weight = apart[telling]
    return "outline" if float((share * weight).sum() / weight.sum()) > 0.5 else "skin"
