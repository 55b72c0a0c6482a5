"""Inversion: the neural texture is optimised through the frozen networks until the pictures agree.

Pictures are photographs and references from all around, see ``targets`` and ``strands``. Every step
renders one window of a photograph and one reference; the texture is held near its start and its
change is smooth, so that places nobody sees stay plausible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.geometry.lattice import Lattice
from head360.geometry.topology import Topology
from head360.heads.inputs import PoseInputs, ViewInputs, Window, view_inputs
from head360.heads.windows import Dye, autocast, render_window
from head360.networks.hexplane import HexPlaneNet
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]

_ROOM = 1.25  # of the largest value of the start
_OPAQUE = 1e-4  # of 1 − alpha below which hair counts as opaque
_WARMUP, _FLOOR = 10, 0.05  # of the learning rate


@dataclass(frozen=True)
class Gains:
    """Weights of the loss beside the colour of the photograph.

    Attributes:
        edges: differences of neighbouring pixels. reference: pictures from around.
        stay: squared change of the texture. smooth: squared differences of that change.
        hair: share of hair in a pixel, where hair planes change.
        rate: of Adam at its peak.
    """

    edges: float = 0.6
    reference: float = 0.5
    stay: float = 0.002
    smooth: float = 0.1
    hair: float = 0.05
    rate: float = 0.02


@dataclass(frozen=True)
class Wearing:
    """What does not change while the texture is sought.

    Attributes:
        net: the base's network, frozen.
        topology: of the mesh.
        hair: (3, R, R, C) planes or None; dye, box, lattice: see ``render_window``.
        device: torch device.
    """

    net: HexPlaneNet
    topology: Topology
    hair: Tensor | None
    dye: Dye | None
    box: NDArray[np.uint8] | None
    lattice: Lattice
    device: str

    def window(
        self, pose: PoseInputs, camera: Camera, size: int, window: Window | None = None
    ) -> ViewInputs:
        """One window (even numbers) of a ``size``² picture; all of it by default."""
        window = window or (0, 0, size, size)
        left, top, right, bottom = (value // 2 for value in window)
        return view_inputs(
            pose, self.topology, camera, (size, size), window, (size // 2, size // 2),
            (left, top, right, bottom), self.device,
        )  # fmt: skip

    def render(
        self,
        texture: Tensor,
        pose: PoseInputs,
        views: list[ViewInputs],
        rng: np.random.Generator | None = None,
        hair: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, 4, H, W) premultiplied pictures and (B, 1, H, W) share of hair in them."""
        out, raw, _ = self.draw(texture, pose, views, rng, hair)
        share = raw[:, -1:].float() / raw[:, -2:-1].float().clamp(min=0.05)
        share = F.interpolate(share, size=out.shape[-2:], mode="bilinear", align_corners=False)
        return out, share.detach().clamp(0, 1)

    def draw(
        self,
        texture: Tensor,
        pose: PoseInputs,
        views: list[ViewInputs],
        rng: np.random.Generator | None = None,
        hair: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Floats]:
        """(B, 4, H, W) premultiplied pictures, raw render and depth; see ``render_window``."""
        with autocast(self.device):
            planes = self.net.head_planes(texture, pose.uv, pose.index, pose.depths)
            out, raw, depth = render_window(
                self.net, texture, self.hair if hair is None else hair, planes, views, self.box,
                self.lattice, rng, self.dye, opaque=True,
            )  # fmt: skip
        return out.float(), raw, depth


@dataclass(frozen=True)
class Target:
    """One window to be matched.

    Attributes:
        pose, view: what is rendered.
        picture: (1, 3, H, W) over white; weight: (1, 1, H, W).
        photograph: whether it comes from one.
        hair: (1, 1, H/2, W/2) wanted share of hair, or None; sure: (1, 1, H/2, W/2) its weight.
    """

    pose: PoseInputs
    view: ViewInputs
    picture: Tensor
    weight: Tensor
    photograph: bool
    hair: Tensor | None = None
    sure: Tensor | None = None


@dataclass(frozen=True)
class Inverted:
    """Result of an inversion.

    Attributes:
        texture: (1, S, S, C) float32; hair: (3, R, R, C) or None.
        loss: mean loss of the last tenth of the steps; first: of the first tenth.
    """

    texture: Tensor
    hair: Tensor | None
    first: float
    loss: float


def invert(
    wearing: Wearing,
    texture: Tensor,
    targets: list[Target],
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[float, str], None],
    gains: Gains | None = None,
    invert_planes: bool = False,
    free: Tensor | None = None,
) -> Inverted:
    """Optimise the texture (and the hair planes) against the targets.

    Args:
        wearing: what stays.
        texture: (1, S, S, C) the start.
        targets: of photographs and references, at least one.
        steps: of Adam.
        rng: chooses targets and jitters samples.
        progress: called with (fraction, phase); what it raises stops the work.
        gains: weights of the loss.
        invert_planes: the hair planes change too, where there is hair.
        free: (1, S, S, 1) share in which a texel may change, see :func:`freedom`; all by default.
    """
    gains = gains or Gains()
    device = wearing.device
    change = nn.Parameter(torch.zeros_like(texture))
    groups = [{"params": [change], "peak": gains.rate}]
    strands: nn.Parameter | None = None
    if invert_planes and wearing.hair is not None:
        strands = nn.Parameter(torch.zeros_like(wearing.hair))
        groups.append({"params": [strands], "peak": gains.rate / 2})
    optimiser = torch.optim.Adam(groups, lr=gains.rate, betas=(0.9, 0.99))
    photographs = [target for target in targets if target.photograph]
    references = [target for target in targets if not target.photograph]
    losses = []
    for step in range(steps):
        progress(step / steps, "inverting the texture")
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        rate = min(1.0, (step + 1) / _WARMUP) * (_FLOOR + (1 - _FLOOR) * cosine)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        optimiser.zero_grad(set_to_none=True)
        current = texture + (change if free is None else change * free)
        hair = None if strands is None or wearing.hair is None else wearing.hair + strands
        total = torch.zeros((), device=device)
        for pool, gain in ((photographs, 1.0), (references, gains.reference)):
            if not pool:
                continue
            target = _drawn(pool, step, rng)
            out, raw, _ = wearing.draw(current, target.pose, [target.view], rng, hair)
            loss = _difference(on_white_soft(out), target, gains.edges)
            if strands is not None and target.hair is not None and target.sure is not None:
                loss = loss + gains.hair * _outline(raw[:, -1:], target.hair, target.sure)
            total = total + gain * loss
        photometric = float(total.detach())
        losses.append(photometric)
        total = total + gains.stay * change.square().mean() + gains.smooth * _rough(change)
        if strands is not None:
            total = total + 4 * gains.stay * strands.square().mean()
            total = total + 4 * gains.smooth * _rough(strands)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    tenth = max(1, steps // 10)
    # A few wild texels would coarsen the steps in which a package stores all others.
    most = _ROOM * float(texture.abs().max())
    change.data.mul_(1.0 if free is None else free)
    hair = None
    if strands is not None and wearing.hair is not None:
        most_hair = _ROOM * float(wearing.hair.abs().max())
        hair = (wearing.hair + strands).detach().clamp(-most_hair, most_hair)
    return Inverted(
        (texture + change).detach().clamp(-most, most),
        hair,
        float(np.mean(losses[:tenth])),
        float(np.mean(losses[-tenth:])),
    )


def _drawn(pool: list[Target], step: int, rng: np.random.Generator) -> Target:
    """Every target in turn, in an order that changes from round to round."""
    order = np.random.default_rng([int(step // len(pool)), len(pool)]).permutation(len(pool))
    return pool[int(order[step % len(pool)])]


def on_white_soft(picture: Tensor) -> Tensor:
    """Like :func:`on_white`, not clamped, so that gradients pass."""
    return picture[:, :3] + 1 - picture[:, 3:]


def _difference(out: Tensor, target: Target, edges: float) -> Tensor:
    weight = target.weight
    total = weight.sum().clamp(min=1.0)
    off = out - target.picture
    loss = (weight * off.abs()).sum() / (3 * total)
    for axis in (-1, -2):
        a = off.narrow(axis, 1, off.shape[axis] - 1) - off.narrow(axis, 0, off.shape[axis] - 1)
        w = torch.minimum(
            weight.narrow(axis, 1, off.shape[axis] - 1), weight.narrow(axis, 0, off.shape[axis] - 1)
        )
        loss = loss + edges * (w * a.abs()).sum() / (3 * total)
    return loss


def _outline(share: Tensor, wanted: Tensor, sure: Tensor) -> Tensor:
    """Cross entropy: opaque hair that has to go is felt, where a difference of alphas is flat."""
    share = share.float().clamp(0, 1)
    loss = -wanted * (share + _OPAQUE).log() - (1 - wanted) * (1 - share + _OPAQUE).log()
    return (sure * loss).mean()


def _rough(planes: Tensor) -> Tensor:
    rows = (planes[:, 1:] - planes[:, :-1]).square().mean()
    return rows + (planes[:, :, 1:] - planes[:, :, :-1]).square().mean()
