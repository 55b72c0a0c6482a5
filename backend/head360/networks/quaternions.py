"""Quaternions, scalar first: products, rotation matrices, uniform samples on the 3-sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def product(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product a ⊗ b of (…, 4) quaternions: first b turns, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def matrices(q: Tensor, legacy_norm: bool = False) -> Tensor:
    """Rotation matrices (…, 3, 3) of quaternions (…, 4) of any length but zero.

    R = I + s·(w·[v]× + [v]×²) with s = 2/‖q‖².

    Args:
        q: quaternions.
        legacy_norm: s = 2/‖q‖ as in GaussianHead's release, a rotation at unit length only.
    """
    w, x, y, z = q.unbind(-1)
    squared = (q * q).sum(-1)
    s = 2 / (squared.sqrt() if legacy_norm else squared)
    xx, yy, zz = s * x * x, s * y * y, s * z * z
    xy, xz, yz = s * x * y, s * x * z, s * y * z
    wx, wy, wz = s * w * x, s * w * y, s * w * z
    rows = [
        1 - yy - zz, xy - wz, xz + wy,
        xy + wz, 1 - xx - zz, yz - wx,
        xz - wy, yz + wx, 1 - xx - yy,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def from_matrices(rotation: Tensor) -> Tensor:
    """Unit quaternions (…, 4) with w ≥ 0 of rotation matrices (…, 3, 3).

    Of the four ways to divide (Shepperd 1978) the one with the largest divisor is taken.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # 4·q·qᵀ, row by row: every row is q times four times one of its components.
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 2, 1] + m[..., 1, 2],
    )
    outer = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    q = F.normalize(outer.gather(-2, index)[..., 0, :], dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Unit quaternions (*shape, 4) float32, uniform on the 3-sphere: normalised 4-D normals."""
    return F.normalize(torch.randn(*shape, 4, generator=generator), dim=-1)


def identity(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(*shape, 4) quaternions (1, 0, 0, 0)."""
    q = like.new_zeros(*shape, 4)
    q[..., 0] = 1
    return q
