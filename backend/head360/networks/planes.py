"""Bilinear lookups in stacks of feature planes, fast in both directions.

Planes are stored channels-last, (P, R, R, C): the four taps of a lookup are then four short
contiguous rows. On the CPU a fused numba kernel replaces ``grid_sample`` (measured about five times
faster forward, more backward, because its gradient needs no atomics: each thread adds into a
buffer of its own). On CUDA ``grid_sample`` is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import get_num_threads, get_thread_id, njit, prange
from torch import Tensor
from torch.nn import functional as F


def lookup(planes: Tensor, positions: Tensor) -> Tensor:
    """Sample every plane at its own 2-D positions.

    Args:
        planes: (P, R, S, C) float32, rows first; row 0 is at coordinate −1.
        positions: (P, M, 2) float32 in [−1, 1]: (column, row) coordinates; texel centres lie at
            (i + 0.5)·2/R − 1 (``align_corners=False``); outside, the border texel is repeated.
            No gradient flows into the positions.

    Returns:
        (P, M, C) float32.
    """
    if planes.device.type == "cpu":
        return _CpuLookup.apply(planes, positions)  # type: ignore[no-any-return]
    sampled = F.grid_sample(
        planes.permute(0, 3, 1, 2),
        positions.detach()[:, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[:, :, 0].transpose(1, 2)


class _CpuLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, planes: Tensor, positions: Tensor) -> Tensor:
        points = np.ascontiguousarray(positions.detach().numpy())
        table = planes.detach().contiguous().numpy()
        out = np.empty((points.shape[0], points.shape[1], table.shape[3]), dtype=np.float32)
        _gather(table, points, out)
        ctx.points, ctx.shape = points, table.shape
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        buffers = np.zeros((get_num_threads(), *ctx.shape), dtype=np.float32)
        _scatter(gradient.contiguous().numpy(), ctx.points, buffers)
        return torch.from_numpy(buffers.sum(0)), None


_CHUNK = 2048


@njit(cache=True, inline="always")
def _taps(x, y, width, height):  # type: ignore[no-untyped-def]
    column = min(max((x + 1) * 0.5 * width - 0.5, 0.0), width - 1.0)
    row = min(max((y + 1) * 0.5 * height - 0.5, 0.0), height - 1.0)
    c0, r0 = int(column), int(row)
    c1, r1 = min(c0 + 1, width - 1), min(r0 + 1, height - 1)
    return c0, c1, r0, r1, np.float32(column - c0), np.float32(row - r0)


@njit(parallel=True, cache=True, fastmath=True)
def _gather(table, points, out):  # type: ignore[no-untyped-def]
    planes, height, width, channels = table.shape
    count = points.shape[1]
    chunks = (count + _CHUNK - 1) // _CHUNK
    for job in prange(planes * chunks):
        plane, chunk = job // chunks, job % chunks
        for m in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, count)):
            c0, c1, r0, r1, fx, fy = _taps(points[plane, m, 0], points[plane, m, 1], width, height)
            w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
            w10, w11 = (1 - fx) * fy, fx * fy
            a, b = table[plane, r0, c0], table[plane, r0, c1]
            c, d = table[plane, r1, c0], table[plane, r1, c1]
            target = out[plane, m]
            for k in range(channels):
                target[k] = w00 * a[k] + w01 * b[k] + w10 * c[k] + w11 * d[k]


@njit(parallel=True, cache=True, fastmath=True)
def _scatter(gradient, points, buffers):  # type: ignore[no-untyped-def]
    planes, height, width = buffers.shape[1], buffers.shape[2], buffers.shape[3]
    channels = buffers.shape[4]
    count = points.shape[1]
    chunks = (count + _CHUNK - 1) // _CHUNK
    for job in prange(planes * chunks):
        plane, chunk = job // chunks, job % chunks
        buffer = buffers[get_thread_id(), plane]
        for m in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, count)):
            c0, c1, r0, r1, fx, fy = _taps(points[plane, m, 0], points[plane, m, 1], width, height)
            w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
            w10, w11 = (1 - fx) * fy, fx * fy
            a, b, c, d = buffer[r0, c0], buffer[r0, c1], buffer[r1, c0], buffer[r1, c1]
            g = gradient[plane, m]
            for k in range(channels):
                a[k] += w00 * g[k]
                b[k] += w01 * g[k]
                c[k] += w10 * g[k]
                d[k] += w11 * g[k]
