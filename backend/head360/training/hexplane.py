"""Photometric auto-decoder training of the hex-plane head (``head360 train hexplane``)."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from head360.errors import BadInput, Checkpointed
from head360.files import writable_folder
from head360.geometry.bilinear import BilinearModel
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs, ViewInputs, Window, pose_inputs, view_inputs
from head360.heads.windows import autocast, render_window
from head360.networks.banks import Blend
from head360.networks.hexplane import HexPlaneConfig, HexPlaneNet, PosePlanes
from head360.rendering.cameras import Camera
from head360.rendering.volume import GRID
from head360.training import checkpoint, glimpses, losses
from head360.training.adversarial import (
    Adversary,
    Batch,
    MovingAverage,
    density_variation,
)
from head360.training.hull import carve
from head360.training.live import LiveStream
from head360.training.parallel import Ranks
from head360.training.reports import Reports
from head360.training.settings import OBJECTIVES, TRAINABLE, TrainSettings, settings_facts
from head360.training.shots import Moment, Shots

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)

_SAVE, _STOP = 1, 2  # decisions of the leading process
_DENSITY_POINTS, _DENSITY_STEP = 1000, 0.004


class Trainer:
    """One training run in one folder.

    Args:
        shots: training pictures.
        config: of the network.
        settings: schedule.
        out: run folder: ``checkpoint.safetensors``, ``previews/``, ``log.jsonl``, ``head/``.
        device: torch device.
        held_out: groups with held-out cameras for previews and progress figures.
        name: of the model; the run folder's by default.
        recipe: facts about data and preset for the manifest.
        stream: draws the groups while training; ``shots`` then serve the hulls of the hair alone.
        ranks: this process among those that train together; alone by default.
        start: weights to begin with instead of random ones and the albedo.

    Raises:
        BadInput: pictures whose side is no power of two, for the adversarial objective.
    """

    def __init__(
        self,
        shots: Shots,
        config: HexPlaneConfig,
        settings: TrainSettings,
        out: Path,
        device: str = "cpu",
        held_out: Shots | None = None,
        name: str | None = None,
        recipe: dict[str, Any] | None = None,
        stream: LiveStream | None = None,
        ranks: Ranks | None = None,
        start: HexPlaneNet | None = None,
    ) -> None:
        self.shots, self.config, self.settings, self.device = shots, config, settings, device
        self.ranks = ranks or Ranks(0, 1, device)
        self.stream = stream
        self.held_out = held_out
        self.out = writable_folder(out)
        self.reports = Reports(self.out, self.ranks.leads)
        self.model = BilinearModel.builtin()
        torch.manual_seed(settings.seed)
        self.net = HexPlaneNet(config, len(shots.subjects), len(shots.styles))
        if shots.atlases is not None:
            for index, atlas in enumerate(shots.atlases):
                self.net.set_albedo(index, atlas)
        if start is not None:
            self.net.load_state_dict(start.state_dict())
        if settings.trainable not in TRAINABLE:
            raise BadInput(f"There is nothing called {settings.trainable!r} to train: {TRAINABLE}.")
        if settings.trainable != "all":
            self.net.requires_grad_(False)
            self.net.hair_planes.requires_grad_(True)
            self.net.hair_decoder.requires_grad_(settings.trainable == "hair")
        self.net.to(device)
        banks = [*self.net.textures.free(), *self.net.hair_planes.free()]
        known = {id(parameter) for parameter in banks}
        networks = [p for p in self.net.parameters() if id(p) not in known and p.requires_grad]
        banks = [p for p in banks if p.requires_grad]
        self.optimiser = torch.optim.Adam(
            [
                {"params": banks, "peak": settings.lr_planes},
                {"params": networks, "peak": settings.lr_networks},
            ],
            betas=(0.9, 0.99),
            lr=settings.lr_networks,
        )
        # Process 0 draws what a process alone would draw.
        rank = self.ranks.rank
        self.rng = np.random.default_rng([settings.seed, rank] if rank else settings.seed)
        self.adversary: Adversary | None = None
        self.average: MovingAverage | None = None
        if settings.objective not in OBJECTIVES:
            raise BadInput(f"There is no objective {settings.objective!r}: {OBJECTIVES}.")
        if settings.objective == "adversarial":
            size = shots.rgba.shape[-2]
            if size & (size - 1) or size < 8:
                raise BadInput(
                    f"The adversarial objective needs pictures of 64, 128, 256 … pixels: {size} is "
                    "none of these, choose another size."
                )
            self.adversary = Adversary(size, settings.adversarial, device)
            self.average = MovingAverage(
                self.net, settings.adversarial.ema, settings.adversarial.rampup
            )
        self.step = 0
        self.seconds = 0.0
        subjects = OrderedDict(
            (name, {"shape": shots.shapes[i], "style": shots.default_style[i]})
            for i, name in enumerate(shots.subjects)
        )
        self.head = HexPlaneHead(
            name or self.out.name, self.model, self._shown(), subjects, shots.styles,
            np.zeros((len(shots.styles), GRID, GRID, GRID), dtype=np.uint8),
            {
                "licence": "GPL-3.0-or-later",
                "notices": shots.notices,
                "preset": (recipe or {}).get("preset", ""),
                "training_data": (recipe or {}).get("data", ""),
                "training": {**(recipe or {}), "settings": asdict(settings)},
            },
            device,
            BilinearModel.builtin_bytes(),
        )  # fmt: skip
        lattices = [self.head.identity(shape)[1] for shape in shots.shapes]
        log.info("carving the hair hulls of %d styles", len(shots.styles))
        self.head._occupancy[:] = carve(shots, self.model, lattices)
        self._stop = False

    # -- loop --------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on from the folder's checkpoint.

        Raises:
            BadInput: there is none, it is damaged, or it belongs to another run.
        """
        path = self.out / "checkpoint.safetensors"
        checkpoint.check(path, self._facts())
        facts = checkpoint.load(path, self.net, self.optimiser, self.rng, self._extra())
        if self.adversary is not None:
            self.adversary.step, self.adversary.seen = facts["adversary"]
        if not self.ranks.leads:
            try:
                self.rng.bit_generator.state = facts["rngs"][self.ranks.rank]
            except (KeyError, IndexError):
                log.warning("the run had fewer processes before: this one starts afresh")
        self.head.refresh()
        self.step, self.seconds = facts["step"], facts["seconds"]
        if facts.get("steps", self.settings.steps) != self.settings.steps:
            log.warning("the run goes on to %d steps, not %d", self.settings.steps, facts["steps"])
        log.info("resumed at step %d", self.step)

    def run(self) -> None:
        """Train to the end of the schedule.

        Raises:
            Checkpointed: SIGTERM or SIGINT arrived; everything is saved.
            BadInput: the loss became non-finite; the message names the step.
        """
        previous = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, self._request_stop)
        try:
            self._loop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _request_stop(self, *_: Any) -> None:
        self._stop = True

    def _loop(self) -> None:
        from tqdm import tqdm

        settings = self.settings
        last_save = last_preview = start = time.monotonic()
        base = self.seconds
        averages: dict[str, float] = {}
        self.net.train()
        # Without a terminal the bar would fill a log file: a line now and then serves there.
        terminal = sys.stderr.isatty()
        bar = tqdm(
            total=settings.steps, initial=self.step, unit="step", mininterval=5.0,
            disable=not terminal,
        )  # fmt: skip
        last_line = start
        while self.step < settings.steps:
            values = self.train_step()
            for key, value in values.items():
                averages[key] = 0.98 * averages.get(key, value) + 0.02 * value
            self.step += 1
            bar.update()
            bar.set_postfix({key: f"{value:.4f}" for key, value in averages.items()}, refresh=False)
            now = time.monotonic()
            self.seconds = base + now - start
            if not terminal and now - last_line > 30.0:
                last_line = now
                text = ", ".join(f"{key} {value:.4f}" for key, value in averages.items())
                log.info("step %d of %d: %s", self.step, settings.steps, text)
            if now - last_preview > settings.preview_seconds or self.step == settings.steps:
                last_preview = now
                self._record(averages)
                self.preview()
            finished = self.step == settings.steps
            due = finished or self._stop or now - last_save > settings.checkpoint_seconds
            decision = self.ranks.decided(_STOP if self._stop else _SAVE if due else 0)
            if decision:
                last_save = now
                self.save_checkpoint()
            if decision == _STOP:
                bar.close()
                self.reports.close()
                raise Checkpointed(
                    f"Stopped at step {self.step}; continue with --resume --out {self.out}."
                )
        bar.close()
        self.reports.close()
        self.head.refresh()
        if self.ranks.leads:
            self.save_head()

    def save_head(self) -> None:
        """Write the package ``head/``."""
        self.head.manifest["training"] |= {"steps": self.step, "seconds": round(self.seconds)}
        self.head.save(self.out / "head")

    def rate(self) -> float:
        """Factor on the peak learning rates at the current step."""
        settings = self.settings
        if self.step < settings.warmup:
            return (self.step + 1) / settings.warmup
        progress = (self.step - settings.warmup) / max(1, settings.steps - settings.warmup)
        return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def train_step(self) -> dict[str, float]:
        """One optimisation step on one group; returns its losses."""
        settings, shots, config = self.settings, self.shots, self.config
        moment = self._next_moment()
        for entry in self.optimiser.param_groups:
            entry["lr"] = entry["peak"] * self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        subject = moment.subject
        style = moment.style if moment.style >= 0 else None
        identity, lattice = self.head.identity(shots.shapes[subject])
        vertices = identity.pose(moment.blendshapes)
        pose = pose_inputs(vertices, self.model.topology, config.plane_size, self.device)
        views, truths, hairs = [], [], []
        for view in range(len(moment.cameras)):
            window, raw_window = self._window(self._interest(moment, view))
            views.append(self._view(pose, moment.camera(view), window, raw_window))
            truths.append(_crop(moment.rgba[view], window))
            hairs.append(_crop(moment.hair[view], raw_window))
        codes = self.head.codes(
            shots.subjects[subject], None if style is None else shots.styles[style]
        )
        box = self.head.hair_box(codes, lattice)
        truth = torch.from_numpy(np.stack(truths)).to(self.device).permute(0, 3, 1, 2).float() / 255
        hair = torch.from_numpy(np.stack(hairs)).to(self.device)[:, None].float() / 255
        with autocast(self.device):
            blend = Blend.of(subject)
            texture = self.net.textures(blend)
            hair_planes = None if style is None else self.net.hair_planes(Blend.of(style))
            planes = self.net.head_planes(
                texture, pose.uv, pose.index, pose.depths, blend,
                torch.from_numpy(np.array(moment.blendshapes)).to(self.device),
            )  # fmt: skip
            out, raw, _ = render_window(
                self.net, texture, hair_planes, planes, views, box, lattice, self.rng
            )
        detail = torch.from_numpy(np.stack([view.detail for view in views])).to(self.device)
        weight = 1.0 + settings.detail_gain * detail[:, None].float()
        # A random grey behind both pictures ties colour and alpha together.
        ground = 1.0 if self.rng.random() < settings.white else float(self.rng.random())
        gains = losses.Gains(
            settings.raw_loss, settings.alpha_loss, settings.hair_loss, settings.smooth_loss
        )
        terms = losses.photometric(out.float(), raw.float(), truth, hair, weight, ground, gains)
        if hair_planes is not None:
            terms["smooth"] = gains.smooth * losses.roughness(hair_planes)
        fake = real = None
        if self.adversary is not None:
            fake, real = _batches(out.float(), raw.float(), truth, moment, self.device)
            terms["gan"] = self.adversary.deception(fake)
            if self.step % settings.adversarial.density_interval == 0:
                terms["density"] = self._density(planes)
        total = sum(terms.values())
        assert isinstance(total, Tensor)
        if not torch.isfinite(total):
            raise BadInput(
                f"The loss became non-finite at step {self.step}: start again with another --seed "
                "and another --out."
            )
        total.backward()
        self.ranks.average(self.net.parameters())
        self.optimiser.step()
        values = {key: float(value.detach()) for key, value in terms.items()}
        if self.adversary is not None and fake is not None and real is not None:
            values |= self.adversary.learn(real, fake, self.ranks.average)
            assert self.average is not None
            self.average.update(self.net, self.adversary.seen, len(fake.picture))
        return values

    def _density(self, planes: PosePlanes) -> Tensor:
        """The paper's density regularisation, weighted for its interval."""
        settings = self.settings.adversarial
        points = self.rng.uniform(-1, 1, (_DENSITY_POINTS, 3)).astype(np.float32)
        steps = self.rng.normal(0, _DENSITY_STEP, points.shape).astype(np.float32)
        variation = density_variation(
            lambda where: self.net.head_field(planes, where)[0],
            torch.from_numpy(points).to(self.device),
            torch.from_numpy(steps).to(self.device),
        )
        return settings.weight * settings.density * settings.density_interval * variation

    def _shown(self) -> HexPlaneNet:
        """The network that previews show and that is saved: the averaged one where there is one."""
        if self.average is None:
            return self.net
        assert isinstance(self.average.net, HexPlaneNet)
        return self.average.net

    def _extra(self) -> checkpoint.Extra:
        if self.adversary is None or self.average is None:
            return {}
        return {
            "adversary.": (self.adversary.net, self.adversary.optimiser),
            "average.": (self.average.net, None),
        }

    def _next_moment(self) -> Moment:
        """The group of this step: the stream's, or one of the kept ones at random."""
        if self.stream is not None:
            return self.stream.moment(self.step)
        return self.shots.moment(int(self.rng.integers(len(self.shots))))

    def _interest(self, moment: Moment, view: int) -> NDArray[np.uint8]:
        """Every 16th pixel of a picture: above 0 where windows shall lie."""
        return moment.rgba[view, ::16, ::16, 3]

    def _window(self, interest: NDArray[np.uint8]) -> tuple[Window, Window]:
        """A random crop of a picture, drawn towards where ``interest`` is."""
        size = self.shots.rgba.shape[-2]
        raw = size // 2
        crop = self.settings.crop if self.adversary is None else raw
        left = top = 0
        if crop < raw:
            rows, columns = np.nonzero(interest)
            if len(rows):
                pick = int(self.rng.integers(len(rows)))
                jitter = self.rng.integers(-crop // 4, crop // 4 + 1, 2)
                left = columns[pick] * 8 + jitter[0] - crop // 2
                top = rows[pick] * 8 + jitter[1] - crop // 2
            else:
                left, top = self.rng.integers(0, raw - crop + 1, 2)
        crop = min(crop, raw)
        left, top = (int(np.clip(value, 0, raw - crop)) for value in (left, top))
        right, bottom = left + crop, top + crop
        return (2 * left, 2 * top, 2 * right, 2 * bottom), (left, top, right, bottom)

    def _view(
        self, pose: PoseInputs, camera: Camera, window: Window, raw_window: Window
    ) -> ViewInputs:
        size = self.shots.rgba.shape[-2]
        return view_inputs(
            pose, self.model.topology, camera, (size, size), window,
            (size // 2, size // 2), raw_window, self.device,
        )  # fmt: skip

    # -- files -------------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Write the checkpoint atomically."""
        facts: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "steps": self.settings.steps,
            "rngs": self.ranks.gathered(self.rng.bit_generator.state),
        }
        if self.adversary is not None:
            facts["adversary"] = [self.adversary.step, self.adversary.seen]
        if self.ranks.leads:
            checkpoint.save(
                self.out / "checkpoint.safetensors", self.net, self.optimiser, self.rng,
                facts | self._facts(), self._extra(),
            )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        """What a run that goes on from the checkpoint must have in common with this one."""
        return {
            **settings_facts(self.config, self.settings),
            "subjects": self.shots.subjects,
            "styles": self.shots.styles,
            "live": None if self.stream is None else asdict(self.stream.photographer.spec),
        }

    def _record(self, averages: dict[str, float]) -> None:
        if not self.ranks.leads:
            return
        line = {"seconds": round(self.seconds, 1), **averages}
        if self.held_out is not None:
            line["psnr"] = self.quick_psnr(24)
            log.info("step %d: held-out PSNR %.2f dB", self.step, line["psnr"])
        self.reports.scalars(self.step, line)

    def quick_psnr(self, count: int) -> float:
        """Mean PSNR over the first view of ``count`` held-out groups."""
        assert self.held_out is not None
        shots = self.held_out
        with self._showing():
            return glimpses.mean_psnr(self.head, shots, count)

    def preview(self, count: int = 10) -> None:
        """Write ``previews/<step>.png``: truth above, prediction below."""
        if self.ranks.leads:
            with self._showing():
                sheet = glimpses.sheet(self.head, self.held_out or self.shots, count)
            self.reports.sheet(self.step, sheet)

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """The head renders with today's weights; training mode comes back afterwards."""
        training = self._shown().training
        self._shown().eval()
        self.head.refresh()
        try:
            yield
        finally:
            self._shown().train(training)


def _batches(
    out: Tensor, raw: Tensor, truth: Tensor, moment: Moment, device: str
) -> tuple[Batch, Batch]:
    """Fake and real pictures over white with their labels, as the discriminator sees them."""
    count = len(out)
    cameras = np.stack([np.asarray(camera, dtype=np.float32) for camera in moment.cameras])
    camera = torch.from_numpy(cameras).to(device)
    weights = torch.from_numpy(np.array(moment.blendshapes, dtype=np.float32)).to(device)
    b = weights.expand(count, -1)
    fake = out[:, :3] + 1 - out[:, 3:]
    small = raw[:, :3] + 1 - raw[:, -2:-1]
    real = truth[:, :3] * truth[:, 3:] + 1 - truth[:, 3:]
    return Batch(fake, small, camera, b), Batch(real, F.avg_pool2d(real, 2), camera, b)


def _crop(picture: NDArray, window: Window) -> NDArray:
    left, top, right, bottom = window
    return picture[top:bottom, left:right]
