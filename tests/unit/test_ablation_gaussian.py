"""The ablation command: every row trains and differs as it says, is kept, and goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gaussian_tools import film  # noqa: E402

from head360 import evaluation_ablation  # noqa: E402
from head360.cli import main  # noqa: E402
from head360.datasets.monocular_read import MonocularDataset  # noqa: E402
from head360.errors import BadInput, Checkpointed  # noqa: E402
from head360.evaluation_ablation import STUDIES, ablate, settings_of  # noqa: E402
from head360.training.gaussian import GaussianTrainer  # noqa: E402


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("video"))


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setattr(evaluation_ablation, "_GAUSSIANS", 200)


def test_every_row_is_another_run() -> None:
    full = settings_of(STUDIES["full"], 100, 0).facts()
    made = {name: settings_of(study, 100, 0).facts() for name, study in STUDIES.items()}
    assert len({json.dumps(facts) for facts in made.values()}) == len(STUDIES)
    # One switch a row, beside our own variant.
    for name, facts in made.items():
        changed = [
            (part, key)
            for part in ("config", "densify", "rates", "losses")
            for key in full[part]
            if facts[part][key] != full[part][key]
        ] + [key for key in ("seed", "steps") if facts[key] != full[key]]
        assert len(changed) == (0 if name == "full" else 1) or name == "mesh", changed
    copies = {facts["config"]["copies"] for facts in made.values()}
    assert copies == {1, 2, 4, 8, 16}


def test_the_command_makes_a_table_and_keeps_what_is_done(
    video: Path, tmp_path: Path, capsys
) -> None:
    run = ["evaluate", "--ablation", "gaussian", "--data", str(video), "--steps", "2"]
    run += ["--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    rows = ["full", "no_triplane", "no_derivation", "k16", "mesh"]
    assert main([*run, "--rows", ",".join(rows)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["rows"]] == rows
    first = report["rows"][0]
    assert first["against_full"] == 0
    assert first["l1"] > first["mse"]
    assert {"psnr", "ssim"} <= set(first["cropped"])
    assert len({row["cropped"]["mse"] for row in report["rows"]}) == len(rows)
    assert json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"] == report["rows"]
    from PIL import Image

    with Image.open(tmp_path / "out" / "table.png") as table:
        assert table.height > 6 * 100
    assert main([*run, "--rows", "full"]) == 0
    told = capsys.readouterr()
    assert "full, K = 4 (kept)" in told.err
    assert json.loads(told.out)["rows"][0] == first
    assert main([*run, "--rows", "full,k3"]) == 2
    assert "k16" in capsys.readouterr().err
    assert main(["evaluate", "--json"]) == 2
    assert main(["evaluate", "--ablation", "gaussian"]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_stopped_row_goes_on(video: Path, tmp_path: Path, monkeypatch) -> None:
    step = GaussianTrainer.train_step
    seen: list[int] = []
    signals = [2]  # steps at which to be interrupted

    def interrupted(run: GaussianTrainer):
        seen.append(run.step)
        if signals and run.step == signals[0]:
            signals.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return step(run)

    monkeypatch.setattr(GaussianTrainer, "train_step", interrupted)
    data = MonocularDataset.open(video)
    with pytest.raises(Checkpointed, match="same command"):
        ablate(data, tmp_path / "a", ["full"], steps=6)
    stopped = ablate(data, tmp_path / "a", ["full"], steps=6)
    assert seen == [0, 1, 2, 3, 4, 5]
    seen.clear()
    whole = ablate(data, tmp_path / "b", ["full"], steps=6)
    assert whole["rows"][0]["mse"] == pytest.approx(stopped["rows"][0]["mse"], rel=1e-5)
    # Another length is another run: it begins anew.
    seen.clear()
    ablate(data, tmp_path / "a", ["full"], steps=3)
    assert seen == [0, 1, 2]


def test_films_are_described_in_words(tmp_path: Path) -> None:
    for wrong in ("synth:size=big", "synth:hat=1", "synth:frames=3"):
        with pytest.raises(BadInput, match="synth:"):
            evaluation_ablation.film_for(wrong, tmp_path, 1, lambda *_: None)


def test_the_window_of_the_table_is_around_the_head() -> None:
    mattes = np.zeros((2, 50, 60), np.uint8)
    mattes[0, 10:30, 20:25] = 255
    mattes[1, 12:20, 30:40] = 255
    assert evaluation_ablation._window(mattes) == (18, 8, 42, 32)
    assert evaluation_ablation._window(mattes * 0) == (0, 0, 60, 50)
