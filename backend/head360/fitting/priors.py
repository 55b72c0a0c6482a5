"""What is likely before a picture is seen: faces at rest, usual lenses, usual distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX, NAMES

Array = NDArray[np.float64]

# Shapes that no outline of lips, lids or brows tells of: they stay 0.
UNSEEN = ("eyeLook", "tongue", "cheekPuff")
# Mean weight of a shape (of an exponential distribution): what faces often do, and all the rest.
_OFTEN = (
    "mouthSmile", "jawOpen", "browInnerUp", "browDown", "browOuterUp", "eyeSquint", "eyeBlink",
)  # fmt: skip
_MEAN_OFTEN, _MEAN_SELDOM = 0.2, 0.08
# These say with a strange word what another shape says better.
_ODD = {"mouthClose": 0.04, "jawForward": 0.04, "mouthFunnel": 0.06, "noseSneer": 0.05}
_UNEVEN = 0.12  # standard deviation of left minus right

LENS_RANGE_MM = (20.0, 300.0)

IDENTITY_LIMIT = 3.0  # standard deviations on every whitened axis


@dataclass(frozen=True)
class Situation:
    """How pictures of a kind are usually taken; spreads are of natural logarithms.

    Attributes:
        lens_mm: focal length, as of a full-frame camera. lens_spread: of it.
        distance: metres. distance_spread: of it.
    """

    lens_mm: float
    lens_spread: float
    distance: float
    distance_spread: float


PORTRAIT = Situation(58.0, 0.45, 1.0, 0.5)
PHONE = Situation(38.0, 0.6, 0.6, 0.6)


@dataclass(frozen=True)
class ExpressionPrior:
    """Sparse: every weight costs in proportion; even: both sides do alike.

    Attributes:
        active: indices into ``arkit.NAMES`` of what may move.
        rate: (A,) cost of a whole unit of each, in nats.
        evenness: (A, A) matrix of the cost ½ bᵀ·evenness·b.
    """

    active: NDArray[np.int64]
    rate: Array
    evenness: Array

    @classmethod
    def usual(cls) -> ExpressionPrior:
        """For a photograph of somebody unknown."""
        active = np.array([k for k, name in enumerate(NAMES) if not name.startswith(UNSEEN)])
        rate = np.array([1 / _mean(NAMES[k]) for k in active])
        place = {int(k): row for row, k in enumerate(active)}
        evenness = np.zeros((len(active), len(active)))
        for name in NAMES:
            twin = name.removesuffix("Left") + "Right"
            if not name.endswith("Left") or name in ("jawLeft", "mouthLeft"):
                continue
            if INDEX[name] in place and INDEX[twin] in place:
                pair = [place[INDEX[name]], place[INDEX[twin]]]
                evenness[np.ix_(pair, pair)] += np.array([[1, -1], [-1, 1]]) / _UNEVEN**2
        return cls(active, rate, evenness)

    def full(self, values: Array) -> Array:
        """(A,) → (52,)."""
        out = np.zeros(COUNT)
        out[self.active] = values
        return out


def _mean(name: str) -> float:
    for stem, mean in _ODD.items():
        if name.startswith(stem):
            return mean
    return _MEAN_OFTEN if name.startswith(_OFTEN) else _MEAN_SELDOM
