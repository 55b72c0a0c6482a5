"""The contact sheet: every cell holds a picture, and every cell is told of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel
from head360.sheets import over
from head360.synthesis.lights import LIGHTS
from head360.synthesis.sheet import COLUMNS, MOMENTS, contact_sheet
from head360.synthesis.studio import Studio
from head360.synthesis.styles import STYLES
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import open_wardrobe

CELL = 40
SHOWN = tuple(style for style in STYLES if style.growth is None)[:2]


@pytest.mark.assets
def test_every_cell_holds_a_picture() -> None:
    try:
        wardrobe = open_wardrobe()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    studio = Studio(BilinearModel.builtin(), wardrobe, cast(1), SHOWN, samples=1)
    told: list[tuple[int, int]] = []
    placed: list[tuple[int, int]] = []

    original = Image.Image.paste

    def paste(self: Image.Image, picture: Image.Image, box: tuple[int, int]) -> None:
        placed.append(box)
        original(self, picture, box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "paste", paste)
        sheet = contact_sheet(
            studio,
            [s.name for s in SHOWN],
            CELL,
            lambda done, total, what: told.append((done, total)),
        )
    # One person, two styles, a row of lights and close-ups, a row of passes.
    assert len(placed) == len(MOMENTS) + len(SHOWN) + COLUMNS + COLUMNS
    assert len(set(placed)) == len(placed), "no cell lies on another"
    pixels = np.asarray(sheet, dtype=float)
    for left, top in placed:
        cell = pixels[top : top + CELL, left : left + CELL]
        assert cell.shape == (CELL, CELL, 3), "inside the sheet"
        assert cell.std() > 8, "not empty"
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))
    assert len(LIGHTS) >= 4


def test_moments_are_expressions_and_views() -> None:
    assert len(MOMENTS) == COLUMNS
    drawn = np.stack([moment.blendshapes() for moment in MOMENTS])
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert all(moment.blendshapes().any() == bool(moment.weights) for moment in MOMENTS)
    assert max(abs(moment.yaw) for moment in MOMENTS) > 120


def test_straight_alpha_over_a_colour() -> None:
    rgba = np.array([[[1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 1.0]]], dtype=np.float32)
    mixed = over(rgba, (0, 0, 255))
    np.testing.assert_array_equal(mixed, [[[128, 0, 128], [0, 255, 0]]])
