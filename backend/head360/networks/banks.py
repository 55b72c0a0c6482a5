"""Where a head's looks are kept: planes that are learned one by one, or generated from codes.

A *bank* holds the neural textures of all subjects, or the hair planes of all styles. Whoever uses
it asks for a blend of entries; one entry is a blend with a single weight. Two kinds:

* ``PlaneBank``: every entry is free. Two cores can train it; blends are linear.
* ``CodedPlanes``: every entry has a latent code; a StyleGAN2 generator turns codes into planes
  (Head360 §3: texture code t, hair code h), and a small residual of its own keeps what the
  generator cannot say. Codes can be drawn anew: heads that nobody has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.stylegan import Mapping, StyleConfig, StyleSynthesis


@dataclass(frozen=True)
class CodeConfig:
    """Sizes of a generator of planes; see ``StyleConfig``.

    Attributes:
        latent: length of a code.
        w: length of the mapped code.
        layers: of the mapping.
        base, most: feature channels at side r are min(base / r, most).
        residual: side of what every entry adds of its own; 0 for nothing.
    """

    latent: int = 64
    w: int = 128
    layers: int = 2
    base: int = 2048
    most: int = 128
    residual: int = 96


@dataclass(frozen=True)
class Blend:
    """Which planes are wanted.

    Attributes:
        weights: (entry, weight) …; they usually add up to 1.
    """

    weights: tuple[tuple[int, float], ...]

    @staticmethod
    def of(index: int) -> Blend:
        """One entry alone."""
        return Blend(((index, 1.0),))


class PlaneBank(nn.Module):
    """Free planes.

    Args:
        count: entries.
        planes, size, channels: every entry is (planes, size, size, channels).
    """

    def __init__(self, count: int, planes: int, size: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.ParameterList(
            nn.Parameter(torch.randn(planes, size, size, channels) * 0.1) for _ in range(count)
        )

    def forward(self, blend: Blend) -> Tensor:
        """(planes, size, size, channels) float32."""
        total: Tensor | None = None
        for index, weight in blend.weights:
            entry = self.entries[index]
            part = entry if weight == 1.0 else entry * weight
            total = part if total is None else total + part
        if total is None:
            raise ValueError("a blend of nothing")
        return total

    def free(self) -> list[nn.Parameter]:
        """Parameters that belong to single entries."""
        return list(self.entries)


class CodedPlanes(nn.Module):
    """Planes from codes, plus a residual per entry.

    Args:
        count: entries.
        planes, size, channels: of the result; ``size`` is a power of two.
        config: of the generator.
    """

    def __init__(
        self, count: int, planes: int, size: int, channels: int, config: CodeConfig
    ) -> None:
        super().__init__()
        self.planes, self.size, self.channels = planes, size, channels
        self.codes = nn.Parameter(torch.randn(count, config.latent))
        self.mapping = Mapping(config.latent, w=config.w, layers=config.layers)
        self.synthesis = StyleSynthesis(
            StyleConfig(size, planes * channels, config.base, config.most, latent=config.w)
        )
        # What the generator's outputs are multiplied with, per channel.
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(channels))
        side = config.residual
        self.entries = nn.ParameterList(
            nn.Parameter(torch.zeros(planes, side, side, channels))
            for _ in range(count if side else 0)
        )

    def forward(self, blend: Blend) -> Tensor:
        """(planes, size, size, channels) float32.

        Codes are blended before the mapping, residuals by the same weights.
        """
        code = sum(
            (weight * self.codes[index] for index, weight in blend.weights),
            torch.zeros_like(self.codes[0]),
        )
        generated = self.generate(code)
        if len(self.entries):
            own = sum(
                (weight * self.entries[index] for index, weight in blend.weights),
                torch.zeros_like(self.entries[0]),
            )
            if own.shape[1] != self.size:
                larger = (self.size, self.size)
                own = F.interpolate(own.permute(0, 3, 1, 2), size=larger, mode="bilinear")
                own = own.permute(0, 2, 3, 1)
            generated = generated + own
        return generated.contiguous()

    def generate(self, code: Tensor) -> Tensor:
        """(latent,) code → (planes, size, size, channels) without any residual."""
        made: Tensor = self.synthesis(self.mapping(code[None]))
        made = made.view(self.planes, self.channels, self.size, self.size)
        return made.permute(0, 2, 3, 1) * self.gain

    def free(self) -> list[nn.Parameter]:
        """Parameters that belong to single entries."""
        return list(self.entries)


Bank = PlaneBank | CodedPlanes
