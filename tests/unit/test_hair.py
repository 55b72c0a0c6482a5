"""Hair: styles an artist recognises, grown the same each time, off the skin, and in motion."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.arkit import INDEX
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.attach import attach
from head360.geometry.bilinear import BilinearModel, IdentityMesh
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.geometry.meshfile import read_obj
from head360.rendering.cameras import to_normalised
from head360.synthesis.grow import FLOOR, SKIN_GAP
from head360.synthesis.hair import (
    COLOURS,
    STYLES,
    Style,
    StyleSpec,
    WornHair,
    follow,
    grow_style,
    make_style,
    wear,
)
from head360.synthesis.scalp import _in_cells, _nearest
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import open_wardrobe

FIRST = (
    "short02", "short03", "short04", "bob01", "bob02", "ponytail01", "afro01", "long01",
)  # fmt: skip
GROWN = [spec for spec in STYLES if spec.growth is not None]
BY_NAME = {spec.name: spec for spec in STYLES}
# One of each way of growing: the tests of motion need not wear all.
TYPICAL = ("crop01", "long02", "coils01", "braid03", "locks01")


class Head:
    """An identity of the model, with what hair needs of it."""

    def __init__(self, model: BilinearModel, shape: NDArray[np.float32]) -> None:
        topology = model.topology
        self.skin = topology.faces[topology.part_faces(*ANCHOR_PARTS)]
        self.identity: IdentityMesh = model.identity(shape)
        used = topology.part_vertices(*ANCHOR_PARTS)
        average = model.neutral(model.mean_shape)
        self.lattice = Lattice.between(self.identity.neutral[used], average[used])

    def wears(self, style: Style) -> WornHair:
        return wear(style, self.lattice, self.identity.neutral, self.skin)

    def posed(self, **weights: float) -> NDArray[np.float32]:
        blendshapes = np.zeros(52, dtype=np.float32)
        for name, value in weights.items():
            blendshapes[INDEX[name]] = value
        return self.identity.pose(blendshapes)


@pytest.fixture(scope="module")
def model() -> BilinearModel:
    return BilinearModel.builtin()


@pytest.fixture(scope="module")
def heads(model: BilinearModel) -> list[Head]:
    return [Head(model, spec.shape(model)) for spec in cast(4)[1:]]


@pytest.fixture(scope="module")
def grown() -> dict[str, Style]:
    return {spec.name: grow_style(spec) for spec in GROWN}


def digest(style: Style) -> str:
    parts = [style.canonical, style.faces, style.corner_uvs, style.texture, style.mask]
    parts += [part for part in (style.normals, style.tangents, style.shade) if part is not None]
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


def test_at_least_34_styles_have_names_labels_and_classes_of_their_own() -> None:
    assert len(STYLES) >= 34
    assert len(GROWN) >= 24
    assert len(BY_NAME) == len(STYLES)
    assert len({spec.label for spec in STYLES}) == len(STYLES)
    assert all(spec.category for spec in STYLES)
    assert len({spec.category for spec in STYLES}) >= 24
    # A trained model knows these by place and name.
    assert tuple(spec.name for spec in STYLES[:8]) == FIRST
    assert [spec.name for spec in STYLES[8:10]] == ["short01", "braid01"]
    assert all(spec.growth is None for spec in STYLES[:10])


def test_the_nearest_skin_is_found_exactly() -> None:
    rng = np.random.default_rng(5)
    skin = rng.normal(size=(2000, 3))
    skin *= 0.09 / np.linalg.norm(skin, axis=1, keepdims=True)
    steps = np.linspace(-0.15, 0.15, 14)
    nodes = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    away, expected = cKDTree(skin).query(nodes, distance_upper_bound=0.05)
    found = _nearest(nodes, *_in_cells(skin), 0.05)
    np.testing.assert_array_equal(found, np.where(np.isfinite(away), expected, -1))
    assert 0.1 < (found < 0).mean() < 0.9


def test_growing_twice_gives_the_same_bytes(grown: dict[str, Style]) -> None:
    for name in TYPICAL:
        assert digest(grow_style(BY_NAME[name])) == digest(grown[name]), name
    assert len({digest(style) for style in grown.values()}) == len(grown)


def test_another_process_grows_the_same_bytes(grown: dict[str, Style]) -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from head360.synthesis.hair import STYLES, grow_style\n"
        "style = grow_style(next(s for s in STYLES if s.name == 'braid03'))\n"
        "print(hashlib.sha256(style.canonical.tobytes() + style.texture.tobytes()).hexdigest())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    ours = grown["braid03"]
    assert told == hashlib.sha256(ours.canonical.tobytes() + ours.texture.tobytes()).hexdigest()


def test_grown_hair_lies_in_the_box_above_the_floor_and_within_budget(
    grown: dict[str, Style],
) -> None:
    for name, style in grown.items():
        assert np.abs(style.canonical).max() <= 1.0, name
        assert style.canonical[:, 1].min() >= FLOOR - 1e-5, name
        assert 1_000 < len(style.faces) <= 14_000, name
        assert style.faces.max() == len(style.canonical) - 1, name
        assert style.corner_uvs.min() >= 0.0, name
        assert style.corner_uvs.max() <= 1.0, name
        assert np.isfinite(style.canonical).all(), name
        assert 0.1 < (style.mask > 0).mean() < 1.0, name


def test_grown_frames_are_unit_vectors(grown: dict[str, Style]) -> None:
    for name, style in grown.items():
        assert style.normals is not None
        assert style.tangents is not None
        assert style.shade is not None
        for vectors in (style.normals, style.tangents):
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3, err_msg=name)
        assert style.shade.min() > 0.2, name
        assert style.shade.max() <= 1.0, name


@pytest.mark.parametrize("which", [0, 1, 2])
def test_no_skin_pierces_grown_hair(which: int, heads: list[Head], grown: dict[str, Style]) -> None:
    head = heads[which]
    for name in [spec.name for spec in GROWN][which::3]:
        positions = head.wears(grown[name]).positions.astype(np.float64)
        place = attach(positions[::3], head.identity.neutral, head.skin)
        # Auricles have two sides, so a few points behind them count as inside.
        under = (place.height < -0.001) & (place.distance < 0.03)
        assert under.mean() < 0.01, name
        assert place.distance.min() >= 0.0, name
        # Roots sit on the scalp: hair does not float.
        assert (place.distance < 2.5 * SKIN_GAP).mean() > 0.03, name


def test_eyes_stay_free(grown: dict[str, Style], model: BilinearModel) -> None:
    average = model.neutral(model.mean_shape)
    eyes = to_normalised(average[model.topology.landmarks68[36:48]])
    low, high = eyes[:, :2].min(0), eyes[:, :2].max(0)
    for name, style in grown.items():
        flat = style.canonical[:, :2]
        before = ((flat > low) & (flat < high)).all(1) & (style.canonical[:, 2] > 0.4)
        assert before.sum() < 12, name


@pytest.mark.parametrize("name", TYPICAL)
def test_hair_rests_where_no_skin_moves(
    name: str, heads: list[Head], grown: dict[str, Style]
) -> None:
    head = heads[0]
    worn = head.wears(grown[name])
    neutral = head.identity.neutral
    assert follow(worn, neutral, head.posed(), head.skin) is worn.positions
    # Eyes turn under the lids: no skin that hair grows on.
    looking = neutral.copy()
    looking[head.identity.eyeballs[0]] += 0.001
    assert follow(worn, neutral, looking, head.skin) is worn.positions


def test_raised_brows_take_the_hairline_along(heads: list[Head], grown: dict[str, Style]) -> None:
    head = heads[0]
    worn = head.wears(grown["crop01"])
    neutral = head.identity.neutral
    posed = head.posed(browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    moved = follow(worn, neutral, posed, head.skin)
    skin = np.linalg.norm(posed - neutral, axis=1)[worn.binding.corners].min(1)
    carried = (skin > 0.0005) & (worn.binding.distance < 0.003)
    assert carried.sum() > 10
    rise = np.linalg.norm(moved - worn.positions, axis=1)
    assert (rise[carried] > 0.8 * skin[carried]).mean() > 0.95
    behind = worn.positions[:, 2] < -0.06
    np.testing.assert_allclose(moved[behind], worn.positions[behind], atol=1e-4)


@pytest.mark.parametrize(
    "weights",
    [{"jawOpen": 1.0, "jawLeft": 1.0}, {"jawRight": 1.0, "cheekPuff": 1.0}],
    ids=["jaw down and left", "jaw right, cheeks puffed"],
)
def test_posed_skin_does_not_come_through(
    weights: dict[str, float], heads: list[Head], grown: dict[str, Style]
) -> None:
    head = heads[1]
    neutral, posed = head.identity.neutral, head.posed(**weights)
    for name in ("long02", "long04", "bob04"):
        worn = head.wears(grown[name])
        moved = follow(worn, neutral, posed, head.skin)
        assert np.isfinite(moved).all()
        before = attach(worn.positions.astype(np.float64), neutral, head.skin)
        after = attach(moved.astype(np.float64), posed, head.skin)
        deep = (after.height < -0.003) & (after.distance < 0.02)
        was = (before.height < -0.003) & (before.distance < 0.02)
        assert (deep & ~was).sum() <= 0.002 * len(moved), name
        # It gives way, it does not fly off.
        assert np.linalg.norm(moved - worn.positions, axis=1).max() < 0.04, name


def test_colour_changes_the_texture_and_nothing_else(grown: dict[str, Style]) -> None:
    assert len(COLOURS) >= 12
    spec = BY_NAME["bob03"]
    before = grown["bob03"]
    fair, red = grow_style(spec.dyed("platinum")), grow_style(spec.dyed((180, 30, 20)))
    for after in (fair, red):
        np.testing.assert_array_equal(after.canonical, before.canonical)
        np.testing.assert_array_equal(after.faces, before.faces)
        np.testing.assert_array_equal(after.corner_uvs, before.corner_uvs)
        np.testing.assert_array_equal(after.mask, before.mask)
    mean = [style.texture[before.mask > 0].mean(0) for style in (before, fair, red)]
    assert mean[1].min() > mean[0].max()
    assert mean[2][0] > 2.5 * mean[2][2]
    assert spec.dyed("platinum").label.endswith(", platinum")
    with pytest.raises(BadInput, match="choose one of black"):
        spec.dyed("ultraviolet")
    with pytest.raises(BadInput, match="0 to 255"):
        spec.dyed((300, 0, 0))


def test_cards_and_growth_are_told_apart() -> None:
    still = Lattice(np.zeros((12, 12, 12, 3), dtype=np.float32))
    with pytest.raises(BadInput, match="made of cards"):
        grow_style(BY_NAME["bob01"])
    with pytest.raises(BadInput, match="raw assets"):
        make_style(BY_NAME["bob01"], None, still)
    assert make_style(BY_NAME["buzz02"], None, still).spec.name == "buzz02"


@pytest.fixture(scope="module")
def cards(model: BilinearModel) -> dict[str, Style]:
    try:
        assets = find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    wardrobe = open_wardrobe(assets)
    used = model.topology.part_vertices(*ANCHOR_PARTS)
    average = model.neutral(model.mean_shape)
    warp = Lattice.between(wardrobe.generic(model.topology)[used], average[used])
    return {spec.name: wardrobe.style(spec, warp) for spec in STYLES[:10]}


@pytest.mark.assets
def test_cards_are_the_files_carried_to_the_average_head(
    cards: dict[str, Style], model: BilinearModel
) -> None:
    """Recomputed from the files: a trained model depends on these styles staying as they were."""
    wardrobe = open_wardrobe(find_assets())
    used = model.topology.part_vertices(*ANCHOR_PARTS)
    warp = Lattice.between(
        wardrobe.generic(model.topology)[used], model.neutral(model.mean_shape)[used]
    )
    for name in (*FIRST, "short01", "braid01"):
        file = read_obj(find_assets() / "hair" / f"{name}.obj")
        metres = (file.vertices - [0.0, 2.0, 0.0]) * 0.01
        carried = warp.to_canonical(to_normalised(metres).astype(np.float32))
        kept = carried[carried[:, 1] > -0.70]
        ours = {point.tobytes() for point in cards[name].canonical}
        missing = sum(point.tobytes() not in ours for point in kept)
        # Vertices that no remaining triangle uses are dropped.
        assert missing <= 0.02 * len(kept), name
        assert cards[name].normals is None, name


@pytest.mark.assets
def test_cards_take_any_colour(cards: dict[str, Style]) -> None:
    still = Lattice(np.zeros((12, 12, 12, 3), dtype=np.float32))
    spec: StyleSpec = dataclasses.replace(BY_NAME["short03"])
    copper = make_style(spec.dyed("copper"), find_assets(), still)
    strands = copper.mask > 0
    np.testing.assert_array_equal(copper.mask, cards["short03"].mask)
    assert np.abs(copper.texture[strands].mean(0) - COLOURS["copper"]).max() < 25
