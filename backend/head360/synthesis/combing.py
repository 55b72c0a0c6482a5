"""Which way hair is combed over the skull."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.synthesis.gathered import tie_points
from head360.synthesis.growth import Growth
from head360.synthesis.ribbons import unit
from head360.synthesis.scalp import CENTRE, smooth

Doubles = NDArray[np.float64]

WHORL = CENTRE + np.array([0.004, 0.080, -0.060])  # metres, under the crown


def combing_at(growth: Growth, points: Doubles, roots: Doubles) -> Doubles:
    """(M, 3) unit directions hair is combed to at ``points``, not yet bent to the scalp."""
    whorl = unit(points - WHORL)
    behind = smooth(0.015, -0.075, points[:, 2])
    low = smooth(0.10, 0.03, points[:, 1])
    if growth.comb == "crown":
        return whorl
    if growth.comb == "forward":
        ahead = np.stack([0 * behind, -0.25 + 0 * behind, 1.0 - 1.3 * behind], 1)
        return unit(ahead * (1 - behind)[:, None] + whorl * behind[:, None])
    if growth.comb == "back":
        return unit(
            np.stack([0 * behind, -0.1 - 0.9 * np.maximum(behind, 0.55 * low), -1 + 0 * low], 1)
        )
    if growth.comb == "up":
        out = unit(points - CENTRE)
        if growth.strip is not None:  # a crest closes to an edge
            out[:, 0] = -4.0 * points[:, 0]
        return unit(out + np.array([0.0, 0.25, 0.0]))
    if growth.comb == "tie":
        ties = tie_points(growth.gathers, None)
        target = ties[nearest_tie(growth, roots)]
        return unit(target - points)
    # A parting runs from the forehead to the whorl; behind it hair falls from the whorl.
    if growth.comb == "sweep":
        sign = np.full(len(points), np.sign(growth.part))
        # Below the temple of the far side hair goes down anyway.
        aside = np.stack([sign, 0.25 + 0 * sign, 0.05 - 0.7 * behind], 1)
        down = np.stack([0 * sign, -1 + 0 * sign, -0.35 + 0 * sign], 1)
        under = smooth(0.088, 0.055, points[:, 1])[:, None]
        return unit(unit(aside) * (1 - under) + down * under)
    sign = np.where(roots[:, 0] > growth.part, 1.0, -1.0)
    aside = np.stack([sign, -0.55 - 0.9 * low, -0.40 + 0.24 * low], 1)
    return unit(unit(aside) * (1 - behind)[:, None] + whorl * behind[:, None])


def nearest_tie(growth: Growth, roots: Doubles) -> NDArray[np.int64]:
    """(S,) which gather a root belongs to: the one of its side, else the nearest."""
    ties = tie_points(growth.gathers, None)
    if len(ties) == 2:
        left = int(np.argmax(ties[:, 0]))
        return np.where(roots[:, 0] > growth.part, left, 1 - left)
    return np.linalg.norm(roots[:, None] - ties[None], axis=2).argmin(1)
