"""Which of a base's hair styles stands for what a photograph shows.

A classifier ranks all styles of the studio; a base knows some of them. Probability flows from each
studio style to those of the base that are like it: the same one, the same class of cut, the same
length and texture.
"""

from __future__ import annotations

from collections.abc import Sequence

from head360.synthesis.styles import STYLES

BALD = "bald"
# Classes of cut by what the eye sees first: how long, and how it falls.
_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("buzz", "crew cut", "fade", "receding", "bald crown"),
    ("crop", "short", "side part", "pixie", "bowl cut", "messy", "undercut", "crew cut", "fade"),
    ("slick back", "undercut", "faux hawk", "mohawk", "bun", "top knot", "ponytail", "fade"),
    ("bob", "fringe bob", "shoulder length", "layered", "bowl cut"),
    ("shoulder length", "long straight", "long wavy", "layered", "mullet", "long curly"),
    ("ponytail", "high ponytail", "bun", "pigtails", "braid", "two braids", "top knot"),
    ("afro", "short curly", "tight curls", "medium curly", "dreadlocks"),
    ("long curly", "medium curly", "long wavy"),
)
_SAME_CUT, _SAME_FAMILY, _SHORN = 0.6, 0.25, 0.35


def wearable(
    ranking: Sequence[tuple[str, float]], styles: Sequence[str]
) -> list[tuple[str | None, float]]:
    """A base's ``styles`` and None for bald, best first, with scores that add up to 1.

    Args:
        ranking: (studio style or "bald", probability).
        styles: of the base; names that are not the studio's count by name alone.
    """
    cuts = {style.name: style.category for style in STYLES}
    scores: dict[str | None, float] = {None: 0.0, **dict.fromkeys(styles, 0.0)}
    for name, probability in ranking:
        shares = {style: closeness(name, style, cuts) for style in styles}
        shares[BALD] = 1.0 if name == BALD else _SHORN if cuts.get(name) == "buzz" else 0.0
        # All of a style's probability goes to what is most like it; a style without any likeness in
        # the base says nothing about the others.
        best = max(shares.values())
        if best <= 0.0:
            continue
        for style, share in shares.items():
            scores[None if style == BALD else style] += probability * (share / best) ** 2
    total = sum(scores.values())
    if total <= 0.0:
        return [(style, 1.0 / len(scores)) for style in (*styles, None)]
    order = sorted(scores.items(), key=lambda item: -item[1])
    return [(style, score / total) for style, score in order]


def closeness(studio: str, style: str, cuts: dict[str, str]) -> float:
    """0…1 how much two styles look alike."""
    if studio == style:
        return 1.0
    first, second = cuts.get(studio), cuts.get(style)
    if first is None or second is None:
        return 0.0
    if first == second:
        return _SAME_CUT
    shared = sum(first in family and second in family for family in _FAMILIES)
    return _SAME_FAMILY if shared else 0.0
