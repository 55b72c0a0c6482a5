"""Evaluation of a head on the held-out tail of a video: L1 and MSE, PSNR, SSIM; whole and cropped.

Every figure is on pictures composited over white, sRGB-encoded, at the video's size, computed per
picture and averaged. ``l1`` is the mean absolute error and ``mse`` the mean squared one (the
column that GaussianHead's tables call L1 is the latter). ``cropped`` takes the rectangle around
the matte, so that white paper does not count; ``matte`` takes its pixels alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from head360.arkit import COUNT, NAMES
from head360.datasets.monocular_read import Frame
from head360.errors import BadInput
from head360.files import write_bytes
from head360.heads.base import Pose
from head360.heads.gaussian import GaussianHead
from head360.heads.gaussian_retarget import GAZE, gains_of, neutral_row, retarget
from head360.heads.package import png_bytes
from head360.networks.perceptual import Lpips, to_tensor
from head360.training.footage import over_white
from head360.training.metrics import on_white, psnr

Floats = NDArray[np.float32]

_SHOWN = 6
_COVERED = 128
_WINDOW = 11  # least side of a crop: SSIM's window fits
_REENACTED = 24  # frames of a film that somebody else performs
_OFFSETS, _STRETCH = 0.12, 0.35  # of a performer's numbers: at rest, and logarithm of their reach


def evaluate_video(
    head: GaussianHead,
    frames: Sequence[Frame],
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    lpips: Lpips | None = None,
) -> dict[str, Any]:
    """Figures of ``head`` on ``frames``, see the module; ``sheet`` gets truth, prediction, error.

    ``lpips`` judges whole pictures where its weights are given.

    Raises:
        BadInput: no frames, unreadable ones, or expressions that the head was not trained on.
    """
    if not frames:
        raise BadInput("Nothing is held out: film more frames, or give another share with --test.")
    rows: list[dict[str, dict[str, float]]] = []
    columns = []
    shown = set(np.linspace(0, len(frames) - 1, min(_SHOWN, len(frames))).astype(int).tolist())
    seconds = 0.0
    for index, frame in enumerate(frames):
        matte = frame.load_matte()
        truth = over_white(frame.load_rgb(), matte)
        start = time.perf_counter()
        pose = pose_of(head, frame)
        predicted = on_white(head.render(pose, frame.camera, frame.width, frame.height).rgba)
        seconds += time.perf_counter() - start
        rows.append(_figures(truth, predicted, matte))
        if lpips is not None:
            with torch.no_grad():
                pair = to_tensor(predicted, head.device), to_tensor(truth, head.device)
                rows[-1]["whole"]["lpips"] = float(lpips(*pair)[0])
        if sheet is not None and index in shown:
            error = np.abs(predicted - truth).mean(-1, keepdims=True).repeat(3, -1)
            columns.append(np.concatenate([truth, predicted, 1 - np.clip(4 * error, 0, 1)], 0))
        if progress is not None:
            progress(index + 1, len(frames))
    if sheet is not None:
        pixels = (np.clip(np.concatenate(columns, 1), 0, 1) * 255 + 0.5).astype(np.uint8)
        write_bytes(sheet, png_bytes(pixels))
    return {
        "frames": len(frames),
        "size": [frames[0].width, frames[0].height],
        "gaussians": head.net.count,
        **_mean([row["whole"] for row in rows]),
        "cropped": _mean([row["cropped"] for row in rows]),
        "matte": _mean([row["matte"] for row in rows]),
        "seconds_per_frame": round(seconds / len(frames), 4),
    }


def pose_of(head: GaussianHead, frame: Frame) -> Pose:
    """The head with the expression of a frame.

    Raises:
        BadInput: the frame has other expressions than the head.
    """
    if head.expression.arkit:
        return head.pose(head.codes(), frame.blendshapes)
    if head.expression.names != frame.names:
        raise BadInput(f"{frame.root} names other expressions than {head.name} was trained on.")
    return head.pose_expression(frame.expression)


def evaluate_reenactment(
    head: GaussianHead, frames: Sequence[Frame], performance: Floats, seed: int = 0
) -> dict[str, Any]:
    """The film's performance by somebody else: what retargeting wins back.

    The other performer is simulated: the same acting, in numbers with another neutral face and
    another reach of every shape (gaze excepted), as trackers give them for other people. The truth
    is the film. All figures are of the matte's pixels: with the film's own numbers, with the other
    performer's as they are, and retargeted.

    Args:
        frames: to judge by; performance: (T, 52) the film's weights, from which neutral faces and
            ranges are taken; seed: of the other performer.
    """
    target = head.expression.range()
    own = performance[neutral_row(performance)]
    driver = by_somebody_else(performance, own, seed)
    rest = driver[neutral_row(driver)]
    gains = gains_of(driver, rest, target)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_REENACTED, len(frames))).round())
    scores: dict[str, list[float]] = {"own": [], "as_they_are": [], "retargeted": []}
    errors: dict[str, list[float]] = {"as_they_are": [], "retargeted": []}
    clamped = 0
    for index in chosen.astype(int):
        frame = frames[index]
        weights = np.asarray(frame.blendshapes, dtype=np.float32)
        played = by_somebody_else(weights, own, seed)
        carried = retarget(played[None], rest, target, gains)
        clamped += carried.clamped
        matte = frame.load_matte()
        truth, covered = over_white(frame.load_rgb(), matte), matte >= _COVERED
        if not covered.any():
            continue
        for name, numbers in (
            ("own", weights), ("as_they_are", played), ("retargeted", carried.weights[0])
        ):  # fmt: skip
            pose = head.pose(head.codes(), numbers)
            shown = on_white(head.render(pose, frame.camera, frame.width, frame.height).rgba)
            scores[name].append(psnr(shown[covered], truth[covered]))
            if name in errors:
                errors[name].append(float(np.abs(numbers - weights).mean()))
    return {
        "frames": len(scores["own"]),
        "matte_psnr": {name: round(float(np.mean(rows)), 4) for name, rows in scores.items()},
        "weight_error": {name: round(float(np.mean(rows)), 5) for name, rows in errors.items()},
        "clamped": clamped,
    }


def by_somebody_else(weights: Floats, neutral: Floats, seed: int) -> Floats:
    """The acting of (…, 52) weights in another performer's numbers, see above."""
    rng = np.random.default_rng([seed, COUNT])
    rest = rng.uniform(0, _OFFSETS, COUNT)
    # Both sides of a face are alike, nearly.
    kinds = [name.removesuffix("Left").removesuffix("Right") for name in NAMES]
    shared = {kind: rng.uniform(-_STRETCH, _STRETCH) for kind in dict.fromkeys(kinds)}
    reach = np.exp([shared[kind] + rng.normal(0, 0.03) for kind in kinds])
    played = np.clip(rest + reach * (weights - neutral), 0, 1)
    return np.where(GAZE, weights, played).astype(np.float32)


def _figures(
    truth: Floats, predicted: Floats, matte: NDArray[np.uint8]
) -> dict[str, dict[str, float]]:
    covered = matte >= _COVERED
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    figures = {"whole": _compare(truth, predicted), "cropped": {}, "matte": {}}
    if len(rows) >= _WINDOW and len(columns) >= _WINDOW:
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        figures["cropped"] = _compare(truth[window], predicted[window])
        figures["matte"] = _errors(truth[covered], predicted[covered])
    return figures


def _errors(truth: Floats, predicted: Floats) -> dict[str, float]:
    difference = predicted.astype(np.float64) - truth
    return {
        "l1": float(np.abs(difference).mean()),
        "mse": float((difference**2).mean()),
        "psnr": psnr(predicted, truth),
    }


def _compare(truth: Floats, predicted: Floats) -> dict[str, float]:
    similarity = structural_similarity(truth, predicted, channel_axis=-1, data_range=1.0)
    return {**_errors(truth, predicted), "ssim": float(similarity)}


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    known = [row for row in rows if row]
    names = known[0] if known else {}
    return {name: round(float(np.mean([row[name] for row in known])), 6) for name in names}
