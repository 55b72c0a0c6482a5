"""The SYNHEAD layout from the studio: what is written is read, twice the same, resumable."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.cli import main
from head360.datasets import labels, synhead
from head360.datasets.check import check
from head360.datasets.scheme import (
    EXPRESSION_ORDER,
    choose_views,
    expression_weights,
    held_out_cameras,
)
from head360.datasets.synhead_read import Shot, SynheadDataset
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.geometry.meshfile import read_obj
from head360.rendering.cameras import FRONT_YAW, YAWS, rig72
from head360.synthesis import plan as planning
from head360.synthesis.capture import capture
from head360.synthesis.plan import CaptureSpec, plan

SIZE = 64
SPEC = CaptureSpec(
    subjects=2, expressions=1, views=2, size=SIZE, styles=("short02", "bob02"), held_out=1,
    lights=("sun",),
)  # fmt: skip
TINY = CaptureSpec(
    subjects=1, expressions=0, views=1, size=32, styles=("short02",), held_out=0, lights=(),
    passes=(),
)  # fmt: skip
SHOTS = 2 * 2 * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set with everything, written once."""
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


def every(folder: Path) -> list[Shot]:
    data = SynheadDataset.open(folder)
    return data.shots + data.held_out


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.assets
def test_round_trip(made: Path) -> None:
    data = SynheadDataset.open(made)
    assert data.subjects == ["felix", "kofi"]
    assert set(data.styles) == {"short02", "bob02"}
    assert (len(data.shots), len(data.held_out)) == (2 * 2 * 2, 2 * 2 * 1)
    assert check(made) == []
    cameras = rig72()
    for shot in data.shots:
        assert shot.load_rgba().shape == shot.load_light("sun").shape == (SIZE, SIZE, 4)
        assert shot.load_bald().shape == shot.load_light("sun", bald=True).shape == (SIZE, SIZE, 4)
        assert shot.load_albedo().shape == (SIZE, SIZE, 4)
        assert shot.load_mask().shape == (SIZE, SIZE, 3)
        np.testing.assert_allclose(shot.camera.flat25(), cameras[shot.view].flat25(), atol=1e-12)
        np.testing.assert_allclose(shot.weights, expression_weights(shot.expression))
    with pytest.raises(BadInput, match="no 'light:moon' pictures"):
        data.shots[0].load_light("moon")


@pytest.mark.assets
def test_masks_add_up_to_alpha(made: Path) -> None:
    for shot in every(made):
        rgba, mask = shot.load_rgba().astype(int), shot.load_mask().astype(int)
        assert (mask[..., 0] + mask[..., 1] == rgba[..., 3]).all()
        assert (mask[..., 2] == 0).all()
        # The bald twin has no more than the haired picture, and light changes no edges.
        assert (shot.load_bald()[..., 3].astype(int) <= rgba[..., 3] + 2).all()
        assert np.abs(shot.load_light("sun")[..., 3].astype(int) - rgba[..., 3]).max() <= 1
        assert np.abs(shot.load_albedo()[..., 3].astype(int) - rgba[..., 3]).max() <= 1


@pytest.mark.assets
def test_passes_agree_with_the_mask(made: Path) -> None:
    for shot in every(made):
        mask = shot.load_mask()
        solid, nothing = (mask[..., :2] == 255).any(-1), ~mask.any(-1)
        depth, normals, classes = shot.load_depth(), shot.load_normals(), shot.load_labels()
        assert np.isfinite(depth[solid]).all()
        assert np.isinf(depth[nothing]).all()
        # Nearer than the camera's way to the head's middle plus its box, farther than without.
        way = np.linalg.norm(shot.camera.position)
        assert depth[solid].min() > way - 0.35
        assert depth[solid].max() < way + 0.35
        np.testing.assert_allclose(np.linalg.norm(normals[solid], axis=-1), 1, atol=1e-3)
        assert (normals[nothing] == 0).all()
        assert (classes[nothing] == labels.BACKGROUND).all()
        assert (classes[mask[..., 1] == 255] == labels.HAIR).all()
        assert not (classes[mask[..., 0] == 255] == labels.HAIR).any()
    frontal = next(shot for shot in every(made) if shot.view == 30)
    seen = set(np.unique(frontal.load_labels()).tolist())
    assert {labels.SKIN, labels.HAIR, labels.NECK, labels.LIPS, labels.EYES} <= seen


@pytest.mark.assets
def test_landmarks_reproject(made: Path) -> None:
    """Against the written mesh, with a projection of its own in float64."""
    ids = BilinearModel.builtin().topology.landmarks68
    for shot in every(made):
        stem = f"{shot.subject}_{shot.expression}"
        room = "neutral" if shot.expression == "neutral" else "mesh_lms"
        points = read_obj(made / f"{room}/meshes/{stem}.obj").vertices[ids]
        turn, place = shot.camera.cam2world[:3, :3], shot.camera.cam2world[:3, 3]
        x, y, z = turn.T @ (points - place).T
        focal, centre = np.diag(shot.camera.intrinsics)[:2], shot.camera.intrinsics[:2, 2]
        expected = np.stack([x / z * focal[0] + centre[0], y / z * focal[1] + centre[1]], 1) * SIZE
        assert np.abs(shot.load_landmarks() - expected).max() < 0.5
        dense, visible = shot.load_dense(), shot.load_visible()
        assert dense.shape == (468, 2)
        assert visible.shape == (536,)
        # Whatever is visible lies on the head.
        shown = np.concatenate([shot.load_landmarks(), dense])[visible]
        alpha = shot.load_rgba()[..., 3]
        column, row = np.floor(shown).astype(int).T
        assert (alpha[row, column] > 0).mean() > 0.97 if len(shown) else True
    by_view = {shot.view: shot.load_visible().sum() for shot in every(made)}
    assert by_view[30] > 250  # in front most are seen
    lips = np.loadtxt(made / "mesh_lms/lms/felix_jawOpen.txt")
    assert lips.shape == (12, 3)
    assert lips[:, 2].min() > 0.0  # in front of the ears


@pytest.mark.assets
def test_groups_share_one_pose(made: Path) -> None:
    data = SynheadDataset.open(made)
    groups = list(data.groups(2))
    assert [len(group) for group in groups] == [2] * 4
    for group in groups:
        assert len({(s.subject, s.style, s.expression) for s in group}) == 1
        assert not any(shot.held_out for shot in group)
    shuffled = [s.files["image"] for group in data.groups(2, seed=5) for s in group]
    assert sorted(shuffled) == sorted(s.files["image"] for s in data.shots)
    assert shuffled == [s.files["image"] for group in data.groups(2, seed=5) for s in group]
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
    assert not any("neutral" in path or "0072" in path for path in images)
    # The sorted meshes come in the order of the sorted pictures, as the release's loader counts.
    meshes = sorted(p.stem for p in made.glob("mesh_lms/meshes/*"))
    stems = list(dict.fromkeys("_".join(path.split("/")[1:3]) for path in images))
    assert meshes == stems
    order = sorted(NAMES)
    grid = sorted(
        (s for s in data.shots if s.expression != "neutral"), key=lambda s: s.files["image"]
    )
    for (path, row), shot in zip(weights, grid, strict=True):
        assert shot.files["image"] == f"images/{path}"
        np.testing.assert_allclose(row, [shot.weights[INDEX[name]] for name in order])


@pytest.mark.assets
def test_manifest_tells_the_truth(made: Path) -> None:
    manifest = SynheadDataset.open(made).manifest
    assert (manifest.kind, manifest.schema, manifest.seed) == ("synhead", 2, 0)
    assert {notice.licence for notice in manifest.notices} == {"MIT", "CC0-1.0"}
    assert manifest.consent.startswith("No real person")
    assert manifest.expressions == ["neutral", *EXPRESSION_ORDER[:1]]
    assert [(light.name, light.default) for light in manifest.lights] == [
        ("soft", True), ("sun", False)
    ]  # fmt: skip
    assert manifest.labels == list(labels.LABELS)
    assert manifest.landmarks == "68+468"
    assert [view.held_out for view in manifest.views] == [False, False, True]
    for pose in manifest.poses:
        assert len(pose.key) == 64
        assert set(pose.sha256) == set(pose.files) == {"mesh", "lms", "truth"}
        for shot in pose.shots:
            assert list(shot.files) == manifest.kinds


@pytest.mark.assets
def test_training_reads_it(made: Path) -> None:
    from head360.training.shots import load_folder

    shots = load_folder(made, size=32, views=2)
    assert shots.subjects == ("felix", "kofi")
    assert shots.rgba.shape[1:] == (2, 32, 32, 4)
    assert (shots.style == -1).any()


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.assets
def test_same_seed_same_bytes_and_other_seed_other_faces(made: Path, tmp_path: Path) -> None:
    import dataclasses

    capture(TINY, tmp_path / "a")
    capture(TINY, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    capture(dataclasses.replace(TINY, seed=1), tmp_path / "c")
    one, other = SynheadDataset.open(tmp_path / "a"), SynheadDataset.open(tmp_path / "c")
    assert one.manifest.subjects[0].shape != other.manifest.subjects[0].shape
    assert one.shots[0].load_rgba().tobytes() != other.shots[0].load_rgba().tobytes()
    # Without passes and lights there are the three pictures and the 68 landmarks.
    assert one.manifest.kinds == ["image", "bald", "mask"]
    assert one.shots[0].load_landmarks().shape == (68, 2)
    with pytest.raises(BadInput, match="no dense landmarks"):
        one.shots[0].load_dense()
    assert check(tmp_path / "a") == []


@pytest.mark.assets
@pytest.mark.slow
def test_processes_write_the_same_bytes(made: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    capture(SPEC, tmp_path, workers=2, progress=lambda done, total, what: seen.append(done))
    assert contents(tmp_path) == contents(made)
    assert seen[-1] == SHOTS


@pytest.mark.assets
def test_interrupted_run_goes_on(copy: Path, made: Path) -> None:
    """Without a manifest, one pose lost, one picture torn and one temporary file left."""
    (copy / synhead.MANIFEST).unlink()
    (copy / "truth/kofi/jawOpen.json").unlink()
    torn = copy / "images/split_512/felix/jawOpen/0030.png"
    torn.write_bytes(torn.read_bytes()[:100])
    (copy / "bald/.0001.png.77.tmp").write_bytes(b"half")
    untouched = copy / "masks/felix/neutral/0030.png"
    before = untouched.stat().st_mtime_ns
    captured = capture(SPEC, copy)
    assert (captured.taken, captured.kept) == (1 + 3, SHOTS - 4)
    assert untouched.stat().st_mtime_ns == before
    assert contents(copy) == contents(made)


@pytest.mark.assets
@pytest.mark.slow
def test_killed_run_goes_on_with_the_next_shot(made: Path, tmp_path: Path) -> None:
    """A process that is killed in the middle of a pose loses one shot at most."""
    out = tmp_path / "out"
    words = ["synth", "--out", str(out), "--subjects", "2", "--expressions", "1", "--views", "2"]
    words += ["--held-out", "1", "--size", str(SIZE), "--styles", "short02,bob02"]
    words += ["--lights", "sun", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "head360", *words], stderr=subprocess.DEVNULL)
    journal = out / "truth/felix/.neutral.part"
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < 120:
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / synhead.MANIFEST).exists()
    assert "was never finished" in check(out)[0]
    captured = capture(SPEC, out)
    assert captured.kept >= 1
    assert contents(out) == contents(made)


@pytest.mark.assets
def test_folder_of_another_data_set_is_left_alone(copy: Path) -> None:
    fewer = CaptureSpec(subjects=1, expressions=1, views=2, size=SIZE)
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
        {"held_out": -1},
        {"wear": "none"},
        {"styles": ("baldish",)},
        {"passes": ("smell",)},
        {"lights": ("moon",)},
    ],
)
def test_impossible_wishes_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=r"out of range|There is no|is none of"):
        CaptureSpec(**wrong).checked()


def test_full_disk_is_refused_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 300 << 20

    monkeypatch.setattr(planning.shutil, "disk_usage", lambda place: Usage)
    need = planning.disk_need(plan(CaptureSpec(), BilinearModel.builtin()))
    assert 5e9 < need < 50e9  # the defaults run to gigabytes
    with pytest.raises(BadInput, match=r"needs about .* GB .* 315 MB are free"):
        planning.demand_room(tmp_path / "new" / "folder", need)
    assert planning.demand_room(tmp_path, 1 << 20) == 1 << 20


@pytest.mark.assets
def test_estimate_is_near_what_is_written(made: Path) -> None:
    written = sum(len(data) for data in contents(made).values())
    estimate = planning.disk_need(plan(SPEC, BilinearModel.builtin()))
    assert 0.7 * written < estimate < 2.0 * written


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


def test_held_out_cameras_are_no_training_cameras() -> None:
    rig = np.array([camera.position / np.linalg.norm(camera.position) for camera in rig72()])
    cameras = held_out_cameras(7, 40)
    for camera in cameras:
        place = camera.position / np.linalg.norm(camera.position)
        assert (rig @ place).max() < 1 - 1e-7
        corners = np.array([[x, y, 0] for x in (-0.12, 0.12) for y in (-0.19, 0.13)])
        pixels, depth = camera.project(corners, 1, 1)
        assert pixels.min() > 0
        assert pixels.max() < 1
        assert depth.max() < 65535 / synhead.DEPTH_SCALE
    # Eight of them see the head from all sides.
    yaws = np.sort([np.degrees(np.arctan2(*c.position[[0, 2]])) for c in cameras[:8]])
    assert np.diff(np.append(yaws, yaws[0] + 360)).max() < 90
    first = [camera.flat25().tolist() for camera in held_out_cameras(7, 3)]
    assert first == [camera.flat25().tolist() for camera in cameras[:3]]
    assert first != [camera.flat25().tolist() for camera in held_out_cameras(8, 3)]


def test_expressions_come_with_what_they_need() -> None:
    assert sorted(EXPRESSION_ORDER) == sorted(NAMES)
    assert not expression_weights("neutral").any()
    for name in NAMES:
        weights = expression_weights(name)
        assert weights[INDEX[name]] == 1.0
        assert (np.count_nonzero(weights) == 1) == (name not in ("tongueOut", "mouthClose"))
    assert expression_weights("tongueOut")[INDEX["jawOpen"]] >= 0.35


def test_every_person_can_wear_every_style() -> None:
    styles = ("short02", "bob02", "afro01", "long01")
    own = CaptureSpec(subjects=3, styles=styles).sitters()
    assert [name for name, _, _ in own] == ["felix", "kofi", "mina"]
    all_of_them = CaptureSpec(subjects=3, styles=styles, wear="all").sitters()
    assert len({name for name, _, _ in all_of_them}) == 12
    assert {(person.name, style) for _, person, style in all_of_them} == {
        (name, style) for name in ("felix", "kofi", "mina") for style in styles
    }
    two = CaptureSpec(subjects=3, styles=styles, wear="2").sitters()
    assert next(style for _, person, style in two if person.name == "felix") == "short02"
    assert len(two) == 6
    assert {style for _, _, style in two} == set(styles)
    manifest = plan(CaptureSpec(subjects=3, styles=styles, wear="2"), BilinearModel.builtin())
    assert manifest.subjects[0].name == "felix-short02"
    assert manifest.subjects[0].person == manifest.subjects[1].person == "felix"
    assert manifest.subjects[0].shape == manifest.subjects[1].shape


def test_large_casts_sort_alike_as_folders_and_meshes() -> None:
    spec = CaptureSpec(subjects=1000)
    names = [name for name, _, _ in spec.sitters()]
    assert len(set(names)) == 1000
    assert list(synhead.order_problems(names)) == []
    names = [name for name, _, _ in CaptureSpec(subjects=200, wear="all").sitters()]
    assert list(synhead.order_problems(names)) == []


# --- the command --------------------------------------------------------------------------------


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--list-styles", "--json"]) == 0
    styles = json.loads(capsys.readouterr().out)["styles"]
    assert len(styles) >= 30
    assert all(style["name"] and style["label"] and style["category"] for style in styles)
    assert main(["synth", "--list-styles"]) == 0
    assert styles[0]["name"] in capsys.readouterr().out
    assert main(["synth", "--list-lights", "--json"]) == 0
    assert {"soft", "sun"} <= set(json.loads(capsys.readouterr().out)["lights"])


def test_command_wants_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["synth", "--out", str(tmp_path / "x")]
    assert main(["synth"]) == 2
    assert main([*out, "--subjects", "0"]) == 2
    assert main([*out, "--workers", "0"]) == 2
    assert main([*out, "--take", "x.csv"]) == 2
    assert main([*out, "--layout", "monocular", "--views", "3"]) == 2
    assert not (tmp_path / "x").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.assets
def test_command_prints_one_object(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synth", "--out", str(copy), "--subjects", "2", "--expressions", "1", "--views", "2"]
    words += ["--held-out", "1", "--size", str(SIZE), "--styles", "short02,bob02"]
    words += ["--lights", "sun", "--workers", "1", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shots"], told["kept"], told["taken"]) == (SHOTS, SHOTS, 0)
    assert told["sitters"] == 2
