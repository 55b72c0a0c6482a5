"""The SYNHEAD layout: what is written is what is read, twice the same, and damage is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.cli import main
from head360.datasets import synhead
from head360.datasets.synhead import SynheadDataset
from head360.datasets.synhead_check import check
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import FRONT_YAW, YAWS, rig72
from head360.synthesis.capture import (
    EXPRESSION_ORDER,
    CaptureSpec,
    capture,
    choose_views,
    expression_weights,
    plan,
)

SPEC = CaptureSpec(subjects=2, expressions=2, views=3, size=64, styles=("short02", "bob02"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set, written once."""
    try:
        find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    folder = tmp_path_factory.mktemp("synhead")
    capture(SPEC, folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    target = tmp_path / "copy"
    shutil.copytree(made, target)
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.assets
def test_round_trip(made: Path) -> None:
    data = SynheadDataset.open(made)
    assert data.subjects == ["felix", "kofi"]
    assert set(data.styles) == {"short02", "bob02"}
    assert len(data.shots) == 2 * 3 * 3
    assert check(made) == []
    cameras = rig72()
    for shot in data.shots:
        assert shot.load_rgba().shape == (64, 64, 4)
        assert shot.load_bald().shape == (64, 64, 4)
        assert shot.load_mask().shape == (64, 64, 3)
        np.testing.assert_allclose(shot.camera.flat25(), cameras[shot.view].flat25(), atol=1e-12)
        np.testing.assert_allclose(shot.weights, expression_weights(shot.expression))


@pytest.mark.assets
def test_masks_add_up_to_alpha(made: Path) -> None:
    for shot in SynheadDataset.open(made).shots:
        rgba, mask = shot.load_rgba().astype(int), shot.load_mask().astype(int)
        assert np.abs(mask[..., 0] + mask[..., 1] - rgba[..., 3]).max() <= 2
        assert (mask[..., 2] == 0).all()
        # The bald twin has no more than the haired picture.
        assert (shot.load_bald()[..., 3].astype(int) <= rgba[..., 3] + 2).all()


@pytest.mark.assets
def test_landmarks_reproject(made: Path) -> None:
    model = BilinearModel.builtin()
    data = SynheadDataset.open(made)
    shapes = {s.name: np.array(s.shape, dtype=np.float32) for s in data.manifest.subjects}
    for shot in data.shots:
        vertices = model.vertices(shapes[shot.subject], shot.weights)
        points = vertices[model.topology.landmarks68]
        expected, _ = shot.camera.project(points, shot.size, shot.size)
        assert np.abs(shot.load_landmarks() - expected).max() < 0.5


@pytest.mark.assets
def test_groups_share_one_pose(made: Path) -> None:
    data = SynheadDataset.open(made)
    groups = list(data.groups(2))
    assert sorted(len(group) for group in groups) == [1] * 6 + [2] * 6
    for group in groups:
        assert len({(s.subject, s.style, s.expression) for s in group}) == 1
    shuffled = [s.image for group in data.groups(2, seed=5) for s in group]
    assert sorted(shuffled) == sorted(s.image for s in data.shots)
    assert shuffled == [s.image for group in data.groups(2, seed=5) for s in group]
    with pytest.raises(ValueError, match="at least one"):
        next(data.groups(0))


@pytest.mark.assets
def test_release_sees_its_own_grid_only(made: Path) -> None:
    data = SynheadDataset.open(made)
    images = sorted(p.relative_to(made / "images").as_posix() for p in made.glob("images/**/*.png"))
    poses = json.loads((made / synhead.POSES).read_text())["labels"]
    weights = json.loads((made / synhead.EXPRESSIONS).read_text())["labels"]
    assert [path for path, _ in poses] == images == [path for path, _ in weights]
    assert all(len(row) == 25 for _, row in poses)
    assert not any("neutral" in path for path in images)
    # The sorted meshes come in the order of the sorted pictures, as the release's loader counts.
    meshes = sorted(p.stem for p in made.glob("mesh_lms/meshes/*"))
    stems = list(dict.fromkeys("_".join(path.split("/")[1:3]) for path in images))
    assert meshes == stems
    order = sorted(NAMES)
    for (path, row), shot in zip(
        weights,
        sorted((s for s in data.shots if s.expression != "neutral"), key=lambda s: s.image),
        strict=True,
    ):
        assert shot.image == f"images/{path}"
        np.testing.assert_allclose(row, [shot.weights[INDEX[name]] for name in order])
    lips = np.loadtxt(made / "mesh_lms/lms/felix_jawOpen.txt")
    assert lips.shape == (12, 3)
    assert lips[:, 2].min() > 0.0  # in front of the ears


@pytest.mark.assets
def test_manifest_tells_the_truth(made: Path) -> None:
    manifest = SynheadDataset.open(made).manifest
    assert manifest.kind == "synhead"
    assert {notice.licence for notice in manifest.notices} == {"MIT", "CC0-1.0"}
    assert manifest.expressions == ["neutral", *EXPRESSION_ORDER[:2]]
    for pose in manifest.poses:
        assert len(pose.key) == 64
        assert (made / pose.mesh).is_file()


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.assets
def test_same_seed_same_bytes_and_other_seed_other_faces(made: Path, tmp_path: Path) -> None:
    small = CaptureSpec(subjects=1, expressions=1, views=1, size=64, styles=("short02", "bob02"))
    capture(small, tmp_path / "a")
    capture(small, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    capture(
        CaptureSpec(subjects=1, expressions=0, views=1, size=64, seed=1, styles=("short02",)),
        tmp_path / "c",
    )
    one, other = SynheadDataset.open(tmp_path / "a"), SynheadDataset.open(tmp_path / "c")
    assert one.manifest.subjects[0].shape != other.manifest.subjects[0].shape


@pytest.mark.assets
@pytest.mark.slow
def test_processes_write_the_same_bytes(made: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    capture(SPEC, tmp_path, workers=2, progress=lambda done, total, what: seen.append(done))
    assert contents(tmp_path) == contents(made)
    assert seen[-1] == 18


@pytest.mark.assets
def test_interrupted_run_goes_on(copy: Path, made: Path) -> None:
    """Without a manifest, with one pose lost, one picture torn and one temporary file left."""
    (copy / synhead.MANIFEST).unlink()
    (copy / "truth/kofi/jawOpen.json").unlink()
    torn = copy / "images/split_512/felix/jawOpen/0030.png"
    torn.write_bytes(torn.read_bytes()[:100])
    (copy / "bald/.0001.png.77.tmp").write_bytes(b"half")
    untouched = copy / "masks/felix/neutral/0030.png"
    before = untouched.stat().st_mtime_ns
    captured = capture(SPEC, copy)
    assert (captured.taken, captured.kept) == (4, 14)
    assert untouched.stat().st_mtime_ns == before
    assert contents(copy) == contents(made)


@pytest.mark.assets
def test_folder_of_another_data_set_is_left_alone(copy: Path) -> None:
    fewer = CaptureSpec(subjects=1, expressions=2, views=3, size=64)
    with pytest.raises(BadInput, match="kofi"):
        capture(fewer, copy)
    assert check(copy) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"subjects": 0},
        {"expressions": 53},
        {"views": 73},
        {"size": 8},
        {"seed": -1},
        {"styles": ("mohawk",)},
    ],
)
def test_impossible_wishes_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=r"out of range|no hair style"):
        CaptureSpec(**wrong).checked()


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.assets
def test_damage_is_named(copy: Path) -> None:
    shots = SynheadDataset.open(copy).shots
    missing, truncated, exchanged = shots[0], shots[4], shots[8]
    (copy / missing.image).unlink()
    path = copy / truncated.bald
    path.write_bytes(path.read_bytes()[:-40])
    shutil.copy(copy / shots[7].mask, copy / exchanged.mask)
    (copy / "images/split_512/extra.png").write_bytes(b"x")
    problems = check(copy)
    assert len(problems) == 4
    for wanted in (missing.image, truncated.bald, exchanged.mask, "extra.png"):
        assert any(wanted in problem for problem in problems), wanted
    with pytest.raises(BadInput, match=Path(missing.image).name):
        missing.load_rgba()
    with pytest.raises(BadInput, match="truncated"):
        truncated.load_bald()


@pytest.mark.assets
def test_wrong_size_is_named(copy: Path) -> None:
    from PIL import Image

    shot = SynheadDataset.open(copy).shots[0]
    Image.new("RGBA", (32, 32)).save(copy / shot.image)
    with pytest.raises(BadInput, match="32×32"):
        shot.load_rgba()


@pytest.mark.assets
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 1', '"schema": 9'),
        lambda text: text.replace('"image": "images', '"image": "../../images', 1),
        lambda text: text.replace('"size": 64', '"size": "large"'),
        lambda text: "[]",
    ],
)
def test_damaged_manifest_is_named(copy: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = copy / synhead.MANIFEST
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(BadInput, match=r"manifest\.json"):
        SynheadDataset.open(copy)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest\.json"):
        SynheadDataset.open(tmp_path)


# --- the plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 12, 24, 25, 36, 71, 72])
def test_views_are_distinct_and_hold_the_front(count: int) -> None:
    views = choose_views(count)
    assert len(set(views)) == count
    assert all(0 <= view < 72 for view in views)
    assert YAWS + FRONT_YAW in views
    if count >= 6:
        yaws = np.sort([view % YAWS for view in views])
        assert (
            np.diff(np.append(yaws, yaws[0] + YAWS)).max() <= np.ceil(YAWS / min(count, YAWS)) + 1
        )


def test_expressions_come_with_what_they_need() -> None:
    assert sorted(EXPRESSION_ORDER) == sorted(NAMES)
    assert not expression_weights("neutral").any()
    for name in NAMES:
        weights = expression_weights(name)
        assert weights[INDEX[name]] == 1.0
        assert (np.count_nonzero(weights) == 1) == (name not in ("tongueOut", "mouthClose"))
    assert expression_weights("tongueOut")[INDEX["jawOpen"]] >= 0.35


def test_full_grid_is_the_release_count() -> None:
    manifest = plan(CaptureSpec(subjects=1, expressions=52, views=72), BilinearModel.builtin())
    grid = [s for p in manifest.poses if p.expression != "neutral" for s in p.shots]
    assert len(grid) == 3744
    images = [shot.image for shot in grid]
    assert len(set(images)) == 3744
    # Sorted paths: position // 72 counts the meshes in their sorted order.
    meshes = sorted(p.mesh for p in manifest.poses if p.expression != "neutral")
    for position in range(0, 3744, 72):
        subject, expression = sorted(images)[position].split("/")[2:4]
        assert meshes[position // 72] == synhead.mesh_paths(subject, expression)[0]


# --- the command --------------------------------------------------------------------------------


def test_list_styles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--list-styles", "--json"]) == 0
    styles = json.loads(capsys.readouterr().out)["styles"]
    assert len(styles) >= 6
    assert main(["synth", "--list-styles"]) == 0
    assert styles[0]["name"] in capsys.readouterr().out


def test_command_wants_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth"]) == 2
    assert main(["synth", "--out", "x", "--subjects", "0"]) == 2
    assert main(["synth", "--out", "x", "--workers", "0"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.assets
def test_command_prints_one_object(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synth", "--out", str(copy), "--subjects", "2", "--expressions", "2", "--views", "3"]
    words += ["--size", "64", "--styles", "short02,bob02", "--workers", "1", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shots"], told["kept"], told["taken"]) == (18, 18, 0)
