"""From found landmarks to cameras: who is it, through which lens, from where; what is no good.

The mesh is fitted to some frames at once, with the expressions of the take. After that every frame
has a known mesh, and only its camera is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from head360.arkit.takes import Take
from head360.errors import BadInput
from head360.fitting import cameras
from head360.fitting.cameras import Pose
from head360.fitting.evidence import EYES, View
from head360.fitting.footage_find import Clock, Found
from head360.fitting.landmark_model import JAW, SPARSE, LandmarkModel, landmark_model
from head360.fitting.priors import PHONE
from head360.fitting.recording import Recording
from head360.fitting.shape import FittedShape, fit_shape, solve_camera
from head360.fitting.steady import steady
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

NO_FACE, SMALL, RESIDUAL, BLURRED, JUMPY = (
    "no face", "face too small", "landmarks do not fit", "blurred", "jumpy",
)  # fmt: skip
# What helps most against each.
_REMEDIES = {
    NO_FACE: "film again, with the whole face in the picture all the time",
    SMALL: "film again, nearer",
    BLURRED: "film again in better light, with focus fixed and the phone on a stand",
    RESIDUAL: "check that video and take belong together (--offset), or try other --landmarks",
    JUMPY: "film again, turning the head more slowly",
}
_TOLD = 3  # reasons
_FEWEST_EYES = 16.0  # pixels between the eyes
_RESIDUAL_SHARE, _RESIDUAL_TIMES = 0.05, 3.0  # of the distance of the eyes; of the median
_BLUR = 0.4  # of the median sharpness
_JUMP_SHARE, _JUMP_TIMES = 0.04, 5.0
_FEWEST_FRAMES = 10
_LAGS = np.arange(-1.0, 1.0001, 0.01)  # seconds
_LIPS = ((61, 67), (62, 66), (63, 65))
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))


@dataclass(frozen=True)
class Solved:
    """One frame with a camera.

    Attributes:
        found: its landmarks.
        moment: second of the take. weights: (52,) float32 of the take then.
        pose: of the camera, smoothed.
        residual: mean distance between landmarks and mesh as a share of the eyes' distance.
        jump: how far smoothing moved the face in the picture, as the same share.
    """

    found: Found
    moment: float
    weights: Floats
    pose: Pose
    residual: float
    jump: float


@dataclass(frozen=True)
class Rejected:
    """A frame that is left out: ``reason`` and the ``value`` that decided, where there is one."""

    found: Found
    reason: str
    value: float | None = None


@dataclass
class Footage:
    """A solved recording.

    Attributes:
        fitted: the person.
        photos: frames that the person was fitted on.
        solved, rejected: the frames, in order of time.
        lag: seconds that the face in the video is behind the take, as mouth and lids tell; None
            where they move too little. agreement: correlation at that lag.
    """

    fitted: FittedShape
    photos: list[Found]
    solved: list[Solved]
    rejected: list[Rejected]
    lag: float | None = None
    agreement: float = 0.0
    notes: list[str] = field(default_factory=list)


def solve(
    recording: Recording,
    clock: Clock,
    take: Take,
    found: Sequence[Found],
    model: BilinearModel,
    photos: int,
    fov_deg: float | None,
    progress: Callable[[int, int, str], None],
) -> Footage:
    """Solve the cameras of a recording.

    Args:
        recording, clock, take: what was filmed.
        found: its frames, in order.
        model: the bilinear mesh.
        photos: on how many frames the person is fitted.
        fov_deg: field of view over the height of the upright frame, where it is known.
        progress: called with (done, in all, what).

    Raises:
        BadInput: too few usable frames.
    """
    points = landmark_model(model)
    faces = [item for item in found if item.landmarks]
    rejected = [Rejected(item, NO_FACE) for item in found if not item.landmarks]
    faces, small = _split(faces, lambda item: _eyes(item) >= _FEWEST_EYES)
    rejected += [Rejected(item, SMALL, round(_eyes(item), 1)) for item in small]
    sharp = float(np.median([item.sharpness for item in faces])) if faces else 0.0
    faces, dull = _split(faces, lambda item: item.sharpness >= _BLUR * sharp)
    rejected += [Rejected(item, BLURRED, round(item.sharpness / sharp, 3)) for item in dull]
    _demand(recording, len(faces), len(found), rejected)

    weights = {item.number: take.at(item.second + clock.offset) for item in faces}
    chosen = spread_frames(recording, points, faces, weights, photos)
    progress(0, len(faces), "fitting the person")
    fitted = fit_shape(
        [view_of(recording, item) for item in chosen], model, fov_deg=fov_deg, shared_lens=True,
        blendshapes=np.array([weights[item.number] for item in chosen]), situation=PHONE,
    )  # fmt: skip
    lens = fitted.views[0].camera
    fov = float(2 * np.degrees(np.arctan(0.5 / lens.intrinsics[1, 1])))
    on_skin = sum(view.jaw == "skin" for view in fitted.views) * 2 > len(fitted.views)
    identity = points.identity(points.whiten(fitted.shape)).astype(np.float64)

    raw: list[tuple[Found, Pose, float]] = []
    for number, item in enumerate(faces):
        pose, residual = _camera(recording, item, identity, weights[item.number], fov, on_skin)
        raw.append((item, pose, residual))
        progress(number + 1, len(faces), "solving cameras")
    usual = float(np.median([residual for _, _, residual in raw]))
    limit = max(_RESIDUAL_SHARE, _RESIDUAL_TIMES * usual)
    good, odd = _split(raw, lambda entry: entry[2] <= limit)
    rejected += [Rejected(item, RESIDUAL, round(residual, 4)) for item, _, residual in odd]
    _demand(recording, len(good), len(found), rejected)

    # Twice: a frame that jumps also pulls its neighbours a little.
    for last in (False, True):
        seconds = np.array([item.second for item, _, _ in good])
        curve = steady([pose for _, pose, _ in good], seconds)
        jumps = np.array([
            _shift(identity, weights[item.number], pose, smooth)
            for (item, pose, _), smooth in zip(good, curve, strict=True)
        ])  # fmt: skip
        if last:
            break
        limit = max(_JUMP_SHARE, _JUMP_TIMES * float(np.median(jumps)))
        rejected += [
            Rejected(item, JUMPY, round(float(jump), 4))
            for (item, _, _), jump in zip(good, jumps, strict=True)
            if jump > limit
        ]
        good = [entry for entry, jump in zip(good, jumps, strict=True) if jump <= limit]
        _demand(recording, len(good), len(found), rejected)
    solved = [
        Solved(item, item.second + clock.offset, weights[item.number], pose, residual, float(jump))
        for (item, _, residual), pose, jump in zip(good, curve, jumps, strict=True)
    ]
    footage = Footage(
        fitted, chosen, solved, sorted(rejected, key=lambda entry: entry.found.number)
    )
    footage.lag, footage.agreement = estimate_lag(solved, take, identity)
    return footage


def view_of(recording: Recording, item: Found) -> View:
    """A frame as ``fit_shape`` takes it."""
    return View(
        np.array(item.landmarks), np.array(item.deviation) if item.deviation else None,
        np.array(item.dense) if item.dense else None, recording.width, recording.height,
    )  # fmt: skip


def spread_frames(
    recording: Recording,
    points: LandmarkModel,
    faces: Sequence[Found],
    weights: dict[int, Floats],
    count: int,
) -> list[Found]:
    """Sharp frames that show the head from as different sides as there are, in order of time."""
    limit = float(np.median([item.sharpness for item in faces]))
    sharp = [item for item in faces if item.sharpness >= limit]
    lens = cameras.lens_of_mm(PHONE.lens_mm, recording.width, recording.height)
    axes = []
    for item in sharp:
        places = points.posed(np.zeros(points.size), weights[item.number], slice(JAW, SPARSE))
        flat = np.array(item.landmarks)[JAW:] - (recording.width / 2, recording.height / 2)
        axes.append(cameras.weak_perspective(places, flat, lens).rotation.T[:, 2])
    directions = np.array(axes)  # where the camera looks, in head space
    near = np.full(len(sharp), np.inf)
    chosen = [int(directions[:, 2].argmin())]  # the most frontal one
    while len(chosen) < min(count, len(sharp)):
        near = np.minimum(near, np.linalg.norm(directions - directions[chosen[-1]], axis=1))
        near[chosen] = -1.0
        chosen.append(int(near.argmax()))
    return [sharp[k] for k in sorted(chosen)]


def _camera(
    recording: Recording,
    item: Found,
    identity: Array,
    weights: Floats,
    fov: float,
    on_skin: bool,
) -> tuple[Pose, float]:
    """Pose of one frame, and its residual as a share of the eyes' distance."""
    found = np.array(item.landmarks + item.dense)
    mesh = identity[: len(found)] @ np.concatenate([[1.0], weights])
    error = np.full(len(found), 1.0)
    if item.deviation:
        error[:SPARSE] = item.deviation
        error[SPARSE:] = 2 * float(np.median(item.deviation[JAW:]))
    error[:JAW] *= 2.0 if on_skin else 1e3
    camera = solve_camera(
        mesh, found, recording.width, recording.height, deviation=error, fov_deg=fov
    )
    pose = cameras.from_camera(camera, recording.width, recording.height)
    off = camera.project(mesh, recording.width, recording.height)[0] - found
    inner = np.linalg.norm(off[JAW:SPARSE], axis=1)
    return pose, float(inner.mean()) / (EYES * float(np.exp(pose.size)))


def _shift(identity: Array, weights: Floats, before: Pose, after: Pose) -> float:
    """How far the face moves in the picture between two poses, as a share of the eyes' distance."""
    mesh = identity[:SPARSE] @ np.concatenate([[1.0], weights])
    moved = cameras.project(before, mesh) - cameras.project(after, mesh)
    return float(np.linalg.norm(moved, axis=1).mean()) / (EYES * float(np.exp(after.size)))


def camera_of(recording: Recording, pose: Pose) -> Camera:
    """The camera of a whole frame."""
    return cameras.to_camera(pose, recording.width, recording.height)


def _eyes(item: Found) -> float:
    marks = np.array(item.landmarks)
    across = np.linalg.norm(marks[36:42].mean(axis=0) - marks[42:48].mean(axis=0))
    down = np.linalg.norm(marks[27] - marks[33])  # a turned head's eyes are close, its nose is not
    return float(max(across, 1.2 * down))


def _split(items: Sequence, good: Callable) -> tuple[list, list]:
    return [item for item in items if good(item)], [item for item in items if not good(item)]


def _demand(recording: Recording, usable: int, count: int, rejected: Sequence[Rejected]) -> None:
    """Refuse a recording of which too little is left, and say what was wrong most often.

    Raises:
        BadInput: it is so.
    """
    if usable >= _FEWEST_FRAMES:
        return
    reasons = Counter(entry.reason for entry in rejected).most_common(_TOLD)
    if not reasons:
        raise BadInput(
            f"Only {count} frames of {recording.path} lie within the take (at least "
            f"{_FEWEST_FRAMES} are needed): film longer, or check --offset."
        )
    told = ", ".join(f"{reason} in {number}" for reason, number in reasons)
    raise BadInput(
        f"Only {usable} of {count} frames of {recording.path} can be used ({told}; at least "
        f"{_FEWEST_FRAMES} are needed): {_REMEDIES[reasons[0][0]]}."
    )


# --- do video and take run together? --------------------------------------------------------------


def estimate_lag(
    solved: Sequence[Solved], take: Take, identity: Array
) -> tuple[float | None, float]:
    """How many seconds the video is behind the take, and the correlation there.

    Mouth and lids as seen are compared with what the take makes of the mesh.
    """
    shown = np.array([
        _openings(np.array(item.found.landmarks) / np.exp(item.pose.size)) for item in solved
    ])  # fmt: skip
    moments = np.array([item.moment for item in solved])
    mesh = np.einsum("pde,re->rpd", identity[:SPARSE, :, 1:], take.weights.astype(np.float64))
    mesh += identity[None, :SPARSE, :, 0]
    played = np.array([_openings(points) for points in mesh])
    usable = [k for k in (0, 1) if shown[:, k].std() > 4e-4 and played[:, k].std() > 4e-4]
    if not usable or len(solved) < 2 * _FEWEST_FRAMES:
        return None, 0.0
    scores = []
    for lag in _LAGS:
        inside = (moments - lag >= 0) & (moments - lag <= take.duration)
        if inside.sum() < len(moments) // 2:
            scores.append(-1.0)
            continue
        then = [np.interp(moments[inside] - lag, take.seconds, played[:, k]) for k in usable]
        pairs = zip(usable, then, strict=True)
        scores.append(float(np.mean([_correlation(shown[inside, k], row) for k, row in pairs])))
    best = int(np.argmax(scores))
    return round(float(_LAGS[best]), 3), round(scores[best], 3)


def _openings(points: Array) -> tuple[float, float]:
    """Gap of the lips and of the lids."""
    gaps = [
        float(np.mean([np.linalg.norm(points[a] - points[b]) for a, b in pairs]))
        for pairs in (_LIPS, _LIDS)
    ]
    return gaps[0], gaps[1]


def _correlation(a: Array, b: Array) -> float:
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
