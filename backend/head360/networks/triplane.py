"""The multi-resolution tri-plane of GaussianHead (§4.2; method notes §3), with gradients to both
the planes and the positions.

A doppelgänger k of a Gaussian reads a block of C/K channels from the planes xy, xz and yz; the
three readings are multiplied, the resolutions added, and the blocks of all K put side by side.
Planes are stored (3, R, R, C), rows first. Readings are bilinear with ``align_corners``, and the
border is repeated outside [−1, 1].

On the CPU one fused numba kernel does all of this; its backward pass gives every thread a fixed
range of points and a buffer of its own, so that sums come out the same in every run. Elsewhere
``grid_sample`` does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor, nn
from torch.nn import functional as F

MERGES = ("product", "sum")
SLICES = ("block", "last")
_AXES = ((0, 1), (0, 2), (1, 2))  # of xy, xz, yz: the first along a row, the second down the rows


class TriPlane(nn.Module):
    """Planes at several resolutions.

    Args:
        channels: C.
        base: side of the coarsest planes.
        resolutions: multipliers of ``base``; their features are added.
        span: planes start uniform in this range.
        merge: "product" over the three planes, or "sum".
        slicing: "block", doppelgänger k reads channels k·C/K …; "last", all read the last block,
            as the release does by mistake.
    """

    def __init__(
        self,
        channels: int = 32,
        base: int = 64,
        resolutions: tuple[int, ...] = (1, 2, 4, 8),
        span: tuple[float, float] = (0.1, 0.5),
        merge: str = "product",
        slicing: str = "block",
    ) -> None:
        super().__init__()
        if merge not in MERGES or slicing not in SLICES:
            raise ValueError(f"no such tri-plane: merge {merge!r}, slicing {slicing!r}")
        self.channels, self.merge, self.slicing = channels, merge, slicing
        self.planes = nn.ParameterList(
            nn.Parameter(torch.empty(3, base * m, base * m, channels).uniform_(*span))
            for m in resolutions
        )

    def forward(self, points: Tensor) -> Tensor:
        """Features (N, C) of doppelgängers (N, K, 3) in [−1, 1]³.

        Raises:
            ValueError: K does not divide C.
        """
        copies = points.shape[1]
        if self.channels % copies:
            raise ValueError(f"{copies} doppelgängers do not divide {self.channels} channels")
        width = self.channels // copies
        last = self.slicing == "last"
        starts = [self.channels - width if last else k * width for k in range(copies)]
        total: Tensor | None = None
        for planes in self.planes:
            part = sample(planes, points, starts, self.merge == "product")
            total = part if total is None else total + part
        if total is None:
            raise ValueError("a tri-plane without resolutions")
        return total

    def roughness(self) -> Tensor:
        """Mean squared difference of neighbouring cells, summed over the resolutions."""
        terms = [
            (p[:, 1:] - p[:, :-1]).square().mean() + (p[:, :, 1:] - p[:, :, :-1]).square().mean()
            for p in self.planes
        ]
        return torch.stack(terms).sum()


def sample(planes: Tensor, points: Tensor, starts: list[int], multiply: bool) -> Tensor:
    """Readings of one resolution.

    Args:
        planes: (3, R, S, C) float32 or float64.
        points: (N, K, 3) of the same dtype, in [−1, 1]³; both receive gradients.
        starts: first channel of each of the K blocks of C/K channels.
        multiply: the three planes are multiplied, else added.

    Returns:
        (N, C): the K blocks side by side.
    """
    if planes.device.type == "cpu":
        return _CpuSample.apply(planes, points, starts, multiply)  # type: ignore[no-any-return]
    return _sample_torch(planes, points, starts, multiply)


def _sample_torch(planes: Tensor, points: Tensor, starts: list[int], multiply: bool) -> Tensor:
    count, copies, _ = points.shape
    width = planes.shape[3] // copies
    table = planes.permute(0, 3, 1, 2)
    blocks = torch.stack([table[:, s : s + width] for s in starts], 1)  # (3, K, c, R, S)
    grid = torch.stack([points[:, :, list(axes)] for axes in _AXES])  # (3, N, K, 2)
    read = F.grid_sample(
        blocks.flatten(0, 1),
        grid.transpose(1, 2).reshape(3 * copies, 1, count, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )  # (3K, c, 1, N)
    read = read.view(3, copies * width, count)
    merged = read[0] * read[1] * read[2] if multiply else read[0] + read[1] + read[2]
    return merged.T.contiguous()


class _CpuSample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, planes: Tensor, points: Tensor, starts: list[int], multiply: bool
    ) -> Tensor:
        table = planes.detach().contiguous().numpy()
        where = np.ascontiguousarray(points.detach().numpy())
        first = np.array(starts, dtype=np.int64)
        out = np.empty((len(where), table.shape[3]), dtype=table.dtype)
        _gather(table, where, first, multiply, out)
        ctx.inputs = table, where, first, multiply
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, where, first, multiply = ctx.inputs
        gradient = np.ascontiguousarray(grads[0].numpy())
        buffers = np.zeros((get_num_threads(), *table.shape), dtype=table.dtype)
        moved = np.zeros_like(where)
        _scatter(table, where, first, multiply, gradient, buffers, moved)
        total = buffers[0]
        for buffer in buffers[1:]:
            total += buffer
        return torch.from_numpy(total), torch.from_numpy(moved), None, None


_CHUNK = 512


@njit(cache=True, inline="always")
def _tap(x, size):  # type: ignore[no-untyped-def]
    """Texels on both sides of a coordinate, the weight of the second, and d(weight)/dx."""
    place = (x + 1) * 0.5 * (size - 1)
    slope = 0.5 * (size - 1)
    if not place > 0:  # NaN too
        place, slope = place * 0, slope * 0
    elif place >= size - 1:
        place, slope = place * 0 + (size - 1), slope * 0
    low = min(int(place), size - 1) if place == place else 0
    return low, min(low + 1, size - 1), place - low, slope


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _gather(table, points, starts, multiply, out):  # type: ignore[no-untyped-def]
    count, copies = points.shape[0], points.shape[1]
    height, across, channels = table.shape[1], table.shape[2], table.shape[3]
    width = channels // copies
    for chunk in prange((count + _CHUNK - 1) // _CHUNK):
        for n in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, count)):
            for k in range(copies):
                target = out[n, k * width : (k + 1) * width]
                for plane in range(3):
                    i, j = (0, 1) if plane == 0 else ((0, 2) if plane == 1 else (1, 2))
                    c0, c1, fx, _ = _tap(points[n, k, i], across)
                    r0, r1, fy, _ = _tap(points[n, k, j], height)
                    begin = starts[k]
                    a = table[plane, r0, c0, begin : begin + width]
                    b = table[plane, r0, c1, begin : begin + width]
                    c = table[plane, r1, c0, begin : begin + width]
                    d = table[plane, r1, c1, begin : begin + width]
                    w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
                    w10, w11 = (1 - fx) * fy, fx * fy
                    if plane == 0:
                        for m in range(width):
                            target[m] = w00 * a[m] + w01 * b[m] + w10 * c[m] + w11 * d[m]
                    elif multiply:
                        for m in range(width):
                            target[m] *= w00 * a[m] + w01 * b[m] + w10 * c[m] + w11 * d[m]
                    else:
                        for m in range(width):
                            target[m] += w00 * a[m] + w01 * b[m] + w10 * c[m] + w11 * d[m]


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _scatter(table, points, starts, multiply, gradient, buffers, moved):  # type: ignore[no-untyped-def]
    count, copies = points.shape[0], points.shape[1]
    height, across, channels = table.shape[1], table.shape[2], table.shape[3]
    width = channels // copies
    jobs = buffers.shape[0]
    for job in prange(jobs):
        buffer = buffers[job]
        read = np.empty((3, width), dtype=table.dtype)
        for n in range(count * job // jobs, count * (job + 1) // jobs):
            for k in range(copies):
                begin = starts[k]
                for plane in range(3):
                    i, j = (0, 1) if plane == 0 else ((0, 2) if plane == 1 else (1, 2))
                    c0, c1, fx, _ = _tap(points[n, k, i], across)
                    r0, r1, fy, _ = _tap(points[n, k, j], height)
                    a = table[plane, r0, c0, begin : begin + width]
                    b = table[plane, r0, c1, begin : begin + width]
                    c = table[plane, r1, c0, begin : begin + width]
                    d = table[plane, r1, c1, begin : begin + width]
                    for m in range(width):
                        top = a[m] + fx * (b[m] - a[m])
                        read[plane, m] = top + fy * (c[m] + fx * (d[m] - c[m]) - top)
                for plane in range(3):
                    i, j = (0, 1) if plane == 0 else ((0, 2) if plane == 1 else (1, 2))
                    one, two = (plane + 1) % 3, (plane + 2) % 3
                    c0, c1, fx, sx = _tap(points[n, k, i], across)
                    r0, r1, fy, sy = _tap(points[n, k, j], height)
                    w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
                    w10, w11 = (1 - fx) * fy, fx * fy
                    along, down = fx * 0, fy * 0
                    for m in range(width):
                        g = gradient[n, k * width + m]
                        if multiply:
                            g *= read[one, m] * read[two, m]
                        q = begin + m
                        a, b = table[plane, r0, c0, q], table[plane, r0, c1, q]
                        c, d = table[plane, r1, c0, q], table[plane, r1, c1, q]
                        along += g * ((1 - fy) * (b - a) + fy * (d - c))
                        down += g * ((1 - fx) * (c - a) + fx * (d - b))
                        buffer[plane, r0, c0, q] += w00 * g
                        buffer[plane, r0, c1, q] += w01 * g
                        buffer[plane, r1, c0, q] += w10 * g
                        buffer[plane, r1, c1, q] += w11 * g
                    moved[n, k, i] += along * sx
                    moved[n, k, j] += down * sy
