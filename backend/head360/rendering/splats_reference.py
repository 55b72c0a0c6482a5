"""Splatting written straight from the formulas, in torch: slow, differentiable by autograd.

:func:`project` is the projection for the torch route on CUDA; :func:`rasterize_dense` lays every
Gaussian over every pixel and is what the fast implementations are tested against, in float64.
Formulas: Zwicker et al. 2001 (EWA), Kerbl et al. 2023 (compositing), Ye et al. 2024 (thresholds).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from head360.rendering.splats import Gaussians, Layers, Pinhole, keep_gradient

LOW_PASS = 0.3  # px²
MAX_ALPHA = 0.999
MIN_ALPHA = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4


class Projected(NamedTuple):
    """Gaussians on the screen: (N, 2) pixels, (N, 2, 2) px², (N,) metres, (N,), (N,) bool."""

    means2d: Tensor
    covariances: Tensor
    depths: Tensor
    compensations: Tensor
    drawn: Tensor


def rotations(quaternions: Tensor) -> Tensor:
    """(N, 4) scalar-first quaternions of any length → (N, 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    axis = torch.stack([x, y, z], -1)
    zero = torch.zeros_like(w)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    outer = axis[:, :, None] * axis[:, None, :]
    # R = (w² − |v|²)·I + 2·v·vᵀ + 2·w·[v]×
    scalar = (w * w - (axis * axis).sum(-1))[:, None, None]
    return scalar * eye + 2 * outer + 2 * w[:, None, None] * cross


def project(gaussians: Gaussians, pinhole: Pinhole) -> Projected:
    """EWA projection. Gaussians in front of ``near`` have ``drawn`` False and harmless numbers."""
    means = gaussians.means
    world2cam = torch.as_tensor(pinhole.world2cam, dtype=means.dtype, device=means.device)
    local = means @ world2cam[:3, :3].T + world2cam[:3, 3]
    drawn = local[:, 2] >= pinhole.near
    local = torch.where(drawn[:, None], local, local.new_tensor([0.0, 0.0, 1.0]))
    x, y, z = local.unbind(-1)
    (fx, fy), (cx, cy) = pinhole.focal, pinhole.centre
    margin_x, margin_y = 0.15 * pinhole.width / fx, 0.15 * pinhole.height / fy
    tx = (x / z).clamp(-cx / fx - margin_x, (pinhole.width - cx) / fx + margin_x)
    ty = (y / z).clamp(-cy / fy - margin_y, (pinhole.height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * tx / z, zero, fy / z, -fy * ty / z], -1)
    spread = rotations(gaussians.quaternions) * gaussians.scales[:, None, :]
    half = jacobian.reshape(-1, 2, 3) @ world2cam[:3, :3] @ spread
    sharp = half @ half.transpose(1, 2)
    soft = sharp + LOW_PASS * torch.eye(2, dtype=means.dtype, device=means.device)
    ratio = (_determinant(sharp) / _determinant(soft)).clamp(min=0)
    compensations = torch.where(ratio > 1e-12, ratio, 1.0).sqrt() * (ratio > 1e-12)
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return Projected(means2d, soft, z, compensations, drawn)


def _determinant(matrices: Tensor) -> Tensor:
    return matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]


def conics(covariances: Tensor) -> Tensor:
    """(N, 2, 2) covariances → (N, 3) entries (xx, xy, yy) of their inverses."""
    entries = [covariances[:, 1, 1], -covariances[:, 0, 1], covariances[:, 0, 0]]
    return torch.stack(entries, -1) / _determinant(covariances)[:, None]


def extents(conic: Tensor, opacities: Tensor, drawn: Tensor) -> Tensor:
    """(N, 2) half width and height in pixels of {α ≥ 1/255}; zero where nothing is drawn."""
    shown = drawn & (opacities >= MIN_ALPHA)
    reach = 2 * (torch.where(shown, opacities, 1.0) / MIN_ALPHA).log()
    determinant = conic[:, 0] * conic[:, 2] - conic[:, 1] ** 2
    half = (reach / determinant)[:, None] * conic[:, [2, 0]]
    return torch.where(shown[:, None], half.clamp(min=0).sqrt(), 0.0)


def rasterize_dense(
    gaussians: Gaussians, pinhole: Pinhole, antialiased: bool = False, *, cut_offs: bool = True
) -> Layers:
    """Every Gaussian over every pixel: O(N·H·W) memory. ``cut_offs`` False leaves out the
    thresholds 1/255 and 1e-4, as in the paper's formulas; the clamp of α stays."""
    flat = project(gaussians, pinhole)
    opacities = gaussians.opacities
    if antialiased:
        opacities = opacities * flat.compensations
    keep_gradient(flat.means2d)
    order = torch.argsort(flat.depths, stable=True)
    order = order[flat.drawn[order]]
    rows = torch.arange(pinhole.height, device=order.device) + 0.5
    columns = torch.arange(pinhole.width, device=order.device) + 0.5
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (H, W, 2)
    grid = grid.to(flat.depths.dtype)
    offset = grid[None] - flat.means2d[order, None, None]  # (N, H, W, 2)
    precision = torch.linalg.inv(flat.covariances)[order]
    q = 0.5 * torch.einsum("nhwi,nij,nhwj->nhw", offset, precision, offset)
    alpha = (opacities[order, None, None] * torch.exp(-q)).clamp(max=MAX_ALPHA)
    if cut_offs:
        alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0.0)
        alpha = alpha * ((1 - alpha).cumprod(0) > MIN_TRANSMITTANCE)
    after = (1 - alpha).cumprod(0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weight = alpha * before
    colour = torch.einsum("nhw,nc->hwc", weight, gaussians.colours[order])
    depth = torch.einsum("nhw,n->hw", weight, flat.depths[order])
    radii = extents(conics(flat.covariances), opacities, flat.drawn).amax(1)
    return Layers(colour, depth, (1 - alpha).prod(0), flat.means2d, radii)
