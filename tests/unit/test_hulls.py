"""Hair hulls: the coarse solids that a photograph's outline is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from head360.fitting import hulls
from head360.fitting.hair import agreement
from head360.fitting.sights import Sight
from head360.geometry.assets import find_wardrobe
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.rendering.cameras import orbit
from head360.synthesis.hair import STYLES, grow_style
from head360.synthesis.hulls import CELLS, hull_of
from head360.synthesis.people import person
from head360.synthesis.studio import Studio
from head360.synthesis.wardrobe import open_wardrobe


def test_every_style_of_the_studio_has_the_hull_that_its_hair_fills() -> None:
    assert hulls.style_names() == tuple(style.name for style in STYLES)
    grown = next(style for style in STYLES if style.growth is not None)
    z, y, x = np.nonzero(hull_of(grow_style(grown)))
    cells = np.stack([x, y, z], 1)
    stored = hulls._hulls()[grown.name].reshape(-1, 8, 3).mean(1)
    found = np.rint((stored + 1) / 2 * CELLS - 0.5).astype(int)
    assert set(map(tuple, found.tolist())) == set(map(tuple, cells.tolist()))


@pytest.mark.assets
def test_a_hull_covers_what_the_studio_photographs() -> None:
    model = BilinearModel.builtin()
    who = person(41)
    worn = [style for style in STYLES if style.name in ("bob01", "short02")]
    studio = Studio(model, open_wardrobe(find_wardrobe()), (who,), tuple(worn), samples=1)
    lattice, blank = studio.sitter(who.name).lattice, np.zeros(52, dtype=np.float32)
    vertices, camera, size = studio.pose(who.name, blank), orbit(25.0, 5.0), 160
    screen = raster.perspective_screen(vertices, camera, size, size)
    skin = raster.rasterize(screen[None], model.topology.faces, size, size).depth[0]
    outlines = {}
    for name in ("bob01", "short02", "long01"):
        empty = np.zeros((size, size), dtype=np.float32)
        sight = Sight(
            np.zeros((size, size, 3), np.float32), empty == 0, empty.astype(np.uint8), empty, empty,
            camera, blank,
        )  # fmt: skip
        outlines[name] = hulls.hull_outline(name, lattice, sight, skin)
    for style in worn:
        scene = studio.scene(who.name, style.name, vertices)
        hair = studio.photograph(*scene, camera, size, size, passes=True).hair
        alike = {name: agreement(o, hair, hair < 0) for name, o in outlines.items()}
        assert alike[style.name] > 0.85
        assert max(alike, key=lambda name: alike[name]) == style.name


def test_outlines_and_classifier_are_weighed_against_each_other() -> None:
    known = hulls.style_names()
    ranking = [(known[0], 0.5), ("unheard", 0.3), (known[1], 0.15), ("bald", 0.05)]
    alike = {known[0]: 0.2, known[1]: 0.9, "bald": 0.4}

    def ranked(weight: float) -> list[tuple[str, float]]:
        return hulls.outlined(
            ranking, lambda picture: float(picture[0, 0]),
            lambda name: np.full((1, 1), alike[name], dtype=np.float32), weight,
        )  # fmt: skip

    assert [name for name, _ in ranked(0.0)] == [name for name, _ in ranking]
    assert ranked(12.0)[0][0] == known[1]
    assert sum(chance for _, chance in ranked(12.0)) == pytest.approx(1.0)
    # A style of the user's own weights, of which no hull is known, is neither lifted nor sunk.
    order = [name for name, _ in ranked(3.0)]
    assert order.index("unheard") < order.index("bald")
