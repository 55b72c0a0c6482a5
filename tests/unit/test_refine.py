"""The refine stage: it learns, resumes exactly, leaves outlines alone and travels in packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from test_codes import FREE, make_head

from head360 import heads
from head360.arkit import COUNT
from head360.errors import BadInput
from head360.heads.hexplane import HexPlaneHead
from head360.heads.refining import refine_picture
from head360.networks.refine import RefineConfig, RefineNet
from head360.rendering.cameras import orbit
from head360.training.refine import RefineSettings, RefineTrainer, ssim
from head360.training.shots import Shots

TINY = RefineConfig(width=4, downs=2, blocks=1)
SETTINGS = RefineSettings(steps=4, crop=32, discriminator_width=4, lr=2e-3)


def shots_of(head: HexPlaneHead) -> Shots:
    """Two moments from two sides; the truth is the head's own picture, warmer."""
    cameras = [[orbit(10, 0), orbit(200, 5)], [orbit(-40, 10), orbit(90, 0)]]
    rgba = np.zeros((2, 2, 48, 48, 4), dtype=np.uint8)
    for group in range(2):
        pose = head.pose(head.codes(head.subjects[group]), np.zeros(COUNT, dtype=np.float32))
        for view in range(2):
            picture = head.render(pose, cameras[group][view], 48, 48).rgba
            picture = picture * [1.0, 0.8, 0.7, 1.0]
            rgba[group, view] = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Shots(
        head.subjects, head.styles,
        np.stack([head.codes(name).shape for name in head.subjects]), ("cap", "crest"),
        np.array([0, 1], dtype=np.int32), np.array([0, 1], dtype=np.int32),
        np.zeros((2, COUNT), dtype=np.float32),
        np.array([[camera.flat25() for camera in pair] for pair in cameras]),
        rgba, np.zeros((2, 2, 24, 24), dtype=np.uint8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    return make_head(FREE)


@pytest.fixture(scope="module")
def shots(head: HexPlaneHead) -> Shots:
    return shots_of(head)


def test_ssim_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (3, 40, 36))
    b = np.clip(a + rng.normal(0, 0.3, a.shape), -1, 1)
    _, full = structural_similarity(
        a, b, channel_axis=0, data_range=2.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    inner = full[:, 5:-5, 5:-5].mean()
    ours = ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    assert float(ours) == pytest.approx(inner, abs=1e-6)


def test_refining_moves_pictures_towards_the_truth(
    head: HexPlaneHead, shots: Shots, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    settings = RefineSettings(steps=60, crop=32, discriminator_width=0, lr=5e-3)
    trainer = RefineTrainer(head, shots, TINY, settings, tmp_path)
    losses = [trainer.train_step()["l1"] for _ in range(60)]
    assert np.mean(losses[-15:]) < 0.7 * np.mean(losses[:15])


def test_an_interrupted_run_goes_on_to_the_same_weights(
    head: HexPlaneHead, shots: Shots, tmp_path: Path
) -> None:
    whole = RefineTrainer(head, shots, TINY, SETTINGS, tmp_path / "whole")
    for _ in range(4):
        whole.train_step()
    first = RefineTrainer(head, shots, TINY, SETTINGS, tmp_path / "parts")
    for _ in range(2):
        first.train_step()
        first.step += 1
    first.save_checkpoint()
    second = RefineTrainer(head, shots, TINY, SETTINGS, tmp_path / "parts")
    second.resume()
    assert second.step == 2
    for _ in range(2):
        second.train_step()
    for a, b in zip(whole.nets.parameters(), second.nets.parameters(), strict=True):
        assert torch.equal(a, b)
    other = RefineTrainer(head, shots, RefineConfig(width=8, downs=2, blocks=1), SETTINGS,
                          tmp_path / "parts")  # fmt: skip
    with pytest.raises(BadInput, match="refine"):
        other.resume()


def test_frozen_pictures_are_rendered_once(
    head: HexPlaneHead, shots: Shots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafted = []
    draft = head.draft

    def counted(*arguments: Any) -> Any:
        drafted.append(arguments)
        return draft(*arguments)

    monkeypatch.setattr(head, "draft", counted)
    trainer = RefineTrainer(head, shots, TINY, SETTINGS, tmp_path)
    pairs = [trainer.pair() for _ in range(40)]
    assert len(drafted) == 4  # two moments from two sides
    for source, truth in pairs:  # the truth is the head's own picture, warmer
        assert (source[:, 0] - truth[:, 0]).abs().max() < 0.02
        assert (source[:, 2] - truth[:, 2]).max() > 0.05


def test_a_run_ends_with_a_head_that_refines(
    head: HexPlaneHead, shots: Shots, tmp_path: Path
) -> None:
    try:
        RefineTrainer(head, shots, TINY, SETTINGS, tmp_path).run()
        loaded = heads.load(tmp_path / "head")
        assert isinstance(loaded, HexPlaneHead)
        assert loaded.refine is not None
        assert (tmp_path / "log.jsonl").read_text().count("\n") >= 1
        pose = loaded.pose(loaded.codes("one"), np.zeros(COUNT, dtype=np.float32))
        drafted = loaded.draft(pose, orbit(20, 0), 50, 46).rgba
        refined = loaded.render(pose, orbit(20, 0), 50, 46).rgba
        np.testing.assert_array_equal(drafted[..., 3], refined[..., 3])
        assert np.abs(drafted - refined).max() > 1e-4
    finally:
        head.refine = None


def test_an_untrained_net_changes_nothing_and_any_size_will_do() -> None:
    net = RefineNet(TINY)
    rgba = np.random.default_rng(0).random((19, 30, 4)).astype(np.float32)
    out = refine_picture(net, rgba, "cpu")
    np.testing.assert_allclose(out, rgba, atol=2e-5)


def test_crops_that_do_not_fit_are_refused(
    head: HexPlaneHead, shots: Shots, tmp_path: Path
) -> None:
    for crop in (30, 64):
        with pytest.raises(BadInput, match="crop"):
            RefineTrainer(head, shots, TINY, RefineSettings(crop=crop), tmp_path)
