"""The commands that go through a real backend, with the fake head."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_head import write_model
from PIL import Image
from server_tools import ENV, FACTORY

from head360 import provenance
from head360.arkit.names import NAMES
from head360.client import Client
from head360.commands import parse_frames, parse_size
from head360.commands.extract import parse_blend
from head360.commands.render import cameras_of, read_cameras, weights_of
from head360.errors import BadInput
from head360.launcher import LocalBackend
from head360.rendering.cameras import orbit

TAKE = Path(__file__).resolve().parents[2] / "backend/head360/data/takes/demo_take.csv"


def head360(*words: object) -> tuple[int, Any, str]:
    """(exit code, the JSON object or None, standard error) of one command."""
    done = subprocess.run(
        [sys.executable, "-m", "head360", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **ENV, "HEAD360_HEAD_FACTORY": FACTORY},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_render_writes_numbered_pictures_and_resumes(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    out, sheet = tmp_path / "out", tmp_path / "sheet.jpg"
    words = ["render", model, "--take", TAKE, "--frames", "2-4,9", "--size", "48x32"]
    words += ["--out", out, "--json"]
    code, report, _ = head360(*words, "--camera", "orbit", "--sheet", sheet)
    assert code == 0
    assert report["files"] == ["0002.png", "0003.png", "0004.png", "0009.png"]
    assert sorted(p.name for p in out.iterdir()) == [*report["files"], "frames.jsonl"]
    assert (report["frames"], report["rendered"], report["clamped"]) == (4, 4, 0)
    with Image.open(out / "0009.png") as picture:
        assert (picture.mode, picture.size) == ("RGBA", (48, 32))
    with Image.open(sheet) as picture:
        assert picture.size == (4 * 48, 32)
    (out / "0003.png").unlink()
    code, report, _ = head360(*words, "--camera", "orbit", "--resume")
    assert (code, report["rendered"], report["kept"]) == (0, 1, 3)
    code, report, _ = head360(*words, "--camera", "front", "--fps", "24", "--resume")
    assert (code, report["rendered"]) == (0, 4)  # other cameras, other pictures


def test_rendered_pictures_say_that_they_are_synthetic(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    words = ["render", model, "--take", TAKE, "--frames", "1", "--size", "16", "--out", tmp_path]
    picture = tmp_path / "0001.png"
    assert head360(*words)[0] == 0
    note = provenance.read(picture.read_bytes())
    assert note is not None
    assert (note["model"], note["subject"], note["note"]) == ("fake", "ann", provenance.NOTE)
    with Image.open(picture) as opened:
        assert json.loads(opened.text["head360"]) == note
    code, report, _ = head360(*words, "--no-provenance", "--resume", "--json")
    assert (code, report["rendered"]) == (0, 1)  # the picture with the note does not fit any more
    assert provenance.read(picture.read_bytes()) is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--take", "none.csv", "--frames", "1"], 2),
        (["--frames", "1-99999"], 2),
        (["--frames", "1", "--sheet", "x.doc"], 2),
        (["--frames", "1", "--unknown"], 2),
        (["--frames", "1", "--device", "cuda"], 69),
        (["--frames", "1", "--subject", "nobody"], 2),
        (["--frames", "1", "--subject", "crash"], 75),
        (["--frames", "1", "--subject", "nan"], 3),
    ],
)
def test_render_failures_are_a_sentence_and_a_code(
    tmp_path: Path, words: list[str], code: int
) -> None:
    model = write_model(tmp_path)
    take = [] if "--take" in words else ["--take", TAKE]
    out = ["--out", tmp_path / "out", "--size", "16", "--json"]
    found, report, stderr = head360("render", model, *take, *out, *words)
    assert found == code, stderr
    assert report["error"]["message"] in stderr
    assert "Traceback" not in stderr


def test_a_missing_model_is_code_3(tmp_path: Path) -> None:
    out = tmp_path / "frames"
    code, report, _ = head360(
        "render", "nothing", "--take", TAKE, "--frames", "1", "--out", out, "--json"
    )
    assert code == 3
    assert not out.exists()
    assert "nothing" in report["error"]["message"]


def test_failures_leave_an_earlier_run_alone(tmp_path: Path) -> None:
    model, out = write_model(tmp_path), tmp_path / "out"
    words = ["render", model, "--take", TAKE, "--frames", "1", "--size", "16", "--out", out]
    assert head360(*words, "--json")[0] == 0
    listing = (out / "frames.jsonl").read_bytes()
    assert head360(*words, "--subject", "nobody")[0] == 2
    (tmp_path / "file").write_text("")
    assert head360(*words, "--sheet", tmp_path / "file" / "sheet.png")[0] == 2
    assert (out / "frames.jsonl").read_bytes() == listing


def test_status_of_nothing_and_a_wrong_models_folder(tmp_path: Path) -> None:
    code, report, _ = head360("status", "--runtime-dir", tmp_path, "--json")
    assert (code, report) == (75, {"servers": []})
    wrong = tmp_path / "wrong"
    for words in (["models"], ["serve", "--runtime-dir", tmp_path / "run"]):
        code, _, stderr = head360(*words, "--models", wrong)
        assert code == 2
        assert str(wrong) in stderr


def test_checking_a_folder_without_a_data_set_is_code_2(tmp_path: Path) -> None:
    code, report, _ = head360("dataset", "check", tmp_path, "--json")
    assert code == 2
    assert str(tmp_path) in json.dumps(report)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_extract_writes_a_mesh(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("head360.geometry.meshfile")
    model, out = write_model(tmp_path), tmp_path / f"head.{suffix}"
    code, report, stderr = head360(
        "extract", model, "--resolution", 32, "--blend", "jawOpen=0.5", "--out", out, "--json"
    )
    assert code == 0, stderr
    assert (report["vertices"], report["faces"]) == (1024, 341)
    assert out.stat().st_size == report["bytes"] > 1000


def test_models_and_status_tell_what_there_is(tmp_path: Path, backend: LocalBackend) -> None:
    model = write_model(tmp_path, "other")
    code, report, _ = head360("models", "other", "--models", tmp_path, "--json")
    assert (code, report["licence"], report["path"]) == (0, "CC0", str(model))
    assert head360("models", model, "--json")[1]["name"] == "other"
    folder = backend.connection_file.parent
    code, report, _ = head360("status", "--runtime-dir", folder, "--json")
    assert (code, report["servers"][0]["worker"]) == (0, "ready")
    with Client.connect(backend.connection_file) as client:
        assert report["servers"][0]["boot_id"] == client.welcome.boot_id


def test_frame_ranges() -> None:
    assert parse_frames("1-4,20, 3") == [1, 2, 3, 4, 20]
    for wrong in ("", "a", "1-", "5-1", "-3", "1,,2", "1-99999999", "1.5"):
        with pytest.raises(BadInput):
            parse_frames(wrong)
    assert (parse_size("512"), parse_size("1920x1080")) == ((512, 512), (1920, 1080))
    for wrong in ("", "0", "10x0", "x10", "a", "-5"):
        with pytest.raises(BadInput):
            parse_size(wrong)


def test_blendshapes_by_name() -> None:
    weights = parse_blend(["jawOpen=0.7", "CHEEKPUFF=1"])
    assert weights[NAMES.index("jawOpen")] == np.float32(0.7)
    assert weights.sum() == pytest.approx(1.7)
    for wrong in ("jaw=1", "jawOpen", "jawOpen=2", "jawOpen=nan", "jawOpen=x"):
        with pytest.raises(BadInput):
            parse_blend([wrong])


def test_frames_are_rows_or_moments_of_the_take() -> None:
    from head360.arkit.takes import read_take

    take = read_take(TAKE)
    assert np.array_equal(weights_of(take, [1, 3], None), take.weights[[0, 2]])
    assert np.allclose(weights_of(take, [1, 25], 24.0)[1], take.at(1.0))
    for numbers, fps in (([0], None), ([len(take) + 1], None), ([0], 24.0), ([1], -1.0)):
        with pytest.raises(BadInput):
            weights_of(take, numbers, fps)


def test_camera_files(tmp_path: Path) -> None:
    camera = orbit(30, 10)
    entry = {"cam2world": camera.cam2world.tolist(), "intrinsics": camera.intrinsics.tolist()}
    file = tmp_path / "camera.json"
    file.write_text(json.dumps(entry))
    assert len(cameras_of(str(file), 5, 1.0)) == 5
    file.write_text(json.dumps([entry] * 3))
    assert np.allclose(read_cameras(file)[2].flat25(), camera.flat25())
    with pytest.raises(BadInput, match="3 cameras for 4"):
        cameras_of(str(file), 4, 1.0)
    skewed = {**entry, "cam2world": (camera.cam2world * 2).tolist()}
    for wrong in ("{", "[]", "{}", "[1]", '{"cam2world": 1, "intrinsics": 2}', json.dumps(skewed)):
        file.write_text(wrong)
        with pytest.raises(BadInput):
            read_cameras(file)
    turn = [camera.position for camera in cameras_of("orbit", 4, 1.0)]
    assert turn[1][0] > 0.5 > turn[0][0]
