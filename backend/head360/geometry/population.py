"""100 kept and 40 held-out identities × (neutral + 52 expressions), streamed slice by slice.

The whole tensor (3·26,719 × 140 × 53) would take 2.4 GB; one expression of all identities takes
45 MB and is made from the stored local frames in a few hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.geometry.ict import IctModel
from head360.geometry.transfer import ict_transfer

Floats = NDArray[np.float32]

KEPT = 100
HELD_OUT = 40
LIMIT = 2.0  # |c| ≤ 2: beyond that ICT's modes make odd heads


@dataclass(frozen=True)
class Population:
    """All heads of the build. Metres, head space; identities kept first, then held-out.

    Attributes:
        coefficients: (I, 100) float32 ICT coefficients.
        neutrals: (I, N, 3) float32.
        frames: (3, I, N, 3) float32; ``frames[b, i, v, a]`` = J_iv[a, b].
        deltas: (52, N, 3) float32 generic deltas.
        eye_centres: (I, 2, 3) float64.
        kept: how many of the identities the decomposition is built from.
    """

    coefficients: Floats
    neutrals: Floats
    frames: Floats
    deltas: Floats
    eye_centres: NDArray[np.float64]
    kept: int

    def expression(self, e: int, vertices: NDArray[np.integer] | slice = slice(None)) -> Floats:
        """(I, n, 3) float32 posed meshes of slice ``e``: 0 neutral, 1 … 52 one expression each."""
        posed = self.neutrals[:, vertices].copy()
        if e == 0:
            return posed
        delta = self.deltas[e - 1, vertices]
        active = np.flatnonzero(np.abs(delta).max(axis=1) > 0)
        ids = np.arange(self.neutrals.shape[1])[vertices][active]
        for axis in range(3):
            posed[:, active] += self.frames[axis][:, ids] * delta[active, axis, None]
        return posed

    def slices(self, vertices: NDArray[np.integer] | slice = slice(None)) -> Iterator[Floats]:
        """The 53 slices of the identity unfolding: (I, 3n) float32 each."""
        for e in range(1 + len(self.deltas)):
            yield self.expression(e, vertices).reshape(len(self.neutrals), -1)

    def identity_frames(self, i: int, vertices: NDArray[np.integer]) -> Floats:
        """(n, 3, 3) float32 J of identity ``i``."""
        return np.moveaxis(self.frames[:, i, vertices], 0, -1)


def draw_coefficients(count: int, modes: int, seed: int) -> Floats:
    """(count, modes) standard normal, truncated to |c| ≤ ``LIMIT`` by drawing again."""
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((count, modes))
    while (outside := np.abs(c) > LIMIT).any():
        c[outside] = rng.standard_normal(int(outside.sum()))
    return c.astype(np.float32)


def build_population(
    ict: IctModel, kept: int = KEPT, held_out: int = HELD_OUT, seed: int = 0
) -> Population:
    """Draw identities and compute their local frames."""
    coefficients = draw_coefficients(kept + held_out, len(ict.identity_deltas), seed)
    neutrals = ict.identities(coefficients)
    transfer = ict_transfer(ict)
    frames = np.empty((3, *neutrals.shape), dtype=np.float32)
    for i, neutral in enumerate(neutrals):
        frames[:, i] = np.moveaxis(transfer.gradients(neutral), -1, 0)
    return Population(
        coefficients, neutrals, frames, ict.expression_deltas, ict.centres_of(neutrals), kept
    )
