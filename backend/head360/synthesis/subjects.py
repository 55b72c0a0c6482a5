"""The studio's cast: who is photographed. Shape, skin, irises and brows are independent choices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from head360.geometry.bilinear import BilinearModel


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
    """

    name: str
    seed: int
    skin: str
    iris: str
    brow: str
    brow_colour: tuple[int, int, int]
    style: str
    iris_gain: float = 1.0

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
    """The first ``count`` subjects; beyond the named cast, combinations drawn by seed."""
    chosen = list(CAST[:count])
    for extra in range(len(chosen), count):
        rng = np.random.default_rng(10_000 + extra)
        template = CAST[int(rng.integers(len(CAST)))]
        eyes = CAST[int(rng.integers(len(CAST)))]
        chosen.append(
            SubjectSpec(
                f"subject{extra:03d}", 10_000 + extra, template.skin, eyes.iris,
                f"eyebrow{int(rng.integers(1, 13)):03d}", template.brow_colour,
                CAST[int(rng.integers(len(CAST)))].style, eyes.iris_gain,
            )
        )  # fmt: skip
    return tuple(chosen)
