"""One performer's numbers for another's avatar."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from head360.arkit import COUNT, INDEX, NAMES
from head360.cli import main
from head360.errors import ModelInvalid
from head360.heads.gaussian_retarget import GAZE, Range, gains_of, neutral_row, retarget

MODELS = Path(__file__).parents[2] / "backend/head360/data/models"


def acting(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Distances from a neutral face: smooth, each shape now and then, rows 100 to 120 at rest."""
    rng = np.random.default_rng(seed)
    time = np.arange(rows)[:, None] / 30
    waves = np.sin(time * rng.uniform(0.8, 2.5, COUNT) + rng.uniform(0, 6, COUNT))
    distance = 0.5 * np.clip(waves, 0, 1)
    distance[100:121] = 0
    return distance.astype(np.float32)


def person(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rest, reach = rng.uniform(0, 0.15, COUNT), rng.uniform(0.8, 1.4, COUNT)
    for name, index in INDEX.items():
        if name.endswith("Right"):
            reach[index] = reach[INDEX[name.removesuffix("Right") + "Left"]]
    rest[GAZE], reach[GAZE] = 0, 1
    return rest.astype(np.float32), reach.astype(np.float32)


def test_the_same_acting_in_other_numbers_arrives_as_the_avatar_s_own() -> None:
    (rest, reach), (own_rest, own_reach) = person(1), person(2)
    play = acting()
    driver, truth = rest + reach * play, own_rest + own_reach * play
    target = Range(own_rest, truth.min(0), truth.max(0))
    row = neutral_row(driver)
    assert 100 <= row <= 120
    gains = gains_of(driver, driver[row], target)
    moved = retarget(driver, driver[row], target, gains)
    before, after = np.abs(driver - truth), np.abs(moved.weights - truth)
    assert after.mean() < 0.15 * before.mean()
    assert np.abs(gains[GAZE] - 1).max() == 0
    assert np.ptp(gains[[INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]]]) == 0
    # The numbers of an avatar's own performer stay as they are.
    own = neutral_row(truth)
    same = retarget(truth, truth[own], target, gains_of(truth, truth[own], target))
    np.testing.assert_allclose(same.weights, truth, atol=0.02)
    assert same.clamped == 0


def test_what_the_avatar_never_showed_is_clamped_and_counted() -> None:
    jaw, smile = INDEX["jawOpen"], INDEX["mouthSmileLeft"]
    high = np.full(COUNT, 0.6, np.float32)
    target = Range(np.zeros(COUNT, np.float32), np.zeros(COUNT, np.float32), high)
    weights = np.zeros((4, COUNT), np.float32)
    weights[1:3, jaw], weights[3, jaw], weights[3, smile] = 0.9, 0.601, 0.7
    moved = retarget(weights, weights[0], target, np.ones(COUNT, np.float32))
    assert moved.weights.max() == np.float32(0.6)
    assert (moved.clamped, moved.frames) == (3, 3)  # a thousandth is nothing to report
    assert moved.most == ("jawOpen", "mouthSmileLeft")


def test_gains_stay_modest_where_a_take_shows_little() -> None:
    target = Range(*(np.full(COUNT, v, np.float32) for v in (0, 0, 1)))
    for reach, expected in ((0.1, 1.0), (0.3, 1.5), (1.0, 1.0)):
        take = np.linspace(0, reach, 300, dtype=np.float32)[:, None].repeat(COUNT, 1)
        gains = gains_of(take, take[0], target)[~GAZE]
        np.testing.assert_allclose(gains, expected, atol=0.01)


def test_ranges_come_from_the_manifest() -> None:
    manifest = json.loads((MODELS / "starter-gaussian" / "manifest.json").read_text())
    span = Range.of(manifest)
    assert (span.low <= span.neutral).all()
    assert (span.neutral <= span.high).all()
    assert span.neutral.max() < 0.35  # a face at rest
    assert span.high[INDEX["jawOpen"]] > 0.9
    everything = Range.of({})
    assert everything.high.min() == 1
    assert everything.neutral.max() == 0
    with pytest.raises(ModelInvalid, match="other numbers"):
        Range.of({"expression": {"names": ["smile"], "low": [0], "high": [1]}})
    with pytest.raises(ModelInvalid, match="range"):
        Range.of({"expression": {"names": list(NAMES), "low": [0]}})


def test_render_takes_somebody_else_s_take(tmp_path: Path, capsys) -> None:
    """The whole way: a take with an odd neutral face, the starter, passes beside the pictures."""
    from PIL import Image

    from head360.arkit.takes import write_take

    rest, _ = person(3)
    take = write_take(tmp_path / "take.csv", None, np.clip(rest + acting(150), 0, 1))
    run = ["render", "starter-gaussian", "--take", str(take), "--size", "48", "--device", "cpu"]
    run += ["--out", str(tmp_path / "out"), "--json"]
    assert main([*run, "--frames", "105", "--neutral", "151"]) == 2
    assert "1 to 150" in capsys.readouterr().err
    assert main([*run, "--frames", "105", "--passes", "normals"]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main([*run, "--frames", "105,140", "--retarget", "--passes", "rgba,depth,alpha"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 101 <= report["retarget"]["neutral"] <= 121
    with Image.open(tmp_path / "out" / "0140.png") as picture:
        alpha = np.asarray(picture)[..., 3]
    with Image.open(tmp_path / "out" / "alpha" / "0140.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), alpha)
    with Image.open(tmp_path / "out" / "depth" / "0140.png") as picture:
        depth = np.asarray(picture).astype(float) / report["passes"]["depth_scale"]
    assert ((depth > 0) == (alpha > 0)).mean() > 0.99
    assert 0.5 < depth[depth > 0].min() < depth.max() < 2.0  # metres to the front camera
    before = (tmp_path / "out" / "depth" / "0105.png").stat().st_mtime_ns
    again = [*run, "--frames", "105,140", "--retarget", "--passes", "rgba,depth", "--resume"]
    assert main(again) == 0
    assert (tmp_path / "out" / "depth" / "0105.png").stat().st_mtime_ns == before
