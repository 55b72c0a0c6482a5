"""Damaged model packages, by name and through the whole way: a sentence and exit code 3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fake_head import write_model
from server_tools import ENV, start

from head360.client import Client
from head360.errors import ModelInvalid
from head360.heads import load
from head360.server.heads_table import builtin_models_dir, find_models, resolve

ROOT = Path(__file__).resolve().parents[2]
TAKE = ROOT / "backend/head360/data/takes/demo_take.csv"


def starter(folder: Path) -> Path:
    source = builtin_models_dir() / "starter"
    if not (source / "manifest.json").is_file():
        pytest.skip("the starter model is not in this checkout")
    return Path(shutil.copytree(source, folder / "starter"))


def test_a_damaged_package_is_named_and_hides_nobody(tmp_path: Path) -> None:
    write_model(tmp_path)
    (write_model(tmp_path, "torn") / "manifest.json").write_text('{"name": ')
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"name": "bad", "note": "x" * 5000}))
    raw = bytearray((tmp_path / "bad.zip").read_bytes())
    raw[50:70] = bytes(range(200, 220))
    (tmp_path / "bad.zip").write_bytes(raw)
    assert "fake" in find_models([tmp_path])
    for name in ("torn", "bad"):
        with pytest.raises(ModelInvalid, match="install the model again"):
            resolve(name, [tmp_path])
    with pytest.raises(ModelInvalid):
        load(tmp_path / "bad.zip")


def test_a_listing_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    manifest = {"schema": 1, "kind": "hexplane", "name": "x", "files": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelInvalid):
        load(tmp_path)


def test_the_server_says_that_a_model_is_damaged(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models)
    (write_model(models, "torn") / "manifest.json").write_text("[1")
    backend = start(tmp_path / "run", models)
    try:
        with Client.connect(backend.wait_ready(30.0)) as client:
            with pytest.raises(ModelInvalid, match="install the model again"):
                client.create_head("torn")
            with pytest.raises(ModelInvalid, match="choose one of the installed"):
                client.create_head("nobody")
    finally:
        backend.stop()


@pytest.mark.parametrize("damage", ["truncated", "manifest", "missing"])
def test_rendering_a_damaged_model_is_code_3(tmp_path: Path, damage: str) -> None:
    model = starter(tmp_path)
    arrays = model / "head.safetensors"
    if damage == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:1000])
    elif damage == "manifest":
        (model / "manifest.json").write_text("{")
    else:
        arrays.unlink()
    words = ["render", model, "--take", TAKE, "--frames", "1", "--size", "16"]
    done = subprocess.run(
        [sys.executable, "-m", "head360", *map(str, words), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **ENV},
    )
    assert done.returncode == 3, done.stderr
    assert "install" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
