"""What a picture of the studio may look like, by version.

A head that was trained on one look must be judged by pictures of that look, so older looks stay
available exactly as they were.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """One version of the studio's rendering.

    Attributes:
        version: counts up; 1 is what the first heads were trained on.
        detailed_atlas: mouth, eyes and brows of the albedo are painted in detail.
        hair_shadows: hair darkens the skin near it and itself.
        hair_follows: hair moves with the expression.
        fine_skin: relief, uneven gloss and translucency of the skin; eyes and teeth alike.
    """

    version: int
    detailed_atlas: bool
    hair_shadows: bool
    hair_follows: bool
    fine_skin: bool


FIRST_LOOK = Look(1, False, False, False, False)
LATEST_LOOK = Look(2, True, True, True, True)
