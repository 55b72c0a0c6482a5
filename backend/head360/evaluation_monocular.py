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

from head360.datasets.monocular_read import Frame
from head360.errors import BadInput
from head360.files import write_bytes
from head360.heads.base import Pose
from head360.heads.gaussian import GaussianHead
from head360.heads.package import png_bytes
from head360.networks.perceptual import Lpips, to_tensor
from head360.training.footage import over_white
from head360.training.metrics import on_white, psnr

Floats = NDArray[np.float32]

_SHOWN = 6
_COVERED = 128
_WINDOW = 11  # least side of a crop: SSIM's window fits


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
