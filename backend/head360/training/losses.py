"""Losses of the photometric auto-decoder training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Gains:
    """Weights beside the full-resolution colour loss; see ``TrainSettings``."""

    raw: float
    alpha: float
    hair: float
    smooth: float


def photometric(
    out: Tensor,
    raw: Tensor,
    truth: Tensor,
    hair: Tensor,
    weight: Tensor,
    ground: float,
    gains: Gains,
) -> dict[str, Tensor]:
    """L1 of colour over a plain ground, of alpha, of the raw render and of hair coverage.

    Args:
        out: (B, 4, H, W) premultiplied prediction at output size, sRGB-encoded.
        raw: (B, 3 + F + 2, H/2, W/2) raw render; the last two channels are alpha and hair alpha.
        truth: (B, 4, H, W) straight alpha, [0, 1].
        hair: (B, 1, H/2, W/2) coverage by hair, [0, 1].
        weight: (B, 1, H, W) of each pixel's colour.
        ground: grey level behind prediction and truth, [0, 1].
        gains: weights.

    Returns:
        Weighted terms by name; their sum is the loss.
    """
    alpha = truth[:, 3:]
    colour = truth[:, :3] * alpha
    predicted = out[:, :3] + ground * (1 - out[:, 3:])
    terms = {
        "rgb": (weight * (predicted - (colour + ground * (1 - alpha))).abs()).mean(),
        "alpha": gains.alpha * (out[:, 3:] - alpha).abs().mean(),
    }
    small = F.avg_pool2d(torch.cat([colour, alpha], 1), 2)
    raw_alpha = raw[:, -2:-1]
    difference = (raw[:, :3] + 1 - raw_alpha) - (small[:, :3] + 1 - small[:, 3:])
    terms["raw"] = gains.raw * (
        (F.avg_pool2d(weight, 2) * difference.abs()).mean()
        + 0.5 * (raw_alpha - small[:, 3:]).abs().mean()
    )
    terms["hair"] = gains.hair * (raw[:, -1:] - hair).abs().mean()
    return terms


def roughness(planes: Tensor) -> Tensor:
    """Mean squared difference of neighbouring cells of (P, R, R, C) planes."""
    rows = (planes[:, 1:] - planes[:, :-1]).square().mean()
    return rows + (planes[:, :, 1:] - planes[:, :, :-1]).square().mean()
