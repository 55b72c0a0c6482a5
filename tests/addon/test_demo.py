"""``head360 demo`` leaves what it promises, with the fake head and with the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from PIL import Image

from head360.errors import BY_CODE

REPOSITORY = Path(__file__).resolve().parents[2]
BLENDER = bpy.app.binary_path or sys.executable  # the Blender, or the Python of the module
STARTER = REPOSITORY / "backend/head360/data/models/starter/manifest.json"


def _demo(out: Path, *arguments: str, **environment: str):
    command = [str(REPOSITORY / ".venv/bin/python"), "-m", "head360", "demo", "--json"]
    if "--blender" not in arguments:
        command += ["--blender", BLENDER]  # files of a newer Blender would not open here
    return subprocess.run(
        [*command, "--out", str(out), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _check(done, frames: int, size: int) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    out = Path(result["out"])
    assert len(list((out / "frames").glob("*.png"))) == frames
    pictures = [np.asarray(Image.open(path)) for path in result["frames"]]
    assert all(picture.shape == (size, size, 4) for picture in pictures)
    assert all((picture[..., 3] > 127).mean() > 0.1 for picture in pictures)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 0.2
    animation = Image.open(result["animation"])
    assert animation.n_frames == frames
    assert Image.open(result["sheet"]).width == min(frames, 6) * size
    assert Path(result["mesh"]).read_bytes()[:4] == b"glTF"
    assert not list(out.glob(".*"))
    return result


def test_demo_with_the_fake_head(backend_environment, tmp_path):
    environment = {k: v for k, v in backend_environment.items() if k != "HEAD360_RUNTIME_DIR"}
    done = _demo(
        tmp_path / "demo", "--frames", "5", "--size", "64", "--model", "fake", **environment
    )
    result = _check(done, 5, 64)
    _open(Path(result["blend"]), result["head"])


def _open(blend: Path, head: str) -> None:
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert len(bpy.data.objects[head].data.shape_keys.key_blocks) == 53
    slot = bpy.context.scene.camera.data.background_images[0]
    assert slot.image.filepath.startswith("//frames")
    assert Path(bpy.path.abspath(slot.image.filepath)).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--blender", "/nowhere/blender"), 2, "no Blender"),
        (("--take", "/nowhere/take.csv"), 2, "Cannot read the take"),
        (("--frames", "0"), 2, "Choose 1 to 1000"),
        (("--model", "nobody"), 3, "no model"),
    ],
)
def test_bad_input(backend_environment, tmp_path, arguments, code, words):
    environment = {k: v for k, v in backend_environment.items() if k != "HEAD360_RUNTIME_DIR"}
    done = _demo(tmp_path / "demo", *arguments, **environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    said = json.loads(done.stdout)["error"]
    assert BY_CODE[said["code"]].exit_code == code
    assert not list((tmp_path / "demo").glob("*.*")) if (tmp_path / "demo").exists() else True


def test_a_crashed_blender_leaves_its_log(tmp_path):
    blender = tmp_path / "blender"
    blender.write_text("#!/bin/sh\necho boom\nexit 11\n")
    blender.chmod(0o755)
    done = _demo(tmp_path / "demo", "--blender", str(blender))
    assert done.returncode == 1, done.stderr
    assert "code 11 (boom)" in done.stderr
    assert str(tmp_path / "demo" / "blender.log") in done.stderr
    assert (tmp_path / "demo" / "blender.log").read_text() == "boom\n"


def test_a_shorter_demo_leaves_no_older_frames(tmp_path):
    from head360.commands import demo

    (tmp_path / "0001.png").touch()
    demo._sweep(tmp_path)
    assert (tmp_path / "0001.png").exists()  # somebody else's: no listing of ours beside it
    (tmp_path / "frames.jsonl").touch()
    (tmp_path / "portrait.png").touch()
    demo._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.jsonl", "portrait.png"]


@pytest.mark.slow
def test_demo_with_the_real_head(tmp_path):
    if not STARTER.is_file():
        pytest.skip("the starter model is not built yet (head360/data/models/starter)")
    result = _check(_demo(tmp_path / "demo", "--frames", "3", "--size", "128"), 3, 128)
    assert result["vertices"] > 5000
