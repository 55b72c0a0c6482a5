"""The small network that turns plane features into density, colour and features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DENSITY_SCALE = 20.0


class FieldDecoder(nn.Module):
    """Features of a point → density, RGB and a feature vector for the super-resolution.

    Args:
        inputs: size of the input vector.
        width: of the two hidden layers.
        features: size of the feature output.
        density_bias: start value of the density's pre-activation; negative starts transparent.
    """

    def __init__(self, inputs: int, width: int, features: int, density_bias: float = -1.0) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(inputs, width)
        self.hidden2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 4 + features)
        with torch.no_grad():
            self.out.weight.mul_(0.5)
            self.out.bias.zero_()
            self.out.bias[0] = density_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, inputs) → density (M,) ≥ 0 per normalised unit, colour+features (M, 3 + features).

        The first three channels are sRGB in [0, 1]; the rest are unbounded.
        """
        x = F.leaky_relu(self.hidden1(x), 0.1)
        x = F.leaky_relu(self.hidden2(x), 0.1)
        x = self.out(x).float()
        density = _DENSITY_SCALE * F.softplus(x[:, 0])
        # The slightly widened sigmoid can reach 0 and 1 exactly (EG3D; method notes §4).
        colour = 1.002 * torch.sigmoid(x[:, 1:4]) - 0.001
        return density, torch.cat([colour, x[:, 4:]], 1)
