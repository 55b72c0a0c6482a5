"""The monocular layout: a camera films a performance; matrices, mattes and numbers agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from head360.arkit import COUNT, NAMES
from head360.arkit.takes import synthetic_take, write_take
from head360.cli import main
from head360.datasets import monocular, monocular_write
from head360.datasets.check import check
from head360.datasets.monocular_check import jpeg_problem
from head360.datasets.monocular_read import MonocularDataset
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import camera_from_opengl, camera_to_opengl, orbit, rig72
from head360.synthesis.camera_path import MOTIONS, NECK, backdrop, head_rotation, sight
from head360.synthesis.film import film
from head360.synthesis.film_plan import FilmSpec, default_take, moments, take_notice

SIZE = 64
ROWS = (1, 9, 20, 31)


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    performance = synthetic_take(2.0, 30.0)
    folder = tmp_path_factory.mktemp("take")
    (folder / "LICENSE.somebody").write_text("MIT License\n\nCopyright (c) 2021 Somebody\n")
    return write_take(folder / "lively.csv", performance.seconds, performance.weights)


@pytest.fixture(scope="module")
def spec(take: Path) -> FilmSpec:
    return FilmSpec(take=take, rows=ROWS, style="short02", size=SIZE, seed=3, test_share=0.25)


@pytest.fixture(scope="module")
def made(spec: FilmSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    folder = tmp_path_factory.mktemp("film")
    film(spec, folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(made, target)
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- cameras --------------------------------------------------------------------------------------


def test_opengl_matrices_project_as_opengl_does() -> None:
    """A projection of its own: OpenGL looks along −z with y up, pixels count from the top."""
    points = np.random.default_rng(1).uniform(-0.1, 0.1, (20, 3))
    for camera in (rig72()[33], orbit(200, -25, fov_deg=35, aspect=1.5)):
        c2w, lens = camera_to_opengl(camera, 600, 400)
        eye = np.linalg.inv(c2w) @ np.concatenate([points, np.ones((20, 1))], 1).T
        assert (eye[2] < 0).all()
        u = lens[0, 0] * eye[0] / -eye[2] + lens[0, 2]
        v = lens[1, 1] * -eye[1] / -eye[2] + lens[1, 2]
        expected, _ = camera.project(points, 600, 400)
        np.testing.assert_allclose(np.stack([u, v], 1), expected, atol=1e-9)
        back = camera_from_opengl(c2w, lens, 600, 400)
        np.testing.assert_allclose(back.flat25(), camera.flat25(), atol=1e-12)
    with pytest.raises(ValueError, match="rotation"):
        camera_from_opengl(np.diag([2.0, 1, 1, 1]), np.eye(3), 8, 8)


def test_head_turn_is_in_the_camera() -> None:
    """Who turns to the own right shows a still camera the left side of the face."""
    still = sight("still", 0, 0.0)
    right = sight("still", 0, 0.0, (0.5, 0.0, 0.0)).camera
    assert right.position[0] > 0.3 > abs(still.camera.position[0])
    down = sight("still", 0, 0.0, (0.0, 0.4, 0.0)).camera
    assert down.position[1] > still.camera.position[1] + 0.2  # seen from above
    tilted = sight("still", 0, 0.0, (0.0, 0.0, 0.3)).camera
    crown = tilted.project(np.array([[0, 0.12, 0], [0, -0.1, 0]]), 1, 1)[0]
    assert crown[0, 0] < crown[1, 0] - 0.05  # to the subject's right: left in the picture
    for head in ((0.5, 0.2, -0.1), (-0.3, 0.1, 0.2)):
        # The neck stays where it is, and the room sees the turned head where the head sees itself.
        camera = sight("still", 0, 0.0, head).camera
        np.testing.assert_allclose(
            camera.project(NECK[None], 9, 9)[0], still.camera.project(NECK[None], 9, 9)[0]
        )
        nose = np.array([0.0, 0.0, 0.1])
        in_room = head_rotation(*head) @ (nose - NECK) + NECK
        np.testing.assert_allclose(
            camera.project(nose[None], 9, 9)[0], still.camera.project(in_room[None], 9, 9)[0]
        )


def test_around_sees_the_head_from_everywhere_and_the_face_most() -> None:
    places = np.array([sight("around", 3, t).camera.position for t in np.arange(0, 25, 1 / 30)])
    yaw = np.degrees(np.arctan2(places[:, 0], places[:, 2]))
    counts, _ = np.histogram(yaw, bins=12, range=(-180, 180))
    assert counts.min() > 0
    assert counts[5:7].sum() > 2 * (counts[0] + counts[-1])


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_are_smooth_seeded_and_keep_the_head_in_view(motion: str) -> None:
    seconds = np.arange(0, 30, 1 / 30)
    places = np.array([sight(motion, 5, t).camera.position for t in seconds])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps.max() < 0.04  # metres a frame
    corners = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.18, 0.12) for z in (-0.1, 0.1)])
    for t in seconds[::15]:
        pixels, depth = sight(motion, 5, t).camera.project(corners, 1, 1)
        assert pixels.min() > -0.02
        assert pixels.max() < 1.02
        assert depth.min() > 0.5
    again = sight(motion, 5, 3.3).camera.flat25()
    assert again.tolist() == sight(motion, 5, 3.3).camera.flat25().tolist()
    other = sight(motion, 6, 3.3).camera.flat25()
    assert np.allclose(again, other) == (motion == "still")
    yaw = np.degrees(np.arctan2(places[:, 0], places[:, 2]))
    widest = {"orbit": 36, "around": 180.1, "handheld": 8, "still": 0.1}
    assert np.abs(yaw).max() < widest[motion]
    if motion == "orbit":
        assert yaw.max() > 30
        assert yaw.min() < -30


def test_backdrop_is_not_white_and_stands_in_the_room() -> None:
    view = sight("still", 0, 0.0)
    wall = backdrop(view, 20, 20)
    assert wall.shape == (20, 20, 3)
    assert 0.3 < wall.min() < wall.max() < 0.7
    np.testing.assert_array_equal(wall, backdrop(sight("still", 0, 0.0, (0.4, 0, 0)), 20, 20))
    assert np.abs(wall - backdrop(sight("orbit", 0, 2.0), 20, 20)).max() > 0.005


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.assets
def test_round_trip(made: Path, spec: FilmSpec, take: Path) -> None:
    from head360.arkit.takes import read_take

    data = MonocularDataset.open(made)
    assert check(made) == []
    assert data.assumptions == []
    assert data.expressions == NAMES
    wanted = moments(spec, read_take(take))
    assert [frame.img_id for frame in data.frames] == [0, 1, 2, 3]
    for frame, moment in zip(data.frames, wanted, strict=True):
        np.testing.assert_allclose(frame.blendshapes, moment.weights, atol=1e-6)
        np.testing.assert_allclose(frame.camera.flat25(), moment.view.camera.flat25(), atol=1e-9)
        assert frame.load_rgb().shape == (SIZE, SIZE, 3)
        matte, parsing = frame.load_matte(), frame.load_parsing()
        head = (parsing == monocular.HEAD_COLOUR).all(-1)
        body = (parsing == monocular.BODY_COLOUR).all(-1)
        back = (parsing == monocular.BACK_COLOUR).all(-1)
        assert (head | body | back).all()
        assert head.sum() > body.sum() > 20
        assert (matte[head | body] >= 127).all()
        assert (matte[back] <= 128).all()
    manifest = data.manifest
    assert manifest is not None
    assert manifest.take is not None
    assert (manifest.take.name, manifest.take.rows) == ("lively", "1,9,20,31")
    assert manifest.take.notice.licence == "MIT License"
    assert manifest.take.notice.holder == "Copyright (c) 2021 Somebody"
    assert abs(manifest.fps - 30) < 0.01
    learn, judge = data.split()
    assert [frame.img_id for frame in judge] == [3]
    assert len(learn) == 3
    assert len(data.split(2)[1]) == 2
    with pytest.raises(ValueError, match="nothing"):
        data.split(4)


@pytest.mark.assets
def test_files_are_where_the_release_looks(made: Path) -> None:
    """As its loader does: transforms.json alone, mattes one number further."""
    table = json.loads((made / "transforms.json").read_text())
    assert (table["h"], table["w"], table["cx"], table["cy"]) == (SIZE, SIZE, SIZE / 2, SIZE / 2)
    for frame in table["frames"]:
        number = frame["img_id"]
        assert len(frame["exp_ori"]) == COUNT
        with Image.open(made / f"ori_imgs/{number}.jpg") as picture:
            image = np.asarray(picture.convert("RGB")).astype(float)
        with Image.open(made / f"mask/{number + 1}.png") as picture:
            assert picture.mode == "L"
            matte = np.asarray(picture)
        # OpenGL to OpenCV as the release does it: negate two columns, invert.
        c2w = np.array(frame["transform_matrix"])
        c2w[:, 1:3] *= -1
        w2c = np.linalg.inv(c2w)
        assert np.linalg.det(w2c[:3, :3]) == pytest.approx(1)
        middle = w2c[:3, :3] @ [0, 0, 0] + w2c[:3, 3]
        u = table["fx"] * middle[0] / middle[2] + table["cx"]
        v = table["fy"] * middle[1] / middle[2] + table["cy"]
        assert matte[int(v), int(u)] == 255
        # Outside the matte there is grey paper, not white.
        paper = image[matte == 0]
        assert 80 < paper.mean() < 180


@pytest.mark.assets
def test_landmarks_agree_with_the_matrices(made: Path) -> None:
    """The mesh, posed with exp_ori and projected by OpenGL's rules in float64."""
    model = BilinearModel.builtin()
    manifest = monocular.read_manifest(made)
    shape = np.array(manifest.subject.shape, dtype=np.float32)
    table = json.loads((made / "transforms.json").read_text())
    truths = json.loads((made / "truth.json").read_text())["frames"]
    for frame, truth in zip(table["frames"], truths, strict=True):
        vertices = model.vertices(shape, np.array(frame["exp_ori"], dtype=np.float32))
        points = vertices[model.topology.landmarks68].astype(np.float64)
        c2w = np.array(frame["transform_matrix"])
        x, y, z = c2w[:3, :3].T @ (points - c2w[:3, 3]).T
        expected = np.stack(
            [table["cx"] + table["fx"] * x / -z, table["cy"] - table["fy"] * y / -z], 1
        )
        assert np.abs(np.array(truth["landmarks"]) - expected).max() < 0.5
        assert len(truth["dense"]) == 468
        assert len(truth["visible"]) == 68 + 468
        assert truth["row"] in ROWS


@pytest.mark.assets
def test_released_layout_without_manifest(copy: Path) -> None:
    """Another number of expression values, no parsing, no manifest, one focal length."""
    for path in (copy / "manifest.json", copy / "truth.json"):
        path.unlink()
    shutil.rmtree(copy / "parsing")
    table = json.loads((copy / "transforms.json").read_text())
    table["focal_len"] = table.pop("fx")
    for name in ("fy", "cx", "cy"):
        del table[name]
    for frame in table["frames"]:
        frame["exp_ori"] = frame["exp_ori"][:46]
    (copy / "transforms.json").write_text(json.dumps(table))
    data = MonocularDataset.open(copy)
    assert check(copy) == []
    assert data.expressions == ()
    assert data.frames[0].expression.shape == (46,)
    assert any("OpenGL" in sentence for sentence in data.assumptions)
    assert any("no cx" in sentence for sentence in data.assumptions)
    assert data.frames[2].load_matte().shape == (SIZE, SIZE)
    assert len(data.split(1)[1]) == 1
    with pytest.raises(BadInput, match="46 numbers"):
        _ = data.frames[0].blendshapes
    (copy / "mask/2.png").unlink()
    (copy / "ori_imgs/9.jpg").write_bytes(b"x")
    (copy / "notes.txt").write_text("theirs")  # outside the layout's folders: not ours to judge
    problems = check(copy)
    assert len(problems) == 2
    assert any("mask/2.png is missing" in problem for problem in problems)
    assert any("ori_imgs/9.jpg does not belong" in problem for problem in problems)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.assets
@pytest.mark.slow
def test_processes_write_the_same_bytes(
    made: Path, spec: FilmSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("head360.synthesis.film.FRAMES_PER_JOB", 2)
    film(spec, tmp_path, workers=2)
    assert contents(tmp_path) == contents(made)


@pytest.mark.assets
def test_interrupted_film_goes_on(made: Path, spec: FilmSpec, tmp_path: Path) -> None:
    """Stopped after two frames: they are kept, and the result is the same to the byte."""

    class Enough(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise Enough

    with pytest.raises(Enough):
        film(spec, tmp_path, progress=stop)
    assert not (tmp_path / "manifest.json").exists()
    assert (tmp_path / ".frames").is_dir()
    result = film(spec, tmp_path)
    assert (result.taken, result.kept) == (2, 2)
    assert contents(tmp_path) == contents(made)


@pytest.mark.assets
def test_damaged_film_is_mended(made: Path, spec: FilmSpec, copy: Path) -> None:
    (copy / "ori_imgs/2.jpg").unlink()
    result = film(spec, copy)
    assert (result.taken, result.kept) == (1, 3)
    assert contents(copy) == contents(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 8}, {"seed": -1}, {"motion": "crane"}, {"light": "moon"}, {"style": "wig99"},
        {"image_format": "gif"}, {"test_share": 1.0},
    ],
)  # fmt: skip
def test_impossible_wishes_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=r"out of range|There is no|jpg or png|not between"):
        FilmSpec(**wrong).checked()


def test_rows_and_people_that_are_not_there(take: Path) -> None:
    from head360.arkit.takes import read_take

    with pytest.raises(BadInput, match="rows 1 to 60"):
        moments(FilmSpec(rows=(61,)), read_take(take))
    with pytest.raises(BadInput, match="no subject 'nobody'"):
        FilmSpec(subject="nobody").person()


def test_default_take_needs_no_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD360_ASSETS", str(tmp_path))
    assert default_take(None).name == "demo_take.csv"
    assert take_notice(default_take(None)).licence == "CC0-1.0"
    assert default_take(tmp_path).is_file()


def test_one_lens_for_a_film(tmp_path: Path, spec: FilmSpec) -> None:
    """Another program that zooms between frames is told, not silently written."""
    record = monocular_write.write_files(tmp_path, 0, {"image": b"x"})
    item = monocular_write.Filmed(record, monocular.FrameTruth(0, 1, 0.0, (0.0, 0.0, 0.0)))
    manifest = monocular.MonocularManifest(
        1, "monocular", "a test", None, "", "k", 8, 8, 30.0, "", "", "", [],
        monocular.SubjectRecord("a", "a", "own"), monocular.StyleRecord("own", "own"), "scene",
        None, "", {}, 1, [], {}, [],
    )  # fmt: skip
    cameras = [orbit(0, 0, fov_deg=20), orbit(0, 0, fov_deg=25)]
    with pytest.raises(ValueError, match="one lens"):
        monocular_write.finish(tmp_path, manifest, [item, item], cameras, [[0.0], [0.0]])


# --- damage ---------------------------------------------------------------------------------------


def remove(root: Path) -> None:
    (root / "ori_imgs/1.jpg").unlink()


def rename(root: Path) -> None:
    (root / "mask/2.png").rename(root / "mask/0.png")


def cut_jpeg(root: Path) -> None:
    path = root / "ori_imgs/1.jpg"
    path.write_bytes(path.read_bytes()[:-300])


def cut_matte(root: Path) -> None:
    path = root / "mask/2.png"
    path.write_bytes(path.read_bytes()[:-30])


def swap(root: Path) -> None:
    first, second = root / "ori_imgs/0.jpg", root / "ori_imgs/1.jpg"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def edit_numbers(root: Path) -> None:
    path = root / "transforms.json"
    table = json.loads(path.read_text())
    table["frames"][1]["exp_ori"][3] = 0.77
    path.write_text(json.dumps(table))


def stray(root: Path) -> None:
    (root / "mask/77.png").write_bytes(b"x")


def stray_in_root(root: Path) -> None:
    (root / "video.mp4").write_bytes(b"x")


@pytest.mark.assets
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove, ["ori_imgs/1.jpg is missing"]),
        (rename, ["mask/0.png looks like the missing mask/2.png"]),
        (cut_jpeg, ["ori_imgs/1.jpg is truncated"]),
        (cut_matte, ["mask/2.png is truncated"]),
        (swap, ["ori_imgs/0.jpg", "ori_imgs/1.jpg", "changed places"]),
        (edit_numbers, ["transforms.json was edited"]),
        (stray, ["mask/77.png does not belong"]),
        (stray_in_root, ["video.mp4 does not belong"]),
    ],
)
def test_damage_is_named(
    damage: Callable[[Path], None],
    words: list[str],
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(copy)
    assert main(["dataset", "check", str(copy), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    for word in words:
        assert word in problem


@pytest.mark.assets
def test_broken_tables_are_sentences(copy: Path) -> None:
    path = copy / "transforms.json"
    table = json.loads(path.read_text())
    table["frames"][1]["exp_ori"].append(0.0)
    path.write_text(json.dumps(table))
    with pytest.raises(BadInput, match=r"Frame 1 .* 53 numbers"):
        MonocularDataset.open(copy)
    path.write_text("{}")
    with pytest.raises(BadInput, match=r"transforms\.json"):
        MonocularDataset.open(copy)
    path.unlink()
    with pytest.raises(BadInput, match=r"transforms\.json"):
        MonocularDataset.open(copy)


def test_jpeg_walk() -> None:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (90, 80, 70)).save(buffer, "JPEG")
    data = buffer.getvalue()
    assert jpeg_problem(data, (20, 10)) == ""
    assert jpeg_problem(data, (10, 10)) == "measures 20×10 instead of 10×10"
    for length in (3, 30, 200, len(data) - 1):
        assert "truncated" in jpeg_problem(data[:length], (20, 10))
    assert jpeg_problem(b"\x89PNG", (20, 10)) == "is not a JPEG"


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.assets
def test_command(
    take: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synth", "--layout", "monocular", "--take", str(take), "--frames", "1-2", "--json"]
    words += ["--subject", "felix", "--style", "short02", "--size", "48", "--workers", "1"]
    words += ["--seed", "3"]
    words += ["--camera-motion", "handheld", "--image-format", "png", "--out", str(tmp_path)]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["taken"], told["take"]) == (2, 2, "lively")
    data = MonocularDataset.open(tmp_path)
    assert data.frames[1].files["image"] == "ori_imgs/1.png"
    assert check(tmp_path) == []
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 2
    assert main([*words, "--lights", "sun,stage"]) == 2
