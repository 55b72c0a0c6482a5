"""Training from the rasteriser: any step can be drawn again, and nothing piles up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.networks.hexplane import HexPlaneConfig
from head360.training.hexplane import Trainer, TrainSettings
from head360.training.live import LiveStream, hull_spec
from head360.training.shoot import shoot
from head360.training.shots import Shots, SynthSpec

CONFIG = HexPlaneConfig(
    texture_size=64, texture_channels=4, plane_size=48, hair_size=24, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip
SPEC = SynthSpec(subjects=1, styles=1, groups=1, views=2, size=64, samples=1, look=1, live=1)


@pytest.fixture(scope="module")
def hull() -> Shots:
    try:
        find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    return shoot(dataclasses.replace(hull_spec(SPEC, 1), groups=3), workers=1)


def trained(hull: Shots, out: Path, steps: int, resume: bool = False) -> Trainer:
    settings = TrainSettings(steps=3, crop=16, preview_seconds=1e9, checkpoint_seconds=1e9)
    with LiveStream(SPEC, workers=0) as stream:
        trainer = Trainer(hull, CONFIG, settings, out, stream=stream)
        if resume:
            trainer.resume()
        for _ in range(steps):
            trainer.train_step()
            trainer.step += 1
        trainer.save_checkpoint()
    return trainer


@pytest.mark.assets
def test_a_resumed_live_run_ends_with_the_same_weights(hull: Shots, tmp_path: Path) -> None:
    straight = trained(hull, tmp_path / "straight", 3)
    trained(hull, tmp_path / "split", 1)
    resumed = trained(hull, tmp_path / "split", 2, resume=True)
    assert resumed.step == straight.step
    expected = straight.net.state_dict()
    for name, value in resumed.net.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.assets
def test_another_live_spec_is_not_resumed(hull: Shots, tmp_path: Path) -> None:
    trained(hull, tmp_path, 1)
    other = dataclasses.replace(SPEC, seed=1)
    settings = TrainSettings(steps=3, crop=16)
    with LiveStream(other, workers=0) as stream:
        trainer = Trainer(hull, CONFIG, settings, tmp_path, stream=stream)
        with pytest.raises(BadInput, match="live"):
            trainer.resume()


@pytest.mark.assets
def test_processes_draw_the_same_groups_and_few_ahead(hull: Shots) -> None:
    with LiveStream(SPEC, workers=0) as here, LiveStream(SPEC, workers=1) as there:
        for step in (0, 1, 4):  # a run that is resumed starts anywhere
            first, second = here.moment(step), there.moment(step)
            assert (first.subject, first.style) == (second.subject, second.style)
            np.testing.assert_array_equal(first.rgba, second.rgba)
            np.testing.assert_array_equal(first.cameras, second.cameras)
            np.testing.assert_array_equal(first.blendshapes, second.blendshapes)
            assert there.waiting < there.ahead
    assert there.waiting == 0


@pytest.mark.assets
def test_steps_show_different_moments(hull: Shots) -> None:
    with LiveStream(SPEC, workers=0) as stream:
        pictures = [stream.moment(step).rgba for step in range(3)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_the_kept_set_of_a_live_run_is_small_and_never_bald() -> None:
    kept = hull_spec(dataclasses.replace(SPEC, groups=500_000), 8)
    assert kept.groups < 500
    assert kept.bald == 0
    assert kept.live == 0
