"""Learning landmarks and where faces are from the studio (``train portrait landmarks``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.datasets.face_points import mirrors, uneven
from head360.networks.portrait import KIND, LandmarkConfig, PortraitNet, fold
from head360.networks.weights_file import save_network
from head360.training.portrait_samples import CANVAS, Canvas, Crop, Maker, heat
from head360.training.portrait_stream import Pool, Stream
from head360.training.portraits import PortraitSet

Floats = NDArray[np.floating]

_SHARP = 0.012  # of half a crop: errors below count by their square, above by their size
_POINT, _DENSE, _SPREAD, _FACE, _HEAT, _BOX = 10.0, 0.7, 0.15, 0.5, 1.0, 0.5  # weights of the terms
_GUESS, _MAP = 3.0, 0.1  # of what the whole crop guesses, and of the shape of the maps
_BLUR = 1.0  # cells: standard deviation that a map should have around its point
_SHOWN = 12


@dataclass(frozen=True)
class Portions:
    """How much of what a step holds.

    Attributes:
        crops, canvases: per step; fresh_crops, fresh_canvases: of these new ones.
        memory: crops, and a sixth as many canvases, that are kept to be shown again.
        workers: processes that draw; 0 draws in this one.
        judged: held-out crops, and a quarter as many canvases, that progress is measured on.
    """

    crops: int = 24
    fresh_crops: int = 5
    canvases: int = 4
    fresh_canvases: int = 1
    memory: int = 6000
    workers: int = 1
    judged: int = 96


class LandmarkLesson:
    """Points, their deviation, whether there is a face, and where faces are.

    Args:
        data: folder of training portraits; held_out: of other people's, or None.
        config: of the landmark net.
        seed: of weights and samples.
        portions: sizes.
        recipe: facts that the weights file carries.
    """

    def __init__(
        self,
        data: Path,
        held_out: Path | None,
        config: LandmarkConfig | None = None,
        seed: int = 0,
        portions: Portions | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.seed = config or LandmarkConfig(maps=64), seed
        self.portions = portions = portions or Portions()
        self.recipe = recipe or {}
        size = self.config.size
        torch.manual_seed(seed)
        self.net: nn.Module = PortraitNet(self.config)
        pictures = PortraitSet.load(data)
        maker = Maker(data, size, seed, pictures.rows)
        # Filters of one channel each are twice as fast in this layout on a CPU.
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            assert isinstance(self.net, PortraitNet)
            self.net.marks.points.bias.copy_(torch.from_numpy(_mean_face(maker).ravel()))
        few = portions.memory // 6
        self.pool = Pool(maker, portions.workers) if portions.workers else None
        self.crops: Stream[Crop] = Stream(
            maker.crop, portions.crops, portions.fresh_crops, portions.memory, seed, self.pool
        )
        self.canvases: Stream[Canvas] = Stream(
            maker.canvas, portions.canvases, portions.fresh_canvases, few, seed, self.pool
        )
        judged = maker
        if held_out is not None:
            judged = Maker(held_out, size, seed, PortraitSet.load(held_out).rows, calm=True)
        self.judged = [judged.crop(10**9 + k) for k in range(portions.judged)]
        self.judged_canvases = [judged.canvas(10**9 + k) for k in range(portions.judged // 4)]

    def close(self) -> None:
        """End the worker processes."""
        if self.pool is not None:
            self.pool.close()

    def facts(self) -> dict[str, Any]:
        """See ``Lesson``."""
        portions = asdict(self.portions)
        del portions["workers"]
        return {"config": asdict(self.config), "seed": self.seed, "portions": portions}

    def losses(self, step: int) -> dict[str, Tensor]:
        """See ``Lesson``."""
        assert isinstance(self.net, PortraitNet)
        crops, canvases = self.crops.batch(step), self.canvases.batch(step)
        rng = np.random.default_rng([self.seed, step, 33])
        pixels, points, weight, face = _tensors(crops)
        pixels = again(pixels, rng)
        if rng.random() < 0.5:
            pixels, points, weight = mirrored(pixels, points, weight)
        terms = mark_losses(self.net, pixels, points, weight, face)
        pixels = again(_pictures([canvas.pixels for canvas in canvases]), rng)
        return terms | finder_losses(self.net, pixels, [canvas.boxes for canvas in canvases])

    def measure(self, net: nn.Module) -> dict[str, float]:
        """Errors in hundredths of the face's box, shares of right answers, see ``Lesson``."""
        assert isinstance(net, PortraitNet)
        pixels, points, weight, face = _tensors(self.judged)
        marks = net.marks(pixels)
        known = face == 1
        errors = (marks.points - points).norm(dim=2)
        box = points[:, :68].amax(1) - points[:, :68].amin(1)
        relative = errors / box.amax(1, keepdim=True).clamp(min=1e-6) * 100
        seen = weight == 1.0
        right = (marks.face > 0) == (face == 1)
        return {
            "error68": float(relative[:, :68][known][seen[:, :68][known]].mean()),
            "error468": float(relative[:, 68:][known][seen[:, 68:][known]].mean()),
            "face_right": float(right[face >= 0].float().mean()),
            **self._found(net),
        }

    def _found(self, net: PortraitNet) -> dict[str, float]:
        """Shares of the faces that the finder sees, and of its finds that are none."""
        maps = net.finder(_pictures([canvas.pixels for canvas in self.judged_canvases]))[:, 0]
        seen = total = wrong = finds = 0
        for map_, canvas in zip(maps.sigmoid(), self.judged_canvases, strict=True):
            target, rows = heat(canvas.boxes, len(map_))
            peak = F.max_pool2d(map_[None, None], 3, 1, 1)[0, 0]
            found = (map_ == peak) & (map_ > 0.3)
            finds += int(found.sum())
            wrong += int((found & (torch.from_numpy(target) < 0.2)).sum())
            total += len(rows)
            for row, column in rows[:, :2].astype(int):
                part = found[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                seen += bool(part.any())
        return {"found": seen / max(total, 1), "wrong": wrong / max(finds, 1)}

    def sheet(self, net: nn.Module) -> NDArray[np.floating]:
        """Held-out crops with the points: green true, red found. See ``Lesson``."""
        assert isinstance(net, PortraitNet)
        shown = [crop for crop in self.judged if crop.face == 1][: 2 * _SHOWN]
        marks = net.marks(_pictures([crop.pixels for crop in shown]))
        size, tiles = self.config.size, []
        for crop, found in zip(shown, marks.points.numpy(), strict=True):
            tile = crop.pixels.repeat(2, 0).repeat(2, 1).astype(np.float32) / 255
            for points, colour in ((crop.points, (0, 1, 0)), (found, (1, 0, 0))):
                places = ((points[:68] + 1) * size).astype(int).clip(0, 2 * size - 2)
                for step in range(2):
                    tile[places[:, 1] + step, places[:, 0]] = colour
            tiles.append(tile)
        rows = [tiles[k : k + 8] for k in range(0, len(tiles) - len(tiles) % 8, 8)]
        if not rows:
            return np.zeros((size, size, 3))
        return np.concatenate([np.concatenate(row, 1) for row in rows], 0)

    def write(self, net: nn.Module, folder: Path) -> Path:
        """See ``Lesson``."""
        path = folder / "landmarks.safetensors"
        save_network(path, fold(net), KIND, asdict(self.config), self.recipe)
        return path


def _mean_face(maker: Maker) -> Floats:
    """(536, 2) mean of the points in some crops."""
    crops = [maker.crop(2 * 10**9 + k) for k in range(24)]
    faces = [crop.points for crop in crops if crop.face == 1]
    return np.mean(faces, 0).astype(np.float32) if faces else np.zeros((536, 2), np.float32)


def _pictures(pixels: list[NDArray[np.uint8]]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1]."""
    return (
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
    )  # and so it lies


def _tensors(crops: list[Crop]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        _pictures([crop.pixels for crop in crops]),
        torch.from_numpy(np.stack([crop.points for crop in crops])),
        torch.from_numpy(np.stack([crop.weight for crop in crops])),
        torch.tensor([crop.face for crop in crops]),
    )


def again(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """The same pictures in other light, so that one shown again is not the same."""
    count = len(pixels)

    def drawn(spread: float, channels: int = 1) -> Tensor:
        values = np.exp(rng.normal(0, spread, (count, channels, 1, 1)))
        return torch.from_numpy(values.astype(np.float32))

    out = pixels.clamp(1e-3, 1) ** drawn(0.15)
    out = (out * drawn(0.08, 3) - 0.5) * drawn(0.12) + 0.5
    return out.clamp(0, 1)


def mirrored(pixels: Tensor, points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Crops, points and weights as a mirror shows them."""
    low, dense = mirrors()
    order = torch.from_numpy(np.concatenate([low, 68 + dense]))
    points = points[:, order] * torch.tensor([-1.0, 1.0])
    weight = weight[:, order].clone()
    weight[:, 68 + torch.from_numpy(uneven())] = 0.0
    return pixels.flip(3), points, weight


def mark_losses(
    net: PortraitNet, pixels: Tensor, points: Tensor, weight: Tensor, face: Tensor
) -> dict[str, Tensor]:
    """Terms of the landmark net.

    Args:
        net: trained.
        pixels: (B, 3, S, S); points: (B, 536, 2); weight: (B, 536); face: (B,), see ``Crop``.
    """
    marks = net.marks(pixels)
    error = (marks.points - points).norm(dim=2)
    smooth = softened(error)
    # The deviation learns from the error without moving the points: distances of a cloud of
    # points that is as wide in all directions follow a gamma distribution of shape 2.
    deviation = marks.log_deviation
    spread = 2 * (error.detach() + 1e-4) / deviation.exp() + 2 * deviation
    parts = {}
    for name, part, gain in (("p68", slice(0, 68), 1.0), ("p468", slice(68, None), _DENSE)):
        share = weight[:, part] / weight[:, part].sum().clamp(min=1.0)
        parts[name] = _POINT * gain * (smooth[:, part] * share).sum()
        parts[f"s{name[1:]}"] = _SPREAD * gain * (spread[:, part] * share).sum()
    if marks.heat is not None:
        share = weight / weight.sum().clamp(min=1.0)
        guessed = softened((marks.guess - points).norm(dim=2))
        parts["guess"] = _GUESS * (guessed * share).sum()
        parts["maps"] = _MAP * map_loss(net, marks.heat, points[:, :68], weight[:, :68])
    known = face >= 0
    logits = marks.face[known]
    parts["face"] = _FACE * F.binary_cross_entropy_with_logits(logits, face[known].float())
    return parts


def softened(error: Tensor, sharp: float = _SHARP) -> Tensor:
    """Distances, squared where they are small."""
    return torch.sqrt(error**2 + sharp**2) - sharp


def map_loss(net: PortraitNet, heat: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of the maps with a round blob at each point, so that they have one peak.

    Args:
        net: trained.
        heat: (B, 68, H, W) log probabilities; points: (B, 68, 2); weight: (B, 68).
    """
    assert net.marks.maps is not None
    grid = net.marks.maps.grid(heat)
    cell = 2 / heat.shape[-1]
    away = (points[:, :, None] - grid).square().sum(3) / (2 * (_BLUR * cell) ** 2)
    blob = (-away).softmax(2)
    entropy = -(blob * heat.flatten(2)).sum(2)
    inside = (points.abs() < 1).all(2)
    share = weight * inside
    return (entropy * share).sum() / share.sum().clamp(min=1.0)


def finder_losses(net: PortraitNet, pixels: Tensor, boxes: list[Floats]) -> dict[str, Tensor]:
    """Terms of the finder: ``pixels`` (B, 3, S, S) and centre and side of the faces in each."""
    out = net.finder(pixels)
    cells = out.shape[-1]
    assert cells == CANVAS // 8 or pixels.shape[-1] != CANVAS
    said = [heat(faces, cells) for faces in boxes]
    target = torch.from_numpy(np.stack([map_ for map_, _ in said]))
    logit = out[:, 0]
    chance = logit.sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = target == 1.0
    near = -((1 - chance) ** 2) * chance.log() * centre
    away = -(chance**2) * (1 - chance).log() * (1 - target) ** 4 * ~centre
    count = max(1, int(centre.sum()))
    terms = {"heat": _HEAT * (near.sum() + away.sum()) / count}
    picture = np.repeat(np.arange(len(said)), [len(rows) for _, rows in said])
    table = np.concatenate([rows for _, rows in said])
    place = table[:, :2].astype(np.int64)
    if len(table):
        values = out[picture, 1:, place[:, 0], place[:, 1]]
        wanted = torch.from_numpy(table[:, 2:5])
        terms["box"] = _BOX * F.smooth_l1_loss(values, wanted, beta=0.1)
    return terms
