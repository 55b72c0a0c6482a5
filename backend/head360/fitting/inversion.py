"""Inversion: the neural texture is optimised through the frozen networks until the pictures agree.

Pictures are the photographs (without their light, where they show bare skin) and the references
from all around. Every step renders one window of a photograph and one reference; the texture is
held near its start and its change is smooth, so that places nobody sees stay plausible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from head360.fitting.light import shading
from head360.fitting.sights import Sight, facing
from head360.fitting.start import Start
from head360.fitting.surface import SkinGraph
from head360.geometry.bake import fill_gutter
from head360.geometry.lattice import Lattice
from head360.geometry.topology import Topology
from head360.heads.inputs import PoseInputs, ViewInputs, Window, view_inputs
from head360.heads.windows import Dye, autocast, render_window
from head360.networks.hexplane import HexPlaneNet
from head360.networks.planes import lookup
from head360.rendering.cameras import Camera, orbit

Floats = NDArray[np.float32]

REFERENCE_YAWS = (0.0, 35.0, -35.0, 70.0, -70.0, 110.0, -110.0, 180.0)
_BORDER = 3  # output pixels at a window's rim that count nothing: convolutions end there
_WORN = 0.35  # share of hair above which a pixel says nothing about the skin
_FEATHER = 1.2  # pixels
_ROOM = 1.25  # of the largest value of the start
_WARMUP, _FLOOR = 10, 0.05  # of the learning rate


@dataclass(frozen=True)
class Gains:
    """Weights of the loss beside the colour of the photograph.

    Attributes:
        edges: differences of neighbouring pixels. reference: pictures from around.
        stay: squared change of the texture. smooth: squared differences of that change.
        rate: of Adam at its peak.
    """

    edges: float = 0.6
    reference: float = 0.5
    stay: float = 0.002
    smooth: float = 0.1
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
        with autocast(self.device):
            planes = self.net.head_planes(texture, pose.uv, pose.index, pose.depths)
            out, raw, _ = render_window(
                self.net, texture, self.hair if hair is None else hair, planes, views, self.box,
                self.lattice, rng, self.dye,
            )  # fmt: skip
        share = raw[:, -1:].float() / raw[:, -2:-1].float().clamp(min=0.05)
        share = F.interpolate(share, size=out.shape[-2:], mode="bilinear", align_corners=False)
        return out.float(), share.detach().clamp(0, 1)


@dataclass(frozen=True)
class Target:
    """One window to be matched.

    Attributes:
        pose, view: what is rendered.
        picture: (1, 3, H, W) over white; weight: (1, 1, H, W).
        photograph: whether it comes from one.
    """

    pose: PoseInputs
    view: ViewInputs
    picture: Tensor
    weight: Tensor
    photograph: bool


def ratio_texture(graph: SkinGraph, ratio: Floats, device: str) -> Tensor:
    """(1, S, S, C) values (M, C) of texels as a texture, rows growing with v, with a gutter."""
    size = graph.texels.size
    known = np.zeros(size * size, dtype=np.bool_)
    known[graph.texels.index] = True
    filled = fill_gutter(graph.picture(ratio), known.reshape(size, size), reach=3)
    return torch.from_numpy(np.ascontiguousarray(filled[::-1], dtype=np.float32))[None].to(device)


def started(graph: SkinGraph, start: Start, wanted: Floats) -> Tensor:
    """(1, S, S, C) the blend's texture moved to the ``wanted`` (M, 3) by the base's response."""
    moved = torch.from_numpy((wanted - start.colour) @ start.response)
    return start.texture + ratio_texture(graph, moved.numpy(), str(start.texture.device))


def toned(picture: Tensor, share: Tensor, view: ViewInputs, ratios: Tensor) -> Tensor:
    """Paste the wanted colours into a rendered window through the atlas; hair stays.

    Args:
        picture: (1, 4, H, W) premultiplied; share: (1, 1, H, W) of hair.
        view: the window; ratios: see :func:`ratio_texture`.
    """
    height, width = view.coverage.shape
    uv = torch.from_numpy(view.uv).to(picture.device)
    sampled = lookup(ratios, (uv * 2 - 1)[None])[0]
    screen = torch.zeros(height * width, 3, device=picture.device)
    screen[torch.from_numpy(view.index).to(picture.device)] = sampled
    gain = screen.view(1, height, width, 3).permute(0, 3, 1, 2).exp()
    colour = picture[:, :3] * (share + (1 - share) * gain)
    return torch.cat([colour, picture[:, 3:]], 1)


def on_white(picture: Tensor) -> Tensor:
    """(B, 4, H, W) premultiplied → (B, 3, H, W) over white."""
    return (picture[:, :3] + 1 - picture[:, 3:]).clamp(0, 1)


def reference_target(
    wearing: Wearing, texture: Tensor, ratios: Tensor, pose: PoseInputs, yaw: float, size: int
) -> Target:
    """The blended head from ``yaw`` with the wanted colours pasted in."""
    view = wearing.window(pose, orbit(yaw, 0.0), size)
    with torch.no_grad():
        picture, share = wearing.render(texture, pose, [view])
        wanted = on_white(toned(picture, share, view, ratios))
    weight = _trust(view, share)
    return Target(pose, view, wanted, weight, False)


def photo_composite(
    wearing: Wearing,
    texture: Tensor,
    ratios: Tensor,
    pose: PoseInputs,
    sight: Sight,
    light: Floats,
    delight: float,
) -> tuple[Tensor, Tensor]:
    """(1, 3, S, S) the wanted picture at a photograph's camera, (1, 1, S, S) trust in it.

    The photograph without its light where it shows bare skin, the toned blend elsewhere.
    """
    size = sight.size
    view = wearing.window(pose, sight.camera, size)
    with torch.no_grad():
        picture, share = wearing.render(texture, pose, [view])
        around = on_white(toned(picture, share, view, ratios))
    plain = sight.pixels * np.exp(-shading(light, view.normals, delight))
    mask = (sight.face() & (view.coverage > 0.99)).astype(np.float32)
    # Eyes and mouth count where photograph and mesh agree that they are.
    inner = np.isin(sight.labels, (3, 5))
    mask *= np.where(view.detail == inner, 1.0, 0.0).astype(np.float32)
    towards = sight.camera.position / np.linalg.norm(sight.camera.position)
    mask *= facing(view.normals @ towards.astype(np.float32))
    soft = np.minimum(mask, gaussian_filter(mask, _FEATHER) * 2 - 1).clip(0, 1)
    paste = _tensor(soft, wearing.device)
    shown = torch.from_numpy(np.ascontiguousarray(plain.transpose(2, 0, 1)))[None]
    wanted = around * (1 - paste) + shown.to(wearing.device).clamp(0, 1) * paste
    trust = _trust(view, share) * (0.15 + 0.85 * paste)
    return wanted, trust


def _tensor(plane: Floats, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None].to(device)


def _trust(view: ViewInputs, share: Tensor) -> Tensor:
    """(1, 1, H, W) where a window says something about the skin."""
    weight = (view.coverage > 0.5).astype(np.float32)
    rim = np.zeros_like(weight)
    rim[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
    return _tensor(weight * rim, str(share.device)) * (share < _WORN)


def photo_targets(
    wearing: Wearing, pose: PoseInputs, sight: Sight, wanted: Tensor, trust: Tensor, tile: int
) -> list[Target]:
    """Overlapping windows of ``tile`` pixels that cover what is trusted."""
    size = sight.size
    tile = min(tile, size)
    steps = max(1, math.ceil((size - tile) / (tile * 0.75)) + 1) if size > tile else 1
    firsts = np.unique(np.linspace(0, size - tile, steps).astype(int) // 2 * 2)
    targets = []
    for top in firsts:
        for left in firsts:
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            weight = trust[:, :, rows, columns].clone()
            if float(weight.sum()) < 0.01 * tile * tile:
                continue
            rim = torch.zeros_like(weight)
            rim[..., _BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
            window = (int(left), int(top), int(left + tile), int(top + tile))
            view = wearing.window(pose, sight.camera, size, window)
            targets.append(Target(pose, view, wanted[:, :, rows, columns], weight * rim, True))
    return targets


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
        current = texture + change
        hair = None if strands is None or wearing.hair is None else wearing.hair + strands
        total = torch.zeros((), device=device)
        for pool, gain in ((photographs, 1.0), (references, gains.reference)):
            if not pool:
                continue
            target = _drawn(pool, step, rng)
            out, _ = wearing.render(current, target.pose, [target.view], rng, hair)
            total = total + gain * _difference(on_white_soft(out), target, gains.edges)
        photometric = float(total.detach())
        losses.append(photometric)
        total = total + gains.stay * change.square().mean() + gains.smooth * _rough(change)
        if strands is not None:
            total = total + 4 * gains.stay * strands.square().mean()
            total = total + gains.smooth * _rough(strands)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    tenth = max(1, steps // 10)
    # A few wild texels would coarsen the steps in which a package stores all others.
    most = _ROOM * float(texture.abs().max())
    return Inverted(
        (texture + change).detach().clamp(-most, most),
        None if strands is None or wearing.hair is None else (wearing.hair + strands).detach(),
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


def _rough(planes: Tensor) -> Tensor:
    rows = (planes[:, 1:] - planes[:, :-1]).square().mean()
    return rows + (planes[:, :, 1:] - planes[:, :, :-1]).square().mean()
