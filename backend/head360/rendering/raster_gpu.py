"""Rasterisation on CUDA: nvdiffrast where it is installed, else plain torch operations.

The torch route expands every triangle into the pixels of its bounding box and resolves visibility
with one integer ``scatter_reduce``: licence-free, no compiler needed, and it runs on the CPU too,
where the tests compare it with the numba z-buffer.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from head360.rendering.raster import NEAR, Cutout, Floats, Fragments, Ints

_PAIRS_PER_CHUNK = 1 << 20
_PAIRS_PER_CHUNK_CUDA = 1 << 23  # a few GB: fewer chunks, fewer kernels to launch


def rasterize_gpu(
    screens: Floats, faces: Ints, width: int, height: int, cutout: Cutout | None, device: str
) -> Fragments:
    """See :func:`head360.rendering.raster.rasterize`; ``device`` is any torch device."""
    # nvdiffrast has no alpha test, clips triangles at the near plane where the others drop them,
    # and takes no empty mesh: all these go the torch route.
    if (
        cutout is None
        and len(faces)
        and device.startswith("cuda")
        and screens[..., 2].min() >= NEAR
        and importlib.util.find_spec("nvdiffrast") is not None
    ):
        return _rasterize_nvdiffrast(screens, faces, width, height, device)
    return rasterize_torch(screens, faces, width, height, cutout, device)


def rasterize_torch(
    screens: Floats, faces: Ints, width: int, height: int, cutout: Cutout | None, device: str
) -> Fragments:
    """Pair expansion + depth-key reduction; same rules and result as the numba z-buffer."""
    face, bary, depth = fragments_torch(screens, faces, width, height, cutout, device)
    return Fragments(face.cpu().numpy(), bary.cpu().numpy(), depth.cpu().numpy())


def fragments_torch(
    screens: Floats, faces: Ints, width: int, height: int, cutout: Cutout | None, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of :class:`Fragments` as tensors that stay on the device: int32, float32, float32.

    Args are those of :func:`head360.rendering.raster.rasterize`; ``device`` is any torch device.
    """
    triangles = torch.as_tensor(faces, device=device).long()
    masks = uvs = layers = None
    if cutout is not None:
        masks = torch.as_tensor(cutout.masks, device=device)
        uvs = torch.as_tensor(cutout.corner_uvs, device=device, dtype=torch.float64)
        layers = torch.as_tensor(cutout.layers, device=device).long()
    pairs_per_chunk = _PAIRS_PER_CHUNK_CUDA if device.startswith("cuda") else _PAIRS_PER_CHUNK
    results = []
    for screen in torch.as_tensor(screens, device=device):
        corners = screen[triangles].double()  # (F, 3, 4)
        x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
        left = (x.amin(1) - 0.5).ceil().clamp(0, width).long()
        right = ((x.amax(1) - 0.5).floor() + 1).clamp(0, width).long()
        low = (y.amin(1) - 0.5).ceil().clamp(0, height).long()
        high = ((y.amax(1) - 0.5).floor() + 1).clamp(0, height).long()
        area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
        span = (right - left).clamp(min=0)
        count = span * (high - low).clamp(min=0)
        count = torch.where((z.amin(1) >= NEAR) & (area != 0), count, 0)
        keys = torch.full((height * width,), torch.iinfo(torch.int64).max, device=device)
        live = count.nonzero()[:, 0]
        ends = count[live].cumsum(0)
        start = 0
        while start < len(live):
            base = int(ends[start - 1]) if start else 0
            stop = int(torch.searchsorted(ends, base + pairs_per_chunk, right=True))
            chunk = live[start : max(stop, start + 1)]
            start = max(stop, start + 1)
            tri = chunk.repeat_interleave(count[chunk])
            first = (count[chunk].cumsum(0) - count[chunk]).repeat_interleave(count[chunk])
            local = torch.arange(len(tri), device=device) - first
            column = left[tri] + local % span[tri]
            row = low[tri] + local // span[tri]
            inside, depth, ba, bb = _weights(corners[tri], area[tri], column, row)
            if masks is not None and uvs is not None and layers is not None:
                inside &= _opaque(masks, uvs[tri], layers[tri], ba, bb)
            bits = depth.float()[inside].view(torch.int32).long()
            key = (bits << 32) | tri[inside]
            keys.scatter_reduce_(0, (row * width + column)[inside], key, "amin")
        hit = keys != torch.iinfo(torch.int64).max
        face = torch.where(hit, keys & 0xFFFFFFFF, -1)
        pixel = hit.nonzero()[:, 0]
        tri = face[pixel]
        _, depth, ba, bb = _weights(corners[tri], area[tri], pixel % width, pixel // width)
        bary = torch.zeros(height * width, 2, device=device)
        bary[pixel] = torch.stack([ba, bb], 1).float()
        full = torch.full((height * width,), torch.inf, device=device)
        full[pixel] = depth.float()
        results.append((face.int(), bary, full))
    shape = (len(results), height, width)
    face, bary, depth = (torch.stack([r[k] for r in results]) for k in range(3))
    return (
        face.reshape(shape),
        bary.reshape(*shape, 2),
        depth.reshape(shape),
    )


def _weights(
    corners: Tensor, area: Tensor, column: Tensor, row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coverage, depth and perspective-correct weights of (triangle, pixel) pairs, in float64."""
    px, py = column.double() + 0.5, row.double() + 0.5
    x, y, z, w = corners.unbind(-1)
    la = ((x[:, 1] - px) * (y[:, 2] - py) - (x[:, 2] - px) * (y[:, 1] - py)) / area
    lb = ((x[:, 2] - px) * (y[:, 0] - py) - (x[:, 0] - px) * (y[:, 2] - py)) / area
    # Not 1 - la - lb: its rounding would lose pixels whose centre lies on the edge a-b.
    lc = ((x[:, 0] - px) * (y[:, 1] - py) - (x[:, 1] - px) * (y[:, 0] - py)) / area
    inside = (la >= 0) & (lb >= 0) & (lc >= 0)
    weights = torch.stack([la, lb, lc], 1) * w
    inverse_w = weights.sum(1)
    depth = (weights * z).sum(1) / inverse_w
    return inside, depth, weights[:, 0] / inverse_w, weights[:, 1] / inverse_w


def _opaque(masks: Tensor, uvs: Tensor, layers: Tensor, ba: Tensor, bb: Tensor) -> Tensor:
    """Alpha test of pairs; ``uvs`` (P, 3, 2)."""
    uv = ba[:, None] * uvs[:, 0] + bb[:, None] * uvs[:, 1] + (1 - ba - bb)[:, None] * uvs[:, 2]
    height, width = masks.shape[1:]
    column = (uv[:, 0] * width).long().clamp(0, width - 1)
    row = ((1 - uv[:, 1]) * height).long().clamp(0, height - 1)
    return (layers < 0) | (masks[layers.clamp(min=0), row, column] >= 128)


@functools.cache
def _context(device: str) -> Any:
    """nvdiffrast's context of a device; expensive to make."""
    import nvdiffrast.torch as dr

    return dr.RasterizeCudaContext(device=device)


def _rasterize_nvdiffrast(
    screens: Floats, faces: Ints, width: int, height: int, device: str
) -> Fragments:
    """nvdiffrast's CUDA rasteriser on our screen space (non-commercial licence, optional)."""
    import nvdiffrast.torch as dr

    screen = torch.as_tensor(screens, device=device)
    w = 1.0 / screen[..., 3]
    ndc_x = screen[..., 0] / width * 2 - 1
    ndc_y = screen[..., 1] / height * 2 - 1
    # Any increasing map of depth into (-1, 1) serves the z-test; depth itself is re-interpolated.
    ndc_z = 1 - 2 * NEAR / screen[..., 2]
    clip = torch.stack([ndc_x, ndc_y, ndc_z, torch.ones_like(w)], -1) * w[..., None]
    triangles = torch.as_tensor(faces, device=device)
    out, _ = dr.rasterize(_context(device), clip.contiguous(), triangles, (height, width))
    face = out[..., 3].int() - 1
    bary = torch.where(face[..., None] >= 0, out[..., :2], 0.0)
    depth, _ = dr.interpolate(screen[..., 2:3].contiguous(), out, triangles)
    depth = torch.where(face >= 0, depth[..., 0], torch.inf)
    return Fragments(face.cpu().numpy(), bary.cpu().numpy().astype(np.float32), depth.cpu().numpy())
