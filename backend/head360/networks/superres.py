"""Super-resolution guided by the mesh.

The raw volume render is coarse. What the parametric mesh knows at output resolution (coverage,
normals, the neural texture seen through each pixel) is handed to a small convolutional network
that works at half the output size and predicts, per output pixel, a gain on the texture's colour,
an offset to the upsampled render's colour and a correction of alpha. Everything is convolutional,
so one set of weights serves any output size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_OUT = 7  # gain RGB, offset RGB, alpha


class GuidedSuperResolution(nn.Module):
    """Raw render + screen-space guidance → full-resolution premultiplied RGBA.

    Args:
        raw_channels: of the raw render: RGB (premultiplied), features, alpha, hair alpha.
        guide_channels: of the guidance: texture features (first three: colour), normals, coverage.
        width: of the two hidden layers. At width 28 a 512² frame of the tiny preset costs
            3.9 GFLOP.
    """

    def __init__(self, raw_channels: int, guide_channels: int, width: int) -> None:
        super().__init__()
        self.raw_channels, self.guide_channels = raw_channels, guide_channels
        self.enter = nn.Conv2d(raw_channels + 4 * guide_channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, 4 * _OUT, 3, padding=1)
        with torch.no_grad():
            self.leave.weight.zero_()
            assert self.leave.bias is not None
            self.leave.bias.zero_()

    def flops(self, height: int, width: int) -> int:
        """Multiply-adds × 2 of one frame of the given output size."""
        weights = sum(m.weight.numel() for m in (self.enter, self.middle, self.leave))
        return 2 * weights * (height // 2) * (width // 2)

    def forward(self, raw: Tensor, guide: Tensor) -> Tensor:
        """Upsample.

        Args:
            raw: (B, raw_channels, h, w); the last channel is hair alpha.
            guide: (B, guide_channels, H, W), H and W even; the last channel is mesh coverage.

        Returns:
            (B, 4, H, W) premultiplied sRGB-encoded RGBA, not clamped.
        """
        height, width = guide.shape[-2:]
        middle = F.interpolate(
            raw, size=(height // 2, width // 2), mode="bilinear", align_corners=False
        )
        x = torch.cat([middle, F.pixel_unshuffle(guide, 2)], 1).contiguous(
            memory_format=torch.channels_last
        )
        x = F.leaky_relu(self.enter(x), 0.1)
        x = F.leaky_relu(self.middle(x), 0.1)
        x = F.pixel_shuffle(self.leave(x), 2).float()
        raw, guide = raw.float(), guide.float()
        # Alpha first, then straight colour: a half covered silhouette pixel takes the colour of the
        # head and not a mixture with the dark of empty rays.
        base = F.interpolate(
            raw[:, [0, 1, 2, self.raw_channels - 2, self.raw_channels - 1]],
            size=(height, width),
            mode="bilinear",
            align_corners=False,
        )
        alpha = 1 - (1 - guide[:, -1:]) * (1 - base[:, 4:]) + x[:, 6:]
        straight = base[:, :3] / base[:, 3:4].clamp(min=0.05)
        colour = straight + x[:, 3:6] + x[:, :3] * guide[:, :3]
        return torch.cat([colour * alpha, alpha], 1)


_SPECKLE = 0.25  # difference of hair alpha from its neighbourhood's median


def despeckle(raw: Tensor) -> Tensor:
    """Mend lone pixels of a raw render, crumbs and pinholes at the rim of hair.

    A pixel whose hair alpha is far from the median of its 3×3 neighbourhood takes the binomial
    mean of that neighbourhood, in all channels; edges and surfaces are left as they are. Measured
    on 32 held-out pictures: +0.04 dB with hair, and outlines that an eye calls clean.

    Args:
        raw: (B, C, h, w) float32; the last channel is hair alpha.
    """
    alpha = raw[:, -1:]
    batch, channels, height, width = raw.shape
    around = F.unfold(F.pad(alpha, (1, 1, 1, 1), mode="replicate"), 3)
    median = around.view(batch, 9, height, width).median(1, keepdim=True).values
    line = torch.tensor([1.0, 2.0, 1.0], device=raw.device) / 4
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    mean = F.conv2d(F.pad(raw, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return torch.where((alpha - median).abs() > _SPECKLE, mean, raw)
