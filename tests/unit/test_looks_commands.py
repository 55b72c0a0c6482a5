"""``head360 hair``, ``interpolate`` and ``draw`` on the model that comes with the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from head360 import heads
from head360.cli import main
from head360.heads.hexplane import HexPlaneHead


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA")).astype(int)


def test_dyed_hair_is_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(
        capsys, "hair", "starter", "--subject", "mina", "--colour", "#ff2010", "--size", "64",
        "--package", "--out", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    assert report["style"] == "ponytail01"
    before, after = pixels(tmp_path / "before_back.png"), pixels(tmp_path / "after_back.png")
    solid = (before[..., 3] > 250) & (after[..., 3] > 250)
    redder = (after - before)[..., 0][solid]
    assert redder.max() > 60
    assert Path(report["sheet"]).is_file()
    kept = heads.load(Path(report["package"]))
    assert isinstance(kept, HexPlaneHead)
    assert kept.codes("mina").hair_colour == pytest.approx(report["colour"])
    assert kept.codes("mina", "bob01").hair_colour is None
    assert kept.codes("felix").hair_colour is None


def test_removed_hair_is_the_bald_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(
        capsys, "hair", "starter", "--subject", "clara", "--remove", "--size", "48",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert (code, report["style"]) == (0, None)
    haired = (pixels(tmp_path / "before_front.png")[..., 3] > 127).sum()
    bald = (pixels(tmp_path / "after_front.png")[..., 3] > 127).sum()
    assert bald < haired


def test_interpolation_draws_a_row_for_each_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(
        capsys, "interpolate", "felix", "seed:7", "--steps", "3", "--size", "48",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    assert report["rows"] == ["texture t", "shape s", "hair h", "expression b", "all"]
    with Image.open(report["sheet"]) as sheet:
        assert sheet.height >= 5 * 48
        assert sheet.width >= 3 * 48
    with Image.open(report["animation"]) as film:
        assert getattr(film, "n_frames", 1) == 4  # there and back


def test_drawn_heads_are_their_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, first, count in (("a", "4", "3"), ("b", "5", "1")):
        code, report = run(
            capsys, "draw", "starter", "--seed", first, "--count", count, "--size", "48",
            "--out", str(tmp_path / name),
        )  # fmt: skip
        assert code == 0
        assert len(report["heads"]) == int(count)
    same = (tmp_path / "a" / "seed_000005.png", tmp_path / "b" / "seed_000005.png")
    assert same[0].read_bytes() == same[1].read_bytes()
    assert (tmp_path / "a" / "seed_000004.png").read_bytes() != same[0].read_bytes()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("hair", "starter"), "--style"),
        (("hair", "starter", "--remove", "--colour", "blond"), "--remove alone"),
        (("hair", "starter", "--colour", "blurple"), "auburn"),
        (("hair", "starter", "--style", "beehive"), "bob01"),
        (("interpolate", "felix", "nobody"), "felix"),
        (("interpolate", "felix", "kofi", "--steps", "1"), "2 to 64"),
        (("draw", "starter", "--count", "0"), "1 to 400"),
        (("draw", "starter", "--size", "9"), "32 to 2048"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    words: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, report = run(capsys, *words, "--out", str(out))
    assert code == 2
    assert reason in report["error"]["message"]
    assert not out.exists()
