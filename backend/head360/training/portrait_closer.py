"""Learning the second look at a face from the studio (``train portrait closer``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from head360.datasets.face_points import mirrors
from head360.networks.closer_net import KIND, MARGIN, CloserConfig, CloserMarks, CloserNet, map_grid
from head360.networks.portrait import fold
from head360.networks.weights_file import save_network
from head360.rendering.crops import lean, upright_box, window
from head360.training.portrait_augment import draw_sample
from head360.training.portrait_landmarks import again, mirrored, softened
from head360.training.portrait_samples import FRONT, Crop, Maker
from head360.training.portrait_stream import Pool, Stream
from head360.training.portraits import PortraitSet

FILE = "closer.safetensors"
_DENSE, _SPREAD, _MAP, _BLUR = 0.8, 0.15, 0.1, 1.0
_POINT = 20.0
_SHARP = 0.006  # of half a crop: errors below count by their square, above by their size
_SHOWN = 16


@dataclass(frozen=True)
class CloserPortions:
    """How much of what a step holds.

    Attributes:
        crops: per step; fresh: of these new ones; memory: crops that are kept to be shown again.
        workers: processes that draw; 0 draws in this one.
        judged: held-out crops that progress is measured on.
    """

    crops: int = 16
    fresh: int = 3
    memory: int = 5000
    workers: int = 1
    judged: int = 120


class CloserMaker(Maker):
    """Draws crops of faces as the first network would have them framed."""

    def crop(self, number: int) -> Crop:
        """Sample ``number``: upright and framed, but for what the first look gets wrong."""
        rng = np.random.default_rng([self.seed, number, 41])
        front = self.rows[self.angles[self.rows] < FRONT]
        row = int(rng.choice(front if len(front) else self.rows))
        flip = bool(rng.random() < 0.5)
        matrix = self.framed(row, rng, flip)
        sample = draw_sample(self.data, row, matrix, self.size, rng, self._chances(), mirrors())
        places = sample.points / self.size * 2 - 1
        weight = self._weights(sample)
        weight[(np.abs(places) > 0.98).any(1)] = 0.0
        return Crop(sample.pixels, places, weight, 1.0)

    def framed(self, row: int, rng: np.random.Generator, flip: bool) -> NDArray[np.floating]:
        """(2, 3) of a crop around all points of a picture."""
        points = self.data.points[row]
        far = 3.0 if rng.random() < 0.08 else 1.0  # now and then the first look is poor
        degrees = lean(points) + rng.normal(0, 3.5) * far
        centre, side = upright_box(points, degrees)
        zoom = float(np.exp(np.clip(rng.normal(0, 0.04) * far, -0.15, 0.25)))
        shift = rng.normal(0, 0.02, 2) * far
        return window(centre + shift * side, side * MARGIN * zoom, -degrees, self.size, flip)


class CloserLesson:
    """Points and their deviation in framed crops; see ``portrait_run.Lesson``.

    Args:
        data: folder of training portraits; held_out: of other people's, or None.
        config: of the network.
        seed: of weights and samples.
        portions: sizes.
        recipe: facts that the weights file carries.
    """

    def __init__(
        self,
        data: Path,
        held_out: Path | None,
        config: CloserConfig | None = None,
        seed: int = 0,
        portions: CloserPortions | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.seed = config or CloserConfig(), seed
        self.portions = portions = portions or CloserPortions()
        self.recipe = recipe or {}
        torch.manual_seed(seed)
        net = CloserNet(self.config)
        # Filters of one channel each are twice as fast in this layout on a CPU.
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = self.config.size
        maker = CloserMaker(data, size, seed, PortraitSet.load(data).rows)
        self.pool = Pool(maker, portions.workers) if portions.workers else None
        self.crops: Stream[Crop] = Stream(
            maker.crop, portions.crops, portions.fresh, portions.memory, seed, self.pool
        )
        judged = maker
        if held_out is not None:
            judged = CloserMaker(held_out, size, seed, PortraitSet.load(held_out).rows, calm=True)
        self.judged = [judged.crop(10**9 + k) for k in range(portions.judged)]

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
        assert isinstance(self.net, CloserNet)
        pixels, points, weight = _tensors(self.crops.batch(step))
        rng = np.random.default_rng([self.seed, step, 43])
        pixels = again(pixels, rng)
        if rng.random() < 0.5:
            pixels, points, weight = mirrored(pixels, points, weight)
        return closer_losses(self.net(pixels), points, weight)

    @torch.no_grad()
    def measure(self, net: nn.Module) -> dict[str, float]:
        """Errors in hundredths of the landmarks' box, see ``Lesson``."""
        pixels, points, weight = _tensors(self.judged)
        found = torch.cat([net(part).points for part in pixels.split(24)])
        errors = (found - points).norm(dim=2)
        box = (points[:, :68].amax(1) - points[:, :68].amin(1)).amax(1, keepdim=True)
        relative, seen = errors / box.clamp(min=1e-6) * 100, weight == 1.0
        figures = {}
        for name, part in (("error68", slice(0, 68)), ("error468", slice(68, None))):
            figures[name] = float(relative[:, part][seen[:, part]].mean())
        return figures

    def sheet(self, net: nn.Module) -> NDArray[np.floating]:
        """Held-out crops with the points: green true, red found. See ``Lesson``."""
        shown = self.judged[:_SHOWN]
        found = net(_tensors(shown)[0]).points.cpu().numpy()
        size, tiles = self.config.size, []
        for crop, places in zip(shown, found, strict=True):
            tile = crop.pixels.repeat(2, 0).repeat(2, 1).astype(np.float32) / 255
            for points, colour in ((crop.points, (0, 1, 0)), (places, (1, 0, 0))):
                at = ((points[:68] + 1) * size).astype(int).clip(0, 2 * size - 2)
                for step in range(2):
                    tile[at[:, 1] + step, at[:, 0]] = colour
            tiles.append(tile)
        rows = [tiles[k : k + 4] for k in range(0, len(tiles) - len(tiles) % 4, 4)]
        if not rows:
            return np.zeros((size, size, 3))
        return np.concatenate([np.concatenate(row, 1) for row in rows], 0)

    def write(self, net: nn.Module, folder: Path) -> Path:
        """See ``Lesson``."""
        path = folder / FILE
        save_network(path, fold(net), KIND, asdict(self.config), self.recipe)
        return path


def _tensors(crops: list[Crop]) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B, 3, S, S) in [0, 1], points (B, 536, 2), weights (B, 536)."""
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops]))
    return (
        pixels.permute(0, 3, 1, 2).float().div_(255),  # and so it lies
        torch.from_numpy(np.stack([crop.points for crop in crops])),
        torch.from_numpy(np.stack([crop.weight for crop in crops])),
    )


def closer_losses(marks: CloserMarks, points: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Distances, what is said of them, and the shape of the maps.

    Args:
        marks: of the network; points: (B, 536, 2); weight: (B, 536).
    """
    error = (marks.points - points).norm(dim=2)
    smooth = softened(error, _SHARP)
    # The deviation learns from the error without moving the points: distances of a cloud of
    # points that is as wide in all directions follow a gamma distribution of shape 2.
    deviation = marks.log_deviation
    spread = 2 * (error.detach() + 1e-4) / deviation.exp() + 2 * deviation
    terms = {}
    parts = (("68", slice(0, 68), marks.fine, 1.0), ("468", slice(68, None), marks.coarse, _DENSE))
    for name, part, heat, gain in parts:
        share = weight[:, part] / weight[:, part].sum().clamp(min=1.0)
        terms[f"p{name}"] = _POINT * gain * (smooth[:, part] * share).sum()
        terms[f"s{name}"] = _SPREAD * gain * (spread[:, part] * share).sum()
        terms[f"m{name}"] = _MAP * gain * map_loss(heat, points[:, part], share)
    return terms


def map_loss(heat: Tensor, points: Tensor, share: Tensor) -> Tensor:
    """Cross entropy of the maps with a round blob at each point, so that they have one peak.

    Args:
        heat: (B, K, H, W) log probabilities; points: (B, K, 2); share: (B, K) weights, sum 1.
    """
    rows, columns = heat.shape[2:]
    # A blob of independent rows and columns: two short tables instead of one long one.
    line = map_grid(heat).unflatten(0, (rows, columns))
    cell = 2 / columns
    blobs = [
        (-(points[..., axis, None] - at).square() / (2 * (_BLUR * cell) ** 2)).softmax(2)
        for axis, at in ((0, line[0, :, 0]), (1, line[:, 0, 1]))
    ]
    entropy = -torch.einsum("bkhw,bkw,bkh->bk", heat, *blobs)
    return (entropy * share).sum()
