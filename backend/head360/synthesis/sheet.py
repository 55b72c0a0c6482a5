"""A contact sheet of the studio: who there is, how the hair sits, how faces move."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from head360.arkit import COUNT, INDEX
from head360.rendering.cameras import orbit
from head360.synthesis.studio import Studio

BACKGROUND = (158, 163, 173)  # sRGB
_MARGIN = 18  # pixels for labels

# Name, weights, yaw and pitch of each row of a subject.
MOMENTS: tuple[tuple[str, dict[str, float], float, float], ...] = (
    ("neutral", {}, 0.0, 0.0),
    ("smile", {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.25}, 30.0, 8.0),
    ("surprise", {"jawOpen": 0.7, "browInnerUp": 1.0, "eyeWideLeft": 0.6, "eyeWideRight": 0.6},
     -60.0, -8.0),
    ("from behind", {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, 160.0, 15.0),
)  # fmt: skip


def contact_sheet(
    studio: Studio,
    styles: Sequence[str],
    cell: int = 160,
    progress: Callable[[int, int, str], None] | None = None,
) -> Image.Image:
    """Rows: every subject in :data:`MOMENTS`; columns: bald, then ``styles``. RGB, sRGB."""
    columns: list[str | None] = [None, *styles]
    subjects = list(studio.subjects)
    total = len(subjects) * len(MOMENTS) * len(columns)
    sheet = Image.new(
        "RGB", (cell * len(columns), _MARGIN + cell * len(MOMENTS) * len(subjects)), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    done = 0
    for column, style in enumerate(columns):
        draw.text((column * cell + 4, 3), style or "bald", fill=(0, 0, 0))
    for row, subject in enumerate(subjects):
        for line, (name, weights, yaw, pitch) in enumerate(MOMENTS):
            blendshapes = np.zeros(COUNT, dtype=np.float32)
            for shape, value in weights.items():
                blendshapes[INDEX[shape]] = value
            vertices = studio.pose(subject, blendshapes)
            top = _MARGIN + (row * len(MOMENTS) + line) * cell
            for column, style in enumerate(columns):
                scene, cutout = studio.scene(subject, style, vertices)
                picture = studio.photograph(
                    scene, cutout, orbit(yaw, pitch, distance=1.0), cell, cell
                )
                sheet.paste(Image.fromarray(over(picture.rgba)), (column * cell, top))
                done += 1
            draw.text((4, top + 3), f"{subject}, {name}", fill=(0, 0, 0))
            if progress is not None:
                progress(done, total, f"{subject} {name}")
    return sheet


def over(
    rgba: NDArray[np.float32], background: tuple[int, int, int] = BACKGROUND
) -> NDArray[np.uint8]:
    """(H, W, 4) float32 straight alpha over an sRGB colour → (H, W, 3) uint8."""
    alpha = rgba[..., 3:]
    mixed = rgba[..., :3] * alpha + (1 - alpha) * np.array(background, dtype=np.float32) / 255
    return np.rint(np.clip(mixed, 0, 1) * 255).astype(np.uint8)
