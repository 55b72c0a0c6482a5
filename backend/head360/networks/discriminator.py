"""The dual discriminator: is a picture real, seen from this camera, with this expression?

StyleGAN2's residual discriminator on six channels (full picture and raw render, EG3D's dual
discrimination), conditioned by projection on camera and blendshapes (Head360; method notes §5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.stylegan import EqualConv, EqualLinear, Mapping, activate

_HALF = math.sqrt(0.5)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; halves the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs, 3)
        self.second = EqualConv(inputs, outputs, 3, down=True)
        self.shortcut = EqualConv(inputs, outputs, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H/2, W/2)."""
        deep = activate(self.second(activate(self.first(x))))
        return (deep + self.shortcut(x)) * _HALF


class DualDiscriminator(nn.Module):
    """Full picture and raw render, camera and expression → one score each.

    Args:
        resolution: side of the pictures, a power of two ≥ 8.
        camera: length of the camera label.
        blendshapes: length of the expression label, 0 leaves it out.
        base, most: feature channels at side r are min(base / r, most).
        expression_map: length of the embedded expression.
        group: pictures that share the statistics of the last block.
    """

    def __init__(
        self, resolution: int = 512, camera: int = 25, blendshapes: int = 52, base: int = 32768,
        most: int = 512, expression_map: int = 32, group: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        if resolution < 8 or resolution & (resolution - 1):
            raise ValueError(f"resolution {resolution} is no power of two from 8 on")
        self.resolution, self.group = resolution, group

        def width(side: int) -> int:
            return min(base // side, most)

        self.enter = EqualConv(6, width(resolution), 1)
        self.blocks = nn.ModuleList()
        side = resolution
        while side > 4:
            self.blocks.append(ResidualBlock(width(side), width(side // 2)))
            side //= 2
        deep = width(4)
        self.mix = EqualConv(deep + 1, deep, 3)
        self.dense = EqualLinear(deep * 16, deep)
        self.of_camera = Mapping(camera, w=deep, layers=8)
        self.of_expression = (
            Mapping(blendshapes, w=expression_map, layers=2) if blendshapes else None
        )
        embedded = deep + (expression_map if blendshapes else 0)
        self.score = EqualLinear(deep, embedded)

    def forward(
        self, picture: Tensor, raw: Tensor, camera: Tensor, blendshapes: Tensor | None = None
    ) -> Tensor:
        """Scores of a batch; higher is more real.

        Args:
            picture: (B, 3, R, R) sRGB mapped to [−1, 1].
            raw: (B, 3, r, r) the raw render, any size; enlarged here.
            camera: (B, 25), see ``Camera.flat25``.
            blendshapes: (B, 52).
        """
        size = (self.resolution, self.resolution)
        raw = F.interpolate(raw, size=size, mode="bilinear", align_corners=False, antialias=True)
        x = activate(self.enter(torch.cat([picture, raw], 1)))
        for block in self.blocks:
            x = block(x)
        x = activate(self.mix(torch.cat([x, self._variety(x)], 1)))
        x = self.score(activate(self.dense(x.flatten(1))))
        label = self.of_camera(camera)
        if self.of_expression is not None:
            if blendshapes is None:
                raise ValueError("this discriminator needs blendshapes")
            label = torch.cat([label, self.of_expression(blendshapes)], 1)
        return (x * label).sum(1) / math.sqrt(label.shape[1])

    def _variety(self, x: Tensor) -> Tensor:
        """(B, 1, H, W): mean deviation within groups of the batch (Karras et al. 2018, §3)."""
        batch, channels, height, width = x.shape
        group = self.group if batch % self.group == 0 else 1
        grouped = x.float().view(group, -1, channels, height, width)
        deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return deviation.repeat(group).view(batch, 1, 1, 1).expand(-1, 1, height, width).to(x.dtype)


def r1_penalty(scores: Tensor, pictures: list[Tensor]) -> Tensor:
    """Mean squared gradient of the scores with respect to real pictures (Mescheder et al. 2018).

    Args:
        scores: (B,) of :class:`DualDiscriminator`.
        pictures: leaves that require gradients; their penalties are added.

    Returns:
        scalar E‖∇D‖²; multiply with γ/2.
    """
    gradients = torch.autograd.grad(scores.sum(), pictures, create_graph=True)
    return sum((g.square().flatten(1).sum(1).mean() for g in gradients), scores.new_zeros(()))
