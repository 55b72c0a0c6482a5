"""What a photograph's outline says about every style of the studio, worn by the base or not.

Each style travels as a coarse solid around the average head (``synthesis.hulls``). It is warped
onto the fitted head and drawn at the photograph's camera. Where its outline lies over the parsed
hair speaks beside the classifier, which sees texture and partings but is led astray by real light.
"""

from __future__ import annotations

import importlib.resources
import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing

from head360.fitting.sights import Sight
from head360.geometry.lattice import Lattice
from head360.rendering.cameras import from_normalised

Floats = NDArray[np.float32]

_COARSE = 4  # pixels of 256 across one of the picture that hulls are drawn in
_INTO_SKIN = 0.006  # metres that a cell's middle may lie below the skin and still be seen
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.25
_FLOOR = 0.004  # probability that every style has


@lru_cache(maxsize=1)
def _hulls() -> dict[str, Floats]:
    """Style → (K, 3) float32 middles of the eighths of its cells, canonical."""
    stored = importlib.resources.files("head360") / "data" / "hair_hulls.npz"
    with np.load(io.BytesIO(stored.read_bytes()), allow_pickle=False) as archive:
        names, packed = archive["names"], archive["cells"]
    side = round((packed.shape[1] * 8) ** (1 / 3))
    hulls = {}
    for name, bits in zip(names, packed, strict=True):
        z, y, x = np.nonzero(np.unpackbits(bits).reshape(side, side, side))
        middle = np.stack([x, y, z], 1) + 0.5
        points = (middle[:, None] + _CORNERS).reshape(-1, 3) / side * 2 - 1
        hulls[str(name)] = points.astype(np.float32)
    return hulls


def style_names() -> tuple[str, ...]:
    """Styles whose hull is known."""
    return tuple(_hulls())


def hull_outline(name: str, lattice: Lattice, sight: Sight, skin: Floats) -> Floats:
    """(S, S) float32 where a style shows hair, coarsely.

    Args:
        name: of :func:`style_names`.
        lattice: identity → canonical.
        sight: the photograph.
        skin: (S, S) metres along the axis to the bald head, +inf where it is not.
    """
    points = from_normalised(lattice.from_canonical(_hulls()[name], iterations=4))
    size = sight.size
    pixel, depth = sight.camera.project(points, size, size)
    column, row = np.floor(pixel).astype(int).T
    seen = (column >= 0) & (row >= 0) & (column < size) & (row < size) & (depth > 0)
    column, row, depth = column[seen], row[seen], depth[seen]
    front = depth < skin[row, column] + _INTO_SKIN
    step = max(1, round(size / 256 * _COARSE))
    side = -(-size // step)
    drawn = np.zeros((side, side), dtype=np.bool_)
    drawn[row[front] // step, column[front] // step] = True
    drawn = binary_closing(np.pad(drawn, 2))[2:-2, 2:-2]
    large = Image.fromarray(drawn.astype(np.float32)).resize(
        (side * step, side * step), Image.Resampling.BILINEAR
    )
    return np.asarray(large, dtype=np.float32)[:size, :size]


def outlined(
    ranking: Sequence[tuple[str, float]],
    alike: Callable[[Floats], float],
    draw: Callable[[str], Floats],
    weight: float,
) -> list[tuple[str, float]]:
    """A classifier's ranking with the say of the outlines, best first.

    Args:
        ranking: (style or "bald", probability); styles without a hull keep a middling agreement.
        alike: agreement of an outline (S, S) with the photograph, 0…1.
        draw: style → its outline; empty for "bald".
        weight: of the agreement against the log probability.
    """
    known = set(style_names()) | {"bald"}
    agreements = {name: alike(draw(name)) for name, _ in ranking if name in known}
    middling = float(np.mean(list(agreements.values()))) if agreements else 0.0
    scores = {
        name: (chance + _FLOOR) * np.exp(weight * agreements.get(name, middling))
        for name, chance in ranking
    }
    total = sum(scores.values())
    return sorted(((n, float(s / total)) for n, s in scores.items()), key=lambda item: -item[1])
