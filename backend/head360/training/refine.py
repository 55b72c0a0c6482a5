"""Training the RefineNet on a frozen head's pictures (``head360 train refine``)."""

from __future__ import annotations

import json
import logging
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.errors import BadInput, Checkpointed
from head360.files import writable_folder, write_text
from head360.heads.hexplane import HexPlaneHead
from head360.networks.refine import (
    MultiScaleDiscriminator,
    RefineConfig,
    RefineNet,
    feature_loss,
    patch_loss,
)
from head360.training import checkpoint
from head360.training.metrics import on_white
from head360.training.shots import Shots

log = logging.getLogger(__name__)

_KEPT = 512 << 20  # bytes of rendered pictures that are kept: the head is frozen


@dataclass(frozen=True)
class RefineSettings:
    """Schedule and losses of the refine stage.

    Attributes:
        steps: optimisation steps; one picture each, as pix2pixHD.
        lr: of both networks, Adam with β = (0.5, 0.999).
        crop: side of the random windows that are compared; a multiple of 2^downs.
        l1, similarity, features, adversarial: weights of L1, 1 − SSIM, feature matching and GAN.
            The paper and its supplement name different losses and no weights (method notes,
            contradiction 13); these keep the picture's PSNR.
        discriminator_width: 0 leaves the discriminator out.
        seed: of everything.
        checkpoint_seconds: how often to write.
    """

    steps: int = 2000
    lr: float = 2e-4
    crop: int = 128
    l1: float = 10.0
    similarity: float = 1.0
    features: float = 1.0
    adversarial: float = 0.1
    discriminator_width: int = 16
    seed: int = 0
    checkpoint_seconds: float = 60.0


class _Both(nn.Module):
    """Generator and discriminator in one module, so that one checkpoint holds both."""

    def __init__(self, config: RefineConfig, width: int) -> None:
        super().__init__()
        self.refine = RefineNet(config)
        self.judge = MultiScaleDiscriminator(width=width) if width else None


class RefineTrainer:
    """One run in one folder: ``checkpoint.safetensors``, ``log.jsonl`` and, at the end, ``head/``.

    Args:
        head: a trained head; it stays as it is but for the refine net.
        shots: training pictures.
        config: of the refine net.
        settings: schedule.
        out: run folder.
    """

    def __init__(
        self,
        head: HexPlaneHead,
        shots: Shots,
        config: RefineConfig,
        settings: RefineSettings,
        out: Path,
    ) -> None:
        size = shots.rgba.shape[-2]
        if settings.crop % 2**config.downs or settings.crop > size:
            raise BadInput(
                f"A crop of {settings.crop} does not suit pictures of {size}² and "
                f"{config.downs} halvings: choose a multiple of {2**config.downs} up to {size}."
            )
        self.head, self.shots, self.settings = head, shots, settings
        self.out = writable_folder(out)
        torch.manual_seed(settings.seed)
        self.nets = _Both(config, settings.discriminator_width).to(head.device)
        self.rng = np.random.default_rng(settings.seed)
        # One optimiser over both, stepped with the other's gradients unset: one state to keep.
        self.optimiser = torch.optim.Adam(
            self.nets.parameters(), lr=settings.lr, betas=(0.5, 0.999)
        )
        self.step = 0
        self._stop = False
        self._drafts: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def resume(self) -> None:
        """Go on from the folder's checkpoint, exactly.

        Raises:
            BadInput: there is none, it is damaged, or it belongs to another run.
        """
        path = self.out / "checkpoint.safetensors"
        checkpoint.check(path, self._facts())
        self.step = checkpoint.load(path, self.nets, self.optimiser, self.rng)["step"]

    def run(self) -> None:
        """Train to the end and save the head with its refine net in ``head/``.

        Raises:
            Checkpointed: SIGTERM or SIGINT arrived; everything is saved.
            BadInput: the loss became non-finite; the message names the step.
        """
        previous = {n: signal.signal(n, self._request) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._loop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _request(self, *_: Any) -> None:
        self._stop = True

    def _loop(self) -> None:
        last = said = time.monotonic()
        while self.step < self.settings.steps:
            values = self.train_step()
            self.step += 1
            now = time.monotonic()
            if now - said > 30.0 or self.step == self.settings.steps:
                said = now
                self._record(values)
            if self._stop or self.step == self.settings.steps or (
                now - last > self.settings.checkpoint_seconds
            ):  # fmt: skip
                last = now
                self.save_checkpoint()
            if self._stop:
                raise Checkpointed(
                    f"Stopped at step {self.step}; continue with --resume --out {self.out}."
                )
        self.head.refine = self.nets.refine.eval()
        self.head.save(self.out / "head")

    def pair(self) -> tuple[Tensor, Tensor]:
        """A random window: render and truth, (1, 3, C, C) over white in [−1, 1]."""
        shots, crop = self.shots, self.settings.crop
        group = int(self.rng.integers(len(shots)))
        view = int(self.rng.integers(shots.cameras.shape[1]))
        size = shots.rgba.shape[-2]
        left, top = (int(v) for v in self.rng.integers(0, size - crop + 1, 2))
        pictures = []
        for picture in (
            self._draft(group, view),
            _bytes(shots.rgba[group, view] / np.float32(255)),
        ):
            window = picture[top : top + crop, left : left + crop].astype(np.float32)
            tensor = torch.from_numpy(window).permute(2, 0, 1)[None]
            pictures.append(tensor.to(self.head.device) / 127.5 - 1)
        return pictures[0], pictures[1]

    def _draft(self, group: int, view: int) -> NDArray[np.uint8]:
        """(S, S, 3) render over white; rendering takes longer than a step, so pictures are kept."""
        known = self._drafts.get((group, view))
        if known is not None:
            return known
        shots = self.shots
        size = shots.rgba.shape[-2]
        style = None if shots.style[group] < 0 else shots.styles[shots.style[group]]
        codes = self.head.codes(shots.subjects[shots.subject[group]], style)
        pose = self.head.pose(codes, shots.blendshapes[group])
        drawn = _bytes(self.head.draft(pose, shots.camera(group, view), size, size).rgba)
        if len(self._drafts) * drawn.nbytes < _KEPT:
            self._drafts[group, view] = drawn
        return drawn

    def train_step(self) -> dict[str, float]:
        """One step of both networks; returns the losses."""
        settings, judge = self.settings, self.nets.judge
        source, truth = self.pair()
        self.optimiser.zero_grad(set_to_none=True)
        refined = self.nets.refine(source)
        terms = {
            "l1": settings.l1 * (refined - truth).abs().mean(),
            "similarity": settings.similarity * (1 - ssim(refined, truth)),
        }
        if judge is not None:
            judge.requires_grad_(False)
            fake = judge(source, refined)
            terms["features"] = settings.features * feature_loss(fake, judge(source, truth))
            terms["adversarial"] = settings.adversarial * patch_loss(fake, real=True)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise BadInput(
                f"The loss became non-finite at step {self.step}: start again with another --seed "
                "and another --out."
            )
        total.backward()
        if judge is not None:
            judge.requires_grad_(True)
            wrong = patch_loss(judge(source, refined.detach()), real=False)
            right = patch_loss(judge(source, truth), real=True)
            terms["judge"] = 0.5 * (wrong + right)
            terms["judge"].backward()
        self.optimiser.step()
        return {key: float(value.detach()) for key, value in terms.items()}

    def save_checkpoint(self) -> None:
        """Write the checkpoint atomically."""
        checkpoint.save(
            self.out / "checkpoint.safetensors", self.nets, self.optimiser, self.rng,
            {"step": self.step} | self._facts(),
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        settings = {k: v for k, v in asdict(self.settings).items() if k != "steps"}
        return {"refine": asdict(self.nets.refine.config), "settings": settings}

    def _record(self, values: dict[str, float]) -> None:
        path = self.out / "log.jsonl"
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        write_text(path, old + json.dumps({"step": self.step, **values}) + "\n")
        text = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
        log.info("step %d of %d: %s", self.step, self.settings.steps, text)


def _bytes(rgba: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3) over white, as a file would hold it."""
    return np.rint(on_white(rgba) * 255).astype(np.uint8)


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of (B, C, H, W) pictures in [−1, 1] (Wang et al. 2004).

    Gaussian window, without padding; agrees with scikit-image's ``gaussian_weights=True`` over the
    windows that lie inside.
    """
    channels = a.shape[1]
    offsets = torch.arange(window, device=a.device, dtype=a.dtype) - window // 2
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taps = taps / taps.sum()
    down = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, down, groups=channels), across, groups=channels)

    mean_a, mean_b = mean(a), mean(b)
    variance_a = mean(a * a) - mean_a**2
    variance_b = mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the data range is 2
    score = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return score.mean()
