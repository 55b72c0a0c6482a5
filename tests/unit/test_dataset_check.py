"""Data sets that are not as their manifest says: each kind of damage is told by name, code 2.

The pictures are made up and written through the writer, as a program without the studio would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from head360.arkit import COUNT, INDEX, NAMES
from head360.cli import main
from head360.datasets import check as dataset_check
from head360.datasets import png, png_decode, synhead, synhead_write
from head360.datasets.scheme import expression_weights
from head360.datasets.synhead_read import SynheadDataset
from head360.errors import BadInput
from head360.rendering.cameras import FRONT_YAW, YAWS, rig72

KINDS = ["image", "bald", "depth"]


def write_made_up(
    root: Path,
    subjects: tuple[str, ...] = ("ann", "bob"),
    expressions: tuple[str, ...] = ("neutral", "jawOpen", "mouthClose"),
    views: tuple[int, ...] = (29, 30),
    size: int = 8,
    kinds: list[str] | None = None,
) -> Path:
    """A data set of pictures that tell who, what and which view they are by their first pixel."""
    kinds = KINDS if kinds is None else kinds
    cameras = rig72()
    poses = [
        synhead.PoseRecord(
            subject, "own", expression, [float(w) for w in expression_weights(expression)],
            f"{subject}-{expression}", synhead.pose_files(subject, expression, "none"),
        )
        for subject in subjects
        for expression in expressions
    ]  # fmt: skip
    manifest = synhead.Manifest(
        schema=synhead.SCHEMA,
        kind=synhead.KIND,
        generator="a test",
        seed=None,
        consent="Nobody is shown.",
        size=size,
        conventions="",
        landmarks="none",
        kinds=kinds,
        lights=[synhead.LightRecord("soft", True)],
        labels=[],
        depth_scale=synhead.DEPTH_SCALE,
        notices=[],
        subjects=[synhead.SubjectRecord(name, name, "own") for name in subjects],
        styles=[synhead.StyleRecord("own", "The artist's")],
        expressions=list(expressions),
        views=[synhead.ViewRecord(view, cameras[view].flat25().tolist()) for view in views],
        poses=poses,
    )
    synhead_write.prepare(root, manifest)
    for pose in poses:
        taken = []
        for view in views:
            marks = (
                subjects.index(pose.subject), expressions.index(pose.expression), view, 255
            )  # fmt: skip
            files = {}
            for number, kind in enumerate(kinds):
                if kind == "depth":
                    depth = np.full((size, size), 1 + 0.001 * sum(marks[:3]))
                    depth[0, :] = np.inf
                    files[kind] = synhead_write.encode_depth(depth)
                else:
                    pixels = np.full((size, size, 4), 255, dtype=np.uint8)
                    pixels[0, 0], pixels[1, 1, 0] = marks, number
                    files[kind] = png.encode(pixels)
            record = synhead_write.write_files(root, pose, view, files)
            taken.append(synhead.Taken(record))
            synhead_write.note_taken(root, pose, taken[-1])
        corners = np.eye(3) * (1 + expressions.index(pose.expression))
        synhead_write.write_pose(root, pose, taken, corners, [[0, 1, 2]])
    synhead_write.finish(root, manifest)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    target = tmp_path / "copy"
    shutil.copytree(whole, target)
    return target


A = "images/split_512/ann/jawOpen/0029.png"
B = "images/split_512/bob/mouthClose/0030.png"


def remove(root: Path) -> None:
    (root / A).unlink()


def rename(root: Path) -> None:
    (root / A).rename((root / A).with_name("front.png"))


def rename_folder(root: Path) -> None:
    (root / "bald/ann").rename(root / "bald/anna")


def remove_folder(root: Path) -> None:
    shutil.rmtree(root / "bald/ann/jawOpen")


def cut(root: Path) -> None:
    (root / A).write_bytes((root / A).read_bytes()[:-20])


def empty(root: Path) -> None:
    (root / A).write_bytes(b"")


def swap(root: Path) -> None:
    first, second = (root / A).read_bytes(), (root / B).read_bytes()
    (root / A).write_bytes(second)
    (root / B).write_bytes(first)


def overwrite(root: Path) -> None:
    shutil.copy(root / B, root / A)


def repaint(root: Path) -> None:
    (root / A).write_bytes(png.encode(np.zeros((8, 8, 4), dtype=np.uint8)))


def resize(root: Path) -> None:
    (root / A).write_bytes(png.encode(np.zeros((4, 4, 4), dtype=np.uint8)))


def change_mode(root: Path) -> None:
    (root / A).write_bytes(png.encode(np.zeros((8, 8, 3), dtype=np.uint8)))


def stray_in_root(root: Path) -> None:
    (root / "notes.txt").write_text("mine")


def stray_among_images(root: Path) -> None:
    (root / "images/split_512/0000.png").write_bytes(b"x")


def stray_folder(root: Path) -> None:
    (root / "images/split_512_hs/ann").mkdir(parents=True)
    (root / "images/split_512_hs/ann/0000.png").write_bytes(b"x")


def finder(root: Path) -> None:
    (root / "images/.DS_Store").write_bytes(b"x")


def leftover(root: Path) -> None:
    (root / "bald/ann/.0029.png.7-7.tmp").write_bytes(b"x")


def edit_label(root: Path) -> None:
    path = root / synhead.EXPRESSIONS
    table = json.loads(path.read_text())
    table["labels"][3][1][7] = 0.5
    path.write_text(json.dumps(table))


def drop_camera_row(root: Path) -> None:
    path = root / synhead.POSES
    table = json.loads(path.read_text())
    del table["labels"][2]
    path.write_text(json.dumps(table))


def cut_label(root: Path) -> None:
    path = root / synhead.POSES
    path.write_bytes(path.read_bytes()[:-9])


def cut_mesh(root: Path) -> None:
    path = root / "mesh_lms/meshes/ann_jawOpen.obj"
    path.write_bytes(path.read_bytes()[:-5])


def edit_truth(root: Path) -> None:
    path = root / "truth/ann/jawOpen.json"
    path.write_text(path.read_text().replace('"jawOpen"', '"jawLeft"', 1))


def edit_manifest(root: Path) -> None:
    path = root / synhead.MANIFEST
    path.write_text(path.read_text().replace('"weights":[0.0,', '"weights":[0.5,', 1))


def link(root: Path) -> None:
    (root / A).rename(root.parent / "elsewhere.png")
    (root / A).symlink_to(root.parent / "elsewhere.png")


DAMAGE: list[tuple[Callable[[Path], None], list[str]]] = [
    (remove, [f"{A} is missing"]),
    (rename, ["front.png looks like the missing " + A + ": rename it back"]),
    (rename_folder, ["bald/anna/jawOpen looks like the missing bald/ann/jawOpen"]),
    (remove_folder, ["bald/ann/jawOpen is missing with its 2 files"]),
    (cut, [f"{A} is truncated"]),
    (empty, [f"{A} is empty"]),
    (swap, [A, B, "changed places"]),
    (overwrite, [f"{A} holds the contents of {B}"]),
    (repaint, [f"{A} was changed after it was written"]),
    (resize, [f"{A} measures 4×4 instead of 8×8"]),
    (change_mode, [f"{A} is 8-bit RGB instead of 8-bit RGBA"]),
    (stray_in_root, ["notes.txt does not belong"]),
    (stray_among_images, ["split_512/0000.png does not belong"]),
    (stray_folder, ["split_512_hs with", "does not belong"]),
    (finder, [".DS_Store was left by the operating system"]),
    (leftover, [".0029.png.7-7.tmp was left by an interrupted run"]),
    (edit_label, [synhead.EXPRESSIONS, "row 4", "another expression"]),
    (drop_camera_row, [synhead.POSES, "row 3", "instead of"]),
    (cut_label, [f"{synhead.POSES} is truncated"]),
    (cut_mesh, ["ann_jawOpen.obj was changed"]),
    (edit_truth, ["truth/ann/jawOpen.json disagrees with the manifest"]),
    (edit_manifest, ["disagrees with the manifest"]),
    (link, [f"{A} is a link"]),
]


def test_whole_is_sound(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset_check.check(whole) == []
    assert main(["dataset", "check", str(whole), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_damage_is_named(
    damage: Callable[[Path], None],
    words: list[str],
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(copy)
    assert main(["dataset", "check", str(copy), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    text = "\n".join(told["problems"])
    for word in words:
        assert word in text, text
    # One damage is one complaint, or two where the manifest itself contradicts its tables.
    assert 1 <= len(told["problems"]) <= (3 if damage in (rename_folder, edit_manifest) else 1), (
        text
    )


def test_several_damages_are_told_apart(copy: Path) -> None:
    remove(copy)
    stray_in_root(copy)
    cut_mesh(copy)
    problems = dataset_check.check(copy)
    assert len(problems) == 3
    for word in (A, "notes.txt", "ann_jawOpen.obj"):
        assert sum(word in problem for problem in problems) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: None,
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"schema": 2', '"schema": 9'),
        lambda text: text.replace('"kind": "synhead"', '"kind": "cats"'),
        lambda text: text.replace('"image":"images', '"image":"../../images', 1),
        lambda text: text.replace('"size": 8', '"size": "large"'),
    ],
)
def test_broken_manifest_is_a_sentence(
    copy: Path, damage: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / synhead.MANIFEST
    text = path.read_text()
    changed = damage(text)
    assert changed != text
    if changed is None:
        path.unlink()
    else:
        path.write_text(changed)
    assert main(["dataset", "check", str(copy), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "manifest.json" in problem
    with pytest.raises(BadInput, match=r"manifest\.json"):
        SynheadDataset.open(copy)


def test_declared_kinds_must_be_there(copy: Path) -> None:
    path = copy / synhead.MANIFEST
    path.write_text(path.read_text().replace('"bald",\n', '"albedo",\n', 1))
    text = "\n".join(dataset_check.check(copy))
    assert "declares other files than view 29 of ann/neutral has (albedo, bald)" in text


def test_no_data_set_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "check", str(tmp_path)]) == 2
    assert main(["dataset", "check", str(tmp_path / "nowhere")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "choose the folder of a data set" in told.err


# --- the writer, used by another program ----------------------------------------------------------


def test_data_set_without_landmarks_masks_and_looks(whole: Path) -> None:
    data = SynheadDataset.open(whole)
    assert data.manifest.landmarks == "none"
    assert data.manifest.subjects[0].shape == []
    shot = data.shots[0]
    depth = shot.load_depth()
    assert depth.dtype == np.float32
    assert np.isinf(depth[0]).all()
    assert abs(depth[1, 0] - 1.029) < 1e-4
    with pytest.raises(BadInput, match="no 'mask' pictures"):
        shot.load_mask()
    with pytest.raises(BadInput, match="no 68 landmarks"):
        shot.load_landmarks()
    assert not list(whole.rglob("*.txt"))
    assert not list(whole.rglob(".*"))


def test_names_that_sort_in_two_ways_are_refused(tmp_path: Path) -> None:
    """As folders ann < ann2, as meshes ann2_… < ann_…: the release's loader would mix them up."""
    with pytest.raises(BadInput, match="sort differently"):
        write_made_up(tmp_path / "a", subjects=("ann", "ann2"))
    with pytest.raises(BadInput, match="cannot be a folder"):
        write_made_up(tmp_path / "b", subjects=("../ann",))
    assert dataset_check.check(write_made_up(tmp_path / "c", subjects=("ann", "ann-02"))) == []


def test_another_data_set_is_left_alone(copy: Path) -> None:
    with pytest.raises(BadInput, match="bob"):
        write_made_up(copy, subjects=("ann",))
    assert dataset_check.check(copy) == []


@pytest.mark.slow
def test_release_loader_opens_the_full_grid(tmp_path: Path) -> None:
    """What the release does: walk all pictures, sort, and count: 3744 = 52 × 72 a subject."""
    subjects = ("ann", "ann-02")
    root = write_made_up(
        tmp_path, subjects[:1], ("neutral", *NAMES), tuple(range(72)), kinds=["image"]
    )
    images = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(root / "images/split_512")
        for name in names
    )
    assert len(images) == 3744 == 52 * 72
    meshes = sorted(os.listdir(root / "mesh_lms/meshes"))
    assert len(meshes) == 52
    rows = dict(json.loads((root / "images/total_dataset_exp.json").read_text())["labels"])
    cameras = dict(json.loads((root / "images/dataset_pose.json").read_text())["labels"])
    alphabetical = sorted(NAMES)
    folders = sorted(NAMES)
    order = ("neutral", *NAMES)
    for position, path in enumerate(images):
        subject, within = divmod(position, 3744)
        expression, view = divmod(within, 72)
        label = os.path.relpath(path, root / "images").replace(os.sep, "/")
        assert label == f"split_512/{subjects[subject]}/{folders[expression]}/{view:04d}.png"
        assert meshes[position // 72] == f"ann_{folders[expression]}.obj"
        weights = rows[label]
        assert len(weights) == COUNT
        assert weights[alphabetical.index(folders[expression])] == 1.0
        yaw = np.radians((view % YAWS - FRONT_YAW) * 15)
        camera = np.array(cameras[label][:16]).reshape(4, 4)
        away = camera[[0, 2], 3] - [0, -0.005]
        assert away / np.linalg.norm(away) == pytest.approx([np.sin(yaw), np.cos(yaw)], abs=1e-9)
    # The picture itself says who it is: its first pixel.
    from PIL import Image

    for position in (0, 71, 72, 1871, 3743):
        with Image.open(images[position]) as picture:
            _, expression, view, _ = picture.getpixel((0, 0))
        assert order[expression] == folders[position // 72]
        assert view == position % 72
    assert INDEX[NAMES[0]] == 0


# --- PNG and imports ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 7), np.uint8), ((5, 7), np.uint16), ((6, 5, 3), np.uint8), ((64, 33, 4), np.uint8)],
)
def test_png_round_trip(shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, np.iinfo(dtype).max, int(np.prod(shape))).reshape(shape)
    for pixels in (ramp.astype(dtype), rng.integers(0, np.iinfo(dtype).max, shape, dtype)):
        data = png.encode(pixels)
        form = {2: png.GREY16 if dtype is np.uint16 else png.GREY8}.get(pixels.ndim) or (
            png.RGBA8 if shape[2] == 4 else png.RGB8
        )
        found = png_decode.decode(data, Path("x.png"), form, (shape[1], shape[0]))
        np.testing.assert_array_equal(found, pixels)
        assert png.damage(data) == ""
        assert png.damage(data[:-1]).startswith("is truncated")
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        assert png.damage(flipped) != ""


def test_palette_round_trip() -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 8
    data = synhead_write.encode_labels(indices)
    np.testing.assert_array_equal(png_decode.decode(data, Path("x"), png.PALETTE8, (8, 8)), indices)
    with pytest.raises(ValueError, match="palette"):
        png.encode(indices + 8, np.zeros((8, 3), dtype=np.uint8))


def test_blender_can_import_and_write(tmp_path: Path) -> None:
    """Without Pillow, torch, numba and SciPy: the layouts, the checks and the writers."""
    code = (
        "import sys\n"
        "for name in ('PIL', 'torch', 'numba', 'scipy', 'tqdm'): sys.modules[name] = None\n"
        "from head360.datasets import check, labels, monocular, monocular_check, monocular_read\n"
        "from head360.datasets import monocular_write, scheme, synhead, synhead_check\n"
        "from head360.datasets import synhead_read, synhead_write\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "pose = synhead.PoseRecord('a', 'own', 'jawOpen', [0.0] * 52, 'k', {})\n"
        "data = synhead_write.encode_colour(np.ones((8, 8, 4)))\n"
        "record = synhead_write.write_files(Path(sys.argv[1]), pose, 30, {'image': data})\n"
        "print(record.files['image'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    place = done.stdout.strip()
    assert place == "images/split_512/a/jawOpen/0030.png"
    assert png.damage((tmp_path / place).read_bytes()) == ""
