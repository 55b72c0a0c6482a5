"""The truths of a photograph against computations of their own; lights and looks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from head360.arkit import INDEX
from head360.datasets import labels
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.geometry.ict import load_ict
from head360.rendering.cameras import Camera, orbit
from head360.synthesis import dense, parsing
from head360.synthesis.hair_light import REACH
from head360.synthesis.lights import DEFAULT_LIGHT, LIGHTS
from head360.synthesis.looks import FIRST_LOOK
from head360.synthesis.shading import SRGB_TO_LINEAR, encode_srgb
from head360.synthesis.studio import Photograph, Studio
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import Wardrobe, open_wardrobe

SIZE = 96
FRONT = orbit(0.0, 0.0)
pytestmark = pytest.mark.assets

# Means of 16 × 16 pixels, premultiplied 8-bit RGB: what the first look drew when it was the only
# one (smile to the left 0.7, jaw open 0.5, 96², pitch 5°).
FIRST_PICTURES = {
    ("felix", "bob02", 35.0): (
        "0000000101004a453d3d39310101000000000000005e574ce9ccafd1c2a8433f37000000000000816b5ad29e7e"
        "b29b814a44380000000000005a473bce987b6d5e4c1f1b160000000000002a211bbf9275c99776584132000000"
        "00000046392fc8a084ecbd99735b48000000"
    ),
    ("kofi", None, -20.0): (
        "000000000000040303030202000000000000000000030201422820654133120b080000000000000e08065f382a"
        "69403025161000000000000000000045271d643c2e0f0906000000000000331f16623b2d653b28301d14000000"
        "0000002e1c14613d2c5f3b2a372218000000"
    ),
}


def weights(**values: float) -> NDArray[np.float32]:
    blendshapes = np.zeros(52, dtype=np.float32)
    for name, value in values.items():
        blendshapes[INDEX[name]] = value
    return blendshapes


OPEN = weights(jawOpen=0.8)


@functools.cache
def wardrobe() -> Wardrobe:
    return open_wardrobe(assets_folder())


def make_studio(**options: Any) -> Studio:
    return Studio(BilinearModel.builtin(), wardrobe(), cast(2), **options)


def assets_folder() -> Path:
    try:
        return find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")


@pytest.fixture(scope="module")
def studio() -> Studio:
    return make_studio()


def shoot(
    studio: Studio,
    style: str | None = None,
    camera: Camera = FRONT,
    blendshapes: NDArray[np.float32] = OPEN,
    subject: str = "felix",
    size: int = SIZE,
    lights: tuple[str, ...] = (),
) -> Photograph:
    scene, cutout = studio.scene(subject, style, studio.pose(subject, blendshapes))
    return studio.photograph(scene, cutout, camera, size, size, lights=lights, passes=True)


@pytest.fixture(scope="module")
def haired(studio: Studio) -> Photograph:
    return shoot(studio, "bob02", lights=tuple(LIGHTS))


def rays(camera: Camera, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P, 3) directions through the centres of (P, 2) pixels (x, y), depth 1 along the axis."""
    image = np.concatenate([(pixels + 0.5) / SIZE, np.ones((len(pixels), 1))], 1)
    return image @ np.linalg.inv(camera.intrinsics).T @ camera.cam2world[:3, :3].T


def nearest_hit(
    origin: NDArray[np.float64], ray: NDArray[np.float64], corners: NDArray[np.float64]
) -> tuple[float, int]:
    """Smallest positive parameter of a ray on (F, 3, 3) triangles and the triangle, by Cramer."""
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    matrix = np.stack([np.broadcast_to(-ray, e1.shape), e1, e2], 2)
    ok = np.abs(np.linalg.det(matrix)) > 1e-16
    t, u, v = np.linalg.solve(matrix[ok], (origin - a[ok])[..., None])[..., 0].T
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    best = np.flatnonzero(inside)[t[inside].argmin()]
    return float(t[best]), int(np.flatnonzero(ok)[best])


def test_depth_is_the_planar_z_of_a_ray_through_the_pixels_centre(studio: Studio) -> None:
    camera = orbit(25.0, 10.0)
    vertices = studio.pose("felix", OPEN)
    picture = shoot(studio, None, camera)
    assert picture.depth is not None
    assert picture.normals is not None
    topology = studio.model.topology
    solid = np.delete(topology.faces, topology.part_faces("eyelashes"), 0)
    corners = vertices[solid].astype(np.float64)
    lashes, _ = camera.project(vertices[topology.part_vertices("eyelashes")], SIZE, SIZE)
    inside = np.argwhere(picture.rgba[..., 3] == 1)[::97][:, ::-1]
    assert len(inside) > 20
    leaning = []
    for (x, y), ray in zip(inside, rays(camera, inside), strict=True):
        expected, hit = nearest_hit(camera.position, ray, corners)
        flat = np.cross(corners[hit, 1] - corners[hit, 0], corners[hit, 2] - corners[hit, 0])
        leaning.append(flat @ picture.normals[y, x] / np.linalg.norm(flat))
        if np.linalg.norm(lashes - (x, y), axis=1).min() > 3:  # they would be hit first
            assert picture.depth[y, x] == pytest.approx(expected, abs=2e-6)
    # Smoothed over the vertices, normals still lean with the triangles.
    assert np.degrees(np.arccos(np.median(leaning))) < 6.0
    empty = picture.rgba[..., 3] == 0
    assert np.isinf(picture.depth[empty]).all()
    assert (picture.normals[empty] == 0).all()


def test_normals_are_those_of_the_surface(studio: Studio) -> None:
    picture = shoot(studio, None, orbit(0.0, 0.0, distance=0.45, target=(0.0, 0.02, 0.1)))
    assert picture.normals is not None
    assert picture.labels is not None
    assert picture.depth is not None
    seen = np.isfinite(picture.depth)
    np.testing.assert_allclose(np.linalg.norm(picture.normals[seen], axis=-1), 1.0, atol=1e-5)
    # The eyeball is a sphere: its normals point away from its centre.
    camera = orbit(0.0, 0.0, distance=0.45, target=(0.0, 0.02, 0.1))
    vertices = studio.pose("felix", OPEN)
    ball = vertices[studio.model.topology.part_vertices("eyeball_left")].astype(np.float64)
    centre = (ball.min(0) + ball.max(0)) / 2
    y, x = np.nonzero(picture.labels == labels.EYES)
    points = camera.position + picture.depth[y, x, None] * rays(camera, np.stack([x, y], 1))
    radius = np.linalg.norm(points - centre, axis=1)
    on_ball = np.abs(radius - (ball.max(0) - ball.min(0)).mean() / 2) < 0.0006
    assert on_ball.sum() > 8
    expected = (points - centre)[on_ball] / radius[on_ball, None]
    cosine = (expected * picture.normals[y, x][on_ball]).sum(1)
    assert np.degrees(np.arccos(np.clip(np.quantile(cosine, 0.1), -1, 1))) < 8.0


def test_albedo_is_the_texture_and_knows_no_light(studio: Studio) -> None:
    scene, cutout = studio.scene("felix", None, studio.pose("felix", OPEN))
    camera = orbit(20.0, 0.0)
    first = studio.photograph(scene, cutout, camera, SIZE, SIZE, lights=("stage",), passes=True)
    flat = scene.__class__(**{**vars(scene), "occlusion": np.zeros_like(scene.occlusion)})
    second = studio.photograph(flat, cutout, camera, SIZE, SIZE, passes=True)
    assert first.albedo is not None
    assert second.albedo is not None
    np.testing.assert_array_equal(first.albedo, second.albedo)
    assert np.abs(first.rgba - second.rgba).max() > 0.3
    # A texture of one colour comes back as that colour, on edges too.
    grey = np.full_like(scene.head_texture, 200)
    plain = scene.__class__(**{**vars(scene), "head_texture": grey})
    albedo = studio.photograph(plain, cutout, camera, SIZE, SIZE, passes=True).albedo
    assert albedo is not None
    np.testing.assert_allclose(albedo[albedo[..., 3] > 0][:, :3], 200 / 255, atol=1e-4)
    assert ((albedo[..., 3] > 0) & (albedo[..., 3] < 1)).sum() > 50
    np.testing.assert_allclose(encode_srgb(SRGB_TO_LINEAR[200]), 200 / 255, atol=1e-4)


def test_lashes_are_looked_through() -> None:
    """A hair over the lid is skin, one over the eye is eye, beside a fringe it is no hair."""
    eye = np.full((9, 12), labels.SKIN, dtype=np.uint8)
    eye[4:8, 2:10] = labels.EYES
    eye[:, 11] = labels.HAIR
    seen = eye.copy()
    for row, column in ((1, 3), (2, 3), (1, 7), (5, 6), (6, 6), (0, 10), (8, 10)):
        seen[row, column] = parsing.LASHES
    np.testing.assert_array_equal(parsing.look_through(seen), eye)
    hidden = np.full((3, 3), parsing.LASHES, dtype=np.uint8)
    assert (parsing.look_through(hidden) == labels.SKIN).all()
    assert (hidden == parsing.LASHES).all()  # what was given stays


def test_labels_follow_coverage(haired: Photograph) -> None:
    assert haired.labels is not None
    np.testing.assert_array_equal(haired.labels == labels.HAIR, haired.hair >= 0.5)
    np.testing.assert_array_equal(haired.labels == labels.BACKGROUND, haired.rgba[..., 3] < 0.5)


def test_every_class_shows_where_it_belongs(studio: Studio) -> None:
    picture = shoot(studio, "short04", size=192)
    assert picture.labels is not None
    found = set(np.unique(picture.labels))
    assert found == set(range(len(labels.LABELS)))
    marks = picture.landmarks

    def at(point: NDArray[np.float64]) -> int:
        x, y = point.astype(int)
        assert picture.labels is not None
        return int(picture.labels[y, x])

    assert at((marks[51] + marks[62]) / 2) == labels.LIPS
    assert at((marks[57] + marks[66]) / 2) == labels.LIPS
    assert at((marks[62] + marks[66]) / 2) == labels.MOUTH
    assert at(marks[36:42].mean(0)) == labels.EYES
    assert at(marks[30]) == labels.SKIN
    assert at(marks[8] + (0, 12)) == labels.NECK
    x, y = marks[19].astype(int)
    assert (picture.labels[y - 6 : y + 7, x - 6 : x + 7] == labels.BROWS).any()
    # Behind the head there is neither face nor brow.
    back = shoot(studio, None, orbit(180.0, 0.0)).labels
    assert back is not None
    assert set(np.unique(back)) == {labels.BACKGROUND, labels.SKIN, labels.NECK}


def test_neck_stays_where_it_is_when_the_jaw_opens(studio: Studio) -> None:
    # Labels belong to texels, not to heights: the chin of an open jaw is no neck.
    for opening in (0.0, 1.0):
        picture = shoot(studio, None, FRONT, weights(jawOpen=opening), size=192)
        assert picture.labels is not None
        x, y = picture.landmarks[8].astype(int)
        assert picture.labels[y - 6, x] == labels.SKIN


def test_no_speck_of_skin_lies_on_the_neck(studio: Studio) -> None:
    # Along the seams of the atlas samples fall just beside the triangles.
    for yaw in (0.0, 90.0, 180.0, -45.0):
        picture = shoot(studio, None, orbit(yaw, -5.0), weights(), size=288)
        assert picture.labels is not None
        neck = picture.labels == labels.NECK
        around = sum(np.roll(neck, step, axis).astype(int) for step in (1, -1) for axis in (0, 1))
        assert not ((picture.labels == labels.SKIN) & (around == 4)).any(), yaw


def test_dense_points_are_those_of_the_full_mesh() -> None:
    model = BilinearModel.builtin()
    folder = assets_folder()
    ict = load_ict(folder)
    with np.load(folder / "ict_facekit" / "mediapipe468_to_ict.npz") as stored:
        corners, bary = stored["tri"], stored["bary"].astype(np.float64)
    for weight, name in ((0.0, "jawOpen"), (1.0, "jawOpen"), (1.0, "mouthSmileLeft")):
        full = ict.neutral + weight * ict.expression_deltas[INDEX[name]]
        expected = (full[corners].astype(np.float64) * bary[:, :, None]).sum(1)
        ours = dense.dense_points(full[model.topology.ict_vertices])
        assert np.linalg.norm(ours - expected, axis=1).max() < 0.001


def test_dense_landmarks_file_is_what_the_maker_makes(tmp_path: Path) -> None:
    made = dense.make_dense_landmarks(
        assets_folder(), BilinearModel.builtin().topology, tmp_path / "dense.npz"
    )
    with np.load(made) as fresh:
        corners, weight = fresh["vertices"], fresh["weights"]
        assert "MIT" in str(fresh["licence"])
    vertices = BilinearModel.builtin().neutral(np.zeros(BilinearModel.builtin().shape_size))
    again = (vertices[corners].astype(np.float64) * weight[:, :, None]).sum(1)
    np.testing.assert_allclose(again, dense.dense_points(vertices), atol=1e-5)


def test_landmarks_reproject_within_half_a_pixel(studio: Studio) -> None:
    camera = orbit(-30.0, 12.0)
    picture = shoot(studio, "short02", camera)
    vertices = studio.pose("felix", OPEN).astype(np.float64)
    assert picture.dense is not None
    expected, _ = camera.project(dense.dense_points(vertices), SIZE, SIZE)
    assert np.abs(picture.dense - expected).max() < 0.5
    expected, _ = camera.project(vertices[studio.model.topology.landmarks68], SIZE, SIZE)
    assert np.abs(picture.landmarks - expected).max() < 0.5


def test_visible_landmarks_are_those_in_sight(studio: Studio) -> None:
    front = shoot(studio, None, FRONT).visible
    back = shoot(studio, None, orbit(180.0, 0.0)).visible
    left = shoot(studio, None, orbit(75.0, 0.0)).visible
    assert front is not None
    assert back is not None
    assert left is not None
    assert front.shape == (68 + dense.COUNT,)
    assert front[30]
    assert front[68 + 1]
    assert front[:68].sum() > 55
    assert front[68:].sum() > 380
    assert not back[17:].any()
    assert left[45]
    assert not left[36]
    beside = shoot(studio, None, orbit(0.0, 0.0, target=(0.5, 0.0, 0.0))).visible
    assert beside is not None
    assert not beside.any()
    # Long hair hides the end of the jaw's contour, not the nose.
    haired = shoot(studio, "long01", FRONT).visible
    assert haired is not None
    assert haired[30]
    assert haired[:68].sum() < front[:68].sum()


def test_lights_differ_and_share_everything_but_colour(haired: Photograph) -> None:
    assert set(haired.lit) == set(LIGHTS)
    np.testing.assert_array_equal(haired.lit[DEFAULT_LIGHT], haired.rgba)
    inside = haired.rgba[..., 3] == 1
    means = {}
    for name, picture in haired.lit.items():
        np.testing.assert_array_equal(picture[..., 3], haired.rgba[..., 3])
        assert np.isfinite(picture).all()
        assert picture.min() >= 0
        assert picture.max() <= 1
        means[name] = picture[inside][:, :3].mean()
        assert 0.08 < means[name] < 0.85, name
    names = list(LIGHTS)
    for k, one in enumerate(names):
        for other in names[:k]:
            assert np.abs(haired.lit[one] - haired.lit[other])[inside].mean() > 0.02
    face = slice(40, 60), slice(30, 66)
    window = haired.lit["window"][face][..., :3].mean((0, 2))
    assert window[-8:].mean() > 1.25 * window[:8].mean()  # the window is on the subject's left


def test_lights_and_passes_do_not_change_the_picture(studio: Studio, haired: Photograph) -> None:
    scene, cutout = studio.scene("felix", "bob02", studio.pose("felix", OPEN))
    plain = studio.photograph(scene, cutout, FRONT, SIZE, SIZE)
    np.testing.assert_array_equal(plain.rgba, haired.rgba)
    assert plain.depth is None
    assert plain.visible is None
    assert plain.lit == {}
    only = studio.photograph(scene, cutout, FRONT, SIZE, SIZE, lights=("sun",))
    np.testing.assert_allclose(only.lit["sun"], haired.lit["sun"], atol=1e-6)
    with pytest.raises(BadInput, match="noon"):
        studio.photograph(scene, cutout, FRONT, SIZE, SIZE, lights=("noon",))


def test_a_batch_is_its_single_pictures(studio: Studio) -> None:
    scene, cutout = studio.scene("kofi", "afro01", studio.pose("kofi", OPEN))
    cameras = [orbit(0.0, 0.0), orbit(120.0, 20.0)]
    batch = studio.photograph_batch(scene, cutout, cameras, SIZE, SIZE, passes=True)
    for camera, shot in zip(cameras, batch, strict=True):
        single = studio.photograph(scene, cutout, camera, SIZE, SIZE, passes=True)
        np.testing.assert_array_equal(shot.rgba, single.rgba)
        np.testing.assert_array_equal(shot.visible, single.visible)


def test_even_supersampling_takes_the_sample_beside_the_centre() -> None:
    studio = make_studio(samples=2)
    picture = shoot(studio, None, FRONT)
    fine = shoot(make_studio(samples=1), None, FRONT, size=2 * SIZE)
    assert picture.depth is not None
    assert fine.depth is not None
    np.testing.assert_allclose(picture.depth, fine.depth[1::2, 1::2], atol=1e-6)


@pytest.mark.parametrize("style", ["short02", "bob02", "long01"])
def test_hair_darkens_the_skin_beside_it_and_none_far_away(studio: Studio, style: str) -> None:
    camera = orbit(35.0, 0.0)
    picture, bald = shoot(studio, style, camera), shoot(studio, None, camera)
    pixels = REACH * camera.intrinsics[0, 0] * SIZE / np.linalg.norm(camera.position)
    distance = distance_transform_edt(picture.hair == 0)
    difference = np.abs(picture.rgba - bald.rgba).max(-1)
    # REACH is a distance in space; hair out of sight, behind an ear, may be nearer than any seen.
    far = distance > pixels
    assert far.sum() > SIZE
    assert np.quantile(difference[far], 0.99) <= 1 / 255
    assert difference[distance > 2 * pixels].max(initial=0.0) <= 1 / 255
    beside = (distance > 0) & (distance < pixels / 2) & (bald.rgba[..., 3] == 1)
    assert (bald.rgba - picture.rgba)[beside][:, :3].mean() > 0.004


@pytest.mark.parametrize("who", FIRST_PICTURES)
def test_the_first_look_is_what_it_was(who: tuple[str, str | None, float]) -> None:
    subject, style, yaw = who
    first = make_studio(look=FIRST_LOOK)
    smile = weights(jawOpen=0.5, mouthSmileLeft=0.7)
    rgba = shoot(first, style, orbit(yaw, 5.0), smile, subject).rgba
    blocks = (rgba[..., :3] * rgba[..., 3:]).reshape(6, 16, 6, 16, 3).mean((1, 3))
    expected = np.frombuffer(bytes.fromhex(FIRST_PICTURES[who]), dtype=np.uint8)
    np.testing.assert_allclose(blocks.ravel() * 255, expected, atol=0.6)


def test_looks_share_shape_and_differ_in_light(studio: Studio) -> None:
    first, latest = make_studio(look=FIRST_LOOK), studio
    old, new = (shoot(who, "bob02", blendshapes=weights()) for who in (first, latest))
    np.testing.assert_array_equal(old.rgba[..., 3], new.rgba[..., 3])
    np.testing.assert_array_equal(old.depth, new.depth)
    np.testing.assert_array_equal(old.labels, new.labels)
    np.testing.assert_array_equal(old.visible, new.visible)
    inside = old.rgba[..., 3] == 1
    assert np.abs(old.rgba - new.rgba)[inside].mean() > 0.005
