"""Training of a Gaussian head on one video (``head360 train gaussian``).

One frame a step, shuffled without replacement. The order of the frames, their backgrounds and the
children of split Gaussians follow from seed and step alone, so that a run that was stopped goes on
exactly as if it had not been.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from head360.datasets.monocular_read import Frame
from head360.errors import BadInput, Checkpointed
from head360.files import writable_folder
from head360.heads.gaussian import GaussianHead
from head360.heads.gaussian_facts import Expression, ViewCone
from head360.heads.gaussian_retarget import neutral_row
from head360.rendering.splats import render_splats
from head360.training import checkpoint, gaussian_losses, gaussian_optim
from head360.training.densify import Densifier, scene_extent
from head360.training.footage import Footage, over_white
from head360.training.gaussian_settings import GaussianSettings
from head360.training.gaussian_start import leash, start
from head360.training.metrics import on_white, psnr
from head360.training.reports import Reports
from head360.training.unseen import fill

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
_PREVIEWS = 6  # columns of a sheet
_GLANCES = 8  # held-out frames behind a line of the log
_LINE_SECONDS = 30.0


class _Collected(nn.Module):
    """What the densifier has gathered, in the form that checkpoints take."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            self.register_buffer(name, value.clone())


@dataclass(frozen=True)
class Sitter:
    """Whom a run is about.

    Attributes:
        model: name of the model; subject: of the person.
        manifest: facts for the package: licence, notices, preset, training data, recipe.
    """

    model: str
    subject: str
    manifest: dict[str, Any]


class GaussianTrainer:
    """One training run in one folder.

    Args:
        footage: frames.
        settings: see there.
        out: run folder: ``checkpoint.safetensors``, ``previews/``, ``log.jsonl``, ``head/``.
        sitter: names and facts for the package.
        device: torch device.

    Raises:
        BadInput: footage that shows no head.
    """

    def __init__(
        self,
        footage: Footage,
        settings: GaussianSettings,
        out: Path,
        sitter: Sitter,
        device: str = "cpu",
    ) -> None:
        self.footage, self.settings, self.device = footage, settings, device
        self.sitter = sitter
        self.out = writable_folder(out)
        self.reports = Reports(self.out)
        net = start(footage, settings.config, settings.seed)
        span = Expression(footage.names, *footage.span(), at_rest(footage))
        centre = net.centre.double().numpy()
        positions = np.array([frame.camera.position for frame in footage.train])
        self.head = GaussianHead(
            sitter.model, net, sitter.subject, footage.shape, span, dict(sitter.manifest), device,
            ViewCone.around(positions - centre),
        )  # fmt: skip
        self.net = self.head.net
        self.leash = None if footage.identity is None else leash(footage)
        self.optimiser = gaussian_optim.build(self.net, settings.rates)
        self.densifier = Densifier(settings.densify, net.count, self._extent(), settings.seed)
        self.rng = np.random.default_rng(settings.seed)  # kept for the checkpoint's sake
        self.step, self.seconds = 0, 0.0
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._stop = False

    def _extent(self) -> float:
        """What the densifier's shares are of."""
        if self.settings.config.coordinates == "box":
            return 1.0
        positions = [frame.camera.position for frame in self.footage.train]
        extent = scene_extent(np.array(positions))
        # A camera that stands still has no extent; its distance from the head has.
        return extent if extent > 1e-6 else float(np.linalg.norm(positions[0]))

    # -- loop --------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on from the folder's checkpoint.

        Raises:
            BadInput: there is none, it is damaged, or it belongs to another run.
        """
        path = self.out / CHECKPOINT
        checkpoint.check(path, self._facts())
        try:
            kept = load_file(str(path))
            prefix = "model."
            self.net.make_room(
                {k[len(prefix) :]: v for k, v in kept.items() if k.startswith(prefix)}
            )
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise BadInput(
                f"The checkpoint {path} cannot be resumed ({error}): choose another --out."
            ) from error
        self.optimiser = gaussian_optim.build(self.net, self.settings.rates)
        room = {name: torch.zeros(self.net.count) for name in ("pull", "seen", "opacity")}
        collected = _Collected({**room, "first": torch.tensor(0)})
        facts = checkpoint.load(
            path, self.net, self.optimiser, self.rng, {"densify.": (collected, None)}
        )
        self.densifier.load_state_dict(dict(collected.named_buffers()))
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.head.refresh()
        log.info("resumed at step %d", self.step)

    def run(self) -> None:
        """Train to the end of the schedule and save the head.

        Raises:
            Checkpointed: SIGTERM or SIGINT arrived; everything is saved.
            BadInput: the loss became non-finite; the message names the step.
        """
        previous = {
            n: signal.signal(n, self._request_stop) for n in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._loop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.reports.close()

    def _request_stop(self, *_: Any) -> None:
        self._stop = True

    def _loop(self) -> None:
        from tqdm import tqdm

        settings = self.settings
        begin = last_save = last_preview = last_line = time.monotonic()
        base = self.seconds
        averages: dict[str, float] = {}
        terminal = sys.stderr.isatty()
        bar = tqdm(
            total=settings.steps, initial=self.step, unit="step", mininterval=5.0,
            disable=not terminal,
        )  # fmt: skip
        while self.step < settings.steps:
            for key, value in self.train_step().items():
                averages[key] = 0.98 * averages.get(key, value) + 0.02 * value
            bar.update()
            now = time.monotonic()
            self.seconds = base + now - begin
            finished = self.step == settings.steps
            if not terminal and now - last_line > _LINE_SECONDS:
                last_line = now
                text = ", ".join(f"{key} {value:.4f}" for key, value in averages.items())
                count = self.net.count
                log.info("step %d of %d: %s, %d Gaussians", self.step, settings.steps, text, count)
            if finished or now - last_preview > settings.preview_seconds:
                last_preview = now
                self._record(averages)
                self.preview()
            if finished or self._stop or now - last_save > settings.checkpoint_seconds:
                last_save = now
                self.save_checkpoint()
            if self._stop and not finished:
                bar.close()
                raise Checkpointed(
                    f"Stopped at step {self.step}; continue with --resume --out {self.out}."
                )
        bar.close()
        self._save_head()

    def _save_head(self) -> None:
        self.net.eval()
        self.head.refresh()
        if self.footage.identity is not None:
            fill(self.head, self.footage)
        training = self.head.manifest.get("training", {})
        self.head.manifest["training"] = {
            **training, "steps": self.step, "seconds": round(self.seconds)
        }  # fmt: skip
        self.head.save(self.out / "head")

    # -- a step ------------------------------------------------------------------------------

    def frame_of(self, step: int) -> Frame:
        """The training frame of a step, counted from 0: every frame once, then again."""
        count = len(self.footage.train)
        epoch, place = divmod(step, count)
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(count)
            self._order = epoch, order
        return self.footage.train[int(self._order[1][place])]

    def train_step(self) -> dict[str, float]:
        """One optimisation step on one frame; returns its losses.

        Raises:
            BadInput: numbers are no longer finite; the message names the step.
        """
        settings, step = self.settings, self.step
        self.net.train()
        shot = self.footage.shot(self.frame_of(step))
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        ground = gaussian_losses.background(settings.losses, generator).to(self.device)
        gaussian_optim.set_rates(self.optimiser, settings.rates, step)
        place = torch.tensor(shot.camera.position, dtype=torch.float32, device=self.device)
        posed = None if shot.vertices is None else shot.vertices.to(self.device)
        expression = shot.expression.to(self.device)
        if float(torch.rand((), generator=generator)) < settings.expression_dropout:
            expression = torch.zeros_like(expression)
        out = self.net(expression, place, posed, step)
        height, width = shot.matte.shape
        try:
            frame = render_splats(
                out.means, out.quaternions, out.scales, out.opacities, out.sh, shot.camera,
                width, height, ground, sh_degree=out.sh_degree,
            )  # fmt: skip
        except ValueError as error:
            raise self._diverged(str(error)) from error
        matte = shot.matte.to(self.device).float() / 255
        target = gaussian_losses.over(shot.rgb.to(self.device).float() / 255, matte, ground)
        terms = gaussian_losses.gaussian_loss(
            frame.rgb, target, settings.losses, frame.alpha, matte,
            None if out.offsets is None else out.offsets.power(),
        )  # fmt: skip
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise self._diverged("the loss is no number")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.densifier.observe(frame.screen_gradient(), frame.visible, out.opacities)
        self.optimiser.step()
        if self.leash is not None:
            self.leash.pull(self.net)
        self.densifier.step(self.net, self.optimiser, step + 1)
        self.step += 1
        return {key: float(value.detach()) for key, value in terms.items()}

    def _diverged(self, reason: str) -> BadInput:
        return BadInput(
            f"The training became non-finite at step {self.step} ({reason}): start again with "
            "another --seed and another --out."
        )

    # -- files -------------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Write the checkpoint atomically."""
        facts = {"step": self.step, "seconds": self.seconds, **self._facts()}
        collected = _Collected(self.densifier.state_dict())
        checkpoint.save(
            self.out / CHECKPOINT, self.net, self.optimiser, self.rng, facts,
            {"densify.": (collected, None)},
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        """What a run that goes on from the checkpoint must have in common with this one."""
        frames = [frame.img_id for frame in self.footage.data.frames]
        return {
            **self.settings.facts(), "subject": self.sitter.subject,
            "frames": [len(frames), frames[0], frames[-1]],
        }  # fmt: skip

    def glance(self, count: int) -> list[tuple[Floats, Floats]]:
        """(truth, prediction) over white, (H, W, 3) each, of ``count`` held-out frames.

        Frames to learn from stand in where nothing is held out.
        """
        frames = self.footage.held_out or self.footage.train
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round())
        self.net.eval()
        self.head.refresh()
        pairs = []
        for index in chosen.astype(int):
            shot = self.footage.shot(frames[index])
            truth = over_white(shot.rgb.numpy(), shot.matte.numpy())
            height, width = shot.matte.shape
            pose = self.head.pose_expression(shot.expression.numpy())
            rgba = self.head.render(pose, shot.camera, width, height).rgba
            pairs.append((truth, on_white(rgba)))
        return pairs

    def _record(self, averages: dict[str, float]) -> None:
        quality = float(np.mean([psnr(b, a) for a, b in self.glance(_GLANCES)]))
        name = "psnr" if self.footage.held_out else "psnr_of_training_frames"
        log.info("step %d: PSNR %.2f dB, %d Gaussians", self.step, quality, self.net.count)
        self.reports.scalars(
            self.step,
            {
                "seconds": round(self.seconds, 1), "gaussians": self.net.count, **averages,
                name: quality,
            },
        )  # fmt: skip

    def preview(self) -> None:
        """Write ``previews/<step>.png``: truth above, prediction below."""
        pairs = self.glance(_PREVIEWS)
        self.reports.sheet(self.step, np.concatenate([np.concatenate(p, 0) for p in pairs], 1))


def at_rest(footage: Footage) -> Floats | None:
    """(52,) of the calmest training frame; None where the numbers are not ARKit's."""
    if not footage.arkit:
        return None
    table = np.stack([footage.numbers(frame) for frame in footage.train])
    return np.asarray(table[neutral_row(table)])
