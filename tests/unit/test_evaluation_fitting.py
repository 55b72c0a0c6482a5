"""``head360 evaluate --fitting``: what figures are kept, whose they are, and where the sheet is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_fit_texture import make_head

from head360 import evaluation_fitting, heads
from head360.arkit import COUNT
from head360.cli import main
from head360.errors import BadInput
from head360.evaluation_fitting import evaluate_fitting
from head360.files import write_bytes
from head360.fitting.parsing import SHIPPED
from head360.fitting.stages import FitSettings
from head360.heads.base import Frame
from head360.heads.hexplane import HexPlaneHead
from head360.heads.package import png_bytes
from head360.rendering.cameras import Camera, orbit

SETTINGS = FitSettings(landmarks="own", steps=10)


@pytest.fixture
def base() -> HexPlaneHead:
    return make_head()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, int, int]]:
    """Who was measured: number, truth, seed, and seed of the fit. No photograph is taken."""
    asked: list[tuple[int, str, int, int]] = []

    def measure(
        number: int, base: Any, settings: FitSettings, truth: str, seed: int, out: Path
    ) -> dict[str, Any]:
        asked.append((number, truth, seed, settings.seed))
        out.mkdir()
        write_bytes(out / "row.png", png_bytes(np.full((192, 8 * 192, 3), 90, np.uint8)))
        return {"person": f"p{number}", "psnr_unseen": 20.0 + number}

    monkeypatch.setattr(evaluation_fitting, "measure", measure)
    return asked


def test_figures_belong_to_the_base_and_the_networks_that_made_them(
    base: HexPlaneHead, measured: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_fitting, "_sheet", lambda *_: None)  # the next test has it
    out = tmp_path / "out"

    def run(
        base: HexPlaneHead, truth: str = "nothing", people: int = 2, seed: int = 0,
        out: Path = out, **changes: Any,
    ) -> dict[str, Any]:  # fmt: skip
        settings = dataclasses.replace(SETTINGS, **changes)
        return evaluate_fitting(base, settings, out, people, truth, seed)

    assert run(base)["psnr_unseen"] == 20.5
    assert run(base, people=3)["people"] == 3
    assert [number for number, *_ in measured] == [0, 1, 2]  # the first two were kept
    made = json.loads((out / "000.json").read_text())["made"]
    assert {kind: len(digest) for kind, (_, digest) in made["networks"].items()} == {
        "landmarks": 16, "parsing": 16, "style": 16
    }  # fmt: skip
    # The same names and paths, other numbers.
    other = make_head()
    with torch.no_grad():
        next(other.net.parameters()).add_(1e-3)
    with pytest.raises(BadInput, match="another base"):
        run(other)
    weights = write_bytes(tmp_path / SHIPPED.name, SHIPPED.read_bytes())
    assert run(base, parsing_weights=weights)["people"] == 2  # a copy is the same network
    data = bytearray(SHIPPED.read_bytes())
    data[-1] ^= 1  # one bit of the last weight
    write_bytes(weights, bytes(data))
    with pytest.raises(BadInput, match="other networks"):
        run(base, parsing_weights=weights)
    with pytest.raises(BadInput, match="settings"):
        run(base, seed=1)
    # Networks in whose place the truth stands make no difference.
    run(base, "parsing", out=tmp_path / "true")
    run(base, "parsing", out=tmp_path / "true", parsing_weights=weights)
    assert measured[3:] == [(0, "parsing", 0, 0), (1, "parsing", 0, 0)]


def test_fits_are_compared_without_a_lid(base: HexPlaneHead) -> None:
    white = np.ones((16, 16, 4), np.float32)
    base.open_bust = False  # like every head that was loaded

    def render(pose: Any, camera: Camera, width: int, height: int) -> Frame:
        rgba = white if base.open_bust else white * (0, 0, 0, 1)
        return Frame(rgba.astype(np.float32), np.ones((height, width), np.float32))

    base.render = render  # type: ignore[method-assign]
    nobody: Any = None
    weights = np.zeros(COUNT, np.float32)
    unseen = {
        f"{yaw:+.0f}": (orbit(yaw, 0), white) for yaws in evaluation_fitting.UNSEEN.values()
        for yaw in yaws
    }  # fmt: skip
    sitting = evaluation_fitting.Sitting(
        "p", "short02", None, base.codes().shape, weights, orbit(0, 0), white,
        *[nobody] * 4, unseen,
    )  # fmt: skip
    result: Any = SimpleNamespace(cameras=[orbit(0, 0).flat25()], blendshapes=[weights])
    figures, _ = evaluation_fitting.compare(sitting, base, result)
    assert figures["shape_mm"] == 0
    assert {figures[f"ssim_{band}"] for band in ("front", "side", "back")} == {1.0}
    assert not base.open_bust


def test_the_command_takes_seed_and_sheet_and_names_no_file_that_is_gone(
    base: HexPlaneHead, measured: list[Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(heads, "load", lambda path, device="cpu": base)
    words = ["evaluate", "--fitting", "--subjects", "1", "--truth", "style", "--device", "cpu"]

    def report(*more: str) -> dict[str, Any]:
        assert main([*words, "--json", *more]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert report()["sheet"] is None  # nothing was kept
    sheet = tmp_path / "new" / "sheet.png"
    found = report("--seed", "5", "--sheet", str(sheet))
    assert (found["sheet"], found["seed"]) == (str(sheet), 5)
    assert sheet.is_file()
    assert Path(report("--out", str(tmp_path / "out"))["sheet"]).is_file()
    assert measured == [(0, "style", seed, seed) for seed in (0, 5, 0)]
    assert main([*words, "--seed", "-1"]) == 2
