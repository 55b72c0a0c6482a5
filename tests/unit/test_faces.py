"""Faces are found, measured and chosen; finders plug in; bad input gets a sentence."""

import hashlib
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from head360.datasets.face_points import landmarks_from_dense, mirrors, uneven
from head360.errors import BadInput, ModelInvalid
from head360.fitting import faces, mediapipe_finder, own_finder
from head360.fitting.faces import Face, choose_face, landmark_finder, make_face, register_finder
from head360.fitting.own_finder import Guess, OwnFinder, distinct, framed
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import orbit
from head360.rendering.crops import cut, into_window, out_of_window, window, with_rim
from head360.synthesis.dense import dense_points

REFERENCE = Path(__file__).parent / "data" / "mediapipe_portraits.json"


@pytest.fixture(scope="module")
def model():
    return BilinearModel.builtin()


@pytest.fixture(scope="module")
def finder():
    return OwnFinder()


# --- points and crops ----------------------------------------------------------------------------


def test_landmarks_come_out_of_the_dense_points(model):
    """Against the mesh's own landmarks, on faces that the weights were not fitted on."""
    rng = np.random.default_rng(77)
    for _ in range(4):
        weights = (rng.random(52) * (rng.random(52) < 0.2)).astype(np.float32)
        head = model.identity(model.sample_shape(rng).astype(np.float32)).pose(weights)
        truth = head[model.topology.landmarks68]
        error = np.linalg.norm(landmarks_from_dense(dense_points(head)) - truth, axis=1)
        assert error.mean() < 0.0018
        assert error.max() < 0.015


def test_twins_are_where_the_mirror_shows_them(model):
    head = model.neutral(model.mean_shape)
    low, dense = mirrors()
    flip = np.array([-1.0, 1.0, 1.0])
    for points, order in ((head[model.topology.landmarks68], low), (dense_points(head), dense)):
        assert np.array_equal(order[order], np.arange(len(order)))
        gap = np.linalg.norm(points - points[order] * flip, axis=1)
        if len(order) == 468:
            gap = np.delete(gap, uneven())
        assert gap.max() < 0.012
        assert np.median(gap) < 0.002
    assert (low[36], low[48], low[8], dense[33], dense[61]) == (45, 54, 8, 263, 291)


@pytest.mark.parametrize(("degrees", "flip"), [(0, False), (25, False), (-40, True), (90, True)])
def test_a_crop_shows_what_its_matrix_says(degrees, flip):
    """A dot in the picture is found where the matrix takes it."""
    pixels = np.zeros((120, 160, 3), dtype=np.uint8)
    pixels[38:42, 88:92] = 255
    matrix = window(np.array([80.0, 50.0]), 70.0, degrees, 64, flip)
    crop = np.asarray(cut(Image.fromarray(pixels), matrix, 64), dtype=float)[..., 0]
    y, x = np.mgrid[0:64, 0:64] + 0.5
    seen = np.array([(crop * x).sum(), (crop * y).sum()]) / crop.sum()
    expected = into_window(np.array([90.0, 40.0]), matrix)
    assert np.abs(seen - expected).max() < 0.25
    assert np.allclose(out_of_window(expected, matrix), [90, 40], atol=1e-3)
    assert (np.linalg.det(matrix[:, :2]) < 0) == flip


def test_turning_a_crop_turns_what_is_seen_clockwise():
    matrix = window(np.array([50.0, 50.0]), 100.0, 90.0, 100)
    assert np.allclose(into_window(np.array([50.0, 20.0]), matrix), [80, 50], atol=1e-4)


def test_the_rim_carries_the_border_on():
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    padded, rim = with_rim(pixels, 0.6)
    assert rim == 3
    assert np.array_equal(padded[3:-3, 3:-3], pixels)
    assert np.array_equal(padded[0, 0], pixels[0, 0])


def test_a_tilted_face_is_framed_upright(model):
    """The same face turned in the picture gives the same frame, turned."""
    head = model.neutral(model.mean_shape)[model.topology.landmarks68]
    points, _ = orbit(20, 0).project(head, 400, 400)
    upright = framed(points.astype(np.float32), 1.0)
    for degrees in (-70, 35, 120):
        turned = into_window(points, window(np.array([200.0, 200.0]), 400.0, degrees, 400))
        guess = framed(turned, 1.0)
        difference = (guess.degrees - upright.degrees - degrees + 180) % 360 - 180
        assert abs(difference) < 0.01
        assert guess.side == pytest.approx(upright.side, rel=1e-4)
        centre = into_window(upright.centre, window(np.array([200.0, 200.0]), 400.0, degrees, 400))
        assert np.allclose(guess.centre, centre, atol=0.01)


def test_one_face_is_found_once():
    def guess(x: float, side: float, certainty: float) -> Guess:
        return Guess(np.array([x, 100.0], dtype=np.float32), side, 0.0, certainty)

    same = [guess(100, 80, 0.7), guess(108, 90, 0.9), guess(100, 30, 0.5)]
    other = guess(260, 80, 0.6)
    kept = distinct([*same, other])
    assert kept == [same[1], other]


# --- which finder, which face --------------------------------------------------------------------


def face_at(x: float, side: float, confidence: float = 0.9) -> Face:
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.array([x, 200.0]) + np.stack([np.cos(turn), np.sin(turn)], 1) * side / 2
    return make_face(points, None, np.ones(68), confidence, "test")


def test_the_prominent_face_is_chosen_and_others_by_number():
    near, far, middle = face_at(300, 200), face_at(100, 90), face_at(500, 80)
    assert choose_face([near, far, middle], (400, 600, 3), None) is near
    assert choose_face([near, far, middle], (400, 600, 3), 1) is far
    assert choose_face([near, far, middle], (400, 600, 3), 3) is middle


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        ([], None, "No face was found"),
        ([], 2, "No face was found"),
        ([(100, 150), (400, 140)], None, r"2 faces .*--face N"),
        ([(100, 150), (400, 140)], 3, "--face 3 is not one of them"),
        ([(100, 150)], 0, "--face 0 is not one of them"),
        ([(100, 40)], None, "only 40 pixels"),
    ],
)
def test_what_cannot_be_chosen_is_said(found, wanted, says):
    with pytest.raises(BadInput, match=says) as caught:
        choose_face([face_at(*entry) for entry in found], (400, 600, 3), wanted)
    assert str(caught.value).endswith(".")


def test_finders_plug_in(monkeypatch):
    monkeypatch.setattr(faces, "_FACTORIES", dict(faces._FACTORIES))

    class Mine:
        name = "mine"

        def find(self, pixels):
            return [face_at(50, 100)]

    seen = []
    register_finder("mine", lambda weights, device: seen.append((weights, device)) or Mine())
    found = landmark_finder("mine", Path("w.bin"), "cuda:1").find(np.zeros((9, 9, 3), np.uint8))
    assert seen == [(Path("w.bin"), "cuda:1")]
    assert found[0].side == pytest.approx(100, abs=0.5)
    with pytest.raises(BadInput, match="choose one of auto, own, mediapipe, mine"):
        landmark_finder("theirs")
    with pytest.raises(ValueError, match="auto"):
        register_finder("auto", lambda weights, device: Mine())


def test_auto_takes_mediapipe_where_it_works(monkeypatch):
    """A stand-in package with known points: ours come out of them, in pixels."""
    rng = np.random.default_rng(3)
    known = rng.random((478, 3))

    class FaceMesh:
        def __init__(self, **settings):
            assert settings["static_image_mode"]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def process(self, pixels):
            points = [types.SimpleNamespace(x=x, y=y, z=z) for x, y, z in known]
            face = types.SimpleNamespace(landmark=points)
            return types.SimpleNamespace(multi_face_landmarks=[face])

    package = types.ModuleType("mediapipe")
    package.__version__ = "0.10.21"
    package.__spec__ = types.SimpleNamespace(name="mediapipe")
    package.solutions = types.SimpleNamespace(face_mesh=types.SimpleNamespace(FaceMesh=FaceMesh))
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    opened = landmark_finder()
    assert (opened.name, opened.digest) == ("mediapipe", "0.10.21")
    face = opened.find(np.zeros((100, 200, 3), dtype=np.uint8))[0]
    assert np.allclose(face.dense, known[:468, :2] * (200, 100), atol=1e-3)
    assert np.allclose(face.landmarks, landmarks_from_dense(face.dense), atol=1e-3)
    assert (face.deviation > 0).all()
    # A release without the face mesh, or the user's own weights: ours.
    package.solutions = types.SimpleNamespace()
    assert landmark_finder().name == "own"
    with pytest.raises(BadInput, match=r"0\.10\.21"):
        landmark_finder("mediapipe")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    monkeypatch.setattr(mediapipe_finder, "usable", lambda: pytest.fail("not asked"))
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    assert landmark_finder("auto").name == "own"


def test_weights_by_path(tmp_path):
    with pytest.raises(BadInput, match="no landmark weights"):
        landmark_finder("own", tmp_path / "missing.safetensors")
    path = tmp_path / "odd.safetensors"
    path.write_bytes(b"these are no weights")
    with pytest.raises(ModelInvalid, match=r"odd\.safetensors"):
        landmark_finder("auto", path)
    with pytest.raises(BadInput, match="weights of its own"):
        landmark_finder("mediapipe", path)


# --- our own finder ------------------------------------------------------------------------------


def test_a_finder_tells_its_weights_from_others_of_the_same_name(finder, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with own_finder.builtin_weights() as path, safe_open(str(path), "pt") as archive:
        tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        metadata = archive.metadata()
        both = [path.read_bytes(), path.with_name("closer.safetensors").read_bytes()]
    names = "".join(hashlib.sha256(data).hexdigest() for data in both)
    assert finder.digest == hashlib.sha256(names.encode()).hexdigest()[:16]
    other = tmp_path / path.name
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] * 1.01}, other, metadata)
    opened = landmark_finder("own", other)
    assert opened.name == finder.name
    assert opened.digest == hashlib.sha256(other.read_bytes()).hexdigest()[:16] != finder.digest


def test_the_second_look_is_taken_with_what_lies_beside(finder, tmp_path):
    """A user's weights alone look once; weights beside them look twice, or say what is wrong."""
    with own_finder.builtin_weights() as path:
        mine = Path(shutil.copy(path, tmp_path / "mine.safetensors"))
        shipped = path.with_name("closer.safetensors")
    assert OwnFinder(mine).closer is None
    beside = Path(shutil.copy(shipped, tmp_path / "closer.safetensors"))
    assert OwnFinder(mine).closer is not None
    beside.write_bytes(mine.read_bytes())
    with pytest.raises(ModelInvalid, match="portrait-landmarks"):
        OwnFinder(mine)
    assert finder.closer is not None


def test_its_weights_are_small_and_described():
    folder = Path(faces.__file__).parents[1] / "data" / "portrait"
    described = json.loads((folder / "manifest.json").read_text())["files"]
    files = sorted(folder.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20  # all networks together
    assert [path.name for path in files] == sorted(described)
    for path in files:
        entry = described[path.name]
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry["kind"] == f"portrait-{path.stem}"


def test_no_face_in_what_holds_none(finder):
    """Pictures that it was not trained on: two photographs, noise, stripes, nothing."""
    import skimage.data

    rng = np.random.default_rng(0)
    stripes = np.zeros((200, 300, 3), dtype=np.uint8)
    stripes[:, ::12] = 200
    for pixels in (
        skimage.data.coffee(), skimage.data.rocket(), stripes,
        rng.integers(0, 256, (240, 320, 3), dtype=np.uint8),
        np.full((90, 70, 3), 190, dtype=np.uint8),
    ):  # fmt: skip
        assert finder.find(pixels) == []


def error_of(landmarks: np.ndarray, truth: np.ndarray) -> float:
    """Mean error over the distance of the outer corners of the eyes."""
    return float(
        np.linalg.norm(landmarks - truth, axis=1).mean() / np.linalg.norm(truth[36] - truth[45])
    )


# Mean error against MediaPipe, in distances between the eyes' outer corners: measured, plus a
# quarter. MediaPipe itself is no truth: two such networks differ by 0.03 and more.
BOUNDS = {
    "astronaut.png": 0.037,
    "man_beanie_lowres.jpg": 0.068,
    "man_outdoors.jpg": 0.035,
    "woman_hair_up.jpg": 0.034,
}


@pytest.mark.assets
@pytest.mark.parametrize("name", BOUNDS)
def test_real_portraits_agree_with_mediapipe(finder, name):
    pixels = np.asarray(Image.open(find_assets() / "portraits" / name).convert("RGB"))
    reference = json.loads(REFERENCE.read_text())["portraits"][name]
    found = finder.find(pixels)
    face = choose_face(found, pixels.shape, None)
    assert len(found) == 1
    assert error_of(face.landmarks, np.array(reference["landmarks"])) < BOUNDS[name]
    eyes = np.linalg.norm(face.landmarks[36] - face.landmarks[45])
    dense = np.linalg.norm(face.dense - np.array(reference["dense"]), axis=1).mean() / eyes
    assert dense < 1.2 * BOUNDS[name]
    # What it expects of itself is right within a factor of three.
    actual = np.linalg.norm(face.landmarks - np.array(reference["landmarks"]), axis=1)
    assert 1 / 3 < np.median(face.deviation / np.maximum(actual, 0.25)) < 3


@pytest.mark.assets
@pytest.mark.parametrize("degrees", [-30, 30])
def test_tilted_portraits_are_found_where_they_went(finder, degrees):
    name = "man_outdoors.jpg"
    picture = Image.open(find_assets() / "portraits" / name).convert("RGB")
    side = picture.width
    matrix = window(np.array([side / 2, picture.height / 2]), side, degrees, side)
    turned = np.asarray(cut(picture, matrix, side))
    straight = choose_face(finder.find(np.asarray(picture)), (side, side), None)
    face = choose_face(finder.find(turned), turned.shape, None)
    assert error_of(face.landmarks, into_window(straight.landmarks, matrix)) < 0.06


@pytest.mark.assets
def test_two_portraits_are_two_faces_and_a_mirror_mirrors(finder):
    folder = find_assets() / "portraits"
    parts = [
        Image.open(folder / name).convert("RGB").resize((300, 300))
        for name in ("man_outdoors.jpg", "woman_hair_up.jpg")
    ]
    both = np.concatenate([np.asarray(part) for part in parts], 1)
    found = finder.find(both)
    assert len(found) == 2
    left = min(found, key=lambda face: face.box[0])
    assert left.box[2] < 300
    mirrored = finder.find(np.ascontiguousarray(both[:, ::-1]))
    assert len(mirrored) == 2
    twin = max(mirrored, key=lambda face: face.box[0])
    back = twin.landmarks[mirrors()[0]] * (-1, 1) + (600, 0)
    assert error_of(back, left.landmarks) < 0.07
