"""The adversarial objective: who learns from what, and the averaged generator."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from head360.training.adversarial import (
    AdversarialSettings,
    Adversary,
    Batch,
    MovingAverage,
    density_variation,
    gaussian_blur,
)

SETTINGS = AdversarialSettings(base=256, most=16, r1_interval=4, blur=0.0)


def batch(value: float, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    picture = (value + 0.05 * torch.randn(4, 3, 32, 32, generator=g)).clamp(0, 1)
    raw = torch.nn.functional.avg_pool2d(picture, 2)
    camera = torch.randn(4, 25, generator=g)
    return Batch(picture, raw, camera, torch.rand(4, 52, generator=g))


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(32, SETTINGS)


def test_the_discriminator_learns_to_tell_real_from_fake(adversary: Adversary) -> None:
    def gap() -> float:
        with torch.no_grad():
            real, fake = (adversary._score(batch(value, 99)).mean() for value in (0.7, 0.3))
        return float(real - fake)

    before = gap()
    seen = [adversary.learn(batch(0.7, k), batch(0.3, k)) for k in range(12)]
    assert gap() > before + 0.5
    assert seen[-1]["d_fake"] < seen[0]["d_fake"]
    assert [("r1" in values) for values in seen[:6]] == [True, False, False, False, True, False]


def test_deceiving_moves_pictures_not_the_discriminator(adversary: Adversary) -> None:
    fake = batch(0.3)
    fake = Batch(fake.picture.requires_grad_(), fake.raw, fake.camera, fake.blendshapes)
    loss = adversary.deception(fake)
    loss.backward()
    assert fake.picture.grad is not None
    assert float(fake.picture.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in adversary.net.parameters())
    assert all(parameter.requires_grad for parameter in adversary.net.parameters())
    score = adversary._score(fake.detached())
    expected = SETTINGS.weight * torch.nn.functional.softplus(-score).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_learning_leaves_the_generator_alone(adversary: Adversary) -> None:
    fake = batch(0.3)
    picture = fake.picture.requires_grad_()
    adversary.learn(batch(0.7), Batch(picture, fake.raw, fake.camera, fake.blendshapes))
    assert picture.grad is None


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_blur_agrees_with_scipy(sigma: float) -> None:
    picture = torch.rand(1, 2, 24, 24, generator=torch.Generator().manual_seed(1)).double()
    expected = gaussian_filter(
        picture[0].numpy(), (0, sigma, sigma), mode="nearest", radius=(0, round(3 * sigma),
                                                                         round(3 * sigma))
    )  # fmt: skip
    assert torch.allclose(gaussian_blur(picture, sigma)[0], torch.from_numpy(expected), atol=1e-10)


def test_no_blur_is_no_copy() -> None:
    picture = torch.rand(1, 3, 8, 8)
    assert gaussian_blur(picture, 0.0) is picture


def test_density_variation_of_a_plane_is_its_slope() -> None:
    def density(points: Tensor) -> Tensor:
        return 3.0 * points[:, 0]

    points = torch.rand(64, 3) * 2 - 1
    step = torch.full((64, 3), 0.01)
    assert float(density_variation(density, points, step)) == pytest.approx(0.03, rel=1e-4)


def test_the_average_has_the_half_life_it_promises() -> None:
    net = torch.nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.fill_(0.0)
    average = MovingAverage(net, half_life=100.0, rampup=1.0)
    with torch.no_grad():
        net.weight.fill_(1.0)
    for step in range(25):
        average.update(net, seen=10_000 + 4 * step, batch=4)
    assert torch.allclose(average.net.get_parameter("weight"), torch.full((1, 2), 0.5), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in average.net.parameters())


def test_a_young_average_follows_quickly() -> None:
    net = torch.nn.Linear(2, 1)
    average = MovingAverage(net, half_life=1e4)
    assert average.update(net, seen=40, batch=4) < average.update(net, seen=4000, batch=4) < 1
