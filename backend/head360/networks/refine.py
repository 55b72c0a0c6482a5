"""RefineNet: an optional last stage that sharpens finished pictures.

pix2pixHD's global generator and multi-scale patch discriminator (Wang et al. 2018), as Head360 uses
them after everything else is trained (method notes §6). The generator predicts a correction of its
input, so that an untrained or weak net does little harm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class RefineConfig:
    """Sizes of the refine net.

    Attributes:
        width: channels of the stem; 64 is pix2pixHD's, 32 MoFaNeRF's.
        downs: halvings; each doubles the channels.
        blocks: residual blocks at the bottom.
        residual: add the input to the output (ours) instead of painting anew (the original).
    """

    width: int = 64
    downs: int = 4
    blocks: int = 9
    residual: bool = True


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inputs, outputs, kernel),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width, 3),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class RefineNet(nn.Module):
    """(B, 3, H, W) in [−1, 1] → the same, sharper. H and W divisible by 2^downs."""

    def __init__(self, config: RefineConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RefineConfig()
        layers: list[nn.Module] = [_conv(3, config.width, 7)]
        width = config.width
        for _ in range(config.downs):
            layers += [
                nn.Conv2d(width, width * 2, 3, stride=2, padding=1),
                nn.InstanceNorm2d(width * 2),
                nn.ReLU(),
            ]
            width *= 2
        layers += [_Residual(width) for _ in range(config.blocks)]
        for _ in range(config.downs):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 3, 2, padding=1, output_padding=1),
                nn.InstanceNorm2d(width // 2),
                nn.ReLU(),
            ]
            width //= 2
        last = nn.Conv2d(width, 3, 7)
        if config.residual:
            # Starts as the identity: the first step already sees sensible pictures.
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), last)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch."""
        y: Tensor = self.layers(x)
        return (x + y).clamp(-1, 1) if self.config.residual else torch.tanh(y)


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of (condition, picture); returns its features as well."""

    def __init__(self, inputs: int = 6, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        stages = [nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 2), nn.LeakyReLU(0.2))]
        for level in range(layers):
            wider = min(width * 2, 512)
            stride = 2 if level < layers - 1 else 1
            stages.append(
                nn.Sequential(
                    nn.Conv2d(width, wider, 4, stride, 2),
                    nn.InstanceNorm2d(wider),
                    nn.LeakyReLU(0.2),
                )
            )
            width = wider
        stages.append(nn.Sequential(nn.Conv2d(width, 1, 4, 1, 2)))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) → features of every stage; the last one are the patch scores."""
        seen = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen


class MultiScaleDiscriminator(nn.Module):
    """The same kind of patch discriminator on the picture and on smaller copies of it."""

    def __init__(self, scales: int = 2, inputs: int = 6, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(inputs, width, layers) for _ in range(scales)
        )

    def forward(self, condition: Tensor, picture: Tensor) -> list[list[Tensor]]:
        """Two (B, 3, H, W) → per scale, the features of :class:`PatchDiscriminator`."""
        x = torch.cat([condition, picture], 1)
        seen = []
        for net in self.scales:
            seen.append(net(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return seen


def patch_loss(seen: list[list[Tensor]], real: bool) -> Tensor:
    """Least-squares GAN loss of patch scores towards 1 (real) or 0, averaged over the scales."""
    losses = [(features[-1] - float(real)).square().mean() for features in seen]
    return torch.stack(losses).mean()


def feature_loss(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Mean L1 distance of the discriminator's features (pix2pixHD's feature matching)."""
    losses = [
        F.l1_loss(a, b.detach())
        for ours, theirs in zip(fake, real, strict=True)
        for a, b in zip(ours[:-1], theirs[:-1], strict=True)
    ]
    return torch.stack(losses).mean()
