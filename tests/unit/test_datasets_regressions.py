"""Data sets: what once went wrong. Made-up pictures, no studio."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from head360.arkit import COUNT, NAMES
from head360.arkit.mapping import match
from head360.cli import main
from head360.datasets import (
    integrity,
    monocular,
    monocular_write,
    png,
    records,
    synhead,
    synhead_write,
)
from head360.datasets.check import check
from head360.datasets.monocular import FrameTruth, MonocularManifest
from head360.datasets.monocular_read import MonocularDataset
from head360.datasets.records import StyleRecord, SubjectRecord, inside, safe_name
from head360.datasets.synhead import Manifest, PoseRecord, Taken
from head360.datasets.synhead_read import SynheadDataset
from head360.errors import BadInput
from head360.rendering.cameras import rig72

SIZE = 8


def manifest_of(seed: int | None = 5, shade: str = "a", size: int = SIZE, **more: Any) -> Manifest:
    pose = PoseRecord(
        "ann", "own", "jawOpen", [0.0] * COUNT, shade, synhead.pose_files("ann", "jawOpen", "68")
    )
    facts: dict[str, Any] = {
        "schema": synhead.SCHEMA, "kind": synhead.KIND, "generator": "a test", "seed": seed,
        "consent": "Nobody is shown.", "size": size, "conventions": "", "landmarks": "68",
        "kinds": ["image"], "lights": [synhead.LightRecord("soft", True)], "labels": [],
        "depth_scale": synhead.DEPTH_SCALE, "notices": [],
        "subjects": [SubjectRecord("ann", "ann", "own")], "styles": [StyleRecord("own", "Own")],
        "expressions": ["jawOpen"],
        "views": [synhead.ViewRecord(30, rig72()[30].flat25().tolist())], "poses": [pose],
    }  # fmt: skip
    return Manifest(**(facts | more))


def write(root: Path, mark: float = 1.0, **settings: Any) -> Path:
    """A data set of one picture, one landmark table; ``mark`` is in both."""
    manifest = manifest_of(**settings)
    synhead_write.prepare(root, manifest)
    pose = manifest.poses[0]
    size = manifest.size
    pixels = np.full((size, size, 4), round(mark), np.uint8)
    record = synhead_write.write_files(root, pose, 30, {"image": png.encode(pixels)})
    taken = Taken(record, [(mark, mark)] * 68)
    synhead_write.note_taken(root, pose, taken)
    synhead_write.write_pose(root, pose, [taken], np.eye(3), [[0, 1, 2]], lips=np.zeros((12, 3)))
    synhead_write.finish(root, manifest)
    return root


def film(
    root: Path, names: list[str] | None = None, key: str = "k", seed: int | None = None,
    test_from: int = 2, litter: bool = False,
) -> Path:  # fmt: skip
    """A film of two frames; expression number k of frame i is k/100 + 0.3 i."""
    monocular_write.prepare(root, key, [0, 1], "png")
    journal, filmed = monocular_write.journal(root, key, 0), []
    for number in (0, 1):
        files = {
            "image": png.encode(np.full((SIZE, SIZE, 3), 100 + number, np.uint8)),
            "matte": png.encode(np.full((SIZE, SIZE), 255, np.uint8)),
        }
        record = monocular_write.write_files(root, number, files, "png")
        truth = FrameTruth(number, number + 1, number / 30, (0.0, 0.0, 0.0))
        filmed.append(monocular_write.Filmed(record, truth))
        journal.append(filmed[-1])
    if litter:
        (root / monocular_write.JOURNALS / ".DS_Store").write_bytes(b"mac")
    manifest = MonocularManifest(
        monocular.SCHEMA, monocular.KIND, "a test", seed, "Nobody is shown.", key, SIZE, SIZE, 30.0,
        "", "", "", list(NAMES) if names is None else names, SubjectRecord("ann", "ann", "own"),
        StyleRecord("own", "Own"), "soft", None, "still", {}, test_from, [], {}, [],
    )  # fmt: skip
    numbers = [[k / 100 + 0.3 * number for k in range(COUNT)] for number in (0, 1)]
    monocular_write.finish(root, manifest, filmed, [rig72()[30]] * 2, numbers)
    return root


def edit(root: Path, change: Callable[[dict], object]) -> None:
    path = root / "manifest.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


# --- numbers that mean something else -------------------------------------------------------------


def test_expressions_are_matched_by_name_not_by_place(tmp_path: Path) -> None:
    film(tmp_path, sorted(NAMES))
    assert check(tmp_path) == []
    frame = MonocularDataset.open(tmp_path).frames[0]
    wanted = [sorted(NAMES).index(name) / 100 for name in NAMES]
    np.testing.assert_allclose(frame.blendshapes, wanted, atol=1e-6)
    assert frame.names == tuple(sorted(NAMES))


def test_expressions_of_another_basis_are_no_blendshapes(tmp_path: Path) -> None:
    film(tmp_path, [f"basis{k:02d}" for k in range(COUNT)])
    with pytest.raises(BadInput, match="names other expressions than the 52"):
        _ = MonocularDataset.open(tmp_path).frames[0].blendshapes


def test_names_must_be_as_many_as_numbers(tmp_path: Path) -> None:
    film(tmp_path, list(NAMES[:-1]))
    with pytest.raises(BadInput, match=r"has 52 numbers an expression, manifest\.json names 51"):
        MonocularDataset.open(tmp_path)
    assert "names 51" in check(tmp_path)[0]


@pytest.mark.parametrize("first", [0, 3, -1])
def test_impossible_split_is_a_sentence(tmp_path: Path, first: int) -> None:
    film(tmp_path, test_from=first)
    with pytest.raises(BadInput, match="test frames that begin at"):
        MonocularDataset.open(tmp_path)
    assert "test frames that begin at" in check(tmp_path)[0]


def test_mirrored_pictures_are_refused(tmp_path: Path) -> None:
    film(tmp_path)
    table = json.loads((tmp_path / "transforms.json").read_text())
    table["fy"] *= -1
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    with pytest.raises(BadInput, match="impossible size or focal length"):
        MonocularDataset.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: m["views"].append(m["views"][0] | {"camera": [1.0] * 25}),
            "view is there twice",
        ),
        (lambda m: m["views"][0].update(held_out=True), "held out"),
        (lambda m: m["expressions"].clear(), "unknown expression"),
        (lambda m: m["styles"].clear(), "unknown style"),
        (lambda m: m["poses"][0]["shots"][0]["files"].update(image="a\0b"), "leaves the data set"),
        (lambda m: m["poses"][0]["files"].update(mesh="images/a.obj"), "looks elsewhere"),
    ],
)
def test_manifests_that_contradict_themselves(
    tmp_path: Path, change: Callable[[dict], object], words: str
) -> None:
    write(tmp_path)
    assert check(tmp_path) == []
    edit(tmp_path, change)
    assert any(words in problem for problem in check(tmp_path)), check(tmp_path)


def test_paths_and_names_that_are_none() -> None:
    assert [inside(path) for path in ("a/b.png", ".", "a\0b", "a\nb", "../a", "a//b")] == [
        True, False, False, False, False, False
    ]  # fmt: skip
    assert [safe_name(name) for name in ("conny", "con", "AUX", "nul.png", "com1")] == [
        True, False, False, False, False
    ]  # fmt: skip


def test_landmarks_written_anew_are_read_anew(tmp_path: Path) -> None:
    write(tmp_path, 1.0, seed=None, shade="a")
    shot = SynheadDataset.open(tmp_path).shots[0]
    assert shot.load_landmarks()[0, 0] == 1.0
    time.sleep(0.02)  # file systems count time in steps
    write(tmp_path, 2.0, seed=None, shade="b")
    assert shot.load_landmarks()[0, 0] == 2.0


# --- folders that hold something already ----------------------------------------------------------


@pytest.mark.parametrize("other", [{"seed": 6}, {"size": 16}])
def test_a_finished_set_is_not_overwritten_by_another(tmp_path: Path, other: dict) -> None:
    write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=r"finished data set .* other settings \(seed 5\)"):
        write(tmp_path, 9.0, **other)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    write(tmp_path)  # the same goes on
    (tmp_path / "manifest.json").unlink()
    write(tmp_path, 9.0, **other)


def test_a_finished_film_is_not_overwritten_by_another(tmp_path: Path) -> None:
    film(tmp_path, seed=5)
    with pytest.raises(BadInput, match="finished data set"):
        film(tmp_path, seed=5, key="other")
    assert check(tmp_path) == []


def test_an_artist_may_photograph_again(tmp_path: Path) -> None:
    write(tmp_path / "set", seed=None, shade="a")
    write(tmp_path / "set", 9.0, seed=None, shade="b", size=16)
    assert check(tmp_path / "set") == []
    film(tmp_path / "film")
    film(tmp_path / "film", key="other")
    assert check(tmp_path / "film") == []


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "images/._split_512"])
def test_a_file_manager_does_not_keep_a_run_from_going_on(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    write(tmp_path)
    assert ["file manager" in problem for problem in check(tmp_path)] == [True]
    film(tmp_path / "film")
    (tmp_path / "film" / ".DS_Store").write_bytes(b"x")
    film(tmp_path / "film")


def test_litter_among_the_journals_does_not_fail_a_whole_film(tmp_path: Path) -> None:
    film(tmp_path, litter=True)
    assert check(tmp_path) == []


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.png"])
def test_kept_shots_lie_where_they_belong(tmp_path: Path, place: str) -> None:
    root = tmp_path / "set"
    manifest = manifest_of()
    synhead_write.prepare(root, manifest)
    pose = manifest.poses[0]
    record = synhead_write.write_files(root, pose, 30, {"image": b"picture"})
    (tmp_path / "secret.png").write_bytes(b"picture")
    synhead_write.note_taken(root, pose, Taken(record))
    assert list(synhead_write.kept_shots(root, pose, ["image"])) == [30]
    data = (root / place).read_bytes() if (root / place).is_file() else b"picture"
    record.files["image"], record.sha256["image"] = place, integrity.digest(data)
    (root / "truth/ann/.jawOpen.part").unlink()
    synhead_write.note_taken(root, pose, Taken(record))
    assert synhead_write.kept_shots(root, pose, ["image"]) == {}


# --- checking -------------------------------------------------------------------------------------


def test_other_folders_of_a_released_set_are_not_judged(tmp_path: Path) -> None:
    film(tmp_path)
    (tmp_path / "manifest.json").unlink()
    for folder in ("logs", "runs/first/empty", "ori_imgs/small"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/notes.txt").write_text("mine")
    assert check(tmp_path) == []
    (tmp_path / "mask/9.png").write_bytes(b"stray")
    assert ["mask/9.png does not belong" in problem for problem in check(tmp_path)] == [True]


class Counted(dict):
    """Counts how often somebody asks whether a key is in it."""

    asked = 0

    def __contains__(self, key: object) -> bool:
        self.asked += 1
        return super().__contains__(key)


def test_a_renamed_folder_is_told_in_linear_time(tmp_path: Path) -> None:
    count = 2_000
    names = [f"{number:05d}.png" for number in range(count)]
    found = integrity.Inventory(folders={"b": [f"b/{name}" for name in names]})
    moved = Counted({f"b/{name}": f"a/{name}" for name in names})
    told = list(integrity._tell_moved(tmp_path, moved, found))
    assert moved.asked <= 2 * count  # was its square
    assert told == [f"The folder {tmp_path / 'b'} looks like the missing a: rename it back."]


def test_hidden_points_must_be_told(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, lambda m: m.update(landmarks="68+468"))
    path = tmp_path / "truth/ann/jawOpen.json"
    table = json.loads(path.read_text())
    table["dense"] = [[[0.0, 0.0]] * 468]
    path.write_text(json.dumps(table))
    edit(
        tmp_path,
        lambda m: m["poses"][0]["sha256"].update(truth=integrity.digest(path.read_bytes())),
    )
    assert ["which landmarks are visible" in problem for problem in check(tmp_path)] == [True]


# --- shape keys -----------------------------------------------------------------------------------


def test_copies_and_in_betweens_give_way_to_the_plain_key() -> None:
    found = match(["jawOpen_50", "eyeBlink_L.001", "Jaw_Open", "eyeBlink_L", "mouthLeft_2"])
    assert found.renames() == {
        "Jaw_Open": "jawOpen", "eyeBlink_L": "eyeBlinkLeft", "mouthLeft_2": "mouthLeft"
    }  # fmt: skip
    assert found.duplicates == {"jawOpen_50": "jawOpen", "eyeBlink_L.001": "eyeBlinkLeft"}


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("styles", ["none", ",", ""])
def test_no_style_is_not_every_style(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], styles: str
) -> None:
    words = ["synth", "--out", str(tmp_path / "set"), "--subjects", "1", "--styles", styles]
    assert main(words) == 2
    assert "names no hair style" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("option", ["--sheet", "--pack"])
def test_a_sheet_in_the_set_is_refused_before_it_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    out = tmp_path / "set"
    assert main(["synth", "--out", str(out), option, str(out / "more" / "file")]) == 2
    assert "lies inside --out" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupted_set_is_not_replaced_by_another_seed(tmp_path: Path) -> None:
    records.stamp_unfinished(tmp_path, seed=7, size=64)
    records.spare_unfinished(tmp_path, seed=7, size=64)
    with pytest.raises(BadInput, match="unfinished data set with seed 7"):
        records.spare_unfinished(tmp_path, seed=9, size=64)
    with pytest.raises(BadInput, match="size 64"):
        records.spare_unfinished(tmp_path, seed=7, size=128)
    records.unstamp(tmp_path)
    records.spare_unfinished(tmp_path, seed=9, size=64)
    assert list(tmp_path.iterdir()) == []
