"""Labelled picture tables: what commands write where people would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
_INK = (40, 40, 44)


def over(rgba: NDArray[np.float32], paper: tuple[int, int, int] = PAPER) -> NDArray[np.uint8]:
    """(H, W, 4) float32 sRGB, straight alpha, over a colour → (H, W, 3) uint8."""
    alpha = rgba[..., 3:]
    mixed = rgba[..., :3] * alpha + (1 - alpha) * np.array(paper, dtype=np.float32) / 255
    return np.rint(np.clip(mixed, 0, 1) * 255).astype(np.uint8)


def table(
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], columns: Sequence[str] = ()
) -> Image.Image:
    """A table of equally large pictures with a label before each row and above each column.

    Args:
        rows: label and (H, W, 3) uint8 pictures of each row; rows may end early.
        columns: labels; none leaves the line out.

    Raises:
        ValueError: there are no pictures, or they differ in size.
    """
    pictures = [picture for _, row in rows for picture in row]
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(f"a table needs pictures of one size, not {sorted(sizes)}")
    height, width = sizes.pop()
    points = max(11, height // 14)
    font = ImageFont.load_default(points)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    gap = max(4, height // 40)
    left = round(max((probe.textlength(label, font) for label, _ in rows), default=0))
    left = left + 2 * gap if left else 0
    top = round(1.8 * points) if columns else 0
    count = max(len(row) for _, row in rows)
    sheet = Image.new("RGB", (left + count * width, top + len(rows) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, label in enumerate(columns):
        draw.text((left + (k + 0.5) * width, top / 2), label, _INK, font, anchor="mm")
    for line, (label, row) in enumerate(rows):
        draw.text((gap, top + (line + 0.5) * height), label, _INK, font, anchor="lm")
        for k, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (left + k * width, top + line * height))
    return sheet
