"""Planes that are learned coarse and fine at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COARSER = (4, 16)  # a coarse level has one cell for so many texels per side


class Pyramid(nn.Module):
    """Feature planes as they were, plus changes on grids of several sizes.

    A change of the whole head arrives within a few steps on the coarse grids, and reaches texels
    that no picture shows; what is small is left to the finest.

    Args:
        planes: (P, S, S, C) parameter that holds the planes; :meth:`write` changes it in place.
    """

    def __init__(self, planes: nn.Parameter) -> None:
        super().__init__()
        self._planes = [planes]  # in a list: not one of this module's own
        self.start: Tensor
        self.register_buffer("start", planes.detach().clone())
        count, size, _, channels = planes.shape
        sides = [size, *(max(2, size // share) for share in _COARSER)]
        self.changes = nn.ParameterList(
            nn.Parameter(torch.zeros(count, channels, side, side, device=planes.device))
            for side in sides
        )

    def forward(self) -> Tensor:
        """(P, S, S, C) the planes now."""
        size = self.start.shape[1]
        total: Tensor = self.changes[0]
        for change in self.changes[1:]:
            total = total + F.interpolate(change, size=(size, size), mode="bilinear")
        return self.start + total.permute(0, 2, 3, 1)

    def write(self) -> None:
        """Put the planes of now into the parameter that they came from."""
        with torch.no_grad():
            self._planes[0].copy_(self())
