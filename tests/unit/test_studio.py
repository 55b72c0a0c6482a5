"""The synthetic studio: masks, twins, landmarks and hair agree with each other and the mesh."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from head360.arkit import INDEX
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera, orbit
from head360.synthesis import studio as rooms
from head360.synthesis.hair import STYLES
from head360.synthesis.lights import Light
from head360.synthesis.looks import FIRST_LOOK
from head360.synthesis.occlusion import sphere, visibility, weigh
from head360.synthesis.recent import Recent
from head360.synthesis.studio import Photograph, Studio
from head360.synthesis.subjects import SubjectSpec, cast
from head360.synthesis.wardrobe import open_wardrobe

SIZE = 96


@pytest.fixture(scope="module")
def studio() -> Studio:
    try:
        assets = find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    return Studio(BilinearModel.builtin(), open_wardrobe(assets), cast(2))


@pytest.fixture(scope="module")
def first_studio(studio: Studio) -> Studio:
    """The first look, whose hair casts no shadows."""
    return Studio(studio.model, studio.wardrobe, cast(2), look=FIRST_LOOK)


def weights(**values: float) -> NDArray[np.float32]:
    blendshapes = np.zeros(52, dtype=np.float32)
    for name, value in values.items():
        blendshapes[INDEX[name]] = value
    return blendshapes


def shoot(
    studio: Studio, style: str | None, camera: Camera, vertices: NDArray[np.float32]
) -> Photograph:
    scene, cutout = studio.scene("felix", style, vertices)
    return studio.photograph(scene, cutout, camera, SIZE, SIZE)


@pytest.mark.assets
@pytest.mark.parametrize("yaw", [0.0, 75.0, 180.0])
def test_pictures_are_finite_and_hair_lies_within_alpha(studio: Studio, yaw: float) -> None:
    picture = shoot(studio, "bob02", orbit(yaw, 10.0), studio.pose("felix", weights()))
    assert picture.rgba.shape == (SIZE, SIZE, 4)
    assert np.isfinite(picture.rgba).all()
    assert picture.rgba.min() >= 0.0
    assert picture.rgba.max() <= 1.0
    assert (picture.hair <= picture.rgba[..., 3] + 1e-6).all()
    assert picture.hair.sum() > 100
    # Straight alpha: what is empty has no colour.
    assert (picture.rgba[picture.rgba[..., 3] == 0] == 0).all()


@pytest.mark.assets
@pytest.mark.parametrize("style", ["short02", "bob02", "ponytail01", "afro01"])
def test_bald_twin_equals_the_picture_away_from_hair(first_studio: Studio, style: str) -> None:
    studio = first_studio
    vertices = studio.pose("felix", weights(jawOpen=0.5))
    camera = orbit(35.0, 0.0)
    haired, bald = shoot(studio, style, camera, vertices), shoot(studio, None, camera, vertices)
    away = maximum_filter(haired.hair, size=7) == 0
    assert away.sum() > SIZE * SIZE // 2
    np.testing.assert_allclose(haired.rgba[away], bald.rgba[away], atol=1e-6)
    assert (bald.hair == 0).all()


@pytest.mark.assets
def test_landmarks_are_the_projected_vertices(studio: Studio) -> None:
    vertices = studio.pose("felix", weights(jawOpen=1.0, mouthSmileLeft=0.7))
    camera = orbit(20.0, -15.0)
    picture = shoot(studio, "short02", camera, vertices)
    expected, depth = camera.project(vertices[studio.model.topology.landmarks68], SIZE, SIZE)
    assert (depth > 0).all()
    assert np.abs(picture.landmarks - expected).max() < 0.5
    # The nose tip lies on the picture of the head, not beside it.
    x, y = picture.landmarks[30].astype(int)
    assert picture.rgba[y, x, 3] == pytest.approx(1.0)


@pytest.mark.assets
def test_hair_depends_on_the_shape_alone(studio: Studio) -> None:
    felix, kofi = cast(2)
    double = SubjectSpec(
        "double", felix.seed, kofi.skin, kofi.iris, kofi.brow, kofi.brow_colour, kofi.style
    )
    pair = Studio(studio.model, studio.wardrobe, (felix, kofi, double))
    ours = pair.worn("felix", "short03").positions
    np.testing.assert_array_equal(ours, pair.worn("double", "short03").positions)
    assert np.abs(ours - pair.worn("kofi", "short03").positions).max() > 1e-3


@pytest.mark.assets
def test_hair_stays_off_the_skull_and_above_the_floor(studio: Studio) -> None:
    from head360.geometry.attach import attach
    from head360.synthesis.hair import _FLOOR

    head = studio.sitter("felix").identity.neutral
    faces = studio.model.topology.faces[studio.model.topology.part_faces("face", "head_neck")]
    # All cards, and one grown style of each kind: test_hair.py proves the same of every grown one.
    typical = ("crop01", "long02", "long04", "coils01", "braid03", "locks01")
    for spec in [spec for spec in STYLES if spec.growth is None or spec.name in typical]:
        assert studio.style(spec.name).canonical[:, 1].min() >= _FLOOR - 1e-5
        place = attach(studio.worn("felix", spec.name).positions.astype(np.float64), head, faces)
        # Deeper than the lead that hair has in depth, it would be pierced.
        inside = (place.height < -0.003) & (place.distance < 0.03)
        assert inside.mean() < 0.02, spec.name


@pytest.mark.assets
def test_a_cast_of_any_size_takes_the_same_memory(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_KEPT_SITTERS", 2)
    monkeypatch.setattr(rooms, "_KEPT_WORN", 2)
    monkeypatch.setattr(rooms, "_KEPT_SHADOWS", 1)
    monkeypatch.setattr(rooms, "_KEPT_STYLES", 1)
    small = Studio(studio.model, studio.wardrobe, cast(3))
    first = small.sitter("felix").atlas
    for person in cast(3):
        small.scene(person.name, "short03", small.pose(person.name, weights()))
        small.style("short02")
    kept = (small._sitters, small._worn, small._lights, small._style_cache)
    assert [len(recent) for recent in kept] == [2, 2, 1, 1]
    assert "felix" not in small._sitters
    # Who comes again is dressed again, and looks the same.
    np.testing.assert_array_equal(small.sitter("felix").atlas, first)


def test_what_was_used_last_is_kept() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        return recent.get(name, lambda: made.append(name) or name.upper())

    recent: Recent[str, str] = Recent(2)
    assert [make(name) for name in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]
    assert len(recent) == 2
    with pytest.raises(ValueError, match="memory"):
        Recent(0)


@pytest.mark.assets
def test_same_input_gives_the_same_picture(studio: Studio) -> None:
    again = Studio(studio.model, studio.wardrobe, cast(2))
    camera = orbit(-40.0, 20.0)
    first = shoot(studio, "afro01", camera, studio.pose("felix", weights(tongueOut=1, jawOpen=0.6)))
    second = shoot(again, "afro01", camera, again.pose("felix", weights(tongueOut=1, jawOpen=0.6)))
    np.testing.assert_array_equal(first.rgba, second.rgba)
    np.testing.assert_array_equal(first.hair, second.hair)


@pytest.mark.assets
def test_eyes_catch_light_and_mouths_are_dark_inside(studio: Studio) -> None:
    vertices = studio.pose("felix", weights(jawOpen=1.0))
    scene, _ = studio.scene("felix", None, vertices)
    topology = studio.model.topology
    throat = topology.part_vertices("mouth_socket")
    cheek = topology.part_vertices("face")
    assert scene.occlusion[throat, 0].mean() < 0.5 * scene.occlusion[cheek, 0].mean()
    np.testing.assert_allclose(np.linalg.norm(scene.normals, axis=1), 1.0, atol=1e-3)


@pytest.mark.assets
def test_unknown_names_are_told(studio: Studio) -> None:
    with pytest.raises(BadInput, match="nobody"):
        studio.pose("nobody", weights())
    with pytest.raises(BadInput, match="mohawk"):
        studio.style("mohawk")


def test_a_roof_shades_the_floor_and_nothing_else() -> None:
    roof = np.array(
        [[-1, 1, -1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]], dtype=np.float32
    ) * np.float32(0.1)
    floor = np.array([[0, -0.1, 0], [0, 0.2, 0]], dtype=np.float32)
    vertices = np.concatenate([roof, floor])
    normals = np.tile(np.array([0, 1, 0], dtype=np.float32), (6, 1))
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    lights = np.array([[0, 1, 0], [1, 0.05, 0]], dtype=np.float32)
    lights /= np.linalg.norm(lights, axis=1, keepdims=True)
    grey = np.ones((2, 3), dtype=np.float32)
    light = Light(lights, grey, grey[0], grey[0], np.full(2, 14.0, dtype=np.float32))
    seen = weigh(visibility(vertices, normals, faces), normals, light)
    below, above = seen[4], seen[5]
    assert below[1] < 0.3  # the lamp overhead is hidden
    assert below[2] > 0.7  # the lamp at the side is not
    # Form factor of a square seen from below its centre at its own width: 0.239.
    assert below[0] == pytest.approx(1 - 0.239, abs=0.03)
    np.testing.assert_allclose(above, 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sphere(), axis=1), 1.0, atol=1e-5)


def test_cast_grows_without_changing_who_was_there() -> None:
    few, many = cast(8), cast(40)
    assert many[:8] == few
    names = [person.name for person in many]
    assert len(set(names)) == 40
    assert len({person.style for person in many}) >= 6
