"""A second look at a face that is already found: 68 + 468 points from an upright crop of it.

The first network (``networks.portrait``) must find its way in any crop at 112 pixels. This one sees
the same face turned upright, scaled to its window and nearly twice as large, and says where each
point is by a map of its own (integral regression: Sun et al. 2018; Nibali et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.portrait import DENSE, LANDMARKS, POINTS, Bottleneck, ConvNorm

KIND = "portrait-closer"
MARGIN = 1.16  # side of a crop over the side of the box around all 536 points


@dataclass(frozen=True)
class CloserConfig:
    """Of a :class:`CloserNet`.

    Attributes:
        size: pixels per side of a crop; a multiple of 32.
        widths: channels of the trunk at strides 2, 4, 8, 16 and 32.
        maps: channels of the branch that draws the maps.
    """

    size: int = 192
    widths: tuple[int, int, int, int, int] = (16, 24, 48, 72, 88)
    maps: int = 56


@dataclass
class CloserMarks:
    """What a crop holds.

    Attributes:
        points: (B, 536, 2) in [−1, 1] over the crop; they cannot lie outside it.
        fine: (B, 68, S/4, S/4) log probability that a landmark is in a cell.
        coarse: (B, 468, S/8, S/8) the same of the dense points.
        log_deviation: (B, 536) natural log of the expected distance from the truth, same unit.
    """

    points: Tensor
    fine: Tensor
    coarse: Tensor
    log_deviation: Tensor


class CloserNet(nn.Module):
    """Crop → points, with maps at a quarter (landmarks) and an eighth (dense) of its size."""

    def __init__(self, config: CloserConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CloserConfig()
        if config.size % 32:
            raise ValueError(f"crops of {config.size} pixels, which 32 does not divide")
        a, b, c, d, e = config.widths
        wide = config.maps
        self.enter = nn.Sequential(ConvNorm(3, a, 3, 2), ConvNorm(a, a, 3, 1, a))
        self.quarter = nn.Sequential(ConvNorm(a, b, 3, 2), Bottleneck(b, b))
        self.eighth = nn.Sequential(Bottleneck(b, c, 2), Bottleneck(c, c), Bottleneck(c, c))
        self.sixteenth = nn.Sequential(
            Bottleneck(c, d, 2, 4), Bottleneck(d, d), Bottleneck(d, d), Bottleneck(d, d)
        )
        self.last = nn.Sequential(Bottleneck(d, e, 2, 4), Bottleneck(e, e), Bottleneck(e, e))
        self.lateral = nn.ModuleList(ConvNorm(n, wide, act=False) for n in (b, c, d, e))
        self.mix = nn.ModuleList(Bottleneck(wide, wide, widen=2) for _ in range(2))
        self.finish = nn.ModuleList(
            nn.Sequential(Bottleneck(wide, wide, widen=2), ConvNorm(wide, wide)) for _ in range(2)
        )
        self.fine = nn.Conv2d(wide, LANDMARKS, 1)
        self.coarse = nn.Conv2d(wide, DENSE, 1)
        for maps in (self.fine, self.coarse):
            nn.init.normal_(maps.weight, std=0.02)
        # A map's own width says how sure it is; one line per point makes it a distance.
        self.offset = nn.Parameter(torch.full((POINTS,), -1.5))
        self.slope = nn.Parameter(torch.full((POINTS,), 0.7))

    def forward(self, x: Tensor) -> CloserMarks:
        """(B, 3, S, S) sRGB in [0, 1]."""
        quarter = self.quarter(self.enter(x * 2 - 1))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        y = self.mix[0](
            _doubled(self.lateral[3](self.last(sixteenth))) + self.lateral[2](sixteenth)
        )
        y = self.mix[1](_doubled(y) + self.lateral[1](eighth))
        coarse = self.coarse(self.finish[0](y))
        fine = self.fine(self.finish[1](_doubled(y) + self.lateral[0](quarter)))
        places, spread, logs = [], [], []
        for logits in (fine, coarse):
            heat = logits.flatten(2).log_softmax(2)
            grid = map_grid(logits)
            chance = heat.exp()
            mean = torch.einsum("bkn,nd->bkd", chance, grid)
            square = torch.einsum("bkn,n->bk", chance, grid.square().sum(1))
            places.append(mean)
            spread.append((square - mean.square().sum(2)).clamp(min=1e-6).sqrt())
            logs.append(heat.unflatten(2, logits.shape[2:]))
        width = torch.cat(spread, 1).detach().log()
        deviation = (self.offset + self.slope * width).clamp(-7.0, 1.0)
        return CloserMarks(torch.cat(places, 1), logs[0], logs[1], deviation)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def map_grid(like: Tensor) -> Tensor:
    """(H·W, 2) x and y of the middles of the cells of (…, H, W) maps, in half crops."""
    rows, columns = ((torch.arange(n, device=like.device) * 2 + 1) / n - 1 for n in like.shape[-2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], 2).flatten(0, 1)
