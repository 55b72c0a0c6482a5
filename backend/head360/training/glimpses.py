"""Looks at a head in training: a few pictures, their PSNR, a sheet of truth and prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.heads.base import Head
from head360.training.metrics import on_white, psnr
from head360.training.shots import Shots

Floats = NDArray[np.float32]


def predict(head: Head, shots: Shots, group: int, view: int) -> Floats:
    """(S, S, 4) float32 straight-alpha rendering of one picture of ``shots``."""
    style = None if shots.style[group] < 0 else shots.styles[shots.style[group]]
    codes = head.codes(shots.subjects[shots.subject[group]], style)
    pose = head.pose(codes, shots.blendshapes[group])
    size = shots.rgba.shape[-2]
    return head.render(pose, shots.camera(group, view), size, size).rgba


def mean_psnr(head: Head, shots: Shots, count: int) -> float:
    """Mean PSNR in dB over the first view of the first ``count`` groups."""
    values = []
    for group in range(min(count, len(shots))):
        truth = on_white(shots.rgba[group, 0].astype(np.float32) / 255)
        values.append(psnr(on_white(predict(head, shots, group, 0)), truth))
    return float(np.mean(values))


def sheet(head: Head, shots: Shots, count: int) -> Floats:
    """(2S, count·S, 3) over white: truth above, prediction below."""
    columns = []
    for group in range(min(count, len(shots))):
        truth = on_white(shots.rgba[group, 0].astype(np.float32) / 255)
        columns.append(np.concatenate([truth, on_white(predict(head, shots, group, 0))], 0))
    return np.concatenate(columns, 1)
