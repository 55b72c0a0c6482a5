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
from head360.geometry.transfer import JAW_ROWS, ict_transfer
from head360.geometry.tucker import gram

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
        jaw_maps: (I, 3, 3) float32, the J of the five jaw shapes at every vertex.
        deltas: (52, N, 3) float32 generic deltas.
        eye_centres: (I, 2, 3) float64.
        kept: how many of the identities the decomposition is built from.
    """

    coefficients: Floats
    neutrals: Floats
    frames: Floats
    jaw_maps: Floats
    deltas: Floats
    eye_centres: NDArray[np.float64]
    kept: int

    def expression(self, e: int, vertices: NDArray[np.integer] | slice = slice(None)) -> Floats:
        """(I, n, 3) float32 posed meshes of slice ``e``: 0 neutral, 1 … 52 one expression each."""
        posed = self.neutrals[:, vertices].copy()
        if e > 0:
            active, change = self.change(e, vertices)
            posed[:, active] += change
        return posed

    def change(
        self, e: int, vertices: NDArray[np.integer] | slice = slice(None)
    ) -> tuple[NDArray[np.int64], Floats]:
        """Expression ``e`` (1 … 52) moves (a,) of ``vertices`` (indices) by (I, a, 3)."""
        delta = self.deltas[e - 1, vertices]
        active = np.flatnonzero(np.abs(delta).max(axis=1) > 0)
        delta = delta[active]
        if e - 1 in JAW_ROWS:
            return active, np.einsum("iab,vb->iva", self.jaw_maps, delta)
        ids = np.arange(self.neutrals.shape[1])[vertices][active]
        moved = self.frames[0][:, ids] * delta[:, :1]
        for axis in (1, 2):
            moved += self.frames[axis][:, ids] * delta[:, axis, None]
        return active, moved

    def gram(self, vertices: NDArray[np.integer]) -> NDArray[np.float64]:
        """(I, I) Gram matrix of all 53 posed slices on ``vertices``.

        Equal to ``tucker.gram(self.slices(vertices))``, four times cheaper: an expression moves a
        quarter of the vertices, so (X₀+Δ)(X₀+Δ)ᵀ is expanded and only Δ's own columns are touched.
        """
        rest = self.neutrals[:, vertices].astype(np.float64)
        total = (1 + len(self.deltas)) * (flat := rest.reshape(len(rest), -1)) @ flat.T
        summed = np.zeros_like(rest)
        for e in range(1, 1 + len(self.deltas)):
            active, change = self.change(e, vertices)
            moved = change.astype(np.float64)
            summed[:, active] += moved
            total += gram([moved.reshape(len(moved), -1)])
        cross = flat @ summed.reshape(len(rest), -1).T
        return total + cross + cross.T

    def slices(self, vertices: NDArray[np.integer] | slice = slice(None)) -> Iterator[Floats]:
        """The 53 slices of the identity unfolding: (I, 3n) float32 each."""
        for e in range(1 + len(self.deltas)):
            yield self.expression(e, vertices).reshape(len(self.neutrals), -1)


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
    jaws = np.empty((len(neutrals), 3, 3), dtype=np.float32)
    for i, neutral in enumerate(neutrals):
        jaws[i] = transfer.jaw_map(neutral)
        frames[:, i] = np.moveaxis(transfer.gradients(neutral), -1, 0)
    return Population(
        coefficients,
        neutrals,
        frames,
        jaws,
        ict.expression_deltas,
        ict.centres_of(neutrals),
        kept,
    )
