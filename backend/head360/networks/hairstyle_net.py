"""Which hair style a head wears: a small network, and the paper's ResNet-50.

Both look at a window around the head: colours, coverage by hair and coverage by the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.parsing_net import Separable

CHANNELS = 5  # red, green, blue, hair, face
NETWORKS = ("small", "resnet50")


@dataclass(frozen=True)
class StyleConfig:
    """What a style network is.

    Attributes:
        styles: names, in the order of the logits.
        network: one of ``NETWORKS``.
        size: of the window, pixels.
        side: of the window, in units of the face.
        widths, depths: of the small network at size/2, size/4, ….
        dropout: before the last layer.
    """

    styles: tuple[str, ...]
    network: str = "small"
    size: int = 112
    side: float = 6.4
    widths: tuple[int, ...] = (24, 48, 96, 176)
    depths: tuple[int, ...] = (1, 2, 4, 3)
    dropout: float = 0.2


class StyleNet(nn.Module):
    """Separable convolutions, then mean and maximum over the window."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.enter = nn.Conv2d(CHANNELS, widths[0], 3, 2, 1, bias=False)
        self.enter_norm = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        for level, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            if level:
                blocks.append(Separable(widths[level - 1], width, 2))
            blocks.extend(Separable(width, width, 1, 3 if level < 2 else 5) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.leave = nn.Linear(2 * widths[-1], len(config.styles))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5, S, S) float32 → (B, styles) logits."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.relu(self.enter_norm(self.enter(x))))
        return self.leave(self.dropout(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)))


class _Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut (He et al. 2016); the stride sits in the 3×3."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outside, 1, bias=False), nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """The paper's classifier; layers are named as in published weights, the first sees 5 planes."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(CHANNELS, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inside = 64
        for number, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            layers = []
            for block in range(depth):
                layers.append(_Bottleneck(inside, width, 2 if block == 0 and number > 1 else 1))
                inside = 4 * width
            setattr(self, f"layer{number}", nn.Sequential(*layers))
        self.fc = nn.Linear(inside, len(config.styles))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5, S, S) float32 → (B, styles) logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def style_network(config: StyleConfig) -> StyleNet | ResNet50:
    """The network that ``config`` names.

    Raises:
        ValueError: no such network.
    """
    if config.network not in NETWORKS:
        raise ValueError(f"no such style network: {config.network}")
    return StyleNet(config) if config.network == "small" else ResNet50(config)


def style_planes(pixels: Tensor, hair: Tensor, face: Tensor) -> Tensor:
    """What the networks see: colours where there is hair, without the photograph's exposure.

    Args:
        pixels: (B, 3, S, S) sRGB in [0, 1].
        hair: (B, 1, S, S) coverage by hair.
        face: (B, 1, S, S) coverage by skin, eyes, brows and mouth.

    Returns:
        (B, 5, S, S): colour differences in hair, hair, face.
    """
    weight = hair.sum((2, 3), keepdim=True).clamp(min=1.0)
    mean = (pixels * hair).sum((2, 3), keepdim=True) / weight
    apart = (pixels - mean) * hair
    spread = (apart.square().mean(1, keepdim=True).sum((2, 3), keepdim=True) / weight).sqrt()
    return torch.cat([apart / (spread + 0.04), hair * 2 - 1, face * 2 - 1], 1)
