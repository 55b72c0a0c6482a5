"""Sentences in the sidebar: Blender cuts a long label, so they are broken into lines."""

from __future__ import annotations

import blf

_FRAMING = 90  # pixels of a sidebar at scale 1 that are tabs, margins, a box and an icon
_LEAST_WIDTH = 120


def wrapped(context, text: str) -> list[str]:
    """``text`` in lines that fit the sidebar as wide as it is now."""
    preferences = context.preferences
    scale = preferences.system.ui_scale
    blf.size(0, preferences.ui_styles[0].widget.points * scale)
    region = context.region.width if context.region is not None else 0
    width = max(region - _FRAMING * scale, _LEAST_WIDTH * scale)
    lines, line = [], ""
    pieces = [piece for word in text.split() for piece in _broken(word, width)]
    for word in pieces:
        longer = f"{line} {word}".strip()
        if line and blf.dimensions(0, longer)[0] > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def _broken(word: str, width: float) -> list[str]:
    """A word in pieces that fit: the path of a folder has no spaces to break at."""
    pieces = []
    while len(word) > 1 and blf.dimensions(0, word)[0] > width:
        end = len(word) - 1
        while end > 1 and blf.dimensions(0, word[:end])[0] > width:
            end -= 1
        pieces.append(word[:end])
        word = word[end:]
    return [*pieces, word]


def draw_text(layout, context, text: str, icon: str = "NONE") -> None:
    """A sentence on as many lines as it needs, close together, the icon before the first."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    rest = "NONE" if icon == "NONE" else "BLANK1"
    for index, line in enumerate(wrapped(context, text)):
        column.label(text=line, icon=rest if index else icon)
