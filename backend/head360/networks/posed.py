"""What the Gaussian head hands on: a pose, its looks, and what a rasteriser draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from head360.networks import quaternions
from head360.networks.deform import Offsets
from head360.networks.meshrig import Carry


@dataclass(frozen=True)
class RenderInputs:
    """N Gaussians ready for ``render_splats``: metres, head space.

    Attributes:
        means: (N, 3); quaternions: (N, 4) scalar first; scales: (N, 3); opacities: (N,) in (0, 1).
        sh: (N, (degree + 1)², 3) spherical harmonics.
        sh_degree: highest degree that is active at this step.
        offsets: what the expression added, None where nothing moves.
    """

    means: Tensor
    quaternions: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    sh_degree: int
    offsets: Offsets | None


@dataclass(frozen=True)
class Looks:
    """Appearance before the viewing direction.

    Attributes:
        logits: (N,) of opacity.
        latent: (N, C) for the colour net, None where harmonics belong to the Gaussians.
        sh: (N, (degree + 1)², 3) without the viewing direction.
    """

    logits: Tensor
    latent: Tensor | None
    sh: Tensor


@dataclass(frozen=True)
class Posed:
    """One expression: geometry in the space of the means, and looks.

    Attributes:
        means, quaternions, scales: as drawn; canonical: (N, 3) means before any motion.
        looks: see :class:`Looks`; offsets: None where nothing moves; sh_degree: active.
    """

    means: Tensor
    quaternions: Tensor
    scales: Tensor
    canonical: Tensor
    looks: Looks
    offsets: Offsets | None
    sh_degree: int


def carried(
    carry: Carry, offsets: Tensor, turns: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, rotations and scales in canonical axes → means, rotations and scales on the mesh."""
    rotation = quaternions.matrices(carry.turns)
    turned = (rotation * offsets[:, None, :]).sum(2)
    return (
        carry.anchors + carry.stretch * turned,
        quaternions.product(carry.turns, turns),
        carry.stretch * scales,
    )


def moved_looks(looks: Looks, offsets: Offsets | None) -> Looks:
    if offsets is None or offsets.opacities is None or offsets.colours is None:
        return looks
    sh = torch.cat([looks.sh[:, :1] + offsets.colours[:, None], looks.sh[:, 1:]], 1)
    return Looks(looks.logits + offsets.opacities, looks.latent, sh)
