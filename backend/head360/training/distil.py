"""Distilling a generator from free planes (``head360 train generator``).

Two cores train free textures and hair planes several times faster than a generator. So the tiny
preset learns its planes freely; afterwards a StyleGAN2 generator is fitted to them, and each entry
keeps as a residual what the generator does not say. The trained heads stay what they were, and
codes between and beyond them become heads, too.

A few dozen entries say nothing of what lies between them: a generator that is fitted to them alone,
with codes of its own choice, paints a face red and its neck grey. So codes are the entries'
principal components, and half of the steps look at draws from the codes' Gaussian, which shall be
the same combinations of the entries.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from head360.errors import BadInput
from head360.heads.codes import gaussian_weights
from head360.networks.banks import CodeConfig, CodedPlanes, PlaneBank
from head360.networks.hexplane import HexPlaneNet

log = logging.getLogger(__name__)
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class DistilSettings:
    """Schedule of the fit.

    Attributes:
        steps: per generator; each looks at one entry or one draw.
        lr: peak rate of Adam; it falls to zero.
        drawn: share of the steps that look at draws.
        seed: of initialisation and order.
    """

    steps: int = 1500
    lr: float = 3e-3
    drawn: float = 0.5
    seed: int = 0


def distil(
    bank: PlaneBank,
    codes: CodeConfig,
    settings: DistilSettings,
    progress: Progress | None = None,
) -> tuple[CodedPlanes, float]:
    """Fit a generator to the entries of ``bank``.

    Args:
        bank: at least two entries.
        codes: of the generator; ``residual`` is the side of the residuals, the entries' own side
            for planes that come out as they went in.
        settings: schedule.
        progress: called with (steps done, steps in all, share of the variance explained so far).

    Returns:
        The coded planes, and the share of the entries' variance (around zero, channels weighted
        equally) that the generator explains without residuals.

    Raises:
        BadInput: fewer than two entries.
    """
    entries = [entry.detach() for entry in bank.entries]
    if len(entries) < 2:
        raise BadInput("A generator needs at least two entries to learn from: train more subjects.")
    planes, size, _, channels = entries[0].shape
    device = entries[0].device
    torch.manual_seed(settings.seed)
    side = 1 << (size - 1).bit_length()
    coded = CodedPlanes(len(entries), planes, side, channels, codes).to(device)
    targets = torch.stack([_resized(entry, side) for entry in entries])
    # Every channel counts the same, however large its numbers are.
    spread = targets.square().mean((0, 1, 2, 3)).sqrt().clamp(min=1e-6)
    coded.gain.copy_(spread)
    with torch.no_grad():
        coded.codes.copy_(principal_codes(targets / spread, codes.latent))
    rng = np.random.default_rng(settings.seed)
    generator = [*coded.mapping.parameters(), *coded.synthesis.parameters()]
    optimiser = torch.optim.Adam(generator, lr=settings.lr, betas=(0.9, 0.99))
    order: list[int] = []
    average = 1.0
    for step in range(settings.steps):
        if rng.random() < settings.drawn:
            weights = dict(gaussian_weights(rng, len(entries)))
        else:
            if not order:
                order = rng.permutation(len(entries)).tolist()
            weights = {order.pop(): 1.0}
        share = 0.5 * (1 + np.cos(np.pi * step / settings.steps))
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * share
        optimiser.zero_grad(set_to_none=True)
        code, target = (
            torch.stack([w * values[k] for k, w in weights.items()]).sum(0)
            for values in (coded.codes.detach(), targets)
        )
        error = ((coded.generate(code) - target) / spread).square().mean()
        if not torch.isfinite(error):
            raise BadInput(f"The fit became non-finite at step {step}: try another seed.")
        error.backward()
        optimiser.step()
        average = 0.95 * average + 0.05 * float(error.detach())
        if progress is not None:
            progress(step + 1, settings.steps, 1 - average)
    left = 0.0
    with torch.no_grad():
        for index in range(len(entries)):
            rest = targets[index] - coded.generate(coded.codes[index])
            left += float((rest / spread).square().mean())
            if codes.residual:
                coded.entries[index].copy_(_resized(rest, codes.residual))
    return coded, 1 - left / len(entries)


def principal_codes(entries: Tensor, latent: int) -> Tensor:
    """Codes whose blends are as far from each other as the same blends of the entries.

    Args:
        entries: (N, …) float32.
        latent: length of a code, at least 2.

    Returns:
        (N, latent) float32 of mean square 1. The first component is the same for all: the mapping
        sees directions only, and the average of all codes needs one, too. The others are the
        strongest principal components, zero where there are no more.
    """
    flat = entries.flatten(1)
    centred = flat - flat.mean(0)
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())
    used = min(len(flat) - 1, latent - 1)
    scores = vectors.flip(1)[:, :used] * values.flip(0)[:used].clamp(min=0).sqrt()
    # The sign of an eigenvector is chance; the same entries shall give the same codes.
    strongest = scores.abs().argmax(0, keepdim=True)
    scores = scores * torch.where(scores.gather(0, strongest) < 0, -1.0, 1.0)
    scores = scores * (len(flat) * latent / 2 / scores.square().sum().clamp(min=1e-12)).sqrt()
    codes = torch.zeros(len(flat), latent, device=entries.device)
    codes[:, 0] = (latent / 2) ** 0.5
    codes[:, 1 : 1 + used] = scores.float()
    return codes


def _resized(planes: Tensor, side: int) -> Tensor:
    """(P, R, R, C) → (P, side, side, C)."""
    if planes.shape[1] == side:
        return planes
    moved = planes.permute(0, 3, 1, 2)
    resized = F.interpolate(moved, size=(side, side), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


def distil_head(
    net: HexPlaneNet,
    textures: CodeConfig | None,
    hair: CodeConfig | None,
    settings: DistilSettings,
    progress: Progress | None = None,
) -> tuple[HexPlaneNet, dict[str, float]]:
    """A network whose textures, hair planes or both come from codes; all else is the same.

    Args:
        net: trained with free planes.
        textures, hair: sizes of the generators; None leaves those planes free.
        settings, progress: as in :func:`distil`.

    Returns:
        The new network, and by name the share of variance that each generator explains.

    Raises:
        BadInput: the planes come from codes already, or there are too few of them.
    """
    parts = {"texture_codes": (net.textures, textures), "hair_codes": (net.hair_planes, hair)}
    facts: dict[str, float] = {}
    made: dict[str, CodedPlanes] = {}
    for name, (bank, codes) in parts.items():
        if codes is None:
            continue
        if not isinstance(bank, PlaneBank):
            raise BadInput("This model has a generator already: choose one with free planes.")
        start = time.monotonic()
        made[name], facts[name] = distil(bank, codes, settings, progress)
        log.info("%s: %.1f %% of the variance in %.0f s", name, 100 * facts[name],
                 time.monotonic() - start)  # fmt: skip
    config = net.config
    if "texture_codes" in made:
        size = made["texture_codes"].size
        config = dataclasses.replace(config, texture_codes=textures, texture_size=size)
    if "hair_codes" in made:
        size = made["hair_codes"].size
        config = dataclasses.replace(config, hair_codes=hair, hair_size=size)
    result = HexPlaneNet(config, len(_entries(net.textures)), len(_entries(net.hair_planes)))
    state = {
        key: value
        for key, value in net.state_dict().items()
        if not (key.startswith("textures.") and "texture_codes" in made)
        and not (key.startswith("hair_planes.") and "hair_codes" in made)
    }
    for prefix, name in (("textures", "texture_codes"), ("hair_planes", "hair_codes")):
        if name in made:
            state |= {f"{prefix}.{key}": v for key, v in made[name].state_dict().items()}
    result.load_state_dict(state)
    return result, facts


def _entries(bank: PlaneBank | CodedPlanes) -> list[int]:
    count = len(bank.entries) if isinstance(bank, PlaneBank) else len(bank.codes)
    return list(range(count))
