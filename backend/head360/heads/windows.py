"""From poses and windows to pictures: the differentiable render that training and display share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from torch import Tensor
from torch.nn import functional as F

from head360.geometry.lattice import Lattice
from head360.heads.base import Frame
from head360.heads.inputs import ViewInputs
from head360.networks.hexplane import HexPlaneNet, PosePlanes, plane_positions
from head360.networks.planes import lookup
from head360.networks.superres import despeckle
from head360.rendering.cameras import BOX_HALF, Camera
from head360.rendering.raster import PLANES
from head360.rendering.volume import GRID, composite, hair_samples, head_samples

Floats = NDArray[np.float32]

LUMINANCE = (0.2126, 0.7152, 0.0722)  # of sRGB primaries
DYE_CONTRAST = 0.7  # dark strands of light hair would otherwise turn black


def autocast(device: str) -> torch.autocast:
    """bfloat16 for the networks where the hardware has it; never float16 on a CPU."""
    kind = device.split(":")[0]
    enabled = kind == "cuda" or (
        kind == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


@dataclass(frozen=True)
class Dye:
    """Recolours hair by its luminance: strands stay, the average becomes ``colour``.

    Attributes:
        colour: (3,) sRGB in [0, 1].
        mean: mean sRGB luminance of the undyed hair.
    """

    colour: tuple[float, float, float]
    mean: float

    def __call__(self, rgb: Tensor) -> Tensor:
        """(M, 3) sRGB → the same, dyed."""
        light = rgb.float() @ rgb.new_tensor(LUMINANCE).float()
        detail = (light / max(self.mean, 1e-3)).clamp(0.0, 3.0) ** DYE_CONTRAST
        return (detail[:, None] * rgb.new_tensor(self.colour).float()).clamp(0.0, 1.0)


def warp_occupancy(canonical: NDArray[np.uint8], lattice: Lattice) -> NDArray[np.uint8]:
    """Carry a canonical (GRID,)*3 occupancy around one identity."""
    axis = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID * 2 - 1
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = lattice.to_canonical(np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32))
    cell = np.clip(((points + 1) * 0.5 * GRID).astype(int), 0, GRID - 1)
    return canonical[cell[:, 2], cell[:, 1], cell[:, 0]].reshape(GRID, GRID, GRID)


def enclosure(planes: PosePlanes, points: Tensor) -> Tensor:
    """(M,) depth by which a point lies inside the mesh as seen from five sides (negative outside).

    The view from below is left out: the bust is open there, and would not count as solid.
    """
    depths = planes.planes[..., -2:]
    # Empty pixels carry the depth of the far side of the box; a point there is not "inside".
    depths = torch.where(depths > 1.99, torch.full_like(depths, 4.0), depths)
    depth = lookup(depths.contiguous(), plane_positions(points))
    inside = []
    for plane, (_, row, view) in enumerate(PLANES):
        inside.append((1 - points[:, view]) - depth[plane, :, 0])
        if (row, view) != (2, 1):
            inside.append((1 + points[:, view]) - depth[plane, :, 1])
    return torch.stack(inside, 1).amin(1)


# Least optical thickness of the head where a ray meets its mesh, and where it grazes the outline.
_SOLID, _GRAZING = 3.0, 0.3


def solid(optical: Tensor, hit: Tensor, inner: Tensor) -> Tensor:
    """Make the head opaque where rays meet its mesh; colours along a ray keep their proportions.

    A texture on another's shape, or a blend of textures, can leave the decoder with next to no
    density. The render then shows paper through the skin, and at the outline, where the
    super-resolution divides by alpha, black crumbs. Trained pairings are thick enough already.

    Args:
        optical: (R, K) optical thickness of the head's samples.
        hit: (R,) bool, rays that meet the mesh; inner: those all of whose neighbours do, too.
    """
    least = inner * (_SOLID - _GRAZING) + hit * _GRAZING
    total = optical.sum(1)
    factor = (least / total.clamp(min=1e-6)).clamp(min=1.0)
    filled = optical * factor[:, None]
    # Rays without any density at all: the same everywhere.
    missing = (least - filled.sum(1)).clamp(min=0.0) / optical.shape[1]
    return filled + missing[:, None]


_HAIR = 0.05  # share of hair in a raw pixel's light that counts


def closed(out: Tensor, raw: Tensor) -> Tensor:
    """A finished picture without slits where the raw render is opaque.

    The super-resolution draws the mesh's outline sharply, also where hair stands behind it: there a
    bright thread would separate face and hair.

    Args:
        out: (B, 4, H, W) premultiplied RGBA. raw: (B, …, alpha, hair alpha), from
            :func:`render_window`.

    Returns:
        (B, 4, H, W) float32; where there is hair, coverage is nowhere below the least of the raw
        pixels around.
    """
    least = -F.max_pool2d(-raw[:, -2:-1].float(), 3, 1, 1)
    least = least * (F.max_pool2d(raw[:, -1:].float(), 3, 1, 1) > _HAIR)  # only hair stands behind
    floor = F.interpolate(least, size=out.shape[-2:], mode="bilinear", align_corners=False)
    alpha = out[:, 3:].float()
    wanted = torch.maximum(alpha, floor)
    return torch.cat([out[:, :3].float() / alpha.clamp(min=1 / 255) * wanted, wanted], 1)


def render_window(
    net: HexPlaneNet,
    texture: Tensor,
    hair: Tensor | None,
    planes: PosePlanes,
    views: list[ViewInputs],
    hair_box: NDArray[np.uint8] | None,
    lattice: Lattice,
    rng: np.random.Generator | None,
    dye: Dye | None = None,
    opaque: bool = False,
) -> tuple[Tensor, Tensor, Floats]:
    """Render equally sized windows of one pose; differentiable. Training and rendering share it.

    Args:
        net: the network.
        texture: (1, S, S, C) neural texture of the subject.
        hair: (3, R, R, C) hair planes, or None for a bald head.
        planes: of the pose.
        views: B windows.
        hair_box: occupancy around this identity, or None.
        lattice: identity → canonical.
        rng: jitters samples while training; None when rendering.
        dye: changes the hair's colour.
        opaque: see :func:`solid`; always when rendering. What is optimised through frozen networks
            asks for it, so that what is seen later is what was compared.

    Returns:
        (B, 4, H, W) premultiplied RGBA at output size, (B, 3 + F + 2, h, w) the raw render
        (RGB, features, alpha, hair alpha), and (B, h, w) depth in metres, +inf where empty.
    """
    config = net.config
    device = planes.planes.device
    # Without jitter the strata show as steps at the hair's rim: pictures get twice the samples.
    hair_count = config.hair_samples * (1 if rng is not None else 2)
    h, w = views[0].mesh_depth.shape
    with torch.autocast(device.type, enabled=False):
        guide = _guide(net, texture, views, device)
    head_lists, hair_lists, hair_points = [], [], []
    points, hits, inners = [], [], []
    for view in views:
        samples, hit = head_samples(view.mesh_depth, view.rays, config.head_samples, rng)
        head_lists.append(samples)
        points.append(_points(view, samples.depth, samples.spacing))
        hits.append(hit)
        inner = binary_erosion(
            hit.reshape(h, w), np.ones((3, 3), dtype=np.bool_), border_value=1
        ).reshape(-1)
        inners.append(inner)
        if rng is None:
            hit = inner
        if hair is not None and hair_box is not None:
            behind = BOX_HALF * 0.01
            # A silhouette's own rays are half beside the head: hair behind it shines through.
            stop = np.where(hit, view.mesh_depth.reshape(-1) + behind, np.inf).astype(np.float32)
            strands = hair_samples(hair_box, view.rays, stop, hair_count, rng)
            hair_lists.append(strands)
            hair_points.append(lattice.to_canonical(_points(view, strands.depth, strands.spacing)))
    sigma_head, colour_head = net.head_field(
        planes, torch.from_numpy(np.concatenate(points)).to(device)
    )
    depth = np.concatenate([s.depth for s in head_lists])
    spacing = np.concatenate([s.spacing for s in head_lists])
    depths, opticals, values = _slots(depth, spacing, sigma_head, colour_head, device)
    if opaque or rng is None:
        opticals = solid(
            opticals,
            torch.from_numpy(np.concatenate(hits)).to(device),
            torch.from_numpy(np.concatenate(inners)).to(device),
        )
    if hair_lists and hair is not None:
        sigma, colour = net.hair_field(
            hair, torch.from_numpy(np.concatenate(hair_points)).to(device)
        )
        if dye is not None:
            colour = torch.cat([dye(colour[:, :3]), colour[:, 3:]], 1)
        depth = np.concatenate([s.depth for s in hair_lists])
        spacing = np.concatenate([s.spacing for s in hair_lists])
        hair_depth, hair_optical, hair_value = _slots(depth, spacing, sigma, colour, device)
        depths = torch.cat([depths, hair_depth], 1)
        opticals = torch.cat([opticals, hair_optical], 1)
        values = torch.cat([values, hair_value], 1)
    is_hair = torch.zeros(depths.shape[1], device=device)
    is_hair[config.head_samples :] = 1.0
    emitted, weights = composite(depths, opticals, values)
    alpha = weights.sum(1, keepdim=True)
    hair_alpha = (weights * is_hair).sum(1, keepdim=True)
    with torch.no_grad():
        finite = torch.where(torch.isfinite(depths), depths, torch.zeros_like(depths))
        mean = (weights * finite).sum(1) / weights.sum(1).clamp(min=1e-6)
        mean = torch.where(alpha[:, 0] > 0.05, mean, torch.full_like(mean, torch.inf))
        depth_maps = mean.view(len(views), h, w).cpu().numpy()
    raw = torch.cat([emitted, alpha, hair_alpha], 1)
    raw = raw.view(len(views), h, w, -1).permute(0, 3, 1, 2)
    if rng is None and hair_lists:
        with torch.autocast(device.type, enabled=False):
            raw = despeckle(raw.float())
    return net.superres(raw, guide), raw, depth_maps


def _points(view: ViewInputs, depth: Floats, spacing: Floats) -> Floats:
    """(M, 3) normalised positions of the used slots, row-major."""
    ray, slot = np.nonzero(spacing)
    return (view.rays.origin + depth[ray, slot][:, None] * view.rays.directions[ray]).astype(
        np.float32
    )


def _slots(
    depth: Floats, spacing: Floats, density: Tensor, colour: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Scatter the values of used slots into (R, K) depth, optical thickness and (R, K, C)."""
    used = torch.from_numpy(np.flatnonzero(spacing)).to(device)
    gaps = torch.from_numpy(np.ascontiguousarray(spacing)).to(device).reshape(-1)
    rows, slots = depth.shape
    optical = torch.zeros(rows * slots, device=device).index_copy(0, used, density * gaps[used])
    values = torch.zeros(rows * slots, colour.shape[1], device=device)
    values = values.index_copy(0, used, colour.float())
    return (
        torch.from_numpy(depth).to(device),
        optical.view(rows, slots),
        values.view(rows, slots, -1),
    )


def _guide(
    net: HexPlaneNet, texture: Tensor, views: list[ViewInputs], device: torch.device
) -> Tensor:
    height, width = views[0].coverage.shape
    offsets = [view.index + k * height * width for k, view in enumerate(views)]
    return net.guide(
        texture,
        torch.from_numpy(np.concatenate([view.uv for view in views])).to(device),
        torch.from_numpy(np.concatenate(offsets)).to(device),
        torch.from_numpy(np.stack([view.normals for view in views])).permute(0, 3, 1, 2).to(device),
        torch.from_numpy(np.stack([view.coverage for view in views]))[:, None].to(device),
    )


def cross_fade(frames: list[tuple[Frame, float]]) -> Frame:
    """Weighted mean of frames, colours by their alpha; the depth is the heaviest frame's."""
    alpha = sum(weight * frame.rgba[..., 3:] for frame, weight in frames)
    light = sum(weight * frame.rgba[..., :3] * frame.rgba[..., 3:] for frame, weight in frames)
    rgba = np.concatenate([light / np.maximum(alpha, 1e-6), alpha], -1).astype(np.float32)
    depth = max(frames, key=lambda item: item[1])[0].depth
    return Frame(np.clip(rgba, 0.0, 1.0), np.where(rgba[..., 3] > 0, depth, np.inf))


def stretched(camera: Camera, width: int, height: int, wide: int, high: int) -> Camera:
    """The same camera for a canvas grown to the right and below: pixel centres stay put."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[0] *= width / wide
    intrinsics[1] *= height / high
    return Camera(camera.cam2world, intrinsics)
