"""A generator distilled from free planes: the trained heads stay, new ones become possible."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_codes import FREE, make_head

from head360.arkit import COUNT
from head360.errors import BadInput
from head360.heads.hexplane import HexPlaneHead
from head360.networks.banks import Blend, CodeConfig, CodedPlanes, PlaneBank
from head360.rendering.cameras import orbit
from head360.training.distil import DistilSettings, distil, distil_head, principal_codes

CODES = CodeConfig(latent=4, w=8, base=128, most=8, residual=16)


def smooth_bank(count: int = 4) -> PlaneBank:
    """Entries that two numbers describe, in channels of very different scale."""
    bank = PlaneBank(count, 1, 16, 3)
    axis = torch.linspace(-1, 1, 16)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    with torch.no_grad():
        for k, entry in enumerate(bank.entries):
            a, b = np.cos(k), np.sin(k)
            entry[0] = torch.stack([a * rows, 10 * b * columns, 0.1 * (a * columns + b)], -1)
    return bank


def test_generator_and_residual_give_the_entries_back() -> None:
    bank = smooth_bank()
    coded, _ = distil(bank, CODES, DistilSettings(steps=5))
    for k in range(4):
        assert torch.allclose(coded(Blend.of(k)), bank(Blend.of(k)), atol=1e-4)


def test_the_generator_alone_learns_what_entries_have_in_common() -> None:
    bank = smooth_bank()
    _, early = distil(bank, CODES, DistilSettings(steps=20))
    coded, late = distil(bank, CODES, DistilSettings(steps=200, lr=1e-2))
    assert late > 0.7 > early
    spread = torch.stack([e.detach() for e in bank.entries]).square().mean((0, 1, 2, 3)).sqrt()
    left = [
        ((coded.generate(coded.codes[k]) - bank.entries[k]) / spread).square().mean().detach()
        for k in range(4)
    ]
    assert 1 - float(torch.stack(left).mean()) == pytest.approx(late, abs=1e-5)


def test_codes_lie_to_each_other_as_their_entries_do() -> None:
    entries = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2, 4, 3)) + 1).float()
    codes = principal_codes(entries, 16)
    apart = torch.cdist(codes, codes) / torch.cdist(entries.flatten(1), entries.flatten(1))
    pairs = apart[~torch.eye(5, dtype=torch.bool)]
    assert float(pairs.max() / pairs.min()) == pytest.approx(1, abs=1e-4)
    assert float(codes.square().mean()) == pytest.approx(1, abs=1e-5)
    # The mapping sees directions only: the average of all codes is no zero.
    assert float(codes.mean(0).norm() / codes.norm(dim=1).mean()) > 0.6
    few = principal_codes(entries, 3)
    assert few.shape == (5, 3)
    assert torch.equal(few, principal_codes(entries.clone(), 3))


def test_the_same_seed_gives_the_same_generator() -> None:
    bank = smooth_bank()
    first, _ = distil(bank, CODES, DistilSettings(steps=5, seed=3))
    second, _ = distil(bank, CODES, DistilSettings(steps=5, seed=3))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_distilled_head_looks_as_before_and_has_codes() -> None:
    head = make_head(FREE)
    hair = dataclasses.replace(CODES, residual=16)
    textures = dataclasses.replace(CODES, residual=32)
    net, facts = distil_head(head.net, textures, hair, DistilSettings(steps=4))
    assert set(facts) == {"texture_codes", "hair_codes"}
    assert isinstance(net.textures, CodedPlanes)
    assert isinstance(net.hair_planes, CodedPlanes)
    coded = HexPlaneHead("coded", head.model, net, head._subjects, head.styles, head._occupancy, {})
    weights = np.zeros(COUNT, dtype=np.float32)
    for name in head.subjects:
        a = head.render(head.pose(head.codes(name), weights), orbit(15, 5), 48, 48).rgba
        b = coded.render(coded.pose(coded.codes(name), weights), orbit(15, 5), 48, 48).rgba
        assert np.abs(a - b).max() < 0.01
    new = coded.render(coded.pose(coded.random_codes(1), weights), orbit(15, 5), 48, 48).rgba
    assert np.isfinite(new).all()


def test_what_cannot_be_distilled_is_said() -> None:
    with pytest.raises(BadInput, match="two"):
        distil(PlaneBank(1, 1, 16, 3), CODES, DistilSettings(steps=1))
    coded = dataclasses.replace(FREE, texture_codes=CodeConfig(4, 8, 2, 64, 8, 8))
    with pytest.raises(BadInput, match="already"):
        distil_head(make_head(coded).net, CODES, None, DistilSettings(steps=1))
