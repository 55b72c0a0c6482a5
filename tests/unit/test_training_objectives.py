"""The adversarial objective in a run, several processes, reports; pictures are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from test_refine import shots_of

from head360 import heads
from head360.errors import BadInput
from head360.heads.hexplane import HexPlaneHead
from head360.networks.hexplane import HexPlaneConfig
from head360.training.adversarial import AdversarialSettings
from head360.training.hexplane import Trainer
from head360.training.parallel import Ranks
from head360.training.settings import TrainSettings
from head360.training.shots import Shots

CONFIG = HexPlaneConfig(
    texture_size=32, texture_channels=4, plane_size=32, hair_size=16, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip
QUIET = TrainSettings(steps=4, crop=12, preview_seconds=1e9, checkpoint_seconds=1e9)
ADVERSARIAL = replace(
    QUIET, objective="adversarial",
    adversarial=AdversarialSettings(base=128, most=8, r1_interval=2, density_interval=2, ema=64.0,
                                    rampup=1e9),
)  # fmt: skip


@pytest.fixture(scope="module")
def shots() -> Shots:
    from test_codes import FREE, make_head

    small = shots_of(make_head(FREE))
    rgba = np.ascontiguousarray(small.rgba[:, :, 8:40, 8:40])  # 32 is a power of two
    # Everything counts as hair, so that the hulls are not empty.
    hair = np.ascontiguousarray(rgba[:, :, ::2, ::2, 3])
    return replace(small, rgba=rgba, hair=hair)


def advance(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    values = []
    trainer.net.train()
    for _ in range(steps):
        values.append(trainer.train_step())
        trainer.step += 1
    return values


# --- adversarial ----------------------------------------------------------------------------------


def test_both_networks_learn_and_the_average_follows(shots: Shots, tmp_path: Path) -> None:
    trainer = Trainer(shots, CONFIG, ADVERSARIAL, tmp_path)
    assert trainer.adversary is not None
    assert trainer.average is not None
    judge = [p.detach().clone() for p in trainer.adversary.net.parameters()]
    shown = [p.detach().clone() for p in trainer.average.net.parameters()]
    values = advance(trainer, 3)
    assert {"rgb", "alpha", "gan", "density", "d_fake", "d_real", "r1"} <= set(values[0])
    assert "density" not in values[1]
    assert any(
        not torch.equal(a, b)
        for a, b in zip(judge, trainer.adversary.net.parameters(), strict=True)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(shown, trainer.average.net.parameters(), strict=True)
    )
    assert trainer.head.net is trainer.average.net


def test_an_adversarial_run_resumes_to_the_bit(shots: Shots, tmp_path: Path) -> None:
    whole = Trainer(shots, CONFIG, ADVERSARIAL, tmp_path / "whole")
    advance(whole, 4)
    first = Trainer(shots, CONFIG, ADVERSARIAL, tmp_path / "parts")
    advance(first, 2)
    first.save_checkpoint()
    second = Trainer(shots, CONFIG, ADVERSARIAL, tmp_path / "parts")
    second.resume()
    advance(second, 2)
    for a, b in ((whole, second),):
        assert a.adversary is not None
        assert b.adversary is not None
        assert a.average is not None
        assert b.average is not None
        for one, other in (
            (a.net, b.net), (a.adversary.net, b.adversary.net), (a.average.net, b.average.net),
        ):  # fmt: skip
            for p, q in zip(one.parameters(), other.parameters(), strict=True):
                assert torch.equal(p, q)


def test_the_averaged_head_is_what_is_saved(shots: Shots, tmp_path: Path) -> None:
    trainer = Trainer(shots, CONFIG, replace(ADVERSARIAL, steps=2, warmup=1), tmp_path)
    trainer.run()
    saved = heads.load(tmp_path / "head")
    assert isinstance(saved, HexPlaneHead)
    assert trainer.average is not None
    ours = trainer.average.net.head_decoder.out.weight.detach()
    theirs = saved.net.head_decoder.out.weight.detach()
    assert float((ours - theirs).abs().max()) < 1e-3
    assert float((trainer.net.head_decoder.out.weight.detach() - theirs).abs().max()) > 1e-3


def test_runs_of_another_objective_do_not_mix(shots: Shots, tmp_path: Path) -> None:
    first = Trainer(shots, CONFIG, QUIET, tmp_path)
    advance(first, 1)
    first.save_checkpoint()
    with pytest.raises(BadInput, match="objective"):
        Trainer(shots, CONFIG, ADVERSARIAL, tmp_path).resume()
    with pytest.raises(BadInput, match="objective"):
        Trainer(shots, CONFIG, replace(QUIET, objective="wishful"), tmp_path / "other")
    odd = replace(shots, rgba=shots.rgba[:, :, :30, :30], hair=shots.hair[:, :, :15, :15])
    with pytest.raises(BadInput, match="pixels"):
        Trainer(odd, CONFIG, ADVERSARIAL, tmp_path / "odd")


# --- the paper's second stage -------------------------------------------------------------------


def test_a_frozen_head_stays_while_its_hair_learns(shots: Shots, tmp_path: Path) -> None:
    first = Trainer(shots, CONFIG, QUIET, tmp_path / "first")
    advance(first, 1)
    settings = replace(QUIET, trainable="hair", warmup=1)
    second = Trainer(shots, CONFIG, settings, tmp_path / "second", start=first.net)
    before = {name: value.clone() for name, value in first.net.state_dict().items()}
    advance(second, 2)
    for name, value in second.net.state_dict().items():
        moved = not torch.equal(value, before[name])
        if name.startswith("hair_decoder"):
            assert moved, name
        elif not name.startswith("hair_planes"):
            assert not moved, name


# --- several processes ----------------------------------------------------------------------------


def _member(rank: int, world: int, port: int, shots: Shots, out: str, results: object) -> None:
    import os

    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    ranks = Ranks.join("cpu")
    trainer = Trainer(shots, CONFIG, replace(QUIET, steps=2), Path(out), "cpu", ranks=ranks)
    trainer.run()
    weights = torch.cat([p.detach().flatten() for p in trainer.net.parameters()]).numpy()
    results.put((rank, weights))  # type: ignore[attr-defined]
    ranks.leave()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_processes_share_one_network_and_one_writes(shots: Shots, tmp_path: Path) -> None:
    context = get_context("spawn")
    results, port = context.Queue(), free_port()
    members = [
        context.Process(target=_member, args=(rank, 2, port, shots, str(tmp_path), results))
        for rank in range(2)
    ]
    for member in members:
        member.start()
    weights = dict(results.get(timeout=200) for _ in members)
    for member in members:
        member.join(60)
        assert member.exitcode == 0
    np.testing.assert_array_equal(weights[0], weights[1])
    alone = Trainer(shots, CONFIG, QUIET, tmp_path / "alone")
    advance(alone, 2)
    own = torch.cat([p.detach().flatten() for p in alone.net.parameters()]).numpy()
    assert np.abs(own - weights[0]).max() > 0  # the other process had a say
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert (tmp_path / "head" / "manifest.json").is_file()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]


def test_a_process_alone_is_the_leader() -> None:
    ranks = Ranks.join("cpu")
    assert (ranks.rank, ranks.world, ranks.leads) == (0, 1, True)
    assert ranks.decided(2) == 2
    assert ranks.gathered("x") == ["x"]


def test_half_an_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(BadInput, match="WORLD_SIZE"):
        Ranks.join("cpu")
