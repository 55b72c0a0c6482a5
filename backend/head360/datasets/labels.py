"""The eight classes of the parsing labels. Needs numpy alone."""

from __future__ import annotations

import numpy as np

# Index in this tuple = value in a label picture. Lashes are looked through; teeth, tongue, gums and
# the inside of the mouth are "mouth"; ears and the bald skull are skin.
LABELS: tuple[str, ...] = (
    "background", "skin", "brows", "eyes", "lips", "mouth", "hair", "neck",
)  # fmt: skip
BACKGROUND, SKIN, BROWS, EYES, LIPS, MOUTH, HAIR, NECK = range(len(LABELS))

# (8, 3) uint8 sRGB: what label pictures look like to people.
PALETTE = np.array(
    [(0, 0, 0), (226, 170, 138), (96, 60, 30), (70, 140, 220), (200, 60, 80), (110, 20, 30),
     (240, 190, 60), (150, 190, 130)],
    dtype=np.uint8,
)  # fmt: skip
