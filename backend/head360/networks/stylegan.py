"""The StyleGAN2 family: mapping, modulated convolution, a skip synthesis network and a style U-Net.

After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), written anew
from the paper: weight demodulation instead of instance normalisation, equalised learning rates,
skips to the output. Head360 uses it without noise inputs, without an output activation and with as
many output channels as its neural texture has (method notes §2). Styles are applied to inputs and
outputs of one shared convolution rather than to per-sample weights, which is the same sum and runs
well on a CPU, too.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.2
_GAIN = math.sqrt(2.0)  # keeps the variance through a leaky rectifier of that slope


@dataclass(frozen=True)
class StyleConfig:
    """Sizes of a synthesis network.

    Attributes:
        resolution: output side, a power of two ≥ 8.
        channels: output channels.
        base, most: feature channels at side r are min(base / r, most).
        least: and never fewer than this.
        latent: length of w.
    """

    resolution: int = 256
    channels: int = 32
    base: int = 32768
    most: int = 512
    least: int = 8
    latent: int = 512

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution {self.resolution} is no power of two from 8 on")

    def width(self, side: int) -> int:
        """Feature channels at ``side``."""
        return max(self.least, min(self.base // side, self.most))


def activate(x: Tensor) -> Tensor:
    """Leaky rectifier with the gain that keeps the variance."""
    return F.leaky_relu(x, _SLOPE) * _GAIN


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Binomial low-pass (1 3 3 1)/8 along both axes, zero padded: H → H + 2·padding − 3."""
    channels = x.shape[1]
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0]) * (math.sqrt(gain) / 8.0)
    down = taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1)
    across = taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4)
    x = F.conv2d(x, down, padding=(padding, 0), groups=channels)
    return F.conv2d(x, across, padding=(0, padding), groups=channels)


def upsample(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), zeros inserted and low-passed: no new frequencies."""
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = x
    spread = spread.view(batch, channels, 2 * height, 2 * width)
    # One row and column more at the end, so that the even kernel lands centred.
    return blur(F.pad(spread, (1, 0, 1, 0)), 1, gain=4.0)


def downsample(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, H/2, W/2), low-passed first."""
    return blur(x, 1)[:, :, ::2, ::2]


class EqualLinear(nn.Module):
    """A linear layer whose weights are N(0, 1) and scaled when used (equalised learning rate).

    Args:
        inputs, outputs: sizes.
        bias: start value of the bias.
        rate: learning rate multiplier.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """A convolution with equalised learning rate; ``down`` low-passes and halves the size.

    Args:
        inputs, outputs: channels.
        kernel: 1 or 3.
        bias: add a bias.
        down: halve height and width, which must be even.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, bias: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.padding, self.down = kernel // 2, down

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W), or half of H and W."""
        weight = self.weight * self.scale
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=self.padding)
        # The padding of the blur is chosen so that exactly half of the rows remain.
        return F.conv2d(blur(x, self.padding + 1), weight, self.bias, stride=2)


class Mapping(nn.Module):
    """Latent code and, if any, a label → w.

    Args:
        latent: length of z.
        label: length of the label, 0 for none.
        w: length of the result.
        layers: hidden layers.
        rate: learning rate multiplier of the layers (StyleGAN2's 0.01).
    """

    def __init__(
        self, latent: int, label: int = 0, w: int = 512, layers: int = 2, rate: float = 0.01
    ) -> None:
        super().__init__()
        self.embed = EqualLinear(label, latent) if label else None
        sizes = [latent * (2 if label else 1)] + [w] * layers
        self.layers = nn.ModuleList(
            EqualLinear(a, b, rate=rate) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, latent), (B, label) → (B, w)."""
        x = _unit_rms(z)
        if self.embed is not None:
            if label is None:
                raise ValueError("this mapping needs a label")
            x = torch.cat([x, _unit_rms(self.embed(label))], 1)
        for layer in self.layers:
            x = activate(layer(x))
        return x


def _unit_rms(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class ModulatedConv(nn.Module):
    """A convolution steered by w: inputs are scaled, outputs demodulated to unit variance.

    Args:
        inputs, outputs: channels.
        kernel: 1 or 3.
        latent: length of w.
        up: double height and width.
        demodulate: off for the skips to the output.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, latent: int, up: bool = False,
        demodulate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.affine = EqualLinear(latent, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.padding, self.up, self.demodulate = kernel // 2, up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(B, inputs, H, W), (B, latent) → (B, outputs, H, W) or twice that; no activation."""
        weight = self.weight * self.scale
        style = self.affine(w)
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = blur(x, 1, gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            power = style.square() @ weight.square().sum((2, 3)).T
            x = x * (power + 1e-8).rsqrt()[:, :, None, None]
        return x + self.bias[:, None, None]


class StyleBlock(nn.Module):
    """Two modulated convolutions and the skip to the output, at one resolution.

    Args:
        inputs, width: feature channels coming in and going on.
        channels: of the output.
        latent: length of w.
        up: double the size with the first convolution; without it there is only one.
    """

    def __init__(self, inputs: int, width: int, channels: int, latent: int, up: bool) -> None:
        super().__init__()
        self.first = ModulatedConv(inputs, width, 3, latent, up=True) if up else None
        self.second = ModulatedConv(width if up else inputs, width, 3, latent)
        self.out = ModulatedConv(width, channels, 1, latent, demodulate=False)

    def forward(self, x: Tensor, out: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor]:
        """Features, output so far (half the size) and w → features and output of this size."""
        if self.first is not None:
            x = activate(self.first(x, w))
        x = activate(self.second(x, w))
        here = self.out(x, w)
        return x, here if out is None else upsample(out) + here


class StyleSynthesis(nn.Module):
    """w → feature planes, from a learned constant at 4² up to ``config.resolution``."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.constant = nn.Parameter(torch.randn(1, config.width(4), 4, 4))
        self.blocks = nn.ModuleList()
        side, inputs = 4, config.width(4)
        while side <= config.resolution:
            width = config.width(side)
            self.blocks.append(
                StyleBlock(inputs, width, config.channels, config.latent, up=side > 4)
            )
            side, inputs = side * 2, width

    def forward(self, w: Tensor) -> Tensor:
        """(B, latent) → (B, channels, resolution, resolution)."""
        x = self.constant.expand(len(w), -1, -1, -1)
        out: Tensor | None = None
        for block in self.blocks:
            x, out = block(x, out, w)
        assert out is not None
        return out


class StyleUNet(nn.Module):
    """Planes in, planes out, steered by w: an encoder with skips before the style blocks.

    As in Next3D and Head360 (method notes §2): every level of the encoder adds a projection of the
    shrunken input to the running features; the decoder fuses the encoder's features before each
    style block.

    Args:
        config: of the decoder; ``config.channels`` come out at ``config.resolution``.
        inputs: channels that come in.
        size: side of what comes in, at most the resolution.
        bottom: side of the bottleneck.
    """

    def __init__(self, config: StyleConfig, inputs: int, size: int, bottom: int = 4) -> None:
        super().__init__()
        if not bottom <= size <= config.resolution:
            raise ValueError(f"bottleneck {bottom} ≤ input {size} ≤ {config.resolution} must hold")
        self.config, self.size, self.bottom = config, size, bottom
        self.project, self.mix, self.shrink = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        side = size
        while side > bottom:
            here, below = config.width(side), config.width(side // 2)
            self.project.append(EqualConv(inputs, here, 1))
            self.mix.append(EqualConv(here, here, 3))
            self.shrink.append(EqualConv(here, below, 3, down=True))
            side //= 2
        width = config.width(bottom)
        self.project.append(EqualConv(inputs, width, 1))
        self.mix.append(EqualConv(width, width, 3))
        self.fuse, self.blocks = nn.ModuleList(), nn.ModuleList()
        side = bottom
        self.first = StyleBlock(width, width, config.channels, config.latent, up=False)
        while side < config.resolution:
            here, above = config.width(side), config.width(side * 2)
            skip = here if bottom <= side <= size else 0
            self.fuse.append(EqualConv(here + skip, here, 3))
            self.blocks.append(StyleBlock(here, above, config.channels, config.latent, up=True))
            side *= 2

    def forward(self, planes: Tensor, w: Tensor) -> Tensor:
        """(B, inputs, size, size), (B, latent) → (B, channels, resolution, resolution)."""
        picture, skips = planes, []
        x: Tensor | None = None
        for level, (project, mix) in enumerate(zip(self.project, self.mix, strict=True)):
            seen = project(picture)
            x = activate(mix(activate(seen if x is None else seen + x)))
            skips.append(x)
            if level < len(self.shrink):
                x = activate(self.shrink[level](x))
                picture = downsample(picture)
        assert x is not None
        x, out = self.first(x, None, w)
        for fuse, block in zip(self.fuse, self.blocks, strict=True):
            x = activate(fuse(torch.cat([x, skips.pop()], 1) if skips else x))
            x, out = block(x, out, w)
        return out
