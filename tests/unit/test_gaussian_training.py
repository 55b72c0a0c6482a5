"""Training of a Gaussian head: it learns, it stops and goes on, it says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gaussian_tools import film, shape  # noqa: E402

from head360 import heads  # noqa: E402
from head360.cli import main  # noqa: E402
from head360.datasets.monocular_read import MonocularDataset  # noqa: E402
from head360.errors import BadInput, Checkpointed  # noqa: E402
from head360.evaluation_monocular import evaluate_video  # noqa: E402
from head360.rendering.cameras import orbit  # noqa: E402
from head360.training.footage import Footage, nearest_point  # noqa: E402
from head360.training.gaussian import GaussianTrainer, Sitter  # noqa: E402
from head360.training.gaussian_settings import GaussianSettings  # noqa: E402

SITTER = Sitter("blob", "blob", {"licence": "CC0-1.0", "notices": []})


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("video"))


def settings(rig: str, steps: int, **changes) -> GaussianSettings:
    made = GaussianSettings.preset("tiny", rig, steps)
    config = dataclasses.replace(made.config, gaussians=500, plane_size=24, deform_warmup=2)
    # Densification falls into even the shortest run.
    densify = dataclasses.replace(
        made.densify, start=2, interval=5, stop=1000, gradient=1e-5, most=700
    )
    return dataclasses.replace(made, config=config, densify=densify, **changes)


def trainer(video: Path, out: Path, rig: str = "mesh", steps: int = 12) -> GaussianTrainer:
    footage = Footage(MonocularDataset.open(video), rig == "mesh")
    return GaussianTrainer(footage, settings(rig, steps), out, SITTER)


def test_it_learns_the_video_and_the_saved_head_shows_it(video: Path, tmp_path: Path) -> None:
    run = trainer(video, tmp_path, steps=150)
    before = evaluate_video(run.head, run.footage.held_out)
    run.run()
    after = evaluate_video(run.head, run.footage.held_out)
    assert after["psnr"] > before["psnr"] + 6
    assert after["cropped"]["psnr"] < after["psnr"]  # white paper flatters
    assert 10 ** (-after["psnr"] / 10) == pytest.approx(after["mse"], rel=0.1)  # MSE is MSE
    assert after["l1"] > after["mse"]
    saved = evaluate_video(heads.load(tmp_path / "head"), run.footage.held_out)
    assert abs(saved["psnr"] - after["psnr"]) < 0.3  # rounded weights
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 150
    assert lines[-1]["gaussians"] == run.net.count > 500
    assert (tmp_path / "previews" / "000150.png").is_file()


@pytest.mark.parametrize("rig", ["mesh", "free"])
def test_a_stopped_run_goes_on_bit_by_bit(rig: str, video: Path, tmp_path: Path) -> None:
    whole = trainer(video, tmp_path / "whole", rig)
    for _ in range(12):
        whole.train_step()
    first = trainer(video, tmp_path / "parts", rig)
    for _ in range(7):  # past a change of the number of Gaussians, and in the middle of an interval
        first.train_step()
    assert first.net.count != 500
    first.save_checkpoint()
    second = trainer(video, tmp_path / "parts", rig)
    second.resume()
    assert second.step == 7
    while second.step < 12:
        second.train_step()
    one, other = whole.net.state_dict(), second.net.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_signal_saves_and_stops(video: Path, tmp_path: Path, monkeypatch) -> None:
    run = trainer(video, tmp_path)
    step = run.train_step

    def interrupted():
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step()

    monkeypatch.setattr(run, "train_step", interrupted)
    with pytest.raises(Checkpointed, match=r"step 4.*--resume"):
        run.run()
    again = trainer(video, tmp_path)
    again.resume()
    assert again.step == 4
    assert not (tmp_path / "head").exists()


def test_numbers_that_break_are_reported_with_their_step(video: Path, tmp_path: Path) -> None:
    run = trainer(video, tmp_path)
    run.train_step()
    with torch.no_grad():
        run.net.means[0] = torch.nan
    with pytest.raises(BadInput, match="step 1"):
        run.train_step()


def test_another_run_s_checkpoint_is_refused(video: Path, tmp_path: Path) -> None:
    trainer(video, tmp_path, steps=12).save_checkpoint()
    with pytest.raises(BadInput, match="another steps"):
        trainer(video, tmp_path, steps=13).resume()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="cannot be resumed"):
        trainer(video, tmp_path).resume()


def test_every_frame_is_seen_once_an_epoch(video: Path, tmp_path: Path) -> None:
    run = trainer(video, tmp_path)
    count = len(run.footage.train)
    epochs = [[run.frame_of(e * count + k).img_id for k in range(count)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [f.img_id for f in run.footage.train]
    assert epochs[0] != epochs[1]
    held = {frame.img_id for frame in run.footage.held_out}
    assert held == {10, 11}  # the tail, never learned from


def test_the_box_is_around_the_head(video: Path) -> None:
    footage = Footage(MonocularDataset.open(video), mesh=True)
    centre, half = footage.box()
    low, high = footage.identity.neutral.min(0), footage.identity.neutral.max(0)
    assert np.abs(centre - (low + high) / 2).max() < 0.05
    assert 0.15 < half < 0.3
    inside = footage.hull(np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.25, 0]]))
    assert inside.tolist() == [True, False, False]


def test_rays_of_a_still_camera_meet_near_the_head() -> None:
    camera = orbit(20, 10)
    ray = camera.position, camera.cam2world[:3, 2]
    assert np.linalg.norm(nearest_point([ray] * 5)) < 0.1


def test_gaussians_stay_near_the_skin_they_belong_to(video: Path, tmp_path: Path) -> None:
    run = trainer(video, tmp_path)
    net, half = run.net, float(run.net.half_size)
    with torch.no_grad():
        net.means.fill_(1.0)
        net.log_scales.fill_(0.0)
        net.face[0] = -1  # belongs to no triangle
    run.leash.pull(net)
    length = net.means.detach().norm(dim=1) * half
    assert length[0] == pytest.approx(3**0.5 * half, rel=1e-5)
    allowed = run.leash.reach[net.face[1:]]
    torch.testing.assert_close(length[1:], allowed)
    assert allowed.min() < 0.01 < 0.04 < allowed.max()  # skin and hair, metres
    assert float(net.log_scales.detach().exp().max()) * half < 0.013


def test_schedules_shrink_with_the_run() -> None:
    short = GaussianSettings.preset("corrected", "free", 3000)
    long = GaussianSettings.preset("corrected", "free")
    assert long.densify.stop == 15_000
    assert short.densify.stop == 1500
    assert short.config.deform_warmup == 50
    assert short.config.sh_every == 100
    assert short.rates.position.at(3000) == pytest.approx(long.rates.position.at(30_000))
    with pytest.raises(BadInput, match="released"):
        GaussianSettings.preset("huge")
    with pytest.raises(BadInput, match="--steps"):
        GaussianSettings.preset("tiny", steps=0)


def test_expressions_of_another_kind_train_free_gaussians(tmp_path: Path) -> None:
    video = film(tmp_path / "video", 6, names=["mouth", "brow"])
    with pytest.raises(BadInput, match="--rig free"):
        Footage(MonocularDataset.open(video), mesh=True)
    run = trainer(video, tmp_path / "run", "free", steps=3)
    run.run()
    head = heads.load(tmp_path / "run" / "head")
    assert head.net.expression == 2
    assert evaluate_video(head, run.footage.held_out)["frames"] == 2
    with pytest.raises(BadInput, match="not ARKit"):
        head.pose(head.codes(), np.zeros(52))


def test_the_command_trains_evaluates_and_resumes(video: Path, tmp_path: Path, capsys) -> None:
    base = ["train", "gaussian", "--data", str(video), "--preset", "tiny", "--rig", "mesh"]
    base += ["--out", str(tmp_path / "run"), "--json", "--device", "cpu"]
    assert main([*base, "--steps", "4"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 4
    assert result["held_out"]["frames"] == 2
    assert (tmp_path / "run" / "held_out.png").is_file()
    assert main([*base, "--steps", "4"]) == 2  # there is a run already
    assert main([*base, "--steps", "5", "--resume"]) == 2  # another schedule
    assert main([*base, "--steps", "4", "--resume"]) == 0
    capsys.readouterr()
    head = str(tmp_path / "run" / "head")
    assert main(["evaluate", head, "--data", str(video), "--device", "cpu", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["trained_on_this"] is True
    assert again["psnr"] == result["held_out"]["psnr"]
    np.testing.assert_allclose(heads.load(tmp_path / "run" / "head").shape, shape(), atol=1e-5)


def test_what_no_frame_shows_takes_colours_of_what_is_seen(video: Path, tmp_path: Path) -> None:
    run = trainer(video, tmp_path, steps=40)
    run.run()
    filling = run.head.filling
    assert filling is not None
    behind = run.net.to_metres(run.net.canonical()).detach()[filling.index][:, 2]
    assert float(behind.median()) < 0  # the cameras are in front
    saved = heads.load(tmp_path / "head")
    assert torch.equal(saved.filling.index, filling.index)
    pose = saved.pose(saved.codes(), np.zeros(52, np.float32))
    _, colours = saved.coloured(pose.state["posed"], np.array([0, 0, -1.0]))
    torch.testing.assert_close(colours[filling.index], filling.colours, atol=2e-3, rtol=0)
