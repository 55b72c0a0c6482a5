"""The studio's cast: who is photographed. Shape, skin, irises and brows are independent choices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from head360.geometry.bilinear import BilinearModel


@dataclass(frozen=True)
class SkinTouch:
    """What makes a skin this subject's own; the defaults leave a skin picture as it is.

    Attributes:
        other: the skin blended in, or None.
        blend: 0…1 share of the other skin's colour.
        complexion: sRGB 0–255 that the cheeks come to; None keeps the blend's.
        redness: −1…1, cheeks, nose and ears paler or ruddier.
        age: 0…1, strength of the lines taken from ``lines``.
        lines: an old skin of like tone whose detail is added, or None.
        freckles: 0…1. moles: how many. stubble: 0…1, shadow of a shaved beard.
    """

    other: str | None = None
    blend: float = 0.0
    complexion: tuple[int, int, int] | None = None
    redness: float = 0.0
    age: float = 0.0
    lines: str | None = None
    freckles: float = 0.0
    moles: int = 0
    stubble: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether the skin picture itself changes."""
        return self.other is not None or self.complexion is not None or self.lines is not None

    @property
    def marks(self) -> bool:
        """Whether anything is painted onto the skin."""
        return bool(self.redness or self.freckles or self.moles or self.stubble)


@dataclass(frozen=True)
class SubjectSpec:
    """One subject.

    Attributes:
        name: unique; also the folder name in a data set.
        seed: of the shape sample.
        skin, iris, brow: asset names (see ``synthesis.skins``).
        brow_colour: sRGB 0–255.
        style: the hair style this subject wears by default.
        iris_gain: brightness of the iris picture.
        touch: what is done to the skin.
        hair_colour: name of a natural colour; None keeps each style's own.
    """

    name: str
    seed: int
    skin: str
    iris: str
    brow: str
    brow_colour: tuple[int, int, int]
    style: str
    iris_gain: float = 1.0
    touch: SkinTouch = SkinTouch()
    hair_colour: str | None = None

    def shape(self, model: BilinearModel) -> np.ndarray:
        """(S,) float32 identity coefficients of this subject."""
        return model.sample_shape(np.random.default_rng(self.seed)).astype(np.float32)


CAST: tuple[SubjectSpec, ...] = (
    SubjectSpec("felix", 109, "makehuman_young_lightskinned_female3", "blue", "eyebrow001",
                (86, 60, 42), "short02"),
    SubjectSpec("kofi", 110, "mindfront_african_middleage_male", "brownlight", "eyebrow004",
                (24, 18, 16), "afro01", 0.8),
    SubjectSpec("mina", 135, "onlytheghosts_young_eurasian_female", "brown", "eyebrow003",
                (38, 28, 24), "ponytail01", 0.45),
    SubjectSpec("thea", 104, "makehuman_middleage_lightskinned_male", "green", "eyebrow006",
                (72, 54, 40), "short02"),
    SubjectSpec("amadi", 102, "makehuman_young_darkskinned_male", "brown", "eyebrow007",
                (20, 15, 13), "short04", 0.5),
    SubjectSpec("clara", 119, "onlytheghosts_middleage_eurasian_female", "grey", "eyebrow002",
                (84, 66, 50), "bob02", 0.6),
    SubjectSpec("hiro", 122, "onlytheghosts_old_eurasian_male", "brownlight", "eyebrow008",
                (52, 44, 40), "short03", 0.7),
    SubjectSpec("leon", 108, "makehuman_middleage_lightskinned_female2", "bluegreen", "eyebrow009",
                (92, 64, 44), "short04", 0.6),
)  # fmt: skip


def cast(count: int) -> tuple[SubjectSpec, ...]:
    """The first ``count`` subjects: the named cast, then people drawn by number.

    A larger cast begins with the smaller one; names are unique.
    """
    from head360.synthesis.people import person  # which needs the classes of this file

    return (*CAST[:count], *(person(number) for number in range(len(CAST), count)))
