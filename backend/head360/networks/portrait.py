"""Small convolutional networks that read portraits: blocks, the landmark net, the face finder.

Batch norms are there while training; :func:`fold` works them into the convolutions before them,
which is how weights are stored.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KIND = "portrait-landmarks"  # what a file with weights of a PortraitNet says that it is
MARGIN = 1.5  # side of a crop over the side of the box around the 68 landmarks
LANDMARKS, DENSE = 68, 468
POINTS = LANDMARKS + DENSE
_INSIDE = 0.92  # half crops: points guessed beyond are not looked for in the maps


class ConvNorm(nn.Module):
    """Convolution, batch norm and a rectifier up to 6: (B, C, H, W) → (B, C', H/s, W/s).

    Args:
        channels, out: C, C'.
        kernel: side; stride: s; groups: as in ``nn.Conv2d``; dilation: of the kernel.
        act: False leaves the rectifier out.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        margin = dilation * (kernel // 2)
        self.conv = nn.Conv2d(channels, out, kernel, stride, margin, dilation, groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out, momentum=0.03)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.act else x

    def fold(self) -> None:
        """Work the norm's running statistics into the convolution, for good."""
        norm, conv = self.norm, self.conv
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv.weight = nn.Parameter((conv.weight * gain[:, None, None, None]).detach())
        conv.bias = nn.Parameter((norm.bias - norm.running_mean * gain).detach())
        self.norm = nn.Identity()


class Bottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; added to what came in where it fits."""

    def __init__(
        self, channels: int, out: int, stride: int = 1, widen: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        wide = channels * widen
        self.body = nn.Sequential(
            ConvNorm(channels, wide),
            ConvNorm(wide, wide, 3, stride, wide, dilation),
            ConvNorm(wide, out, act=False),
        )
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


Net = TypeVar("Net", bound=nn.Module)


def fold(net: Net) -> Net:
    """A copy of ``net`` for use: norms folded, evaluation mode."""
    out = copy.deepcopy(net).eval()
    for module in out.modules():
        if isinstance(module, ConvNorm):
            module.fold()
    return out


@dataclass(frozen=True)
class LandmarkConfig:
    """Of a :class:`LandmarkNet`.

    Attributes:
        size: pixels per side of a crop; a multiple of 16.
        channels: at the end of the trunk.
        features: from which all points are guessed at once.
        maps: channels of the branch that looks for each of the 68 points by itself; 0 leaves it
            out, as in weights of version 0.1.
    """

    size: int = 112
    channels: int = 80
    features: int = 160
    maps: int = 0


@dataclass
class Marks:
    """What a crop holds.

    Attributes:
        points: (B, 536, 2) in [−1, 1] over the crop (and beyond, where they lie outside).
        guess: (B, 536, 2) what the whole crop says at once; the same as ``points`` without maps.
        heat: (B, 68, S/4, S/4) log probability that a point is in a cell, or None without maps.
        log_deviation: (B, 536) natural log of the expected distance from the truth, same unit.
        face: (B,) logit that the crop shows a face, roughly centred.
    """

    points: Tensor
    guess: Tensor
    heat: Tensor | None
    log_deviation: Tensor
    face: Tensor


class PointMaps(nn.Module):
    """Where each of the 68 points is, by the mean of a map of probabilities.

    The mean has gradients and no rounding (integral regression: Sun et al. 2018; Nibali et al.
    2018). It cannot lie outside the crop.

    Args:
        channels: of the trunk at strides 4, 8 and 16.
        wide: channels of this branch.
    """

    def __init__(self, channels: tuple[int, int, int], wide: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.coarse = ConvNorm(coarse, wide, act=False)
        self.middle = ConvNorm(middle, wide, act=False)
        self.fine = ConvNorm(fine, wide, act=False)
        self.mix = Bottleneck(wide, wide, widen=2)
        self.last = nn.Sequential(Bottleneck(wide, wide, widen=2), ConvNorm(wide, wide))
        self.maps = nn.Conv2d(wide, LANDMARKS, 1)
        nn.init.normal_(self.maps.weight, std=0.02)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Trunk at strides 4, 8, 16 → (B, 68, 2) places in half crops, (B, 68, H, W) log chance."""
        y = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear")
        y = self.mix(y + self.middle(middle))
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear")
        logits = self.maps(self.last(y + self.fine(fine)))
        heat = logits.flatten(2).log_softmax(2)
        places = torch.einsum("bkn,nd->bkd", heat.exp(), self.grid(logits))
        return places, heat.unflatten(2, logits.shape[2:])

    def grid(self, like: Tensor) -> Tensor:
        """(H·W, 2) x and y of the cells' middles in half crops."""
        rows, columns = (
            (torch.arange(n, device=like.device) * 2 + 1) / n - 1 for n in like.shape[2:]
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack([x, y], 2).flatten(0, 1)


class LandmarkNet(nn.Module):
    """Where the 68 + 468 points of a face are in a crop of it."""

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LandmarkConfig()
        wide = config.channels
        self.body = nn.Sequential(
            ConvNorm(3, 16, 3, 2),
            ConvNorm(16, 16, 3, 1, 16),
            Bottleneck(16, 24, 2),
            Bottleneck(24, 24),
            Bottleneck(24, 40, 2),
            Bottleneck(40, 40),
            Bottleneck(40, 40),
            Bottleneck(40, wide, 2, 4),
            Bottleneck(wide, wide),
            Bottleneck(wide, wide),
        )
        cells = (config.size // 16) ** 2
        self.narrow = ConvNorm(wide, 24)
        self.mix = nn.Linear(24 * cells + wide, config.features)
        self.points = nn.Linear(config.features, POINTS * 2)
        self.deviation = nn.Linear(config.features, POINTS)
        self.maps = PointMaps((24, 40, wide), config.maps) if config.maps else None
        if config.maps:
            # What the maps correct of the 68 points moves the others along.
            self.carry = nn.Linear(LANDMARKS * 2, (POINTS - LANDMARKS) * 2, bias=False)
            nn.init.zeros_(self.carry.weight)
        self.face = nn.Linear(wide, 1)
        nn.init.normal_(self.points.weight, std=0.01)
        nn.init.normal_(self.deviation.weight, std=0.01)
        nn.init.zeros_(self.points.bias)
        nn.init.constant_(self.deviation.bias, -2.5)

    def forward(self, x: Tensor) -> Marks:
        """(B, 3, S, S) sRGB in [0, 1]."""
        fine = self.body[:4](x * 2 - 1)
        middle = self.body[4:7](fine)
        y = self.body[7:](middle)
        pooled = y.mean((2, 3))
        features = F.relu(self.mix(torch.cat([self.narrow(y).flatten(1), pooled], 1)))
        points = guess = self.points(features).unflatten(1, (POINTS, 2))
        heat = None
        if self.maps is not None:
            found, heat = self.maps(fine, middle, y)
            inside = (guess[:, :LANDMARKS].abs() < _INSIDE).all(2, keepdim=True)
            found = torch.where(inside, found, guess[:, :LANDMARKS])
            moved = (found - guess[:, :LANDMARKS]).flatten(1).detach()
            dense = guess[:, LANDMARKS:] + self.carry(moved).unflatten(1, (-1, 2))
            points = torch.cat([found, dense], 1)
        return Marks(
            points, guess, heat, self.deviation(features).clamp(-6.0, 1.0), self.face(pooled)[:, 0]
        )


STRIDE = 8  # pixels between the places where the finder looks


class FinderNet(nn.Module):
    """Faces of about 16 to 64 pixels anywhere in a picture; larger ones in smaller copies of it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(3, 12, 3, 2),
            Bottleneck(12, 20, 2),
            Bottleneck(20, 20),
            Bottleneck(20, 40, 2),
            Bottleneck(40, 40),
            Bottleneck(40, 40, dilation=2),
            Bottleneck(40, 48),
            Bottleneck(48, 48, dilation=2),
        )
        self.head = nn.Conv2d(48, 4, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        # Faces are rare: the finder begins by seeing none.
        self.head.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) sRGB in [0, 1], sides multiples of 8 → (B, 4, H/8, W/8).

        Channels: logit of a face's centre in this cell; natural log of the side of its box over 32
        pixels; where in the cell the centre is, x and y, 0 to 1 from its top-left corner.
        """
        y: Tensor = self.head(self.body(x * 2 - 1))
        return y


class PortraitNet(nn.Module):
    """Finder and landmarks together: what one weights file holds."""

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        super().__init__()
        self.marks = LandmarkNet(config)
        self.finder = FinderNet()
