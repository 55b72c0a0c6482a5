"""The paper's adversarial objective: dual discriminator, R1, density regularisation, EMA.

Head360 §3.4 (method notes §5): L = L1 + 0.01 · (L_GAN + 0.25 · L_density) for the generator,
non-saturating logistic loss with R1 for the discriminator, both with StyleGAN2's lazy
regularisation. Beside the photometric auto-decoder it adds sharpness, not likeness.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks.discriminator import DualDiscriminator, r1_penalty


@dataclass(frozen=True)
class AdversarialSettings:
    """The adversarial part of a run; the defaults are the paper's.

    Attributes:
        weight: of the GAN loss beside L1.
        density: weight of the density regularisation inside it.
        gamma: of R1.
        lr: of the discriminator (Adam, β = (0, 0.99)), before the lazy correction.
        r1_interval, density_interval: steps between two regularisations.
        base, most: widths of the discriminator.
        ema: half-life of the averaged generator, in pictures.
        rampup: the half-life is at most this share of the pictures seen so far.
        blur: standard deviation in pixels of the blur that real and fake pictures start with,
        blur_pictures: and after how many pictures it is gone.
    """

    weight: float = 0.01
    density: float = 0.25
    gamma: float = 4.0
    lr: float = 0.0025
    r1_interval: int = 16
    density_interval: int = 4
    base: int = 32768
    most: int = 512
    ema: float = 10_000.0
    rampup: float = 0.05
    blur: float = 10.0
    blur_pictures: int = 200_000


@dataclass(frozen=True)
class Batch:
    """What the discriminator looks at.

    Attributes:
        picture: (B, 3, R, R) sRGB over white in [0, 1].
        raw: (B, 3, r, r) the raw render, or the shrunken truth.
        camera: (B, 25); blendshapes: (B, 52).
    """

    picture: Tensor
    raw: Tensor
    camera: Tensor
    blendshapes: Tensor

    def detached(self) -> Batch:
        """The same without history."""
        return Batch(self.picture.detach(), self.raw.detach(), self.camera, self.blendshapes)


class Adversary:
    """The discriminator with its optimiser.

    Args:
        resolution: side of the pictures, a power of two.
        settings: see there.
        device: torch device.
    """

    def __init__(self, resolution: int, settings: AdversarialSettings, device: str = "cpu") -> None:
        self.settings = settings
        self.net = DualDiscriminator(resolution, base=settings.base, most=settings.most).to(device)
        # StyleGAN2's lazy regularisation: the optimiser acts a little more often than it looks.
        share = settings.r1_interval / (settings.r1_interval + 1)
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=settings.lr * share, betas=(0.0, 0.99**share), eps=1e-8
        )
        self.step = 0
        self.seen = 0

    def deception(self, fake: Batch) -> Tensor:
        """Generator loss: mean softplus(−D(fake)), already weighted; D's weights take no gradient.

        Gradients reach the pictures only.
        """
        for parameter in self.net.parameters():
            parameter.requires_grad_(False)
        score = self._score(fake)
        for parameter in self.net.parameters():
            parameter.requires_grad_(True)
        return self.settings.weight * F.softplus(-score).mean()

    def learn(
        self,
        real: Batch,
        fake: Batch,
        average: Callable[[Iterable[nn.Parameter]], None] | None = None,
    ) -> dict[str, float]:
        """One step of the discriminator; returns its losses.

        ``average`` exchanges gradients with other processes, see ``Ranks.average``.
        """
        settings = self.settings
        self.optimiser.zero_grad(set_to_none=True)
        on_fake = F.softplus(self._score(fake.detached())).mean()
        on_real = F.softplus(-self._score(real.detached())).mean()
        (on_fake + on_real).backward()
        values = {"d_fake": float(on_fake.detach()), "d_real": float(on_real.detach())}
        if self.step % settings.r1_interval == 0:
            clear = real.detached()
            inputs = [clear.picture.requires_grad_(), clear.raw.requires_grad_()]
            score = self._score(Batch(inputs[0], inputs[1], clear.camera, clear.blendshapes))
            penalty = r1_penalty(score, inputs)
            (penalty * (settings.gamma / 2 * settings.r1_interval)).backward()
            values["r1"] = float(penalty.detach())
        if average is not None:
            average(self.net.parameters())
        self.optimiser.step()
        self.step += 1
        self.seen += len(real.picture)
        return values

    def _score(self, batch: Batch) -> Tensor:
        sigma = self.settings.blur * max(0.0, 1 - self.seen / self.settings.blur_pictures)
        # One half in pixels of the raw render is the same distance as one in the picture.
        ratio = batch.raw.shape[-1] / batch.picture.shape[-1]
        picture = gaussian_blur(batch.picture, sigma) * 2 - 1
        raw = gaussian_blur(batch.raw, sigma * ratio) * 2 - 1
        scores: Tensor = self.net(picture, raw, batch.camera, batch.blendshapes)
        return scores


def gaussian_blur(pictures: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W) blurred with ``sigma`` pixels; the border is repeated; none below 0.3."""
    if sigma < 0.3:
        return pictures
    radius = min(round(3 * sigma), pictures.shape[-1] - 1, pictures.shape[-2] - 1)
    offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taps = taps / taps.sum()
    channels = pictures.shape[1]
    x = F.pad(pictures, (radius,) * 4, mode="replicate")
    x = F.conv2d(x, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def density_variation(density: Callable[[Tensor], Tensor], points: Tensor, step: Tensor) -> Tensor:
    """E|σ(x) − σ(x + ε)|: calms densities between which no picture decides.

    Args:
        density: (M, 3) normalised points → (M,).
        points: (M, 3) in the box [−1, 1]³ (the release draws them from a box twice as large, where
            only an eighth falls inside; method notes, contradiction 16).
        step: (M, 3) small offsets, such as 0.004 · N(0, 1).
    """
    both = density(torch.cat([points, points + step]))
    return (both[: len(points)] - both[len(points) :]).abs().mean()


class MovingAverage:
    """An exponentially averaged copy of a network, which renders more calmly than the last step.

    Args:
        net: the network in training.
        half_life: in pictures.
        rampup: the half-life is at most this share of the pictures seen.
    """

    def __init__(self, net: nn.Module, half_life: float, rampup: float = 0.05) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.half_life, self.rampup = half_life, rampup

    @torch.no_grad()
    def update(self, net: nn.Module, seen: int, batch: int) -> float:
        """Take in the network after ``seen`` pictures, ``batch`` of them new; returns the decay."""
        half_life = max(min(self.half_life, seen * self.rampup), 1e-8)
        decay = 0.5 ** (batch / half_life)
        for average, value in zip(self.net.parameters(), net.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
        for kept, buffer in zip(self.net.buffers(), net.buffers(), strict=True):
            kept.copy_(buffer)
        return decay
