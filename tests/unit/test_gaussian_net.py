"""The Gaussian head: published sizes, ablations, poses and views, and that it learns."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from head360.networks import quaternions  # noqa: E402
from head360.networks.gaussian import (  # noqa: E402
    PRESETS,
    GaussianConfig,
    GaussianNet,
    nearest_scales,
)
from head360.rendering.cameras import orbit  # noqa: E402
from head360.rendering.splats import render_splats  # noqa: E402
from head360.training import gaussian_optim  # noqa: E402

CAMERA = torch.tensor([0.1, 0.05, 1.0])


def small(**changes):
    base = dataclasses.replace(
        PRESETS["tiny"], gaussians=60, plane_size=12, width=16, sh_every=10, deform_warmup=5
    )
    return dataclasses.replace(base, **changes)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- published sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "planes"), [("paper", 3 * 32 * 64**2 * 85), ("released", 393_216)]
)
def test_presets_have_the_published_sizes(preset, planes):
    config = PRESETS[preset]
    net = GaussianNet(config, 46)
    assert count(net.deformation) == 519_178
    assert count(net.decoder) == 15_920
    assert count(net.triplane) == planes
    assert net.means.shape == (10_000, 3)
    assert net.tau.shape == (10_000, 4, 4)
    assert net.means.abs().max() <= 1.3 < net.means.abs().max() * 1.01
    assert torch.equal(net.quaternions, quaternions.identity((10_000,), net.means))


def test_presets_survive_json():
    for config in PRESETS.values():
        table = json.loads(json.dumps(dataclasses.asdict(config)))
        assert GaussianConfig.from_mapping(table) == config
    with pytest.raises(ValueError, match=r"unknown settings.*colour_of_eyes"):
        GaussianConfig.from_mapping({"colour_of_eyes": "green"})
    with pytest.raises(ValueError, match="does not divide"):
        GaussianConfig(copies=5)
    with pytest.raises(ValueError, match="slicing is 'first'"):
        GaussianConfig(slicing="first")


def test_first_scales_are_the_rms_distance_to_three_neighbours():
    points = seeded(40, 3)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    three = distances.topk(3, largest=False).values
    wanted = three.square().mean(1).sqrt().log()
    torch.testing.assert_close(nearest_scales(points), wanted)


# -- the whole -----------------------------------------------------------------------------------

ABLATIONS = {
    "whole": {},
    "no tri-plane": {"texture": "direct"},
    "no derivation": {"derivation": "none"},
    "global rotation": {"derivation": "global"},
    **{f"K={k}": {"copies": k} for k in (1, 2, 8, 16)},
    "scheduled K": {"copies_schedule": True},
    "two resolutions": {"resolutions": (1, 2)},
    "sum of planes": {"merge": "sum"},
    "last block": {"slicing": "last"},
    "additive offsets": {"quaternion_update": "add", "scale_update": "add"},
    "raw coordinates": {"coordinates": "raw"},
    "rectified colour": {"colour_activation": "relu"},
    "linear bases": {"motion": "linear"},
    "nothing moves": {"motion": "none"},
    "no view": {"view_input": False},
    "canonical texture": {"texture_space": "canonical"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_a_switch_and_every_parameter_learns(name):
    net = GaussianNet(small(**ABLATIONS[name]), 11, centre=(0, 0.1, 0), half=0.2)
    if net.linear is not None:  # a start at rest has no gradient for the mix yet
        torch.nn.init.normal_(net.bases, std=0.01)
    if net.deformation is not None:
        for head in (net.deformation.means, net.deformation.rotations, net.deformation.scales):
            torch.nn.init.normal_(head.weight, std=0.05)
    out = net(torch.rand(11), CAMERA)
    n = net.count
    assert out.means.shape == (n, 3)
    assert out.quaternions.shape == (n, 4)
    assert out.scales.shape == (n, 3)
    assert out.sh.shape == (n, 4, 3)
    assert ((out.opacities > 0) & (out.opacities < 1)).all()
    total = sum((x * x.detach().cos()).sum() for x in (out.means, out.quaternions, out.scales,
                                                     out.opacities, out.sh))  # fmt: skip
    total.backward()
    untouched = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untouched
    gaussian_optim.build(net, gaussian_optim.RATES["tiny"]).step()


def test_box_coordinates_are_metres_outside():
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (60, 3))
    config = small(motion="none")
    net = GaussianNet(config, 3, centre=(0.01, -0.02, 0.03), half=0.2, start=points)
    out = net(torch.zeros(3))
    np.testing.assert_allclose(out.means.detach(), points, atol=1e-6)
    wanted = nearest_scales(torch.from_numpy(points)).exp().float()
    torch.testing.assert_close(out.scales[:, 1], wanted, rtol=1e-4, atol=1e-7)
    assert net.means.abs().max() > 0.4


def test_nothing_moves_during_the_warm_up_and_harmonics_come_one_by_one():
    net = GaussianNet(small(zero_heads=False), 4, half=0.2)
    e = torch.rand(4)
    assert net(e, step=4).offsets is None
    assert net(e, step=5).offsets is not None
    still, moved = net(e, step=4).means, net(e, step=5).means
    assert (still - moved).abs().max() > 1e-4
    assert [net(e, step=s).sh_degree for s in (0, 9, 10, 500)] == [0, 0, 1, 1]
    jumpless = GaussianNet(small(), 4, half=0.2)
    torch.testing.assert_close(jumpless(e, step=4).means, jumpless(e, step=5).means)


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_a_cached_pose_seen_from_elsewhere_is_a_new_forward(activation):
    net = GaussianNet(small(colour_activation=activation), 4, half=0.2)
    e = torch.rand(4)
    posed = net.pose(e)
    for camera in (CAMERA, torch.tensor([1.0, 0.0, 0.0])):
        torch.testing.assert_close(net.view(posed, camera).sh, net(e, camera).sh)
    assert (net(e, CAMERA).sh - net(e, -CAMERA).sh).abs().max() > 1e-4


def test_additive_scales_of_the_release_may_turn_negative_and_log_ones_cannot():
    for update, negative in (("add", True), ("log", False)):
        net = GaussianNet(small(scale_update=update), 4, half=0.2)
        torch.nn.init.constant_(net.deformation.scales.bias, -5.0)
        assert bool((net(torch.rand(4)).scales < 0).any()) is negative


def test_same_seed_same_network():
    first, second = (GaussianNet(small(), 4, seed=7).state_dict() for _ in range(2))
    other = GaussianNet(small(), 4, seed=8).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["triplane.planes.0"], other["triplane.planes.0"])
    with pytest.raises(ValueError, match="takes 4 values"):
        GaussianNet(small(), 4)(torch.zeros(5))


def test_gradcheck_of_the_whole_in_double_precision():
    config = small(gaussians=4, channels=4, copies=2, plane_size=5, width=4, frequencies=1)
    net = GaussianNet(config, 3, half=0.2).double()
    torch.nn.init.normal_(net.deformation.means.weight, std=0.05)
    names = ["means", "log_scales", "quaternions", "tau"]

    def run(e, *rows):
        parameters = dict(zip(names, rows, strict=True))
        out = torch.func.functional_call(net, parameters, (e, CAMERA.double()))
        return out.means, out.quaternions, out.scales, out.opacities, out.sh

    # Positions are detached before the MLP by design; the check has to see them as they are.
    net.config = dataclasses.replace(config, detach_positions=False)
    rows = [dict(net.named_parameters())[k].detach().clone().requires_grad_() for k in names]
    assert torch.autograd.gradcheck(run, (seeded(3).requires_grad_(), *rows), atol=1e-6)


def test_rates_fall_along_a_straight_line_in_the_logarithm():
    rate = gaussian_optim.Rate(8e-4, 8e-6, 30_000)
    assert rate.at(0) == pytest.approx(8e-4)
    assert rate.at(15_000) == pytest.approx(8e-5)
    assert rate.at(90_000) == pytest.approx(8e-6)
    assert gaussian_optim.Rate(1e-3, 0.0, 100).at(75) == pytest.approx(2.5e-4)
    assert gaussian_optim.Rate(1e-3).at(10**6) == 1e-3
    assert gaussian_optim.RATES["released"].tau_manifold == "euclidean"
    net = GaussianNet(small(), 4)
    optimiser = gaussian_optim.build(net, gaussian_optim.RATES["paper"])
    gaussian_optim.set_rates(optimiser, gaussian_optim.RATES["paper"], 40_000)
    rates = {group["name"]: group["lr"] for group in optimiser.param_groups}
    assert rates["means"] == pytest.approx(8e-6)
    assert rates["tau"] == pytest.approx(5e-4)
    assert rates["decoder.rest"] == pytest.approx(5e-5)
    assert {g["name"]: g["manifold"] for g in optimiser.param_groups}["tau"] == "sphere_exact"


# -- together with the rasteriser ----------------------------------------------------------------


def test_learns_two_expressions_of_a_small_picture():
    """Two targets, told apart by the expression alone: a blob that moves."""
    torch.manual_seed(0)
    camera = orbit(0, 0, target=(0, 0, 0), distance=1.0, fov_deg=24)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    targets = []
    for x in (10, 14):
        blob = torch.exp(-((rows - 12) ** 2 + (columns - x) ** 2) / 20)[..., None]
        targets.append(blob * torch.tensor([0.9, 0.2, 0.1]) + 1 - blob)
    config = small(gaussians=120, deform_warmup=0, sh_every=1)
    net = GaussianNet(config, 2, half=0.2)
    rates = gaussian_optim.RATES["tiny"]
    optimiser = gaussian_optim.build(net, rates)
    position = torch.as_tensor(camera.position, dtype=torch.float32)
    history = []
    for step in range(240):
        e = torch.eye(2)[step % 2]
        out = net(e, position, step=step)
        frame = render_splats(
            out.means, out.quaternions, out.scales, out.opacities, out.sh, camera, 24, 24,
            torch.ones(3), sh_degree=out.sh_degree,
        )  # fmt: skip
        loss = (frame.rgb - targets[step % 2]).square().mean()
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    swapped = (targets[0] - targets[1]).square().mean().item()
    # A picture between the two, the best without an expression, would be wrong by a quarter.
    assert np.mean(history[-10:]) < 0.1 * swapped
    assert (net.tau.detach().norm(dim=-1) - 1).abs().max() < 1e-6
