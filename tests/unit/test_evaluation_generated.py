"""Heads drawn from seeds: consistency, twins, FID. Untrained weights and painted worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_codes import FREE, make_head
from test_evaluation import shots_of

from head360 import evaluation_generated, heads
from head360.cli import main
from head360.errors import BadInput
from head360.evaluation import compare
from head360.evaluation_generated import (
    carry,
    embed,
    evaluate_generated,
    frechet,
    load_features,
    twin_shapes,
)
from head360.geometry import assets
from head360.heads.base import Frame
from head360.heads.hexplane import HexPlaneHead
from head360.rendering.cameras import Camera, orbit
from head360.training import shoot

SIZE = 96


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    return make_head(FREE)


def ball(camera: Camera, by_view: float = 0.0) -> Frame:
    """A ball of 10 cm whose paint depends on the place and, if asked, on who looks."""
    v, u = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    local = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.intrinsics).T
    ray = local @ camera.cam2world[:3, :3].T
    a, b = (ray * ray).sum(-1), (ray * camera.position).sum(-1)
    root = b**2 - a * ((camera.position**2).sum() - 0.01)
    hit = root > 0
    depth = np.where(hit, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    points = camera.position + ray * np.where(hit, depth, 1.0)[..., None]
    paint = 0.5 + 0.3 * np.sin(points * 30) + by_view * camera.position[0]
    rgba = np.concatenate([np.clip(paint, 0, 1), np.ones_like(paint[..., :1])], -1) * hit[..., None]
    return Frame(rgba.astype(np.float32), depth.astype(np.float32))


def test_a_painted_ball_is_carried_into_the_next_view() -> None:
    here, there = orbit(0, 5, target=(0, 0, 0)), orbit(8, 5, target=(0, 0, 0))
    errors = []
    for by_view in (0.0, 0.5):
        frame = ball(here, by_view)
        colours, mask = carry(frame, here, ball(there, by_view), there)
        seen = frame.rgba[..., 3] > 0
        assert mask.sum() > 0.85 * seen.sum()
        assert not mask[~seen].any()
        assert (colours[~mask] == 1).all()
        errors.append(float(np.sqrt(np.mean((colours - frame.rgba[..., :3])[mask] ** 2))))
    assert errors[0] < 0.01
    assert errors[1] > 0.03
    # What only one of them sees is left out: from behind, nothing is shared.
    assert not carry(ball(here), here, ball(back := orbit(180, 5, target=(0, 0, 0))), back)[1].any()


def test_figures_and_twins_of_drawn_heads(head: HexPlaneHead, tmp_path: Path) -> None:
    drawn = [head.random_codes(seed) for seed in (3, 4)]
    twins = shots_of(head, (0, 1))
    for k, name in enumerate(head.subjects):
        twins.shapes[k] = twin_shapes(head, drawn)[name]
    with pytest.raises(BadInput, match="another face"):
        compare(head, twins)
    sheet = tmp_path / "sheet.png"
    done = []
    figures = evaluate_generated(
        head, drawn, twins, 64, sheet, features=Mean(), progress=lambda k, n: done.append((k, n))
    )
    assert figures["heads"] == 2
    assert set(figures["generated"]["by_band"]) == {"front", "side", "back"}
    assert figures["generated"]["consistency_psnr"] > 10
    assert figures["generated"]["diversity"] > 0
    assert figures["twins"]["images"] == 2
    assert figures["fid"] >= 0
    assert done[-1] == (6, 6)
    # Three bands, what was carried, its error; truth, twin and error. Two rows.
    assert Image.open(sheet).size[0] > 8 * 64
    with pytest.raises(BadInput, match="assets"):
        evaluate_generated(head, drawn, None, 64, features=Mean())


def test_drawn_heads_are_looked_at_without_a_lid(monkeypatch: pytest.MonkeyPatch) -> None:
    head = make_head(FREE)
    head.open_bust = False  # like every head that was loaded
    seen = []

    def hold(head: HexPlaneHead, *_: Any) -> evaluation_generated.Held:
        seen.append(head.open_bust)
        white = np.ones((8, 8, 3), np.float32)
        bands = evaluation_generated.BANDS
        return evaluation_generated.Held(
            dict.fromkeys(bands, (1.0, 10)), dict.fromkeys(bands, white), white, None
        )

    monkeypatch.setattr(evaluation_generated, "hold", hold)
    figures = evaluate_generated(head, [head.random_codes(3)], None, 64)
    assert figures["trained"]["consistency_psnr"] == 10
    assert seen == [True, True]  # one drawn, one trained
    assert not head.open_bust


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "3000000000"], "groups=3000000000 is out of range"),
        (["--data", "somewhere"], "leave out --data or --generated"),
        ([], "no room"),
    ],
)
def test_only_what_has_no_truth_goes_without(
    head: HexPlaneHead, words: list[str], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: Any, **__: Any) -> Any:
        raise BadInput("There is no room for the pictures: free some space.")

    def gone() -> Path:
        raise BadInput("The raw assets were not found: set HEAD360_ASSETS.")

    run = ["evaluate", "starter", "--generated", "1", "--size", "32", "--device", "cpu", *words]
    monkeypatch.setattr(heads, "load", lambda path, device="cpu": head)
    monkeypatch.setattr(shoot, "shoot", full)
    monkeypatch.setattr(assets, "find_wardrobe", lambda: Path("assets"))
    monkeypatch.setattr(shoot, "who_and_what", lambda *_: None)
    assert main(run) == 2
    assert said in capsys.readouterr().err
    if not words:
        monkeypatch.setattr(assets, "find_wardrobe", gone)
        assert main(run) == 0
        assert "without a truth: The raw assets" in "".join(capsys.readouterr())


class Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3)) / 255


def test_frechet_distance_is_that_of_gaussians(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3)) * [1.0, 2.0, 3.0]
    b = rng.normal(size=(4000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0.0, 0.0]
    assert frechet(a, b) == pytest.approx(1 + 1 + 0 + 4, rel=0.05)  # shift² + Σ(σ − σ′)²
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    few, many = rng.normal(size=(5, 40)), rng.normal(size=(9, 40))  # fewer pictures than features
    assert np.isfinite(frechet(few, many))
    with pytest.raises(BadInput, match="two"):
        frechet(a[:1], b)
    torch.jit.script(Mean()).save(str(tmp_path / "mean.pt"))
    net = load_features(tmp_path / "mean.pt")
    pictures = [np.full((8, 8, 3), value, np.float32) for value in (0.0, 1.0)]
    np.testing.assert_allclose(embed(net, pictures), [[0, 0, 0], [1, 1, 1]], atol=1e-6)
    (tmp_path / "broken.pt").write_bytes(b"no network")
    with pytest.raises(BadInput, match=r"broken\.pt"):
        load_features(tmp_path / "broken.pt")
