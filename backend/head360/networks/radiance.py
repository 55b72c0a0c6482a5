"""From features to opacity and spherical harmonics (GaussianHead §4.3; method notes §4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OPACITY_ACTIVATIONS = ("sigmoid", "relu")
COLOUR_ACTIVATIONS = ("none", "relu")
_HIDDEN = 64
_COLOUR = 48  # width of what both heads of the colour see


class RadianceDecoder(nn.Module):
    """Features (N, C) → opacity; latent and view direction → spherical harmonics.

    Args:
        channels: C; the latent has as many.
        degree: of the spherical harmonics, 0 to 3.
        opacity_activation: of the two hidden layers, "sigmoid" (released) or "relu".
        colour_activation: of the hidden colour layer, "none" (released) or "relu" (paper).
        opacity_bias: constant that is added to the opacity's logit.
    """

    def __init__(
        self,
        channels: int = 32,
        degree: int = 3,
        opacity_activation: str = "sigmoid",
        colour_activation: str = "none",
        opacity_bias: float = 0.0,
    ) -> None:
        super().__init__()
        if opacity_activation not in OPACITY_ACTIVATIONS:
            raise ValueError(f"no activation {opacity_activation!r} of the opacity net")
        if colour_activation not in COLOUR_ACTIVATIONS:
            raise ValueError(f"no activation {colour_activation!r} of the colour net")
        self.degree = degree
        self.opacity_activation, self.colour_activation = opacity_activation, colour_activation
        self.opacity1 = nn.Linear(channels, _HIDDEN, bias=False)
        self.opacity2 = nn.Linear(_HIDDEN, _HIDDEN, bias=False)
        self.opacity3 = nn.Linear(_HIDDEN, 1 + channels, bias=False)
        self.opacity_bias = opacity_bias
        self.colour1 = nn.Linear(channels + 3, _HIDDEN, bias=False)
        self.colour2 = nn.Linear(_HIDDEN, _COLOUR, bias=False)
        self.dc = nn.Linear(_COLOUR, 3)
        self.rest = nn.Linear(_COLOUR, 3 * ((degree + 1) ** 2 - 1)) if degree else None

    def opacity(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C) → opacity logits (N,), latent (N, C)."""
        act = torch.sigmoid if self.opacity_activation == "sigmoid" else F.relu
        x = act(self.opacity2(act(self.opacity1(features))))
        out = self.opacity3(x)
        return out[:, 0] + self.opacity_bias, out[:, 1:]

    def colour(self, latent: Tensor, directions: Tensor | None) -> Tensor:
        """Spherical harmonics (N, (degree + 1)², 3).

        Args:
            latent: (N, C).
            directions: (N, 3) unit vectors from the camera, or None for the part that does not
                depend on them.
        """
        weight = self.colour1.weight
        x = latent @ weight[:, : latent.shape[1]].T
        if directions is not None:
            x = x + directions @ weight[:, latent.shape[1] :].T
        if self.colour_activation == "relu":
            x = F.relu(x)
        x = self.colour2(x)
        parts = [self.dc(x)] if self.rest is None else [self.dc(x), self.rest(x)]
        return torch.cat(parts, 1).unflatten(1, (-1, 3))

    def direction_matrix(self) -> Tensor | None:
        """(3, (degree + 1)², 3) what a direction adds: colour(l, d) = colour(l, None) + d·B.

        None where the colour is not affine, that is with an activation.
        """
        if self.colour_activation != "none":
            return None
        x = self.colour2.weight @ self.colour1.weight[:, -3:]
        parts = [self.dc.weight @ x] if self.rest is None else [
            self.dc.weight @ x, self.rest.weight @ x
        ]  # fmt: skip
        return torch.cat(parts).T.unflatten(1, (-1, 3))
