"""Splatting on CUDA: gsplat where it is installed and compiles, else plain torch operations.

gsplat (Ye et al. 2024, Apache-2.0) compiles its kernels on first use and needs a CUDA toolkit for
that. Where it is missing or its compilation fails, and for float64, the torch route below does the
same by tiles: slower by far, but differentiable, bounded in memory, and it runs on the CPU too,
where the tests compare it with the numba rasteriser.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from head360.rendering import splats_reference as formulas
from head360.rendering.splats import Gaussians, Layers, Pinhole, keep_gradient

_LOG = logging.getLogger(__name__)

_TILE = 16
_VALUES_PER_BATCH = (
    1 << 22
)  # (tile, splat, pixel) triples composited at once: 16 MiB a float32 each


def rasterize_gpu(gaussians: Gaussians, pinhole: Pinhole, antialiased: bool) -> Layers:
    """See :func:`head360.rendering.splats.render_splats`; tensors on any CUDA device."""
    rasterization = _gsplat(str(gaussians.means.device))
    if rasterization is None or gaussians.means.dtype != torch.float32:
        return rasterize_torch(gaussians, pinhole, antialiased)
    return _rasterize_gsplat(rasterization, gaussians, pinhole, antialiased)


@functools.cache
def _gsplat(device: str) -> Callable[..., Any] | None:
    """gsplat's ``rasterization`` if one splat really comes out of it on this device, else None."""
    try:
        from gsplat import rasterization
    except ImportError as error:
        _LOG.info("gsplat is not installed (%s): splats are rendered by torch, slowly", error)
        return None
    one = torch.ones(1, device=device)
    try:
        rasterization(
            means=one.new_tensor([[0.0, 0.0, 1.0]]),
            quats=one.new_tensor([[1.0, 0.0, 0.0, 0.0]]),
            scales=one.expand(1, 3).contiguous() * 0.1,
            opacities=one,
            colors=one.expand(1, 3).contiguous(),
            viewmats=torch.eye(4, device=device)[None],
            Ks=one.new_tensor([[[8.0, 0.0, 8.0], [0.0, 8.0, 8.0], [0.0, 0.0, 1.0]]]),
            width=16,
            height=16,
            packed=False,
        )
    # The build runs on first use and fails in as many ways as there are toolchains: no nvcc
    # (AttributeError on the missing module), no compiler, another CUDA, an unknown architecture.
    except (AttributeError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        _LOG.warning("gsplat does not run here (%s): splats are rendered by torch, slowly", error)
        return None
    _LOG.info("splats are rendered by gsplat on %s", device)
    return rasterization


def implementation(device: str) -> str:
    """What renders float32 splats on a CUDA device: "gsplat" or "torch"."""
    return "torch" if _gsplat(str(torch.zeros(0, device=device).device)) is None else "gsplat"


def _rasterize_gsplat(
    rasterization: Callable[..., Any], gaussians: Gaussians, pinhole: Pinhole, antialiased: bool
) -> Layers:
    """Our camera and colours in gsplat's terms; its background and depth division are not used."""
    means = gaussians.means
    (fx, fy), (cx, cy) = pinhole.focal, pinhole.centre
    rendered, alphas, meta = rasterization(
        means=means,
        quats=gaussians.quaternions,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colours,
        viewmats=torch.as_tensor(pinhole.world2cam, dtype=means.dtype, device=means.device)[None],
        Ks=means.new_tensor([[[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]]),
        width=pinhole.width,
        height=pinhole.height,
        near_plane=pinhole.near,
        eps2d=formulas.LOW_PASS,
        sh_degree=None,
        packed=False,
        render_mode="RGB+D",
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    radii = meta["radii"].to(means.dtype)
    # (1, N) in old versions, (1, N, 2) since 1.5: half extents along x and y, zero where culled.
    radii = radii.reshape(len(means), -1).amax(dim=1)
    return Layers(
        rendered[0, ..., :3],
        rendered[0, ..., 3],
        1.0 - alphas[0, ..., 0],
        keep_gradient(meta["means2d"]),
        radii,
    )


def rasterize_torch(gaussians: Gaussians, pinhole: Pinhole, antialiased: bool) -> Layers:
    """Tiles in padded batches of similar list length; activations are recomputed in backward.

    Raises:
        torch.OutOfMemoryError: one tile's list alone does not fit (millions of splats on a tile).
    """
    flat = formulas.project(gaussians, pinhole)
    keep_gradient(flat.means2d)
    opacities = gaussians.opacities
    if antialiased:
        opacities = opacities * flat.compensations
    conics = formulas.conics(flat.covariances)
    # Per splat: mean (2), conic (3), opacity, colour (3), depth.
    splats = torch.cat(
        [
            flat.means2d,
            conics,
            opacities[:, None],
            gaussians.colours,
            flat.depths[:, None],
        ],
        dim=1,
    )
    with torch.no_grad():
        half = formulas.extents(conics, opacities, flat.drawn)
        lists, starts, shown = _tile_lists(flat.means2d, half, flat.depths, pinhole)
        radii = torch.where(shown, half.amax(1), 0.0)
    columns = -(-pinhole.width // _TILE)
    rows = -(-pinhole.height // _TILE)
    blank = splats.new_zeros(5, 1, _TILE * _TILE)
    blank[4] = 1.0
    pieces = [blank]  # piece 0: the tiles without splats
    where = torch.zeros(rows * columns, dtype=torch.long, device=splats.device)
    filled = 1
    for tiles, padded in _batches(starts):
        index = starts[tiles, None] + torch.arange(padded, device=splats.device)
        valid = index < starts[tiles + 1, None]
        members = lists[index.clamp(max=len(lists) - 1)]
        pieces.append(
            checkpoint(_composite, splats, members, valid, tiles, columns, use_reentrant=False)
        )
        where[tiles] = torch.arange(filled, filled + len(tiles), device=splats.device)
        filled += len(tiles)
    grid = torch.cat(pieces, 1)[:, where].reshape(5, rows, columns, _TILE, _TILE)
    image = grid.transpose(2, 3).reshape(5, rows * _TILE, columns * _TILE)
    image = image[:, : pinhole.height, : pinhole.width]
    return Layers(image[:3].permute(1, 2, 0), image[3], image[4], flat.means2d, radii)


def _tile_lists(
    means2d: Tensor, half: Tensor, depths: Tensor, pinhole: Pinhole
) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) splats by tile, nearest first; (T + 1,) where each tile's begin; (N,) bool shown."""
    size = means2d.new_tensor([pinhole.width, pinhole.height])
    low = ((means2d - half - 0.5).clamp(min=0).ceil()).minimum(size).long()
    high = ((means2d + half - 0.5).clamp(min=-1).floor()).minimum(size - 1).long()
    shown = (half[:, 0] > 0) & (low <= high).all(1)
    first, count = low // _TILE, high // _TILE - low // _TILE + 1
    order = torch.argsort(depths, stable=True)
    order = order[shown[order]]
    span = count[order].prod(1)
    splat = order.repeat_interleave(span)
    within = torch.arange(len(splat), device=splat.device)
    within = within - (span.cumsum(0) - span).repeat_interleave(span)
    columns, rows = -(-pinhole.width // _TILE), -(-pinhole.height // _TILE)
    across = count[splat, 0]
    tile = (first[splat, 1] + within // across) * columns + first[splat, 0] + within % across
    tile, place = torch.sort(tile, stable=True)
    starts = torch.searchsorted(tile, torch.arange(rows * columns + 1, device=tile.device))
    return splat[place], starts, shown


def _batches(starts: Tensor) -> list[tuple[Tensor, int]]:
    """Tiles that have splats, in groups of similar list length: (tiles, padded length) each."""
    lengths, order = torch.sort(starts[1:] - starts[:-1], stable=True, descending=True)
    counts = [count for count in lengths.tolist() if count]
    batches = []
    start = 0
    while start < len(counts):
        padded = counts[start]
        most = max(_VALUES_PER_BATCH // (padded * _TILE * _TILE), 1)
        stop = start + 1
        while stop < min(len(counts), start + most) and 2 * counts[stop] >= padded:
            stop += 1
        batches.append((order[start:stop], padded))
        start = stop
    return batches


def _composite(
    splats: Tensor, members: Tensor, valid: Tensor, tiles: Tensor, columns: int
) -> Tensor:
    """Composite B tiles with lists of length L: (N, 10), (B, L), (B, L), (B,) → (5, B, 256)."""
    x, y, a, b, c, opacity, *_ = (column[..., None] for column in splats[members].unbind(-1))
    pixel = torch.arange(_TILE * _TILE, device=splats.device)
    px = ((tiles % columns * _TILE)[:, None] + pixel % _TILE + 0.5)[:, None].to(splats.dtype)
    py = ((tiles // columns * _TILE)[:, None] + pixel // _TILE + 0.5)[:, None].to(splats.dtype)
    dx, dy = px - x, py - y  # (B, L, 256)
    q = (0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy).clamp(min=0)
    alpha = (opacity * torch.exp(-q)).clamp(max=formulas.MAX_ALPHA)
    alpha = torch.where(valid[..., None] & (alpha >= formulas.MIN_ALPHA), alpha, 0.0)
    after = (1 - alpha).cumprod(1)
    # Transmittance never grows, so "not below the limit" also means "not stopped before".
    kept = after > formulas.MIN_TRANSMITTANCE
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weight = torch.where(kept, alpha * before, 0.0)
    sums = torch.einsum("blp,blc->cbp", weight, splats[members][..., 6:])
    return torch.cat([sums, 1 - weight.sum(1)[None]])
