"""Real spherical harmonics of degree 0 to 3 as view-dependent colour, with gradients.

The basis of 3-D Gaussian Splatting (Kerbl et al. 2023) and of its PLY files: orthonormal on the
sphere, order (l, m) = (0,0), (1,−1), (1,0), (1,1), (2,−2) …, each the real part (m ≥ 0, times √2
for m > 0) or √2 times the imaginary part (m < 0, of Y_l^|m|) with the Condon–Shortley phase; so the
functions of degree 1 are (−y, z, −x) times √(3/4π). Colour is max(0, Σ cₖYₖ(d) + ½), where d is the
unit vector from the camera to the Gaussian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from head360.rendering.cameras import Array

COUNTS = (1, 4, 9, 16)  # coefficients of degree 0, 1, 2, 3
OFFSET = 0.5  # a colour without harmonics is middle grey

_S = 1.0 / math.sqrt(math.pi)
C0 = 0.5 * _S  # Y of degree 0; a plain colour c has the coefficient (c − ½) / C0
_C1 = math.sqrt(3.0) / 2 * _S
_C2A = math.sqrt(15.0) / 2 * _S
_C2B = math.sqrt(5.0) / 4 * _S
_C2C = math.sqrt(15.0) / 4 * _S
_C3A = math.sqrt(35.0 / 2) / 4 * _S
_C3B = math.sqrt(105.0) / 2 * _S
_C3C = math.sqrt(21.0 / 2) / 4 * _S
_C3D = math.sqrt(7.0) / 4 * _S
_C3E = math.sqrt(105.0) / 4 * _S


def from_rgb(rgb: Tensor) -> Tensor:
    """Coefficient of degree 0, (…, 3), that gives the plain colour ``rgb`` (…, 3)."""
    return (rgb - OFFSET) / C0


def basis(directions: Tensor, count: int = 16) -> Tensor:
    """The first ``count`` functions (one of ``COUNTS``) at unit ``directions`` (…, 3) → (…, count).

    Differentiable in the directions.
    """
    x, y, z = directions.unbind(-1)
    functions = [torch.full_like(x, C0)]
    if count > 1:
        functions += [-_C1 * y, _C1 * z, -_C1 * x]
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        functions += [
            _C2A * x * y,
            -_C2A * y * z,
            _C2B * (2 * zz - xx - yy),
            -_C2A * x * z,
            _C2C * (xx - yy),
        ]
    if count > 9:
        functions += [
            -_C3A * y * (3 * xx - yy),
            _C3B * x * y * z,
            -_C3C * y * (4 * zz - xx - yy),
            _C3D * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3C * x * (4 * zz - xx - yy),
            _C3E * z * (xx - yy),
            -_C3A * x * (xx - 3 * yy),
        ]
    return torch.stack(functions, -1)


def colours(
    coefficients: Tensor, means: Tensor, position: Array, degree: int | None = None
) -> Tensor:
    """Colours (N, 3) of Gaussians seen from a camera; numba on the CPU, torch elsewhere.

    Args:
        coefficients: (N, K, 3), K one of ``COUNTS``.
        means: (N, 3) centres; their gradient through the viewing direction counts.
        position: (3,) centre of the camera, same frame as the means.
        degree: the highest degree to evaluate; all of them by default.

    Raises:
        ValueError: the coefficients do not reach that degree.
    """
    if degree is not None:
        if not 0 <= degree <= 3 or COUNTS[degree] > coefficients.shape[1]:
            raise ValueError(
                f"spherical harmonics of degree {degree} need {COUNTS[min(max(degree, 0), 3)]} "
                f"coefficients of degree 0 to 3; there are {coefficients.shape[1]}"
            )
        coefficients = coefficients[:, : COUNTS[degree]]
    if means.device.type == "cpu":
        return _Colours.apply(coefficients, means, np.asarray(position, dtype=np.float64))
    origin = torch.as_tensor(position, dtype=means.dtype, device=means.device)
    directions = torch.nn.functional.normalize(means - origin, dim=-1)
    weights = basis(directions, coefficients.shape[1])
    return ((weights[..., None] * coefficients).sum(1) + OFFSET).clamp(min=0)


class _Colours(torch.autograd.Function):
    """Both passes in numba; the basis is evaluated again on the way back instead of being kept."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, means: Tensor, position: Array) -> Tensor:
        out = torch.empty(len(means), 3, dtype=means.dtype)
        _evaluate(_numpy(coefficients), _numpy(means), position, out.numpy())
        ctx.save_for_backward(coefficients, means, out)
        ctx.position = position
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        coefficients, means, out = (_numpy(t) for t in ctx.saved_tensors)
        outputs = tuple(torch.empty(t.shape, dtype=t.dtype) for t in ctx.saved_tensors[:2])
        d_coefficients, d_means = (t.numpy() for t in outputs)
        _evaluate_backward(
            coefficients, means, ctx.position, out, _numpy(grads[0]), d_coefficients, d_means
        )
        return (*outputs, None)


def _numpy(tensor: Tensor) -> Array:
    """A C-contiguous view where possible; the kernels are compiled for contiguous arrays only."""
    return np.ascontiguousarray(tensor.detach().numpy())


@njit(cache=True, error_model="numpy")
def _functions(x, y, z, count, f):  # type: ignore[no-untyped-def]
    """The first ``count`` functions at a unit vector into ``f``; see :func:`basis`."""
    f[0] = C0
    if count > 1:
        f[1], f[2], f[3] = -_C1 * y, _C1 * z, -_C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        f[4], f[5], f[6] = _C2A * x * y, -_C2A * y * z, _C2B * (2 * zz - xx - yy)
        f[7], f[8] = -_C2A * x * z, _C2C * (xx - yy)
        if count > 9:
            f[9], f[10] = -_C3A * y * (3 * xx - yy), _C3B * x * y * z
            f[11], f[12] = -_C3C * y * (4 * zz - xx - yy), _C3D * z * (2 * zz - 3 * xx - 3 * yy)
            f[13], f[14] = -_C3C * x * (4 * zz - xx - yy), _C3E * z * (xx - yy)
            f[15] = -_C3A * x * (xx - 3 * yy)


@njit(cache=True, error_model="numpy")
def _slopes(x, y, z, count, h):  # type: ignore[no-untyped-def]
    """Gradient in (x, y, z) of Σ hₖYₖ, where ``h`` (count,) are the gradients of the functions."""
    gx, gy, gz = 0.0, 0.0, 0.0
    if count > 1:
        gx, gy, gz = -_C1 * h[3], -_C1 * h[1], _C1 * h[2]
    if count > 4:
        gx += _C2A * (y * h[4] - z * h[7]) - 2 * _C2B * x * h[6] + 2 * _C2C * x * h[8]
        gy += _C2A * (x * h[4] - z * h[5]) - 2 * _C2B * y * h[6] - 2 * _C2C * y * h[8]
        gz += -_C2A * (y * h[5] + x * h[7]) + 4 * _C2B * z * h[6]
    if count > 9:
        xx, yy, zz, xy = x * x, y * y, z * z, x * y
        gx += -6 * _C3A * xy * h[9] + _C3B * y * z * h[10] + 2 * _C3C * xy * h[11]
        gx += -6 * _C3D * x * z * h[12] - _C3C * (4 * zz - 3 * xx - yy) * h[13]
        gx += 2 * _C3E * x * z * h[14] - 3 * _C3A * (xx - yy) * h[15]
        gy += -3 * _C3A * (xx - yy) * h[9] + _C3B * x * z * h[10]
        gy += -_C3C * (4 * zz - xx - 3 * yy) * h[11] - 6 * _C3D * y * z * h[12]
        gy += 2 * _C3C * xy * h[13] - 2 * _C3E * y * z * h[14] + 6 * _C3A * xy * h[15]
        gz += _C3B * xy * h[10] - 8 * _C3C * y * z * h[11] - 8 * _C3C * x * z * h[13]
        gz += _C3D * (6 * zz - 3 * xx - 3 * yy) * h[12] + _C3E * (xx - yy) * h[14]
    return gx, gy, gz


@njit(parallel=True, cache=True, error_model="numpy")
def _evaluate(coefficients, means, position, out):  # type: ignore[no-untyped-def]
    for n in prange(means.shape[0]):
        _evaluate_one(n, coefficients, means, position, out)


@njit(cache=True, error_model="numpy")
def _evaluate_one(n, coefficients, means, position, out):  # type: ignore[no-untyped-def]
    """Gaussian n of :func:`_evaluate`; apart, because parallel functions compile slowly."""
    dx, dy, dz = means[n, 0] - position[0], means[n, 1] - position[1], means[n, 2] - position[2]
    scale = 1.0 / max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
    count = coefficients.shape[1]
    f = np.empty(16)
    _functions(dx * scale, dy * scale, dz * scale, count, f)
    for c in range(3):
        total = OFFSET
        for k in range(count):
            total += f[k] * coefficients[n, k, c]
        out[n, c] = max(total, 0.0)


@njit(parallel=True, cache=True, error_model="numpy")
def _evaluate_backward(  # type: ignore[no-untyped-def]
    coefficients, means, position, out, grad, grad_coefficients, grad_means
):
    for n in prange(means.shape[0]):
        _evaluate_one_backward(
            n, coefficients, means, position, out, grad, grad_coefficients, grad_means
        )


@njit(cache=True, error_model="numpy")
def _evaluate_one_backward(  # type: ignore[no-untyped-def]
    n, coefficients, means, position, out, grad, grad_coefficients, grad_means
):
    """Gaussian n of :func:`_evaluate_backward`."""
    dx, dy, dz = means[n, 0] - position[0], means[n, 1] - position[1], means[n, 2] - position[2]
    scale = 1.0 / max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
    x, y, z = dx * scale, dy * scale, dz * scale
    count = coefficients.shape[1]
    f, h = np.empty(16), np.empty(16)
    _functions(x, y, z, count, f)
    for k in range(count):
        h[k] = 0.0
        for c in range(3):
            g = grad[n, c] if out[n, c] > 0.0 else grad.dtype.type(0.0)
            grad_coefficients[n, k, c] = f[k] * g
            h[k] += coefficients[n, k, c] * g
    gx, gy, gz = _slopes(x, y, z, count, h)
    radial = gx * x + gy * y + gz * z  # a unit vector does not move along itself
    grad_means[n, 0] = (gx - radial * x) * scale
    grad_means[n, 1] = (gy - radial * y) * scale
    grad_means[n, 2] = (gz - radial * z) * scale
