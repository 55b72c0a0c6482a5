"""The cast: eight named people that never change, then as many others as are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.atlas import ATLAS_TILES, INSET, UNIT
from head360.geometry.bilinear import BilinearModel
from head360.synthesis.blur import blur
from head360.synthesis.skins import SIZE
from head360.synthesis.styles import COLOURS, STYLES
from head360.synthesis.subjects import CAST, SkinTouch, SubjectSpec, cast
from head360.synthesis.wardrobe import FolderWardrobe

Pixels = NDArray[np.uint8]
CROWD = cast(500)


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")


@pytest.fixture(scope="module")
def wardrobe(folder: Path) -> FolderWardrobe:
    return FolderWardrobe(folder)


def paint(wardrobe: FolderWardrobe, spec: SubjectSpec, detail: bool) -> Pixels:
    return wardrobe.atlas(BilinearModel.builtin().topology, spec, detail)


def tile(atlas: Pixels, name: str) -> Pixels:
    """A tile of an atlas without its inset."""
    scale = SIZE // UNIT
    x, y, w, h = ATLAS_TILES[name]
    rows = slice(SIZE - (y + h - INSET) * scale, SIZE - (y + INSET) * scale)
    return atlas[rows, (x + INSET) * scale : (x + w - INSET) * scale]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_blurs_are_scipys_to_the_last_bit(kind: type) -> None:
    rng = np.random.default_rng(0)
    for shape, sigma, truncate in (
        ((60, 90), (2.5, 0.8), 4.0),
        ((80, 70, 3), (9.0, 9.0), 3.0),
        ((40, 24), (20.0, 20.0), 4.0),
    ):
        picture = rng.normal(size=shape).astype(kind)
        expected = gaussian_filter(picture, sigma + (0,) * (len(shape) - 2), truncate=truncate)
        found = blur(picture, sigma, truncate)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_larger_cast_begins_with_the_smaller_one() -> None:
    assert cast(8) == CAST
    assert cast(3) == CAST[:3]
    assert cast(40) == CROWD[:40]


def test_the_named_cast_is_as_the_shipped_heads_know_it() -> None:
    assert [(s.name, s.seed, s.style) for s in CAST] == [
        ("felix", 109, "short02"), ("kofi", 110, "afro01"), ("mina", 135, "ponytail01"),
        ("thea", 104, "short02"), ("amadi", 102, "short04"), ("clara", 119, "bob02"),
        ("hiro", 122, "short03"), ("leon", 108, "short04"),
    ]  # fmt: skip
    assert all(s.touch == SkinTouch() and s.hair_colour is None for s in CAST)


def test_nobody_is_met_twice() -> None:
    assert len({s.name for s in CROWD}) == len(CROWD)
    assert len({s.seed for s in CROWD}) == len(CROWD)
    assert len({(s.skin, s.touch) for s in CROWD[8:]}) == len(CROWD) - 8
    model = BilinearModel.builtin()
    shapes = np.stack([s.shape(model) for s in CROWD[:60]])
    apart = np.linalg.norm(shapes[:, None] - shapes[None], axis=-1) + np.eye(60) * 1e9
    assert apart.min() > 0.1 * np.median(apart)


def test_a_cast_holds_all_complexions_ages_and_styles() -> None:
    crowd = CROWD[8:]
    green = np.array([s.touch.complexion[1] for s in crowd if s.touch.complexion])
    assert len(green) == len(crowd)
    share, _ = np.histogram(green, bins=[0, 80, 110, 140, 170, 256])
    assert (share > 0.1 * len(crowd)).all(), "every fifth of the tones from deep to fair is there"
    lined = np.mean([s.touch.age > 0.3 for s in crowd])
    assert 0.2 < lined < 0.7
    women = np.mean(["female" in s.skin for s in crowd])
    assert women == pytest.approx(0.5, abs=0.01)
    assert {s.style for s in crowd} == {style.name for style in STYLES}
    assert {s.hair_colour for s in crowd} <= set(COLOURS)
    assert len({s.iris for s in crowd}) == 9
    assert len({s.brow for s in crowd}) == 12


def test_women_have_no_beards_and_no_bald_crowns() -> None:
    women = [s for s in CROWD[8:] if "female" in s.skin]
    assert all(s.touch.stubble == 0 for s in women)
    shorn = {style.name for style in STYLES if style.category in ("receding", "bald crown")}
    assert not shorn & {s.style for s in women}


@pytest.mark.assets
def test_the_first_look_is_the_plain_composition(wardrobe: FolderWardrobe, folder: Path) -> None:
    """Put together here from the pictures alone, without the code under test."""
    spec = CAST[5]
    atlas = paint(wardrobe, spec, False)
    for name, file in (
        ("face", f"appearance/ict_uv/{spec.skin}_face.jpg"),
        ("back_head", f"appearance/ict_uv/{spec.skin}_backhead.jpg"),
        ("sclera_left", "appearance/eyes/sclera.jpg"),
    ):
        found = tile(atlas, name)
        with Image.open(folder / file) as picture:
            size = (found.shape[1], found.shape[0])
            expected = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        same = (found == expected).all(-1)
        # Of the face only the brows are painted over.
        assert same.all() if name != "face" else same[: len(same) // 8].all()
        assert same.mean() > 0.98
    assert (tile(atlas, "teeth") == (226, 214, 194)).all()
    with Image.open(folder / f"appearance/eyes/iris_{spec.iris}.jpg") as picture:
        iris = np.clip(np.asarray(picture.convert("RGB"), np.float32) * spec.iris_gain, 0, 255)
    found = tile(atlas, "iris_right")
    size = (found.shape[1], found.shape[0])
    small = Image.fromarray(iris.astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(found, np.asarray(small))


@pytest.mark.assets
def test_the_latest_look_paints_every_tooth(wardrobe: FolderWardrobe) -> None:
    first, again = paint(wardrobe, CAST[0], True), paint(wardrobe, CAST[0], True)
    np.testing.assert_array_equal(first, again)
    teeth = tile(first, "teeth").astype(int)
    painted = teeth[(teeth != (226, 214, 194)).any(-1)]
    assert len(np.unique(painted, axis=0)) > 500
    red, blue = painted[:, 0].mean(), painted[:, 2].mean()
    assert 1.05 < red / blue < 1.6, "ivory, neither white nor yellow"
    other = paint(wardrobe, CAST[1], True)
    assert (tile(other, "teeth") != tile(first, "teeth")).any(-1).mean() > 0.3


@pytest.mark.assets
def test_tongue_gums_and_eyes_are_of_flesh(wardrobe: FolderWardrobe) -> None:
    plain, fine = paint(wardrobe, CAST[0], False), paint(wardrobe, CAST[0], True)
    flesh = tile(fine, "gums_tongue").reshape(-1, 3).astype(float)
    assert (flesh[:, 0] > flesh[:, 2]).all(), "red, everywhere"
    assert flesh.std(0).min() > 10
    # The rim of the iris darkens, its middle does not.
    before, after = (tile(a, "iris_left").astype(float) for a in (plain, fine))
    middle, rim = len(before) // 2, int(len(before) * (0.5 + 0.40))
    assert after[middle, rim].sum() < 0.8 * before[middle, rim].sum()
    at = int(len(before) * (0.5 + 0.2))
    np.testing.assert_array_equal(after[middle, at], before[middle, at])


@pytest.mark.assets
def test_a_drawn_skin_comes_to_its_complexion(wardrobe: FolderWardrobe) -> None:
    for spec in (CROWD[9], CROWD[16]):
        face = tile(paint(wardrobe, spec, False), "face")
        side = len(face)
        cheeks = face[int(0.43 * side) : int(0.51 * side), int(0.30 * side) : int(0.37 * side)]
        assert spec.touch.complexion is not None
        found = np.median(cheeks.reshape(-1, 3), axis=0)
        np.testing.assert_allclose(found, spec.touch.complexion, rtol=0.2)


@pytest.mark.assets
def test_a_missing_picture_is_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "ict_facekit").symlink_to(folder / "ict_facekit")
    with pytest.raises(BadInput, match=f"{CAST[0].skin}_face.jpg"):
        paint(FolderWardrobe(tmp_path), CAST[0], False)
