"""One performer's blendshapes for another performer's avatar (method notes §8).

Faces at rest differ, and so do the trackers' numbers for them: what is carried over is the
distance from the driver's neutral face, not the numbers themselves, stretched where both ranges
are known, and kept inside what the avatar's own film showed::

    target = neutral of the avatar + gain × (driver − neutral of the driver), clamped

Gaze is an angle and the same for everybody: its gain is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.arkit.names import COUNT, INDEX, NAMES
from head360.errors import ModelInvalid

Floats = NDArray[np.float32]

_FLOOR, _CEILING = 0.1, 0.995  # quantiles of a take: where shapes rest, and how far they go
_MOVING = 0.2  # a shape that moves less says nothing about its range
_GAINS = 2 / 3, 1.5
_CALM = 5  # rows: a neutral face lasts longer than a moment
_TOLERANCE = 0.01  # less than this is not counted as clamped
GAZE = np.array([name.startswith("eyeLook") for name in NAMES])


@dataclass(frozen=True)
class Range:
    """What an avatar's film showed.

    Attributes:
        neutral: (52,) the face at rest. low, high: (52,) of every weight.
    """

    neutral: Floats
    low: Floats
    high: Floats

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Range:
        """From a model's manifest; heads that tell no range take everything, at rest all zeros.

        Raises:
            ModelInvalid: its numbers are not ARKit's, or not 52.
        """
        facts = manifest.get("expression")
        if not isinstance(facts, dict):
            return Range(*(np.full(COUNT, value, np.float32) for value in (0, 0, 1)))
        if tuple(facts.get("names", ())) != tuple(NAMES):
            raise ModelInvalid(
                "The avatar was trained on other numbers than ARKit's blendshapes: a take cannot "
                "drive it."
            )
        try:
            low, high = (np.asarray(facts[name], dtype=np.float32) for name in ("low", "high"))
            rest = np.asarray(facts.get("neutral", np.zeros(COUNT)), dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelInvalid(
                "The avatar's manifest does not tell its range of expressions: reinstall the model."
            ) from error
        if not low.shape == high.shape == rest.shape == (COUNT,):
            raise ModelInvalid(f"The avatar's range has not {COUNT} numbers: reinstall the model.")
        return Range(np.clip(rest, low, high), low, high)


@dataclass(frozen=True)
class Retargeted:
    """Weights for the avatar.

    Attributes:
        weights: (R, 52) float32.
        gains: (52,) float32.
        clamped: how many weights lay outside the range; frames: in how many rows.
        most: names of the shapes that were clamped most often, at most five.
    """

    weights: Floats
    gains: Floats
    clamped: int
    frames: int
    most: tuple[str, ...]


def neutral_row(weights: Floats) -> int:
    """Row (from 0) of (R, 52) in which every shape is nearest to where it rests.

    Judged over some rows around it: a neutral face lasts longer than a moment.
    """
    rest = np.quantile(weights, _FLOOR, axis=0)
    distance = np.linalg.norm(weights - rest, axis=1)
    window = min(_CALM, len(distance))
    padded = np.pad(distance, (window // 2, window - 1 - window // 2), mode="edge")
    calm = np.convolve(padded, np.full(window, 1 / window), mode="valid")
    return int(np.argmin(calm))


def gains_of(performance: Floats, neutral: Floats, target: Range) -> Floats:
    """(52,) how much further the avatar goes than the driver, between 2/3 and 3/2.

    1 where either of them hardly moves, and for gaze; both sides of the face share theirs.

    Args:
        performance: (T, 52) of the driver, the further it goes the better.
        neutral: (52,) of the driver.
        target: of the avatar.
    """
    driver = np.quantile(performance, _CEILING, axis=0) - neutral
    own = target.high - target.neutral
    known = (driver >= _MOVING) & (own >= _MOVING) & ~GAZE
    ratio = np.where(known, own / np.where(known, driver, 1.0), 1.0)
    logs, counts = np.log(ratio) * known, known.astype(np.float64)
    both, sides = logs.copy(), counts.copy()
    for name, index in INDEX.items():
        other = _other_side(name)
        if other is not None:
            both[index] = logs[index] + logs[INDEX[other]]
            sides[index] = counts[index] + counts[INDEX[other]]
    mean = np.exp(both / np.maximum(sides, 1))
    return np.asarray(np.clip(np.where(sides > 0, mean, 1.0), *_GAINS), dtype=np.float32)


def retarget(weights: Floats, neutral: Floats, target: Range, gains: Floats) -> Retargeted:
    """The driver's (R, 52) weights as the avatar's, see the module."""
    free = target.neutral + gains * (weights - neutral)
    kept = np.clip(free, target.low, target.high)
    beyond = np.abs(free - kept) > _TOLERANCE
    often = beyond.sum(0)
    order = np.argsort(-often, kind="stable")[:5]
    return Retargeted(
        kept.astype(np.float32), gains, int(beyond.sum()), int(beyond.any(1).sum()),
        tuple(NAMES[k] for k in order if often[k]),
    )  # fmt: skip


def _other_side(name: str) -> str | None:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return None
