"""A small U-Net that names the parts of a head in a window around it.

Depthwise separable convolutions; the finest maps have half the window's size, and a pixel shuffle
leads back to its own. Two planes of coordinates in units of the face tell a wide window (hair and
shoulders) from a near one (the face alone), so one set of weights serves both. A sketch of what
landmarks say (``face_window.face_layout``) lies beside the picture; it is a hint and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.face_window import LAYOUT_CHANNELS, window_grid

# Sides of the two windows in units of the face: hair and shoulders, and the face alone.
WIDE, NEAR = 6.8, 3.0


@dataclass(frozen=True)
class ParsingConfig:
    """What a parsing network is.

    Attributes:
        size: of the wide window, pixels; a multiple of 2^(levels).
        near: of the near window, where eyes, brows and lips are looked at; 0 is ``size``, as in
            weights of version 0.1.
        classes: of the result.
        widths: channels at size/2, size/4, ….
        depths: blocks of the encoder at each of them; the decoder has half as many, at least one.
    """

    size: int = 128
    near: int = 0
    classes: int = 8
    widths: tuple[int, ...] = (20, 48, 96, 160, 208)
    depths: tuple[int, ...] = (1, 2, 3, 4, 3)

    def pixels(self, side: float) -> int:
        """Pixels per side of the wide or of the near window."""
        return self.near or self.size if side == NEAR else self.size


class Separable(nn.Module):
    """Depthwise and pointwise convolution with batch norm; a residual where the shape stays.

    Args:
        inside, outside: channels.
        stride: 1 or 2.
        kernel: of the depthwise convolution.
    """

    def __init__(self, inside: int, outside: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False
        )
        self.pointwise = nn.Conv2d(inside, outside, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.residual = inside == outside and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W) → (B, outside, H/stride, W/stride)."""
        y = F.relu(self.norm(self.pointwise(self.depthwise(x))))
        return x + y if self.residual else y


class ParsingNet(nn.Module):
    """Window → logits of the labels."""

    def __init__(self, config: ParsingConfig) -> None:
        super().__init__()
        step = 2 ** len(config.widths)
        if len(config.widths) != len(config.depths) or config.size % step or config.near % step:
            raise ValueError(f"no such parsing network: {config}")
        self.config = config
        widths = config.widths
        self.enter = nn.Conv2d(3 * 4 + 2 + LAYOUT_CHANNELS, widths[0], 3, padding=1, bias=False)
        self.enter_norm = nn.BatchNorm2d(widths[0])
        self.down = nn.ModuleList(
            nn.Identity() if level == 0 else Separable(widths[level - 1], width, 2)
            for level, width in enumerate(widths)
        )
        # Large kernels where the maps are small: they see hair and shoulders at once.
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Separable(width, width, 1, 3 if level < 2 else 5) for _ in range(n)))
            for level, (width, n) in enumerate(zip(widths, config.depths, strict=True))
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(low, high, 1, bias=False) for high, low in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(*(Separable(width, width) for _ in range(max(1, n // 2))))
            for width, n in zip(widths[:-1], config.depths[:-1], strict=True)
        )
        self.leave = nn.Conv2d(widths[0], 4 * config.classes, 1)

    def forward(
        self, pixels: Tensor, side: Tensor, layout: Tensor, centre: Tensor | None = None
    ) -> Tensor:
        """Parse.

        Args:
            pixels: (B, 3, S, S) float32 sRGB in [0, 1], of any size S that the levels divide.
            side: (B,) float32 side of each window in units of the face.
            layout: (B, 5, S/2, S/2) float32 sketch of the face; zeros where nothing is known.
            centre: (B, 2) float32 middle of each window, units of the face right of and below
                the face's own; None is there.

        Returns:
            (B, classes, S, S) logits.
        """
        half = window_grid(pixels.shape[-1] // 2, pixels.device).permute(2, 0, 1)
        places = half[None] * (side / 6)[:, None, None, None]
        if centre is not None:
            places = places + centre[:, :, None, None] / 3
        x = torch.cat([F.pixel_unshuffle(pixels * 2 - 1, 2), places, layout], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.enter_norm(self.enter(x)))
        seen: list[Tensor] = []
        for down, blocks in zip(self.down, self.encoder, strict=True):
            x = blocks(down(x))
            seen.append(x)
        for level in reversed(range(len(self.decoder))):
            up = F.interpolate(
                self.lateral[level](x), scale_factor=2.0, mode="bilinear", align_corners=False
            )
            x = self.decoder[level](up + seen[level])
        return F.pixel_shuffle(self.leave(x).contiguous(), 2)
