"""Riemannian Adam against its formulas, written anew here in float64 without torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from head360.training.riemannian import (  # noqa: E402
    EUCLIDEAN,
    SPHERE,
    SPHERE_EXACT,
    RiemannianAdam,
    exponential,
    retract,
    tangent,
)


def random_points(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    return (points / points.norm(dim=-1, keepdim=True)).to(dtype)


def optimiser_of(parameter, manifold=SPHERE_EXACT, **settings):
    return RiemannianAdam(
        [{"params": [parameter], "manifold": manifold, "name": "tau"}], **settings
    )


def by_hand(q, gradients, lr, exact, beta1=0.9, beta2=0.999, eps=1e-8):
    """Steps for one quaternion, plain Python floats; returns q and m."""
    q = np.array(q, dtype=np.float64)
    m, v = np.zeros(4), 0.0
    for t, gradient in enumerate(gradients, start=1):
        q = q / math.sqrt(float(q @ q))
        g = gradient - float(gradient @ q) * q
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * float(g @ g)
        u = -lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        length = math.sqrt(float(u @ u))
        if exact:
            q = math.cos(length) * q + math.sin(length) * u / length
        else:
            q = (q + u) / math.sqrt(float((q + u) @ (q + u)))
        m = m - float(m @ q) * q
    return q, m


@pytest.mark.parametrize(("manifold", "exact"), [(SPHERE_EXACT, True), (SPHERE, False)])
def test_agrees_with_the_formulas_for_every_quaternion(manifold, exact):
    start = random_points(5, 3, dtype=torch.float64)
    gradients = np.random.default_rng(1).normal(size=(40, 5, 3, 4))
    parameter = torch.nn.Parameter(start.clone())
    optimiser = optimiser_of(parameter, manifold, lr=0.05)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimiser.step()
    for n in range(5):
        for k in range(3):
            q, m = by_hand(start[n, k].numpy(), gradients[:, n, k], 0.05, exact)
            np.testing.assert_allclose(parameter[n, k].detach().numpy(), q, atol=1e-12)
            state = optimiser.state[parameter]["exp_avg"]
            np.testing.assert_allclose(state[n, k].numpy(), m, atol=1e-12)
    assert optimiser.state[parameter]["exp_avg_sq"].shape == (5, 3, 1)


@pytest.mark.parametrize("manifold", [SPHERE_EXACT, SPHERE])
def test_a_thousand_steps_stay_on_the_sphere_in_single_precision(manifold):
    parameter = torch.nn.Parameter(random_points(50, 4))
    optimiser = optimiser_of(parameter, manifold, lr=0.02)
    generator = torch.Generator().manual_seed(2)
    for _ in range(1000):
        parameter.grad = torch.randn(50, 4, 4, generator=generator) * 10
        optimiser.step()
        assert (parameter.detach().norm(dim=-1) - 1).abs().max() < 1e-6
    momentum = optimiser.state[parameter]["exp_avg"]
    assert (momentum * parameter.detach()).sum(-1).abs().max() < 1e-5, "m is tangent at q"


def test_the_first_step_walks_down_the_geodesic_of_the_riemannian_gradient():
    q = random_points(20, dtype=torch.float64)
    gradient = torch.randn(20, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parameter = torch.nn.Parameter(q.clone())
    optimiser = optimiser_of(parameter, lr=0.01)
    parameter.grad = gradient
    optimiser.step()
    downhill = -tangent(gradient, q)
    downhill /= downhill.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(
        parameter.detach(), math.cos(0.01) * q + math.sin(0.01) * downhill, atol=1e-9, rtol=0
    )


def test_the_exponential_map_walks_arc_lengths_also_tiny_and_beyond_a_half_turn():
    q = random_points(1, dtype=torch.float64)
    direction = tangent(random_points(1, seed=9, dtype=torch.float64), q)
    direction /= direction.norm()
    for angle in (0.0, 1e-12, 1e-6, 0.3, math.pi / 2, 4.0):
        walked = exponential(q, angle * direction)
        wanted = math.cos(angle) * q + math.sin(angle) * direction
        torch.testing.assert_close(walked, wanted, atol=1e-14, rtol=0)
    single = exponential(q.float(), torch.zeros(1, 4))
    assert torch.isfinite(single).all()
    near = 1e-3 * direction
    assert (exponential(q, near) - retract(q, near)).norm() < 1e-9, "equal to second order"


def test_finds_the_mean_of_points_on_the_sphere():
    """argmin Σ arccos⟨q,pᵢ⟩² has the Karcher condition Σ log_q(pᵢ) = 0."""
    centre = random_points(1, seed=4, dtype=torch.float64)
    points = centre + 0.3 * random_points(30, seed=5, dtype=torch.float64)
    points /= points.norm(dim=-1, keepdim=True)
    parameter = torch.nn.Parameter(random_points(1, seed=6, dtype=torch.float64))
    optimiser = optimiser_of(parameter, lr=0.05)
    for step in range(900):
        optimiser.param_groups[0]["lr"] = 0.05 * 0.99**step
        optimiser.zero_grad()
        angles = torch.acos((parameter * points).sum(-1).clamp(-1 + 1e-12, 1 - 1e-12))
        angles.square().sum().backward()
        optimiser.step()
    q = parameter.detach()
    toward = tangent(points, q)
    logs = toward / toward.norm(dim=-1, keepdim=True) * torch.acos((points * q).sum(-1))[:, None]
    assert logs.mean(0).norm() < 1e-4


def test_plain_adam_leaves_the_sphere_and_goes_elsewhere():
    finals = {}
    for manifold in (SPHERE_EXACT, EUCLIDEAN):
        parameter = torch.nn.Parameter(random_points(10, dtype=torch.float64))
        optimiser = optimiser_of(parameter, manifold, lr=0.05)
        target = random_points(10, seed=8, dtype=torch.float64)
        for _ in range(20):
            optimiser.zero_grad()
            (parameter - target).square().sum().backward()
            optimiser.step()
        finals[manifold] = parameter.detach()
    assert (finals[SPHERE_EXACT].norm(dim=-1) - 1).abs().max() < 1e-12
    assert (finals[EUCLIDEAN].norm(dim=-1) - 1).abs().max() > 1e-2
    turned = torch.nn.functional.normalize(finals[EUCLIDEAN], dim=-1)
    assert (turned - finals[SPHERE_EXACT]).norm(dim=-1).max() > 1e-2


@pytest.mark.parametrize("fused", [False, True])
def test_euclidean_groups_are_torchs_adam_bit_for_bit(fused):
    start = torch.randn(17, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    curved = torch.nn.Parameter(random_points(3))
    mixed = RiemannianAdam(
        [{"params": [ours]}, {"params": [curved], "manifold": SPHERE_EXACT}], lr=0.01, fused=fused
    )
    plain = torch.optim.Adam([theirs], lr=0.01, fused=fused)
    for seed in range(5):
        gradient = torch.randn(17, 4, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        curved.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        mixed.step()
        plain.step()
    assert torch.equal(ours, theirs)
    assert curved.grad is not None, "the gradient is given back after the step"


def test_a_run_goes_on_exactly_from_its_state_dict():
    def run(parameter, optimiser, steps):
        for seed in steps:
            parameter.grad = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(seed))
            optimiser.step()

    whole = torch.nn.Parameter(random_points(6, 2))
    run(whole, optimiser_of(whole, lr=0.01), range(10))

    first = torch.nn.Parameter(random_points(6, 2))
    before = optimiser_of(first, lr=0.01)
    run(first, before, range(4))
    second = torch.nn.Parameter(first.detach().clone())
    after = optimiser_of(second, lr=0.5)
    after.load_state_dict(before.state_dict())
    run(second, after, range(4, 10))
    assert torch.equal(whole, second)
    assert after.param_groups[0]["manifold"] == SPHERE_EXACT


def test_unknown_manifolds_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="no manifold 'torus'"):
        optimiser_of(torch.nn.Parameter(torch.zeros(2, 4)), "torus")
    with pytest.raises(ValueError, match="4 coordinates"):
        optimiser_of(torch.nn.Parameter(torch.zeros(2, 3)))
