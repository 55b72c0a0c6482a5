"""Before above after: the sheet by which people judge an edit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX
from head360.editing.views import close_up
from head360.files import atomic_path
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.rendering.cameras import Camera, orbit
from head360.sheets import over, table

NAME = "sheet.png"
SIZE = 256  # pixels per side of a picture, unless the edit itself was learned from smaller ones
Pictures = dict[str, list[NDArray[np.uint8]]]

_ROWS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.5,
              "cheekSquintRight": 0.5, "jawOpen": 0.2},
    "jaw open": {"jawOpen": 0.8, "browInnerUp": 0.6},
}  # fmt: skip
_VIEWS: dict[str, Camera] = {
    "face": close_up(0, 2), "front": orbit(0, 4), "left": orbit(40, 4), "right": orbit(-85, 4),
    "back": orbit(180, 8),
}  # fmt: skip
_BALD = "without hair"


def pictures(
    head: HexPlaneHead,
    codes: Codes,
    size: int,
    report: Callable[[str], None] | None = None,
) -> Pictures:
    """The head over white by expression, from several sides and without its hair.

    Args:
        head, codes: who.
        size: pixels per side that the edit is learned from.
        report: called with a line of text before each row; what it raises stops the work.
    """
    found: Pictures = {}
    size = min(SIZE, size)
    for label, weights in _ROWS.items():
        if report is not None:
            report(f"pictures for the sheet, {label}")
        blendshapes = np.zeros(COUNT, dtype=np.float32)
        for name, value in weights.items():
            blendshapes[INDEX[name]] = value
        pose = head.pose(codes, blendshapes)
        found[label] = [over(head.render(pose, c, size, size).rgba) for c in _VIEWS.values()]
        if codes.style is not None:
            bald = head.pose(dataclasses.replace(codes, style=None, hairs=()), blendshapes)
            found[label].append(over(head.render(bald, _VIEWS["left"], size, size).rgba))
    return found


def write(path: Path, before: Pictures, after: Pictures) -> None:
    """Write both as one picture, atomically."""
    rows = []
    for label in before:
        rows.append((label, before[label]))
        rows.append(("edited", after[label]))
    columns = [*_VIEWS, _BALD][: len(rows[0][1])]
    with atomic_path(path) as temporary:
        table(rows, columns).save(temporary, "PNG")
