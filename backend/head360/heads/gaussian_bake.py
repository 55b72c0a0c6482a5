"""One expression of a Gaussian head as plain Gaussians, for programs that know no expressions.

What depends on the viewing direction beside the harmonics (the colour network sees the direction,
too) is folded into harmonics of degree 3 by weighted least squares over all directions, those
around one viewpoint counting most. Heads with harmonics of degree 1 lose nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from head360.geometry.splatfile import SplatCloud
from head360.heads.base import Pose
from head360.heads.gaussian import GaussianHead
from head360.networks.posed import Posed
from head360.rendering import sh
from head360.rendering.cameras import orbit

_DIRECTIONS = 160
_FAR = 500.0  # metres: all Gaussians are seen from the same direction
_CONE = np.radians(50.0)
_ELSEWHERE = 0.05  # weight of directions far from the viewpoint
_LEAST_SCALE = 1e-7  # metres; a logarithm is stored


def bake(head: GaussianHead, pose: Pose, yaw: float = 0.0, pitch: float = 0.0) -> SplatCloud:
    """Gaussians of ``pose``, their colours fitted best as seen from a side.

    Args:
        head, pose: of the moment.
        yaw, pitch: degrees of the viewpoint, as in ``cameras.orbit``: 0, 0 sees the face.
    """
    posed: Posed = pose.state["posed"]
    camera = orbit(yaw, pitch)
    forward = camera.cam2world[:3, 2]
    directions = sphere(_DIRECTIONS)
    angle = np.arccos(np.clip(directions @ forward, -1, 1))
    weights = _ELSEWHERE + np.exp(-((angle / _CONE) ** 2))
    functions = sh.basis(torch.from_numpy(directions), 16).numpy()
    normal = (functions * weights[:, None]).T @ functions
    solve = np.linalg.solve(normal, (functions * weights[:, None]).T)  # (16, M)
    with torch.no_grad():
        out = head.net.view(posed)
        centre = head.net.centre.double().cpu().numpy()
        fitted = torch.zeros(len(out.means), 16, 3, dtype=torch.float64)
        for k, direction in enumerate(directions):
            _, colour = head.coloured(posed, centre - _FAR * direction)
            colour = colour.double().cpu()
            colour = colour - sh.OFFSET
            fitted += torch.from_numpy(solve[:, k])[None, :, None] * colour[:, None]
        turns = torch.nn.functional.normalize(out.quaternions, dim=1)
        scales = out.scales.abs().clamp(min=_LEAST_SCALE)
    return SplatCloud(
        out.means.cpu().numpy(), turns.cpu().numpy(), scales.cpu().numpy(),
        posed.looks.logits.cpu().numpy(), fitted.float().numpy(),
    )  # fmt: skip


def sphere(count: int) -> NDArray[np.float64]:
    """(count, 3) unit vectors spread evenly, along a spiral."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], 1)
