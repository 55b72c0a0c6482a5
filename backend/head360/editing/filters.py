"""Filters: editors of our own, the same for the same picture, useful by themselves.

Tones change whole pictures; what belongs to the skin (``paint.py``) is painted on the head and so
agrees between all views; ``statues.py`` turns the head into another material.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from head360.editing import paint, statues
from head360.editing.guides import Floats, Guide
from head360.editing.tones import lightness, mixed, softened
from head360.errors import BadInput

Filter = Callable[[Floats, Guide, float, int], Floats]


@dataclass(frozen=True)
class Entry:
    """A filter: (picture, guide, strength, seed) → picture, all (H, W, 3); and what it does."""

    apply: Filter
    text: str


class FilterEditor:
    """One of :data:`FILTERS` as an editor.

    Args:
        name: of the filter.
        strength: 0 leaves the picture, 1 is all of it.

    Raises:
        BadInput: no such filter, or the strength is out of range.
    """

    once = True

    def __init__(self, name: str, strength: float = 1.0) -> None:
        if name not in FILTERS:
            raise BadInput(f'There is no filter "{name}": choose one of {", ".join(FILTERS)}.')
        if not 0.0 < strength <= 1.0:  # also catches NaN
            raise BadInput(f"The strength {strength} is out of range: choose more than 0, up to 1.")
        self.name = f"filter:{name}"
        self.strength = strength
        self._apply = FILTERS[name].apply

    def edit(
        self,
        pictures: Floats,
        originals: Floats,
        guides: Sequence[Guide],
        prompt: str,
        seed: int,
    ) -> Floats:
        """See ``Editor``. What is edited is the original: a filter need not be applied twice."""
        edited = [
            self._apply(original, guide, self.strength, seed)
            for original, guide in zip(originals, guides, strict=True)
        ]
        return np.clip(np.stack(edited), 0.0, 1.0).astype(np.float32)

    def facts(self) -> dict[str, Any]:
        """See ``Editor``."""
        return {"editor": self.name, "strength": self.strength}


# --- tones of the whole picture -------------------------------------------------------------------


def _balanced(gains: tuple[float, float, float]) -> Filter:
    """A white balance: what ``gains`` do to a mid grey, less of it towards black and white."""

    def apply(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
        power = 1 + strength * (np.log(gains) / np.log(0.5)).astype(np.float32)
        return mixed(picture, np.power(np.clip(picture, 0, 1), power), guide.alpha)

    return apply


def _contrast(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    pivot = float(np.clip(lightness(guide.tones.skin), 0.25, 0.7))
    light = lightness(picture)[..., None]
    share = 0.55 * strength
    # An S-curve through the pivot that keeps black and white.
    low = pivot * (light / pivot) ** (1 + 1.6 * share)
    high = 1 - (1 - pivot) * ((1 - light) / (1 - pivot)) ** (1 + 1.6 * share)
    wanted = np.where(light < pivot, low, high)
    colour = picture * (wanted / np.maximum(light, 1e-3))
    colour = wanted + (1 + 0.15 * share) * (colour - wanted)
    return mixed(picture, np.asarray(colour, np.float32), guide.alpha)


def _smooth(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Retouched skin: fine differences go, features stay."""
    skin = guide.skin
    soft = softened(picture, skin, 2.6 / guide.scale)
    detail = np.abs(lightness(picture) - lightness(soft))[..., None]
    # Brows, nostrils and lids differ by more than pores do: they stay.
    keep = np.clip((detail - 0.05) / 0.10, 0, 1)
    retouched = soft + (picture - soft) * (0.15 + 0.85 * keep)
    glow = retouched + 0.05 * (1 - retouched) * retouched * 4
    return mixed(picture, glow, strength * skin)


FILTERS: dict[str, Entry] = {
    "warmer": Entry(_balanced((1.07, 1.0, 0.86)), "warmer light, as in the evening"),
    "cooler": Entry(_balanced((0.87, 0.985, 1.09)), "cooler light, as in the shade"),
    "contrast": Entry(_contrast, "deeper shadows, brighter lights"),
    "smooth": Entry(_smooth, "retouched skin"),
    "aged": Entry(paint.aged, "forty years older: wrinkles, age spots, grey hair"),
    "tan": Entry(paint.tan, "a summer in the sun"),
    "pale": Entry(paint.pale, "fair, cool skin"),
    "freckles": Entry(paint.freckles, "freckles on nose, cheeks and forehead"),
    "makeup": Entry(paint.makeup, "red lips, eye shadow, eyeliner, blush"),
    "undead": Entry(paint.undead, "grey skin, sunken eyes, veins"),
    "bronze": Entry(statues.bronze, "a statue of dark bronze"),
    "marble": Entry(statues.marble, "a statue of white marble"),
    "sketch": Entry(statues.sketch, "a pencil drawing"),
}
