"""How well photographs are read: figures on held-out people of the studio, under augmentation.

Whole pictures go through what users run, not windows through bare networks. Parser and ranker come
as functions, so that any that a user plugs in can be measured.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.datasets.labels import LABELS
from head360.networks.parsing_net import WIDE
from head360.synthesis.hair import STYLES
from head360.training.portrait_hairstyle import BALD
from head360.training.portrait_parsing import bust, confusion, overlaps
from head360.training.portrait_scenes import Scenes, SceneSettings
from head360.training.portraits import PortraitSet

Floats = NDArray[np.float32]
# (H, W, 3) uint8 and (68, 2) landmarks → something with ``labels`` (H, W) uint8.
Parse = Callable[[NDArray[np.uint8], Floats], Any]
# The same two and what parsing gave → (style, probability), best first.
Rank = Callable[[NDArray[np.uint8], Any, Floats], list[tuple[str, float]]]

_SIZE = 384  # pixels per side
_MISS = 0.04  # standard deviation of the landmarks' error, in units of the face
_TURNED = 60.0  # degrees to either side: what fitting is made for
_SEED = 11


@dataclass(frozen=True)
class Question:
    """One picture to read.

    Attributes:
        pixels: (S, S, 3) uint8. landmarks: (68, 2) pixels, with an error. labels: (S, S) uint8.
        style: name, or "bald".
    """

    pixels: NDArray[np.uint8]
    landmarks: Floats
    labels: NDArray[np.uint8]
    style: str


def questions(
    data: PortraitSet,
    count: int | None = None,
    settings: SceneSettings | None = None,
    miss: float = _MISS,
) -> Iterator[Question]:
    """Held-out people before backgrounds and in clothes.

    Args:
        data: a set of held-out people.
        count: of pictures, evenly spread; None takes all within 60° of the front.
        settings: what is done to the pictures; None is moderate augmentation.
        miss: standard deviation of the landmarks' error, in units of the face.
    """
    settings = settings or SceneSettings().half()
    scenes = Scenes(data, dataclasses.replace(settings, cut=0, shift=0, scale=0, turn=0))
    rows = [int(row) for row in data.rows if abs(_yaw(data.camera[row])) <= _TURNED]
    if count is not None:
        rows = [rows[k * len(rows) // count] for k in range(min(count, len(rows)))]
    for row in rows:
        rng = np.random.default_rng([_SEED, row])
        scene = scenes.draw(bust(data, row), WIDE, _SIZE, rng)
        places = (scene.points + 1) * (_SIZE / 2)
        # One shift of all and one of each: landmarks err together, too.
        unit = _SIZE / scene.side
        error = rng.normal(0, miss, (1, 2)) + rng.normal(0, miss, (68, 2))
        index = int(data.style[row])
        yield Question(
            (scene.pixels.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8),
            (places + error * unit).astype(np.float32),
            scene.shares.argmax(0).astype(np.uint8),
            BALD if index < 0 else data.style_names[index],
        )


def _yaw(flat: NDArray[np.float64]) -> float:
    """Degrees by which a camera (``Camera.flat25``) stands to the side of the face."""
    place = flat[:16].reshape(4, 4)[:3, 3]
    return float(np.degrees(np.arctan2(place[0], place[2])))


def portrait_figures(
    folder: Path,
    parse: Parse,
    rank: Rank | None = None,
    count: int | None = None,
    settings: SceneSettings | None = None,
    miss: float = _MISS,
) -> dict[str, Any]:
    """Figures of a parser and, if given, of a style ranker behind it.

    Args:
        folder: of held-out portraits.
        parse, rank: what is measured.
        count, settings, miss: see :func:`questions`.

    Returns:
        ``pictures``, ``miou``, ``iou`` by label; with a ranker ``top1``, ``top3`` and
        ``categories``: name → pictures, top1, top3. A category is right where the style is.

    Raises:
        BadInput: no such set of portraits.
    """
    data = PortraitSet.load(folder)
    table = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    found: dict[str, list[int]] = defaultdict(list)
    category = {style.name: style.category for style in STYLES} | {BALD: BALD}
    total = same_cut = 0
    for question in questions(data, count, settings, miss):
        total += 1
        parsing = parse(question.pixels, question.landmarks)
        table += confusion(question.labels, parsing.labels)
        if rank is None:
            continue
        names = [name for name, _ in rank(question.pixels, parsing, question.landmarks)]
        found[category[question.style]].append(names.index(question.style))
        same_cut += category[names[0]] == category[question.style]
    each = overlaps(table)
    figures: dict[str, Any] = {
        "pictures": total,
        "miou": round(float(each.mean()), 4),
        "iou": {name: round(float(v), 4) for name, v in zip(LABELS, each, strict=True)},
    }
    if rank is None:
        return figures
    places = np.array([place for ranks in found.values() for place in ranks])
    return figures | {
        "top1": _share(places, 1),
        "top3": _share(places, 3),
        "category_top1": round(same_cut / max(1, total), 4),
        "categories": {
            name: {"pictures": len(ranks), "top1": _share(ranks, 1), "top3": _share(ranks, 3)}
            for name, ranks in sorted(found.items())
        },
    }


def _share(places: NDArray[np.integer] | list[int], best: int) -> float:
    """Of those that are among the ``best``."""
    return round(float(np.mean(np.asarray(places) < best)), 4) if len(places) else 0.0
