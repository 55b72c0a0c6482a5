"""What the inversion is to match: wanted colours in the atlas, and pictures of them.

A photograph counts without its light and where it shows bare skin; references show the blended head
with the wanted colours from all around. What photographs tell about hair is in ``strands``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from head360.fitting.inversion import Target, Wearing
from head360.fitting.light import shading
from head360.fitting.reference import says
from head360.fitting.sights import Sight, facing
from head360.fitting.start import Look, Start
from head360.fitting.surface import MOUTH_PARTS, SkinGraph
from head360.geometry.bake import fill_gutter
from head360.heads.inputs import PoseInputs, ViewInputs
from head360.networks.planes import lookup
from head360.rendering.cameras import orbit

Floats = NDArray[np.float32]

REFERENCE_YAWS = (0.0, 35.0, -35.0, 70.0, -70.0, 110.0, -110.0, 180.0)
_BORDER = 3  # output pixels at a window's rim that count nothing: convolutions end there
_WORN = 0.35  # share of hair above which a pixel says nothing about the skin
_FEATHER = 1.2  # pixels


def ratio_texture(graph: SkinGraph, ratio: Floats, device: str) -> Tensor:
    """(1, S, S, C) values (M, C) of texels as a texture, rows growing with v, with a gutter."""
    size = graph.texels.size
    known = np.zeros(size * size, dtype=np.bool_)
    known[graph.texels.index] = True
    filled = fill_gutter(graph.picture(ratio), known.reshape(size, size), reach=3)
    return torch.from_numpy(np.ascontiguousarray(filled[::-1], dtype=np.float32))[None].to(device)


def freedom(graph: SkinGraph, shown: NDArray[np.bool_], device: str) -> Tensor:
    """(1, S, S, 1) 1 where a texel may change: not inside the mouth, unless it is ``shown`` (M,).

    What closed lips hide would take their dark, by pixels where mesh and photograph part.
    """
    free = ~graph.of(*MOUTH_PARTS) | shown
    size = graph.texels.size
    plane = np.ones(size * size, dtype=np.float32)
    plane[graph.texels.index] = free
    plane = np.ascontiguousarray(plane.reshape(size, size)[::-1])
    return torch.from_numpy(plane)[None, :, :, None].to(device)


def shares(graph: SkinGraph, looks: list[Look], device: str) -> list[Tensor | None]:
    """(1, S, S, 1) share of each photograph in the say over every texel; None for a single one."""
    if len(looks) == 1:
        return [None]
    say = says(looks)
    total = np.maximum(np.sum(say, 0), 1e-6)
    return [ratio_texture(graph, (one / total)[:, None].astype(np.float32), device) for one in say]


def started(graph: SkinGraph, start: Start, wanted: Floats) -> Tensor:
    """(1, S, S, C) the blend's texture moved to the ``wanted`` (M, 3) by the base's response."""
    moved = torch.from_numpy((wanted - start.colour) @ start.response)
    return start.texture + ratio_texture(graph, moved.numpy(), str(start.texture.device))


def toned(picture: Tensor, share: Tensor, view: ViewInputs, ratios: Tensor) -> Tensor:
    """Paste the wanted colours into a rendered window through the atlas; hair stays.

    Args:
        picture: (1, 4, H, W) premultiplied; share: (1, 1, H, W) of hair.
        view: the window.
        ratios: (1, S, S, 6) log ratio of the wanted colours to the blend's, and those colours.
    """
    screen = on_screen(ratios, view)
    bare = picture[:, :3] * screen[:, :3].exp()
    # A pixel beside a nostril or a lash is brighter than the dark texel whose ratio it takes.
    bare = bare.minimum(torch.maximum(screen[:, 3:] * picture[:, 3:], picture[:, :3]))
    colour = picture[:, :3] * share + bare * (1 - share)
    return torch.cat([colour, picture[:, 3:]], 1)


def on_screen(texture: Tensor, view: ViewInputs) -> Tensor:
    """(1, C, H, W) what a window shows of a texture (1, S, S, C); 0 beside the mesh."""
    height, width = view.coverage.shape
    uv = torch.from_numpy(view.uv).to(texture.device)
    sampled = lookup(texture, (uv * 2 - 1)[None])[0]
    screen = torch.zeros(height * width, texture.shape[-1], device=texture.device)
    screen[torch.from_numpy(view.index).to(texture.device)] = sampled
    return screen.view(1, height, width, -1).permute(0, 3, 1, 2)


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
    bald: NDArray[np.bool_] | None = None,
    owned: Tensor | None = None,
    exposure: Floats | None = None,
) -> tuple[Tensor, Tensor]:
    """(1, 3, S, S) the wanted picture at a photograph's camera, (1, 1, S, S) trust in it.

    The photograph without its light where it shows bare skin, the toned blend elsewhere. Under the
    head's hair nothing is trusted, but for pixels (S, S) ``bald`` that will have none. Of several
    photographs each is trusted by its share (1, S, S, 1) ``owned`` of the texels, and is brought to
    the exposure of the first by the log ratio ``exposure`` (3,).
    """
    size = sight.size
    view = wearing.window(pose, sight.camera, size)
    with torch.no_grad():
        picture, share = wearing.render(texture, pose, [view])
        around = on_white(toned(picture, share, view, ratios))
    plain = sight.pixels * np.exp(-shading(light, view.normals, delight))
    if exposure is not None:
        plain = plain * np.exp(-exposure)
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
    if bald is not None:
        share = share * _tensor(~bald, wearing.device)
    if owned is None:
        return wanted, _trust(view, share) * (0.15 + 0.85 * paste)
    # A share belongs to the trust alone: in the mask the feather would swallow it. Where others
    # have the say this one has none, also not for the blend.
    return wanted, _trust(view, share) * paste * on_screen(owned, view)


def _tensor(plane: NDArray, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None].to(device)


def _trust(view: ViewInputs, share: Tensor) -> Tensor:
    """(1, 1, H, W) where a window says something about the skin."""
    weight = (view.coverage > 0.5).astype(np.float32)
    rim = np.zeros_like(weight)
    rim[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
    return _tensor(weight * rim, str(share.device)) * (share < _WORN)


def photo_targets(
    wearing: Wearing,
    pose: PoseInputs,
    sight: Sight,
    wanted: Tensor,
    trust: Tensor,
    tile: int,
    hair: tuple[Tensor, Tensor] | None = None,
) -> list[Target]:
    """Overlapping windows of ``tile`` pixels that cover what is trusted.

    ``hair``: wanted share of hair and its weight, (1, 1, S/2, S/2), where its planes change.
    """
    size = sight.size
    tile = min(tile, size)
    steps = max(1, math.ceil((size - tile) / (tile * 0.75)) + 1) if size > tile else 1
    firsts = np.unique(np.linspace(0, size - tile, steps).astype(int) // 2 * 2)
    targets = []
    for top in firsts:
        for left in firsts:
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            weight = trust[:, :, rows, columns].clone()
            strands: tuple[Tensor | None, Tensor | None] = None, None
            told = float(weight.sum())
            if hair is not None:
                low, high = slice(top // 2, (top + tile) // 2), slice(left // 2, (left + tile) // 2)
                strands = hair[0][:, :, low, high], hair[1][:, :, low, high]
                told += 4 * float((hair[0] * hair[1])[:, :, low, high].sum())
            if told < 0.01 * tile * tile:
                continue
            rim = torch.zeros_like(weight)
            rim[..., _BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
            window = (int(left), int(top), int(left + tile), int(top + tile))
            view = wearing.window(pose, sight.camera, size, window)
            picture = wanted[:, :, rows, columns]
            targets.append(Target(pose, view, picture, weight * rim, True, *strands))
    return targets
