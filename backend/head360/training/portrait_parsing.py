"""Training the parsing network on the studio's labels (``head360 train portrait parsing``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.datasets.labels import BROWS, EYES, LABELS, LIPS, MOUTH, PALETTE
from head360.networks.face_window import face_layout
from head360.networks.parsing_net import NEAR, WIDE, ParsingConfig, ParsingNet
from head360.networks.weights_file import read_network, save_network
from head360.training.portrait_scenes import Bust, Scene, Scenes, SceneSettings
from head360.training.portraits import PortraitSet

KIND = "portrait-parsing"
FILE = "parsing.safetensors"
# Landmarks that err together: jaw, brows, nose, eyes, mouth.
PARTS = (slice(0, 17), slice(17, 22), slice(22, 27), slice(27, 36), slice(36, 42), slice(42, 48),
         slice(48, 68))  # fmt: skip


@dataclass(frozen=True)
class ParsingSettings:
    """Losses and pictures.

    Attributes:
        batch: windows of one step.
        near: share of near windows; what is learned from are parts of them as large as the wide
            ones, anywhere within.
        small, coarse: windows are ``small`` pixels wide for the first ``coarse`` steps: the coarse
            things are learned at half the price.
        fine: weight of brows, eyes, lips and mouth in the cross entropy.
        overlap: weight of 1 − intersection over union of each class, beside the cross entropy.
        behind: share of pictures from behind that is kept.
        blind: share of windows without a sketch of the face.
        scenes: how far pictures are taken from the studio.
        seed: of everything.
    """

    batch: int = 16
    near: float = 0.4
    small: int = 96
    coarse: int = 600
    fine: float = 3.0
    overlap: float = 0.5
    behind: float = 0.2
    blind: float = 0.15
    scenes: SceneSettings = field(default_factory=SceneSettings)
    seed: int = 0


class Batch(NamedTuple):
    """Windows of one step.

    Attributes:
        pixels: (B, 3, S, S). sides: (B,). layouts: (B, 5, S/2, S/2). centres: (B, 2).
        shares: (B, 8, S, S) what is to be found.
    """

    pixels: Tensor
    sides: Tensor
    layouts: Tensor
    centres: Tensor
    shares: Tensor


class ParsingLesson:
    """What the parsing network learns; see ``portrait_run.Lesson``.

    Args:
        data: training pictures.
        held_out: people that are nobody's training data, for figures and previews.
        config: of the network.
        settings: losses and pictures.
        device: "cpu" or a torch device.
        recipe: facts for the header of the weights.
        start: weights to go on from instead of random ones.
    """

    def __init__(
        self,
        data: PortraitSet,
        held_out: PortraitSet | None,
        config: ParsingConfig,
        settings: ParsingSettings,
        device: str = "cpu",
        recipe: dict[str, Any] | None = None,
        start: Path | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        network = ParsingNet(config)
        self.started = start is not None
        if start is not None:
            read_network(start, network)
        self.net: nn.Module = network.to(device)
        self.data, self.held_out = data, held_out or data
        self.config, self.settings, self.device = config, settings, device
        self.recipe = recipe or {}
        self.scenes = Scenes(data, settings.scenes)
        weights = torch.ones(len(LABELS), device=device)
        weights[[BROWS, EYES, LIPS, MOUTH]] = settings.fine
        self._weights = weights[None, :, None, None]

    def facts(self) -> dict[str, Any]:
        """Configuration and settings."""
        lesson = asdict(self.settings)
        del lesson["coarse"]  # follows the number of steps, which may be another when a run goes on
        return {"config": asdict(self.config), "lesson": lesson, "started": self.started}

    def batch(self, step: int) -> Batch:
        """Windows of one step; the same step always shows the same."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step])
        size = settings.small if step < settings.coarse else self.config.size
        drawn: list[Scene] = []
        sketches: list[NDArray[np.floating]] = []
        while len(drawn) < settings.batch:
            row = int(self.data.rows[rng.integers(len(self.data))])
            if seen_from_behind(self.data, row) and rng.random() > settings.behind:
                continue
            side, middle = WIDE, (0.0, 0.0)
            if rng.random() < settings.near:
                side = NEAR * size / self.config.pixels(NEAR)
                right, down = rng.uniform(-1, 1, 2) * max(0.0, NEAR - side) / 2
                middle = float(right), float(down)
            scene = self.scenes.draw(bust(self.data, row), side, size, rng, middle)
            seen = float(rng.random() > settings.blind)
            drawn.append(scene)
            sketches.append(seen * sketch(scene, rng))
        return Batch(
            *(
                torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.device)
                for values in (
                    [scene.pixels for scene in drawn],
                    [scene.side for scene in drawn],
                    sketches,
                    [scene.centre for scene in drawn],
                    [scene.shares for scene in drawn],
                )
            )
        )

    def losses(self, step: int) -> dict[str, Tensor]:
        """Cross entropy with soft labels, and overlap."""
        shown = self.batch(step)
        logits = self.net(shown.pixels, shown.sides, shown.layouts, shown.centres)
        entropy = -(self._weights * shown.shares * F.log_softmax(logits, 1)).sum(1).mean()
        overlap = soft_overlap(logits.softmax(1), shown.shares).mean()
        return {"entropy": entropy, "overlap": self.settings.overlap * (1 - overlap)}

    def windows(self, count: int) -> Iterator[tuple[Scene, NDArray[np.float32]]]:
        """Held-out people under moderate augmentation and their sketches, always the same."""
        rng = np.random.default_rng(7)
        scenes = Scenes(self.data, self.settings.scenes.half())
        rows = [int(r) for r in self.held_out.rows if not seen_from_behind(self.held_out, int(r))]
        for number in range(count):
            row = rows[number * len(rows) // count]
            side = NEAR if number % 3 == 2 else WIDE
            scene = scenes.draw(bust(self.held_out, row), side, self.config.pixels(side), rng)
            yield scene, sketch(scene, rng)

    @torch.no_grad()
    def _guess(
        self, net: nn.Module, scene: Scene, layout: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        pixels, drawn = (
            torch.from_numpy(array)[None].to(self.device) for array in (scene.pixels, layout)
        )
        logits = net.eval()(pixels, torch.tensor([scene.side], device=self.device), drawn)
        return logits[0].argmax(0).cpu().numpy()

    def measure(self, net: nn.Module) -> dict[str, float]:
        """Mean intersection over union of the classes, in single windows."""
        table = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
        for scene, layout in self.windows(36):
            table += confusion(scene.shares.argmax(0), self._guess(net, scene, layout))
        return {"miou": float(np.mean(overlaps(table)))}

    def sheet(self, net: nn.Module) -> NDArray[np.floating]:
        """Held-out people: picture, truth, guess."""
        columns = []
        size = max(self.config.pixels(side) for side in (WIDE, NEAR))
        for scene, layout in self.windows(12):
            guess, truth = self._guess(net, scene, layout), scene.shares.argmax(0)
            parts = [scene.pixels.transpose(1, 2, 0), PALETTE[truth] / 255, PALETTE[guess] / 255]
            rim = (size - len(truth)) // 2
            border = ((rim, size - len(truth) - rim),) * 2 + ((0, 0),)
            columns.append(np.concatenate([np.pad(part, border) for part in parts], 0))
        return np.concatenate(columns, 1).astype(np.float32)

    def write(self, net: nn.Module, folder: Path) -> Path:
        """``parsing.safetensors``."""
        save_network(folder / FILE, net, KIND, asdict(self.config), self.recipe | self.facts())
        return folder / FILE


def sketch(scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """(5, S/2, S/2) where landmarks that err say that the parts of the face are."""
    unit = 2 / scene.side
    error = rng.normal(0, 0.02, (68, 2)) + rng.normal(0, 0.04, (1, 2))
    for part in PARTS:
        error[part] += rng.normal(0, 0.04, (1, 2))
    points = scene.points + error * unit * rng.choice([0.3, 1.0, 2.0])
    return face_layout(points, scene.pixels.shape[-1] // 2, scene.side)


def soft_overlap(guess: Tensor, truth: Tensor) -> Tensor:
    """(C,) intersection over union of (B, C, H, W) shares, over the batch."""
    both = (guess * truth).sum((0, 2, 3))
    either = (guess + truth - guess * truth).sum((0, 2, 3))
    return (both + 1) / (either + 1)


def confusion(truth: NDArray[np.integer], guess: NDArray[np.integer]) -> NDArray[np.int64]:
    """(8, 8) pixels of each true label (row) that were given each label (column)."""
    count = len(LABELS)
    pairs = truth.ravel().astype(np.int64) * count + guess.ravel()
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def overlaps(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """(8,) intersection over union of each label in a :func:`confusion` table."""
    both = np.diag(table)
    return both / np.maximum(table.sum(0) + table.sum(1) - both, 1)


def bust(data: PortraitSet, row: int) -> Bust:
    """One picture of a set."""
    return Bust(data.rgba[row], data.labels[row], data.hair[row], data.points[row, :68])


def seen_from_behind(data: PortraitSet, row: int) -> bool:
    """Whether neither the nose nor the jaw is seen."""
    return not data.visible[row, [8, 27, 28, 29, 30, 33]].any()
