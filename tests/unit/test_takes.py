"""Takes: the format's quirks, exact values, and one clear sentence for every kind of damage."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.arkit.takes import (
    HEADER,
    infer_base,
    read_take,
    synthetic_take,
    timecode,
    write_take,
)
from head360.errors import BadInput

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "backend/head360/data/takes/demo_take.csv"


def _real_takes() -> Path:
    assets = Path(os.environ.get("HEAD360_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    if not (assets / "arkit_takes").is_dir():
        pytest.skip("the real takes are not here (HEAD360_ASSETS or ../shared/assets)")
    return assets / "arkit_takes"


@pytest.fixture
def take(tmp_path):
    """(path, Take) of a short synthetic take on disk."""
    made = synthetic_take(2.0)
    return write_take(tmp_path / "take.csv", made.seconds, made.weights), made


def _edit(path: Path, row: int, column: str, value: str) -> None:
    rows = list(csv.reader(path.open()))
    rows[row][rows[0].index(column)] = value
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)


def test_round_trip(take):
    path, made = take
    read = read_take(path)
    assert np.abs(read.weights - made.weights).max() < 1e-6
    assert np.abs(read.seconds - made.seconds).max() < 1e-4
    assert read.head is None
    assert read.name == "take"


def test_header_is_the_real_one():
    for path in _real_takes().glob("*.csv"):
        assert tuple(path.open().readline().strip().split(",")) == HEADER


def test_real_values_land_in_apples_order():
    path = _real_takes() / "rom3_jaw_smile.csv"
    read = read_take(path)
    rows = list(csv.DictReader(path.open()))
    assert len(read) == 450
    for name in NAMES:
        label = name[0].upper() + name[1:]
        for one, other in (("JawLeft", "JawRight"), ("MouthLeft", "MouthRight")):
            label = {one: other, other: one}.get(label, label)
        column = np.clip([float(row[label]) for row in rows], 0, 1)
        assert np.abs(read.weights[:, INDEX[name]] - column).max() < 1e-6, name
    assert read.duration == pytest.approx(449 / 30, abs=0.1)
    assert not any("mirrored" in note for note in read.notes)


def test_any_order_bom_crlf_and_trailing_lines(take):
    path, made = take
    rows = list(csv.reader(path.open()))
    text = "\r\n".join(",".join(reversed(row)) for row in rows) + "\r\n\r\n\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    read = read_take(path)
    # Reversed columns put JawLeft before JawRight: then the labels are believed.
    swapped = read_take(path, sides="swapped")
    assert np.abs(swapped.weights - made.weights).max() < 1e-6
    assert np.array_equal(read.weights[:, INDEX["mouthLeft"]], made.weights[:, INDEX["mouthRight"]])
    assert any("mirrored" in note for note in read.notes)


def test_sides_as_labelled(take):
    path, made = take
    read = read_take(path, sides="as_labelled")
    assert np.array_equal(read.weights[:, INDEX["mouthRight"]], made.weights[:, INDEX["mouthLeft"]])


def test_midnight_and_dropped_frames(tmp_path):
    moments = np.array([0.0, 1 / 30, 3 / 30, 4 / 30])
    path = write_take(tmp_path / "t.csv", moments, np.zeros((4, 52)), start=86400 - 0.05)
    # Such a short take never shows frame 30 or above after midnight; before it, it does.
    assert np.abs(read_take(path).seconds - moments).max() < 1e-4


@pytest.mark.parametrize(
    ("highest", "base"), [(59.9, 60), (30, 60), (29.5, 30), (24.5, 25), (23.5, 24), (12, 30)]
)
def test_base(highest, base):
    assert infer_base(highest) == base


def test_timecode_carries_into_the_next_second():
    assert timecode(3661.9999999, 60) == "01:01:02:00.000"
    assert timecode(31.652 / 60, 60) == "00:00:00:31.652"


def test_interpolation():
    made = synthetic_take(2.0)
    middle = made.at((made.seconds[10] + made.seconds[11]) / 2)
    assert np.allclose(middle, (made.weights[10] + made.weights[11]) / 2, atol=1e-6)
    assert np.array_equal(made.at([-5.0, 500.0]), made.weights[[0, -1]])


def test_overshoot_is_clamped_and_counted(take):
    path, _ = take
    _edit(path, 3, "EyeLookInLeft", "1.053")
    _edit(path, 4, "JawOpen", "-0.01")
    read = read_take(path)
    assert read.clamped == 2
    assert read.weights.max() <= 1
    assert read.weights.min() >= 0


def test_lost_face_holds_the_pose(take):
    path, made = take
    _edit(path, 5, "BlendShapeCount", "0")
    _edit(path, 5, "JawOpen", "")
    read = read_take(path)
    assert np.abs(read.weights[4] - made.weights[3]).max() < 1e-6
    assert any("lost" in note for note in read.notes)


@pytest.mark.parametrize("value", ["", "nan", "inf", "x", "1.4", "-0.2"])
def test_a_bad_cell_is_named(take, value):
    path, _ = take
    _edit(path, 7, "MouthPucker", value)
    with pytest.raises(BadInput, match=r"Row 8 of .*MouthPucker"):
        read_take(path)


@pytest.mark.parametrize("value", ["", "12:00:00", "12:61:00:00.0", "a:b:c:d", "11:59:00:01.000"])
def test_bad_time_is_named(take, value):
    path, _ = take
    _edit(path, 7, "Timecode", value)
    with pytest.raises(BadInput, match=r"Row 8 of .*Timecode"):
        read_take(path)


def test_short_row(take):
    path, _ = take
    lines = path.read_text().splitlines()
    lines[4] = ",".join(lines[4].split(",")[:20])
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"Row 5 of .*ends before the column"):
        read_take(path)


def test_missing_column(take):
    path, _ = take
    path.write_text(path.read_text().replace("JawOpen", "JawAjar"))
    with pytest.raises(BadInput, match="jawOpen"):
        read_take(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"hello\n", b"\x89PNG\r\n\x00\xff\xfe", b"Timecode,x\n1,2\n"]
)
def test_not_a_take(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_take(path)
    with pytest.raises(BadInput, match="Cannot read"):
        read_take(tmp_path)


def test_header_without_rows(take):
    path, _ = take
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(BadInput, match="no rows"):
        read_take(path)


def test_bundled_take_is_lively():
    read = read_take(BUNDLED)
    assert len(read) == 150
    for name in ("eyeBlinkLeft", "mouthSmileLeft", "jawOpen", "browInnerUp", "tongueOut"):
        assert read.weights[:, INDEX[name]].max() > 0.6
    tongue, jaw = INDEX["tongueOut"], INDEX["jawOpen"]
    out = read.weights[:, tongue] > 0.3
    assert read.weights[out, jaw].min() > 0.25
