"""One training run of a network that reads portraits: schedule, averages, checkpoints, previews."""

from __future__ import annotations

import copy
import logging
import math
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from head360.errors import BadInput, Checkpointed
from head360.files import writable_folder
from head360.training import checkpoint
from head360.training.reports import Reports

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """Schedule of a run.

    Attributes:
        steps: optimisation steps.
        rate: peak learning rate; it rises over ``warmup`` steps and falls as a cosine.
        seed: of everything.
        memory: of the running average of the weights, which is what is kept.
        report_seconds, checkpoint_seconds: between previews and between checkpoints.
    """

    steps: int = 4000
    rate: float = 2e-3
    warmup: int = 100
    seed: int = 0
    memory: float = 0.997
    report_seconds: float = 180.0
    checkpoint_seconds: float = 120.0


class Lesson(Protocol):
    """What is learned, and from what."""

    net: nn.Module

    def facts(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint must have in common with this one."""

    def losses(self, step: int) -> dict[str, Tensor]:
        """The terms of one step, whose sum is made smaller."""

    def measure(self, net: nn.Module) -> dict[str, float]:
        """Figures on held-out pictures."""

    def sheet(self, net: nn.Module) -> NDArray[np.floating]:
        """(H, W, 3) in [0, 1]: what ``net`` makes of held-out pictures."""

    def write(self, net: nn.Module, folder: Path) -> Path:
        """Keep the weights of ``net`` in ``folder``; returns the file."""


class Run:
    """Trains ``lesson.net`` in one folder.

    Args:
        lesson: what.
        settings: schedule.
        out: run folder: ``checkpoint.safetensors``, ``previews/``, ``log.jsonl``, the weights.

    Raises:
        BadInput: the folder cannot be written.
    """

    def __init__(self, lesson: Lesson, settings: RunSettings, out: Path) -> None:
        self.lesson, self.settings = lesson, settings
        self.out = writable_folder(out)
        self.reports = Reports(self.out)
        self.net = lesson.net
        self.average = copy.deepcopy(lesson.net).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=settings.rate)
        self.rng = np.random.default_rng(settings.seed)
        self.step, self.seconds = 0, 0.0
        self._stop = False

    @property
    def checkpoint(self) -> Path:
        """Where the run is kept."""
        return self.out / "checkpoint.safetensors"

    def _facts(self) -> dict[str, Any]:
        settings = asdict(self.settings)
        for name in ("steps", "report_seconds", "checkpoint_seconds"):
            del settings[name]  # may be others when a run goes on
        return {"settings": settings, **self.lesson.facts()}

    def resume(self) -> None:
        """Go on from the folder's checkpoint, towards the number of steps asked for now.

        Raises:
            BadInput: there is none, or it belongs to other settings.
        """
        checkpoint.check(self.checkpoint, self._facts())
        facts = checkpoint.load(
            self.checkpoint, self.net, self.optimiser, self.rng, {"average.": (self.average, None)}
        )
        self.step, self.seconds = facts["step"], facts["seconds"]
        log.info("resumed at step %d", self.step)

    def run(self) -> Path:
        """Train to the end of the schedule; returns the file with the weights.

        Raises:
            Checkpointed: SIGTERM or SIGINT arrived; everything is saved.
            BadInput: the loss became non-finite; the message names the step.
        """
        previous = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, self._request_stop)
        try:
            return self._loop()
        finally:
            self.reports.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _request_stop(self, *_: Any) -> None:
        self._stop = True

    def _loop(self) -> Path:
        from tqdm import tqdm

        settings = self.settings
        start = last_save = last_report = last_line = time.monotonic()
        base = self.seconds
        means: dict[str, float] = {}
        terminal = sys.stderr.isatty()
        bar = tqdm(total=settings.steps, initial=self.step, unit="step", disable=not terminal)
        while self.step < settings.steps:
            for key, value in self._train_step().items():
                means[key] = 0.98 * means.get(key, value) + 0.02 * value
            self.step += 1
            bar.update()
            now = time.monotonic()
            self.seconds = base + now - start
            if not terminal and now - last_line > 30.0:
                last_line = now
                text = ", ".join(f"{key} {value:.4f}" for key, value in means.items())
                log.info("step %d of %d: %s", self.step, settings.steps, text)
            if now - last_report > settings.report_seconds and self.step < settings.steps:
                last_report = now
                self._report(means)
            if self._stop or now - last_save > settings.checkpoint_seconds:
                last_save = now
                self._save()
            if self._stop and self.step < settings.steps:
                bar.close()
                raise Checkpointed(
                    f"Stopped at step {self.step}; continue with --resume --out {self.out}."
                )
        bar.close()
        self._save()
        return self._report(means)

    def rate(self) -> float:
        """Learning rate of the current step."""
        settings = self.settings
        if self.step < settings.warmup:
            return settings.rate * (self.step + 1) / settings.warmup
        progress = (self.step - settings.warmup) / max(1, settings.steps - settings.warmup)
        return settings.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def _train_step(self) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.net.train()
        terms = self.lesson.losses(self.step)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise BadInput(
                f"The loss became non-finite at step {self.step}: start again with another --seed "
                "and another --out."
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self._follow()
        return {key: float(value.detach()) for key, value in terms.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average towards the weights; fast at first, so that it is of use."""
        memory = min(self.settings.memory, (self.step + 1) / (self.step + 10))
        new = self.net.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - memory)
            else:
                value.copy_(new[name])

    def _save(self) -> None:
        facts = {"step": self.step, "seconds": self.seconds, **self._facts()}
        extra: checkpoint.Extra = {"average.": (self.average, None)}
        checkpoint.save(self.checkpoint, self.net, self.optimiser, self.rng, facts, extra)

    def _report(self, means: dict[str, float]) -> Path:
        """Figures, a preview and the weights as they are now."""
        with torch.no_grad():
            figures = self.lesson.measure(self.average)
            picture = self.lesson.sheet(self.average)
        log.info("step %d: %s", self.step, figures)
        self.reports.scalars(self.step, {"seconds": round(self.seconds, 1), **means, **figures})
        self.reports.sheet(self.step, picture)
        return self.lesson.write(self.average, self.out)
