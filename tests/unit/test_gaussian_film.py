"""An avatar's own film, made again: recipes, woven takes, and the starter's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gaussian_tools import film  # noqa: E402

from head360 import heads  # noqa: E402
from head360.arkit.takes import write_take  # noqa: E402
from head360.cli import main  # noqa: E402
from head360.datasets.monocular_read import MonocularDataset  # noqa: E402
from head360.evaluation_monocular import by_somebody_else  # noqa: E402
from head360.heads.gaussian_retarget import GAZE  # noqa: E402
from head360.training.gaussian_film import Recipe, weave  # noqa: E402

MODELS = Path(__file__).parents[2] / "backend/head360/data/models"


def test_takes_are_woven_in_turns() -> None:
    header = "Timecode,BlendShapeCount,JawOpen"
    takes = [[header, *(f"01:00:00:{k},1,{name}{k}" for k in range(8))] for name in "ab"]
    woven = weave(takes, every=2, turn=3)
    assert woven[0] == header
    assert [line.split(",")[2] for line in woven[1:]] == [
        "a0", "a2", "a4", "b0", "b2", "b4", "a6", "b6"
    ]  # fmt: skip
    assert woven[2].split(",")[0] == "10:00:00:02.000"  # 30 rows a second, sixtieths
    assert woven[-1].split(",")[0] == "10:00:00:14.000"


def test_only_films_of_the_studio_have_a_recipe(tmp_path: Path) -> None:
    manifest = MonocularDataset.open(film(tmp_path / "film", 4)).manifest
    assert Recipe.of(manifest, 1) is None  # no take
    recipe = Recipe("felix", "short02", 0, "orbit", "soft", 64, "jpg", ("a",), 2, "k", rows="2-4,9")
    assert recipe.numbers() == (2, 3, 4, 9)
    assert Recipe.from_facts(json.loads(json.dumps(recipe.facts()))) == recipe
    for wrong in (None, {}, {**recipe.facts(), "rows": "all"}, {**recipe.facts(), "hat": 1}):
        assert Recipe.from_facts(wrong) is None


@pytest.mark.assets
@pytest.mark.slow
def test_an_avatar_knows_the_film_it_was_made_from(tmp_path: Path, capsys, monkeypatch) -> None:
    """Filmed, trained, and judged again without the film: the same figures."""
    assets = tmp_path / "assets"
    from head360.geometry.assets import find_assets

    assets.mkdir()
    for place in find_assets().iterdir():
        if place.name != "arkit_takes":
            (assets / place.name).symlink_to(place)
    (assets / "arkit_takes").mkdir()
    monkeypatch.setenv("HEAD360_ASSETS", str(assets))
    weights = np.random.default_rng(0).uniform(0, 0.5, (8, 52)).astype(np.float32)
    take = write_take(assets / "arkit_takes" / "act.csv", None, weights)
    shoot = ["synth", "--layout", "monocular", "--take", str(take), "--frames", "2-8"]
    shoot += ["--size", "48", "--workers", "1", "--style", "none", "--out", str(tmp_path / "film")]
    assert main(shoot) == 0
    train = ["train", "gaussian", "--data", str(tmp_path / "film"), "--steps", "2", "--test", "2"]
    assert main([*train, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    head = str(tmp_path / "run" / "head")
    capsys.readouterr()
    judge = ["evaluate", head, "--device", "cpu", "--workers", "1", "--json"]
    assert main([*judge, "--data", str(tmp_path / "film"), "--test", "2"]) == 0
    there = json.loads(capsys.readouterr().out)
    assert main(judge) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["trained_on_this"] is again["filmed_again"] is True
    assert (again["frames"], again["take"]) == (2, "act")
    for name in ("l1", "mse", "psnr", "ssim", "cropped", "matte", "reenactment"):
        assert again[name] == there[name]
    take.unlink()
    assert main(judge) == 2
    assert "--data" in capsys.readouterr().err


def test_the_starter_tells_its_film() -> None:
    manifest = json.loads((MODELS / "starter-gaussian" / "manifest.json").read_text())
    recipe = Recipe.from_facts(manifest["film"])
    assert recipe is not None
    assert recipe.key == manifest["training"]["data_key"]
    assert recipe.test == manifest["training"]["held_out"]["frames"]
    assert recipe.subject in manifest["subjects"]
    head = heads.load(MODELS / "starter-gaussian")
    assert head.expression.neutral is not None
    assert head.expression.range().neutral.max() < 0.35


def test_somebody_else_acts_the_same_in_other_numbers() -> None:
    rng = np.random.default_rng(1)
    weights = rng.uniform(0, 0.4, (50, 52)).astype(np.float32)
    neutral = np.full(52, 0.05, np.float32)
    played = by_somebody_else(weights, neutral, 3)
    np.testing.assert_array_equal(played[:, GAZE], weights[:, GAZE])
    assert np.abs(played - weights)[:, ~GAZE].mean() > 0.03
    for k in np.flatnonzero(~GAZE):  # a straight line where nothing is cut off
        free = (played[:, k] > 0) & (played[:, k] < 1)
        assert np.corrcoef(played[free, k], weights[free, k])[0, 1] > 0.999
