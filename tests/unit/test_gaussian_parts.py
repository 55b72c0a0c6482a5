"""Quaternions, derivation, tri-plane, deformation and decoder against other statements of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.spatial.transform import Rotation  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from head360.networks import derivation, quaternions, triplane  # noqa: E402
from head360.networks.deform import DeformationField, LinearBases, encode  # noqa: E402
from head360.networks.gaussian import (  # noqa: E402
    PRESETS,
)
from head360.networks.radiance import RadianceDecoder  # noqa: E402

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


# -- quaternions and derivation ------------------------------------------------------------------


def test_quaternions_agree_with_scipy():
    q, p = seeded(50, 4), seeded(50, 4, seed=1)
    scipy_q = Rotation.from_quat(q.numpy(), scalar_first=True)
    scipy_p = Rotation.from_quat(p.numpy(), scalar_first=True)
    np.testing.assert_allclose(quaternions.matrices(q).numpy(), scipy_q.as_matrix(), atol=1e-12)
    both = quaternions.matrices(quaternions.product(q, p)).numpy()
    np.testing.assert_allclose(both, (scipy_q * scipy_p).as_matrix(), atol=1e-12)
    back = quaternions.from_matrices(quaternions.matrices(q))
    unit = F.normalize(q, dim=1)
    torch.testing.assert_close(back, torch.where(unit[:, :1] < 0, -unit, unit))
    half_turns = torch.from_numpy(Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix())
    torch.testing.assert_close(
        quaternions.matrices(quaternions.from_matrices(half_turns)), half_turns
    )


def test_the_released_norm_is_a_rotation_at_unit_length_only():
    q = F.normalize(seeded(10, 4), dim=1)
    torch.testing.assert_close(quaternions.matrices(q, True), quaternions.matrices(q))
    long = quaternions.matrices(2 * q, True)
    assert (long @ long.transpose(1, 2) - torch.eye(3).double()).abs().max() > 0.1


def test_uniform_derivations_cover_the_sphere_and_the_released_ones_a_patch():
    generator = torch.Generator().manual_seed(0)
    uniform = derivation.initial(20_000, 1, "uniform", False, generator)[:, 0]
    assert (uniform.norm(dim=1) - 1).abs().max() < 1e-6
    assert uniform.mean(0).norm() < 0.02
    torch.testing.assert_close(uniform.T @ uniform / 20_000, torch.eye(4) / 4, atol=0.01, rtol=0)
    patch = derivation.initial(20_000, 1, "released", False, generator)[:, 0]
    assert (patch.norm(dim=1) - 1).abs().max() < 1e-6
    assert patch.min() >= 0, "sin and cos of angles below one radian"
    shared = derivation.initial(5, 4, "released", True, generator)
    assert torch.equal(shared[0], shared[4])


def test_doppelgangers_are_rotations_of_the_mean_about_the_origin():
    means, tau = seeded(7, 3), seeded(7, 3, 4, seed=1)
    points = derivation.derive(means, tau)
    for n in range(7):
        turns = Rotation.from_quat(tau[n].numpy(), scalar_first=True)
        np.testing.assert_allclose(points[n].numpy(), turns.apply(means[n].numpy()), atol=1e-12)
    assert torch.equal(derivation.derive(means, None)[:, 0], means)
    assert torch.autograd.gradcheck(
        derivation.derive, (means.requires_grad_(), tau.requires_grad_())
    )


def test_the_schedule_of_doppelgangers_doubles_up_to_the_channels():
    ks = [derivation.scheduled(n, 10, 32) for n in (10, 60, 61, 120, 121, 10_000)]
    assert ks == [2, 2, 4, 4, 8, 32]


# -- tri-plane -----------------------------------------------------------------------------------


def by_grid_sample(planes, points, starts, multiply):
    """(3, R, S, C), (N, K, 3): one grid_sample per plane and doppelgänger."""
    width = planes.shape[3] // points.shape[1]
    blocks = []
    for k, start in enumerate(starts):
        merged = 1.0 if multiply else 0.0
        for plane, axes in enumerate(((0, 1), (0, 2), (1, 2))):
            table = planes[plane, :, :, start : start + width].permute(2, 0, 1)[None]
            where = points[:, k, list(axes)][None, None]
            read = F.grid_sample(
                table, where, mode="bilinear", padding_mode="border", align_corners=True
            )[0, :, 0].T
            merged = merged * read if multiply else merged + read
        blocks.append(merged)
    return torch.cat(blocks, 1)


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("starts", [[0, 2, 4, 6], [6, 6, 6, 6]], ids=["block", "last"])
def test_fused_lookup_agrees_with_grid_sample_in_both_directions(multiply, starts):
    planes = seeded(3, 5, 9, 8).requires_grad_()
    points = (seeded(1300, 4, 3, seed=1) * 0.7).requires_grad_()  # some outside [−1, 1]
    weights = seeded(1300, 8, seed=2)
    ours = triplane.sample(planes, points, starts, multiply)
    theirs = by_grid_sample(planes, points, starts, multiply)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), [planes, points]),
        torch.autograd.grad((theirs * weights).sum(), [planes, points]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    other_device = triplane._sample_torch(planes, points, starts, multiply)
    torch.testing.assert_close(other_device, theirs)


def test_lookup_gradcheck_and_same_bytes_twice():
    planes = seeded(3, 4, 4, 4).requires_grad_()
    points = (seeded(6, 2, 3, seed=1) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, x: triplane.sample(p, x, [0, 2], True), (planes, points)
    )
    single, many = planes.detach().float(), seeded(5000, 2, 3, dtype=torch.float32)
    results = []
    for _ in range(2):
        table = single.clone().requires_grad_()
        triplane.sample(table, many, [0, 2], True).sum().backward()
        results.append(table.grad)
    assert torch.equal(*results)


def test_by_mistake_of_the_release_24_of_32_channels_are_never_read():
    for slicing, used in (("last", 8), ("block", 32)):
        net = triplane.TriPlane(32, 8, (1,), slicing=slicing)
        net(seeded(50, 4, 3, dtype=torch.float32)).sum().backward()
        touched = (net.planes[0].grad.abs().sum((0, 1, 2)) > 0).sum()
        assert touched == used


def test_resolutions_are_added():
    net = triplane.TriPlane(8, 4, (1, 2))
    points = seeded(10, 2, 3, dtype=torch.float32)
    parts = [triplane.sample(planes, points, [0, 4], True) for planes in net.planes]
    torch.testing.assert_close(net(points), parts[0] + parts[1])
    with pytest.raises(ValueError, match="do not divide"):
        net(seeded(10, 3, 3, dtype=torch.float32))


# -- deformation and decoder ---------------------------------------------------------------------


def test_encoding_is_identity_then_octaves_of_sine_and_cosine():
    x = seeded(3, 3)
    encoded = encode(x, 10)
    assert encoded.shape == (3, 63)
    torch.testing.assert_close(encoded[:, 3 + 6 * 4 : 3 + 6 * 4 + 3], (x * 16).sin())
    torch.testing.assert_close(encoded[:, -3:], (x * 512).cos())


@pytest.mark.parametrize("skip", [0, 2, 4])
def test_deformation_equals_the_network_written_plainly(skip):
    net = DeformationField(7, width=24, depth=6, skip=skip).double()
    x, e = seeded(9, 3), seeded(7, seed=1)
    entry = torch.cat([encode(x, 10), e.expand(9, 7)], 1)
    h = entry
    for index, layer in enumerate(net.layers):
        h = layer(h).relu()
        if index == skip:
            h = torch.cat([entry, h], 1)
    offsets = net(x, e)
    torch.testing.assert_close(offsets.means, net.means(h))
    torch.testing.assert_close(offsets.rotations, net.rotations(h))
    torch.testing.assert_close(offsets.scales, net.scales(h))


def test_linear_bases_are_linear_and_start_at_rest():
    net = LinearBases(52, 8)
    torch.testing.assert_close(net.mix.T @ net.mix, torch.eye(8) * 52 / 8, atol=1e-4, rtol=1e-4)
    rows, a, b = (seeded(*s, dtype=torch.float32) for s in ((5, 14, 8), (52,), (52,)))
    both, first, second = net(rows, a + 2 * b), net(rows, a), net(rows, b)
    torch.testing.assert_close(both.means, first.means + 2 * second.means)
    torch.testing.assert_close(both.colours, first.colours + 2 * second.colours)
    weights = a @ net.mix
    torch.testing.assert_close(first.opacities[3], rows[3, 10] @ weights)


def test_affine_colour_needs_one_matrix_for_a_new_view():
    net = RadianceDecoder(16).double()
    _, latent = net.opacity(seeded(5, 16))
    directions = F.normalize(seeded(5, 3, seed=1), dim=1)
    added = torch.einsum("nd,dkc->nkc", directions, net.direction_matrix())
    torch.testing.assert_close(net.colour(latent, directions), net.colour(latent, None) + added)
    assert RadianceDecoder(16, colour_activation="relu").direction_matrix() is None
    assert net.colour(latent, None).shape == (5, 16, 3)
