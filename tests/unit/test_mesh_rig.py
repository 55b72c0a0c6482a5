"""Gaussians carried by the parametric mesh."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.spatial.transform import Rotation  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from head360.arkit import INDEX  # noqa: E402
from head360.geometry.bilinear import BilinearModel  # noqa: E402
from head360.networks import quaternions  # noqa: E402
from head360.networks.gaussian import (  # noqa: E402
    PRESETS,
    GaussianNet,
    mesh_bound,
)
from head360.networks.meshrig import FREE, Binding, MeshRig, bind_surface  # noqa: E402

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


@pytest.fixture(scope="module")
def head():
    model = BilinearModel.builtin()
    return model.identity(model.mean_shape), model.topology


def on_mesh(head, n=400, extra=None, **changes):
    identity, topology = head
    rng = np.random.default_rng(0)
    start = bind_surface(identity.neutral, topology.faces, n, rng)
    if extra is not None:
        start = start.joined(extra)
    config = mesh_bound(small(**changes))
    return GaussianNet(
        config, 52, (0, -0.035, -0.005), 0.19, start, (identity.neutral, topology.faces)
    )


def weights(**values):
    b = np.zeros(52, dtype=np.float32)
    for name, value in values.items():
        b[INDEX[name]] = value
    return b


def test_bound_gaussians_lie_on_the_posed_surface(head):
    identity, topology = head
    net = on_mesh(head)
    posed = identity.pose(weights(jawOpen=0.8, mouthSmileLeft=0.5))
    out = net(torch.zeros(52), vertices=torch.from_numpy(posed))
    corners = posed[topology.faces[net.face.numpy()]]
    wanted = (corners * net.bary.numpy()[..., None]).sum(1)
    np.testing.assert_allclose(out.means.detach(), wanted, atol=2e-6)
    rest = net(torch.zeros(52), vertices=torch.from_numpy(identity.neutral))
    assert (out.means - rest.means).norm(dim=1).max() > 0.01
    torch.testing.assert_close(rest.quaternions, F.normalize(net.quaternions), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", ["smooth", "triangle"])
def test_a_rigid_motion_of_the_mesh_is_a_rigid_motion_of_the_gaussians(head, frames):
    identity, _ = head
    free = Binding.free(np.array([[0.0, 0.1, 0.0]]))
    net = on_mesh(head, extra=free, frames=frames, motion="none")
    with torch.no_grad():
        net.means[:-1] += 0.1 * seeded(400, 3, dtype=torch.float32)
        net.quaternions += 0.5 * seeded(401, 4, dtype=torch.float32)
    before = net(torch.zeros(52), vertices=torch.from_numpy(identity.neutral))
    turn, shift = Rotation.from_rotvec([0.3, -0.5, 0.2]), np.array([0.01, 0.02, -0.03])
    moved = (turn.apply(identity.neutral) + shift).astype(np.float32)
    after = net(torch.zeros(52), vertices=torch.from_numpy(moved))
    wanted = turn.apply(before.means.detach().numpy()) + shift
    np.testing.assert_allclose(after.means.detach()[:-1], wanted[:-1], atol=2e-5)
    turned = quaternions.matrices(after.quaternions).detach().numpy()[:-1]
    expected = turn.as_matrix() @ quaternions.matrices(before.quaternions).detach().numpy()[:-1]
    np.testing.assert_allclose(turned, expected, atol=2e-3)
    torch.testing.assert_close(after.scales, before.scales, rtol=2e-3, atol=0)
    np.testing.assert_allclose(after.means.detach()[-1], [0, 0.1, 0], atol=1e-7)
    assert net.face[-1] == FREE


def test_gaussians_of_an_eyeball_turn_with_it(head):
    identity, topology = head
    chosen = topology.part_faces("eyeball_left")
    mask = np.zeros(len(topology.faces))
    mask[chosen] = 1.0
    start = bind_surface(
        identity.neutral, topology.faces, 50, np.random.default_rng(1), weights=mask
    )
    net = GaussianNet(mesh_bound(small()), 52, half=0.2, start=start,
                      mesh=(identity.neutral, topology.faces))  # fmt: skip
    with torch.no_grad():
        net.means += 0.01 * seeded(50, 3, dtype=torch.float32)
    looks = []
    for b in (weights(), weights(eyeLookOutLeft=1.0)):
        out = net(torch.zeros(52), vertices=torch.from_numpy(identity.pose(b)))
        looks.append(out.means.detach().numpy() - identity.eye_centres[0])
    turn, residual = Rotation.align_vectors(looks[1], looks[0])
    assert residual < 1e-3
    assert math.degrees(turn.magnitude()) == pytest.approx(33, abs=0.5)


def test_points_above_the_scalp_rise_along_the_normal_up_to_their_reach(head):
    identity, topology = head
    reach = np.full(len(topology.faces), 0.02)
    bound = bind_surface(
        identity.neutral, topology.faces, 2000, np.random.default_rng(0), reach=reach
    )
    corners = identity.neutral[topology.faces[bound.face]]
    foot = (corners * bound.bary[..., None]).sum(1)
    height = np.linalg.norm(bound.points - foot, axis=1)
    assert height.max() <= 0.02 + 1e-6
    assert height.mean() == pytest.approx(0.01, rel=0.1)


def test_the_density_of_bound_points_follows_area_and_weight(head):
    identity, topology = head
    rng = np.random.default_rng(0)
    weight = np.where(topology.parts == 0, 3.0, 1.0)
    bound = bind_surface(identity.neutral, topology.faces, 20_000, rng, weights=weight)
    corners = identity.neutral[topology.faces].astype(np.float64)
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    share = (area * weight)[topology.parts == 0].sum() / (area * weight).sum()
    assert (topology.parts[bound.face] == 0).mean() == pytest.approx(share, abs=0.005)
    assert np.allclose(bound.bary.sum(1), 1, atol=1e-6)


def test_a_collapsed_triangle_keeps_what_sits_on_it_alive():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    rig = MeshRig(vertices, torch.tensor([[0, 1, 2]]))
    face, bary = torch.zeros(1, dtype=torch.int64), torch.full((1, 3), 1 / 3)
    carry = rig.carry(torch.zeros(3, 3), face, bary)
    assert torch.isfinite(carry.turns).all()
    assert carry.stretch.item() == 1
    shrunk = rig.carry(vertices * 0.8, face, bary)
    assert shrunk.stretch.item() == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("smooth", [True, False])
def test_both_implementations_agree(head, smooth):
    identity, topology = head
    start = bind_surface(identity.neutral, topology.faces, 3000, np.random.default_rng(0))
    face, bary = torch.from_numpy(start.face), torch.from_numpy(start.bary)
    face[::50] = FREE
    rig = MeshRig(torch.from_numpy(identity.neutral), torch.from_numpy(topology.faces), smooth)
    b = weights(jawOpen=1.0, eyeBlinkLeft=1.0, eyeLookUpRight=1.0)
    posed = torch.from_numpy(identity.pose(b))
    ours, theirs = rig.carry(posed, face, bary), rig._carry_torch(posed, face, bary)
    for name in ("anchors", "turns", "stretch"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-4, rtol=0)


def test_playback_with_cached_looks_is_the_same_picture(head):
    identity, _ = head
    net = on_mesh(head)
    torch.nn.init.normal_(net.bases, std=0.05)
    b = weights(jawOpen=0.7)
    posed = torch.from_numpy(identity.pose(b))
    with torch.no_grad():
        looks = net.appearance()
        quick = net.view(net.pose(torch.from_numpy(b), posed, looks=looks), CAMERA)
        whole = net(torch.from_numpy(b), CAMERA, posed)
    for name in ("means", "quaternions", "scales", "opacities", "sh"):
        assert torch.equal(getattr(quick, name), getattr(whole, name)), name
    other = net.appearance().logits - whole.opacities.logit()
    assert other.abs().max() > 1e-3, "linear bases change the looks as well"


def test_bound_gaussians_learn_through_the_mesh(head):
    identity, _ = head
    net = on_mesh(head)
    out = net(torch.rand(52), CAMERA, torch.from_numpy(identity.pose(weights(jawOpen=0.5))))
    (out.means.square().sum() + out.opacities.sum() + out.sh.sum()).backward()
    for name in ("means", "bases", "tau"):
        assert dict(net.named_parameters())[name].grad.any(), name
    with pytest.raises(ValueError, match="posed vertices"):
        net(torch.zeros(52))
