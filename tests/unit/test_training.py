"""Training: pictures without a disk, exact resume, and a loss that falls. Tiny sizes throughout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from head360.arkit import INDEX
from head360.commands.train import is_spec
from head360.errors import BadInput, Checkpointed
from head360.evaluation import band_of, compare, evaluate, look_of, summarise
from head360.geometry.assets import find_assets
from head360.networks.hexplane import HexPlaneConfig
from head360.rendering.cameras import orbit
from head360.training.hexplane import Trainer, TrainSettings
from head360.training.metrics import psnr
from head360.training.performances import draw_camera, draw_expression
from head360.training.shoot import _pictures, shoot
from head360.training.shots import Shots, SynthSpec

CONFIG = HexPlaneConfig(
    texture_size=64, texture_channels=4, plane_size=48, hair_size=24, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip
SPEC = SynthSpec(subjects=1, styles=1, groups=4, views=2, size=64, samples=2, bald=0.3, look=1)


@pytest.fixture(scope="module")
def shots() -> Shots:
    try:
        find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    return shoot(SPEC, workers=1)


def settings(steps: int) -> TrainSettings:
    return TrainSettings(steps=steps, crop=16, preview_seconds=1e9, checkpoint_seconds=1e9)


def test_spec_is_parsed_and_nonsense_is_named() -> None:
    assert SynthSpec.parse("synth:subjects=3,groups=10,bald=0.5") == SynthSpec(
        subjects=3, groups=10, bald=0.5
    )
    assert SynthSpec.parse("synth") == SynthSpec()
    assert SynthSpec.parse("synth:look=1,live=1") == SynthSpec(look=1, live=1)
    with pytest.raises(BadInput, match="look"):
        SynthSpec.parse("synth:look=3")
    with pytest.raises(BadInput, match="subjects"):
        SynthSpec.parse("synth:people=3")
    with pytest.raises(BadInput, match="number"):
        SynthSpec.parse("synth:groups=many")


def test_drawn_expressions_are_possible() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_expression(rng) for _ in range(400)])
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (drawn.max(0) > 0.3).all(), "every shape is practised"
    tongue = drawn[drawn[:, INDEX["tongueOut"]] > 0]
    assert (tongue[:, INDEX["jawOpen"]] >= 0.35).all()
    assert (drawn[:, INDEX["mouthClose"]] <= drawn[:, INDEX["jawOpen"]] + 1e-6).all()


def test_cameras_vary_in_lens_and_distance() -> None:
    rng = np.random.default_rng(0)
    cameras = [draw_camera(rng) for _ in range(200)]
    focal = np.array([camera.intrinsics[1, 1] for camera in cameras])
    distance = np.array([np.linalg.norm(camera.position) for camera in cameras])
    assert focal.max() / focal.min() > 2
    assert distance.min() > 0.2
    assert distance.max() / distance.min() > 3


@pytest.mark.assets
def test_same_spec_same_bytes_whatever_the_workers(shots: Shots) -> None:
    again = shoot(SPEC, workers=2)
    np.testing.assert_array_equal(shots.rgba, again.rgba)
    np.testing.assert_array_equal(shots.cameras, again.cameras)
    np.testing.assert_array_equal(shots.hair, again.hair)


@pytest.mark.assets
def test_pictures_are_kept_for_a_resumed_run(shots: Shots, tmp_path: Path) -> None:
    shots.save(tmp_path, SPEC)
    kept = Shots.load(tmp_path, SPEC)
    assert kept is not None
    np.testing.assert_array_equal(kept.rgba, shots.rgba)
    assert kept.default_style == shots.default_style
    assert Shots.load(tmp_path, SynthSpec(groups=5)) is None
    assert Shots.load(tmp_path / "nowhere", SPEC) is None


@pytest.mark.assets
def test_resume_is_exact(shots: Shots, tmp_path: Path) -> None:
    straight = Trainer(shots, CONFIG, settings(4), tmp_path / "straight")
    for _ in range(4):
        straight.train_step()
        straight.step += 1
    first = Trainer(shots, CONFIG, settings(4), tmp_path / "split")
    for _ in range(2):
        first.train_step()
        first.step += 1
    first.save_checkpoint()
    second = Trainer(shots, CONFIG, settings(4), tmp_path / "split")
    second.resume()
    assert second.step == 2
    for _ in range(2):
        second.train_step()
        second.step += 1
    expected = straight.net.state_dict()
    for name, value in second.net.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.assets
def test_a_stop_request_saves_and_says_how_to_go_on(shots: Shots, tmp_path: Path) -> None:
    trainer = Trainer(shots, CONFIG, settings(1000), tmp_path)
    trainer._request_stop()
    with pytest.raises(Checkpointed, match="--resume"):
        trainer.run()
    assert (tmp_path / "checkpoint.safetensors").is_file()
    other = Trainer(shots, HexPlaneConfig(texture_size=32, raw_size=32), settings(4), tmp_path)
    with pytest.raises(BadInput):
        other.resume()


@pytest.mark.assets
def test_training_lowers_the_loss_and_saves_a_head(shots: Shots, tmp_path: Path) -> None:
    trainer = Trainer(shots, CONFIG, settings(25), tmp_path / "run", held_out=shots, name="toy")
    before = evaluate(trainer.head, shots)["psnr"]
    trainer.run()
    result = evaluate(trainer.head, shots, tmp_path / "sheet.png")
    assert result["psnr"] > before + 1.5
    assert set(result["by_band"]) == {"front", "side", "back"}
    assert (tmp_path / "sheet.png").is_file()
    assert (tmp_path / "run" / "head" / "manifest.json").is_file()
    assert list((tmp_path / "run" / "previews").glob("*.png"))


def test_psnr_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((8, 8, 3)).astype(np.float32), rng.random((8, 8, 3)).astype(np.float32)
    from skimage.metrics import peak_signal_noise_ratio

    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-4)


def test_a_head_is_judged_by_the_look_it_was_trained_on() -> None:
    def trained_on(**facts: object) -> Any:
        return SimpleNamespace(name="toy", manifest={"training": facts})

    assert look_of(trained_on()) == 1, "the first heads say nothing"
    assert look_of(trained_on(look=2)) == 2
    with pytest.raises(BadInput, match="look 9"):
        look_of(trained_on(look=9))


def test_view_bands() -> None:
    assert band_of(orbit(0, 0).position) == "front"
    assert band_of(orbit(-90, 20).position) == "side"
    assert band_of(orbit(180, -10).position) == "back"


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(BadInput, match="no pictures"):
        summarise([])


@pytest.mark.parametrize(
    "item", ["subjects=0", "size=33", "seed=-1", "groups=0", "views=0", "samples=0", "bald=nan"]
)
def test_a_spec_out_of_range_is_named(item: str) -> None:
    with pytest.raises(BadInput, match=item.partition("=")[0]):
        SynthSpec.parse(f"synth:{item}")


def test_a_folder_called_synth_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_spec("synth")
    assert is_spec("synth:groups=4")
    assert not is_spec("synth_out")
    (tmp_path / "synth").mkdir()
    assert not is_spec("synth")


@pytest.mark.assets
def test_pictures_taken_into_a_folder_are_the_same(shots: Shots, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    mapped = shoot(
        SPEC, workers=1, folder=tmp_path, progress=lambda done, total: told.append((done, total))
    )
    assert isinstance(mapped.rgba, np.memmap)
    assert told == [(4, 4)]
    kept = Shots.load(tmp_path, SPEC)
    assert kept is not None
    np.testing.assert_array_equal(kept.rgba, shots.rgba)
    np.testing.assert_array_equal(kept.blendshapes, shots.blendshapes)


def test_photographing_looks_for_room_first(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="MiB"):
        _pictures((10**6, 1024, 1024, 1024), tmp_path, "rgba")
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.assets
def test_only_the_same_run_is_resumed(shots: Shots, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="resumed"):
        Trainer(shots, CONFIG, settings(4), tmp_path).resume()
    Trainer(shots, CONFIG, settings(4), tmp_path).save_checkpoint()
    Trainer(shots, CONFIG, settings(9), tmp_path).resume()  # other steps are allowed
    with pytest.raises(BadInput, match="seed"):
        Trainer(shots, CONFIG, dataclasses.replace(settings(4), seed=1), tmp_path).resume()
    other = dataclasses.replace(shots, subjects=("somebody",))
    with pytest.raises(BadInput, match="subjects"):
        Trainer(other, CONFIG, settings(4), tmp_path).resume()


@pytest.mark.assets
def test_another_face_of_the_same_name_is_refused(shots: Shots, tmp_path: Path) -> None:
    head = Trainer(shots, CONFIG, settings(1), tmp_path).head
    with pytest.raises(BadInput, match="another face"):
        compare(head, dataclasses.replace(shots, shapes=shots.shapes + 0.1))
