"""Applying a RefineNet to finished pictures, and its place in a model package."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from head360.networks.refine import RefineConfig, RefineNet

Floats = NDArray[np.float32]

_SOLID = 1 / 64  # alpha below which colour cannot be told from the paper behind it


def refine_picture(net: RefineNet, rgba: Floats, device: str) -> Floats:
    """Refine one picture; alpha stays as it is.

    The net sees the picture over white, as it was trained; the colour is taken off the white again.

    Args:
        net: trained.
        rgba: (H, W, 4) float32 sRGB, straight alpha.
        device: of the net.
    """
    height, width = rgba.shape[:2]
    step = 2**net.config.downs
    alpha = rgba[..., 3:]
    paper = torch.from_numpy(rgba[..., :3] * alpha + 1 - alpha).permute(2, 0, 1)[None]
    padding = (0, -width % step, 0, -height % step)
    x = F.pad(paper.to(device) * 2 - 1, padding, mode="replicate")
    with torch.no_grad():
        refined = (net(x)[0, :, :height, :width] + 1) / 2
    over_white = refined.permute(1, 2, 0).float().cpu().numpy()
    colour = (over_white - (1 - alpha)) / np.maximum(alpha, _SOLID)
    colour = np.where(alpha >= _SOLID, np.clip(colour, 0.0, 1.0), rgba[..., :3])
    return np.concatenate([colour, alpha], -1).astype(np.float32)


def to_arrays(net: RefineNet) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Configuration for the manifest and float16 arrays for the package."""
    arrays = {
        f"refine.{name}": value.detach().cpu().numpy().astype(np.float16)
        for name, value in net.state_dict().items()
    }
    return dataclasses.asdict(net.config), arrays


def from_arrays(facts: dict[str, Any], arrays: dict[str, NDArray], device: str) -> RefineNet:
    """Inverse of :func:`to_arrays`.

    Raises:
        TypeError, RuntimeError: they do not fit each other.
    """
    net = RefineNet(RefineConfig(**facts))
    state = {
        name.removeprefix("refine."): torch.from_numpy(value.astype(np.float32))
        for name, value in arrays.items()
        if name.startswith("refine.")
    }
    net.load_state_dict(state)
    return net.to(device).eval().requires_grad_(False)
