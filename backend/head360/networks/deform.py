"""How Gaussians move with the expression: GaussianHead's network, or learned linear bases.

``DeformationField`` is the motion deformation field of GaussianHead (§4.1; method notes §2): an
MLP of encoded position and plain expression. ``LinearBases`` is ours: every Gaussian has r offsets
of its own and all share a matrix that mixes E expression weights into r, so that a frame costs one
small product per Gaussian and weights beyond the trained ones extrapolate linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GEOMETRY = 10  # position 3, rotation 4, scale 3
APPEARANCE = 4  # opacity logit 1, spherical harmonic of degree zero 3


@dataclass(frozen=True)
class Offsets:
    """What an expression adds to N Gaussians.

    Attributes:
        means: (N, 3) in the space of the means.
        rotations: (N, 4) quaternion offsets, scalar first; zero is no rotation.
        scales: (N, 3), of scales or of their logarithms as the configuration says.
        opacities: (N,) of opacity logits, or None.
        colours: (N, 3) of the spherical harmonic of degree zero, or None.
    """

    means: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor | None = None
    colours: Tensor | None = None

    def power(self) -> Tensor:
        """Mean square of the geometric offsets, for a regulariser; a scalar."""
        return torch.cat([self.means, self.rotations, self.scales], 1).square().mean()


def encode(positions: Tensor, frequencies: int) -> Tensor:
    """(N, 3) → (N, 3 + 6·frequencies): x, sin(2⁰x), cos(2⁰x), …, cos(2^(f−1)·x).

    The frequencies are without π, as in the release (method notes §2).
    """
    parts = [positions]
    for octave in range(frequencies):
        angle = positions * 2.0**octave
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, 1)


class DeformationField(nn.Module):
    """(γ(μ), e) → Δμ, Δq, Δs.

    Args:
        expression: E, the length of an expression.
        width, depth: of the hidden layers.
        skip: the input is joined again to the output of this layer, counted from zero.
        frequencies: octaves of the position.
        relu_heads: rectify the offsets (one reading of the paper; it forbids negative ones).
        zero_heads: start from no motion at all.
    """

    def __init__(
        self,
        expression: int,
        width: int = 256,
        depth: int = 8,
        skip: int = 4,
        frequencies: int = 10,
        relu_heads: bool = False,
        zero_heads: bool = False,
    ) -> None:
        super().__init__()
        self.frequencies, self.skip, self.relu_heads = frequencies, skip, relu_heads
        self.encoded = 3 + 6 * frequencies
        inputs = self.encoded + expression
        widths = [inputs if i == 0 else width + inputs * (i == skip + 1) for i in range(depth)]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in widths)
        self.means = nn.Linear(width, 3)
        self.rotations = nn.Linear(width, 4)
        self.scales = nn.Linear(width, 3)
        if zero_heads:
            for head in (self.means, self.rotations, self.scales):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, positions: Tensor, expression: Tensor) -> Offsets:
        """Positions (N, 3) in the space of the means and one expression (E,) for all of them."""
        encoded = encode(positions, self.frequencies)
        x = encoded
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            if index == 0:
                x = self._enter(layer, encoded, expression)
            elif index == self.skip + 1:
                weight = layer.weight[:, self._inputs(expression) :]
                x = self._enter(layer, encoded, expression) + x @ weight.T
            else:
                x = layer(x)
            x = F.relu(x)
        out = [self.means(x), self.rotations(x), self.scales(x)]
        return Offsets(*(F.relu(part) if self.relu_heads else part for part in out))

    def _inputs(self, expression: Tensor) -> int:
        return self.encoded + len(expression)

    def _enter(self, layer: nn.Linear, encoded: Tensor, expression: Tensor) -> Tensor:
        """The part of a layer that sees the input: the expression, the same for all rows, is
        multiplied once instead of N times."""
        shared = torch.mv(layer.weight[:, self.encoded : self._inputs(expression)], expression)
        return F.linear(encoded, layer.weight[:, : self.encoded], layer.bias + shared)


class LinearBases(nn.Module):
    """Offsets of N Gaussians, linear in the expression: Δ_n = U_n · (e·M).

    U belongs to the Gaussians and is handed in, so that densification can treat it like their
    other rows; M (E × r) is kept here. U starts at zero, M with orthonormal columns (the identity
    where r = E): no motion at first, and gradients that tell the expressions apart.
    """

    def __init__(self, expression: int, rank: int) -> None:
        super().__init__()
        mix = torch.eye(expression) if rank == expression else torch.empty(expression, rank)
        if rank != expression:
            nn.init.orthogonal_(mix)
            # Columns of length √(E/r): an average expression moves as much as with full rank.
            mix *= math.sqrt(max(1.0, expression / rank))
        self.mix = nn.Parameter(mix)

    def forward(self, rows: Tensor, expression: Tensor) -> Offsets:
        """Rows U (N, 10 or 14, r) and one expression (E,)."""
        weights = expression @ self.mix
        flat = torch.mv(rows.flatten(0, 1), weights).view(rows.shape[:2])
        offsets = Offsets(flat[:, :3], flat[:, 3:7], flat[:, 7:10])
        if flat.shape[1] == GEOMETRY:
            return offsets
        return Offsets(offsets.means, offsets.rotations, offsets.scales, flat[:, 10], flat[:, 11:])
