"""From landmarks of one or several photographs to a head: identity, expressions, cameras.

What is found makes the landmarks and the priors likely together: identity under the Tucker prior
of the bilinear model, sparse and even expressions in [0, 1], a usual lens. The 17 points of the
jaw are places of the skin or points of the outline that is seen; the outline is chosen anew
between rounds of the descent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.arkit import COUNT
from head360.errors import BadInput
from head360.fitting import cameras
from head360.fitting.cameras import Pose
from head360.fitting.contour import Contour, edge_finder, lip_edges, rim
from head360.fitting.descent import descend
from head360.fitting.evidence import EYES, Evidence, Jaw, Outline, View, gather, outline, which_jaw
from head360.fitting.joint import Joint, LensPrior, State
from head360.fitting.landmark_model import JAW, SPARSE, LandmarkModel, landmark_model
from head360.fitting.priors import LENS_RANGE_MM, PORTRAIT, ExpressionPrior, Situation
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera

__all__ = ["FittedShape", "FittedView", "View", "fit_shape", "solve_camera"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Progress = Callable[[float, str], None]

_POSE_STEPS, _FIRST_STEPS, _STEPS = 30, 25, 12
_ROUNDS = 5  # choices of the outline
_FEWEST = 6  # points that a camera is solved from
_FACE = 0.15  # metres, size of a face


@dataclass(frozen=True)
class FittedView:
    """One photograph as it was understood.

    Attributes:
        camera: in head space; the principal point is the picture's middle.
        blendshapes: (52,) float32 in [0, 1].
        residual_px: mean distance between the 68 landmarks and the mesh's, pixels.
        eyes_px: pixels between the eyes if the head faced this camera.
        points: (68, 2) float32 pixels, where the mesh has the landmarks.
        jaw: what the first 17 landmarks were taken for, "skin" or "outline".
    """

    camera: Camera
    blendshapes: Floats
    residual_px: float
    eyes_px: float = 0.0
    points: Floats | None = None
    jaw: str = "skin"

    @property
    def residual_share(self) -> float:
        """The residual as a share of the distance between the eyes."""
        return self.residual_px / max(self.eyes_px, 1e-9)


@dataclass(frozen=True)
class FittedShape:
    """A person: (S,) float32 ``shape`` coefficients, and one entry a photograph."""

    shape: Floats
    views: tuple[FittedView, ...]


def fit_shape(
    views: Sequence[View],
    model: BilinearModel,
    *,
    shared_expression: bool = False,
    fov_deg: float | None = None,
    blendshapes: ArrayLike | None = None,
    shared_lens: bool = False,
    situation: Situation = PORTRAIT,
    progress: Progress | None = None,
) -> FittedShape:
    """Fit the mesh to landmarks of one person.

    Args:
        views: one a photograph.
        model: the bilinear mesh.
        shared_expression: the photographs were taken in the same moment.
        fov_deg: field of view over the picture's height, where it is known.
        blendshapes: (V, 52) in [0, 1], where they are known; else they are fitted.
        shared_lens: one camera took all of them.
        situation: what lens and distance are usual.
        progress: called with (share done, what is done).

    Raises:
        BadInput: no photograph, too few landmarks, or they look like no face.
    """
    if not views:
        raise BadInput("There is no photograph to fit: name one at least.")
    views = [view.checked(number) for number, view in enumerate(views, 1)]
    points = landmark_model(model)
    known = None
    if blendshapes is not None:
        known = np.asarray(blendshapes, dtype=np.float64).reshape(len(views), COUNT)
    fit = _Fit(points, views, known, shared_expression, shared_lens, fov_deg, situation)
    report = progress or (lambda share, what: None)
    report(0.0, "cameras")
    state = fit.start()
    report(0.2, "first shape")
    count = len(views)
    inner = [gather(v, np.exp(pose.size), "auto", None, count) for v, pose in fit.pairs(state)]
    state = fit.descend(state, inner, _FIRST_STEPS)
    jaws: list[Jaw] = [
        which_jaw(view, points, pose, state.w, fit.expression(state, k))
        for k, (view, pose) in enumerate(fit.pairs(state))
    ]
    former: list[list[int]] = []
    for number in range(_ROUNDS):
        report(0.4 + 0.6 * number / _ROUNDS, "shape and expression")
        edges = [
            outline(points, pose, state.w, fit.expression(state, k))
            for k, pose in enumerate(state.poses)
        ]
        chosen = [edge.rows.tolist() for edge in edges]
        contours = fit.contours(state, edges, model)
        evidence = [
            gather(view, np.exp(pose.size), jaw, edge, count, contour)
            for (view, pose), jaw, edge, contour in zip(
                fit.pairs(state), jaws, edges, contours, strict=True
            )
        ]
        state = fit.descend(state, evidence, _STEPS)
        # Edges are found anew from every state: where there are any, all rounds are used.
        parsed = any(contour is not None for contour in contours)
        if not parsed and ("outline" not in jaws or chosen == former):
            break
        former = chosen
    report(1.0, "done")
    return fit.result(state, jaws)


class _Fit:
    """One fit: who shares what, and the way from a guess to the result."""

    def __init__(
        self,
        points: LandmarkModel,
        views: Sequence[View],
        known: Array | None,
        shared_expression: bool,
        shared_lens: bool,
        fov_deg: float | None,
        situation: Situation,
    ) -> None:
        self.points, self.views, self.known = points, views, known
        self.prior = None if known is not None else ExpressionPrior.usual()
        count = len(views)
        self.groups = [0] * count if shared_expression or known is not None else list(range(count))
        self.lens_of = [0] * count if shared_lens else list(range(count))
        self.fov_deg = fov_deg
        firsts = [self.lens_of.index(k) for k in range(max(self.lens_of) + 1)]
        self.lenses = [_lens_prior(views[k].width, views[k].height, situation) for k in firsts]

    def pairs(self, state: State) -> list[tuple[View, Pose]]:
        return list(zip(self.views, state.poses, strict=True))

    def expression(self, state: State, view: int) -> Array:
        """(52,) of one view."""
        if self.prior is None:
            assert self.known is not None
            return self.known[view]
        return self.prior.full(state.b[self.groups[view]])

    def start(self) -> State:
        """Poses of the average face."""
        w = np.zeros(self.points.size)
        poses = []
        for number, view in enumerate(self.views):
            lens = self.lenses[self.lens_of[number]].lens
            if self.fov_deg is not None:
                lens = cameras.lens_of_fov(self.fov_deg, view.height)
            b = np.zeros(COUNT) if self.known is None else self.known[number]
            rows = JAW + np.flatnonzero(np.isfinite(view.landmarks[JAW:]).all(axis=1))
            places = self.points.posed(w, b, rows)
            pose = cameras.weak_perspective(places, view.landmarks[rows] - view.middle, lens)
            if not pose.size > 0:
                raise BadInput(
                    f"The landmarks of photograph {number + 1} look like no face: choose another "
                    "picture, or another landmark finder."
                )
            poses.append(pose)
        groups = 0 if self.prior is None else max(self.groups) + 1
        active = 0 if self.prior is None else len(self.prior.active)
        state = State(w, tuple(poses), np.zeros((groups, active)))
        posed = []
        for number, (view, pose) in enumerate(self.pairs(state)):
            evidence = gather(view, np.exp(pose.size), "auto")
            places = self.points.posed(w, self.expression(state, number), evidence.rows)
            posed.append(_pose_only(places, evidence, pose, None))
        return State(w, tuple(posed), state.b)

    def contours(
        self, state: State, edges: Sequence[Outline], model: BilinearModel
    ) -> list[Contour | None]:
        """Where the faces end in those pictures that were parsed."""
        found: list[Contour | None] = []
        identity = None
        for number, ((view, pose), edge) in enumerate(zip(self.pairs(state), edges, strict=True)):
            if view.labels is None:
                found.append(None)
                continue
            identity = identity or model.identity(self.points.shape(state.w))
            b = self.expression(state, number)
            jaw = edge.rows, edge.seen, edge.normals
            ends = rim(self.points, pose, state.w, b, jaw, view.middle)
            vertices = identity.pose(b.astype(np.float32))
            eyes = float(np.exp(pose.size)) * EYES
            ends_there = edge_finder(model).compare(view.labels, vertices, pose, ends, eyes)
            found.append(ends_there.joined(lip_edges(view.labels, view.landmarks, eyes)))
        return found

    def descend(self, state: State, evidence: Sequence[Evidence], steps: int) -> State:
        """The best state near this one."""
        lenses: list[LensPrior | None] = list(self.lenses)
        if self.fov_deg is not None:
            lenses = [None] * len(lenses)
        tensors = [self._tensor(item.rows, number) for number, item in enumerate(evidence)]
        problem = Joint(tensors, evidence, self.prior, self.groups, lenses, self.lens_of)
        return descend(problem, state, steps)

    def _tensor(self, rows: NDArray[np.int64], view: int) -> Floats:
        """What identity and active shapes make of some rows; a known expression is put in."""
        tensor = self.points.tensor[rows]
        if self.prior is not None:
            return np.ascontiguousarray(tensor[..., np.concatenate([[0], 1 + self.prior.active])])
        assert self.known is not None
        return (tensor @ np.concatenate([[1.0], self.known[view]]).astype(np.float32))[..., None]

    def result(self, state: State, jaws: Sequence[Jaw]) -> FittedShape:
        """What is told of a state."""
        fitted = []
        for number, (view, pose) in enumerate(self.pairs(state)):
            b = self.expression(state, number)
            rows = np.arange(SPARSE)
            if jaws[number] == "outline":
                rows[:JAW] = outline(self.points, pose, state.w, b).rows
            seen = cameras.project(pose, self.points.posed(state.w, b, rows)) + view.middle
            off = np.linalg.norm(seen - view.landmarks, axis=1)
            fitted.append(
                FittedView(
                    cameras.to_camera(pose, view.width, view.height), b.astype(np.float32),
                    float(np.nanmean(off)), float(np.exp(pose.size)) * EYES,
                    seen.astype(np.float32), str(jaws[number]),
                )
            )  # fmt: skip
        return FittedShape(self.points.shape(state.w), tuple(fitted))


def solve_camera(
    points: ArrayLike,
    pixels: ArrayLike,
    width: int,
    height: int,
    *,
    deviation: ArrayLike | None = None,
    fov_deg: float | None = None,
    initial: Camera | None = None,
) -> Camera:
    """The camera that sees known points where they were found; single gross errors do not matter.

    Args:
        points: (R, 3) head space, metres.
        pixels: (R, 2) where they were found, pixel centres at +0.5; NaN where one was not.
        width, height: of the picture; the principal point is its middle.
        deviation: (R,) pixels expected error; None: all alike, a hundredth of the face.
        fov_deg: field of view over the picture's height; None: ``initial``'s, or it is sought too.
        initial: a camera near the right one, such as that of the frame before.

    Raises:
        BadInput: fewer than six points were found.
    """
    space, found = np.asarray(points, np.float64), np.asarray(pixels, np.float64)
    known = np.isfinite(found).all(axis=1) & np.isfinite(space).all(axis=1)
    if known.sum() < _FEWEST:
        raise BadInput(
            f"Only {int(known.sum())} points were found: at least {_FEWEST} say where a camera is."
        )
    flat = found[known] - (width / 2, height / 2)
    prior = _lens_prior(width, height)
    lens = prior.lens
    if fov_deg is not None:
        lens = cameras.lens_of_fov(fov_deg, height)
    if initial is not None:
        pose = cameras.from_camera(initial, width, height)
        pose = pose if fov_deg is None else pose.with_lens(lens)
    else:
        pose = cameras.weak_perspective(space[known], flat, lens)
    error = np.full(len(found), 0.01 * np.exp(pose.size) * _FACE)
    if deviation is not None:
        error = np.maximum(np.asarray(deviation, dtype=np.float64), 1e-3)
    root = np.eye(2) / error[known][:, None, None]
    evidence = Evidence(np.flatnonzero(known), flat, root)
    free = fov_deg is None and initial is None
    pose = _pose_only(space[known], evidence, pose, prior if free else None)
    return cameras.to_camera(pose, width, height)


def _pose_only(points: Array, evidence: Evidence, pose: Pose, prior: LensPrior | None) -> Pose:
    """The best pose of known points; with a prior the lens is sought as well."""
    tensor = points.astype(np.float32)[:, :, None, None]
    problem = Joint([tensor], [evidence], None, [0], [prior], [0])
    start = State(np.zeros(0), (pose,), np.zeros((0, 0)))
    return descend(problem, start, _POSE_STEPS).poses[0]


def _lens_prior(width: int, height: int, usual: Situation = PORTRAIT) -> LensPrior:
    """A usual lens on a picture of some size."""
    low, high = (cameras.lens_of_mm(mm, width, height) for mm in LENS_RANGE_MM)
    return LensPrior(
        cameras.lens_of_mm(usual.lens_mm, width, height), usual.lens_spread,
        float(np.log(usual.distance)), usual.distance_spread, low, high,
    )  # fmt: skip
