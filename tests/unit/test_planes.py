"""Plane lookups against ``torch.nn.functional.grid_sample``, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.functional import grid_sample  # noqa: E402

from head360.networks.planes import lookup  # noqa: E402


def expected(planes, positions):
    sampled = grid_sample(
        planes.permute(0, 3, 1, 2),
        positions[:, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[:, :, 0].transpose(1, 2)


def random_case(seed, planes, rows, columns, channels, count, reach=1.3):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(planes, rows, columns, channels, generator=generator)
    positions = (torch.rand(planes, count, 2, generator=generator) * 2 - 1) * reach
    return table, positions


CASES = [
    pytest.param(3, 8, 8, 4, 500, id="square"),
    pytest.param(2, 5, 11, 3, 500, id="unequal sides"),
    pytest.param(1, 1, 1, 2, 20, id="one texel"),
    pytest.param(1, 1, 6, 1, 50, id="one row"),
    pytest.param(6, 16, 16, 8, 5000, id="several chunks"),
    pytest.param(2, 4, 4, 4, 0, id="no positions"),
]


@pytest.mark.parametrize(("planes", "rows", "columns", "channels", "count"), CASES)
def test_forward(planes, rows, columns, channels, count):
    table, positions = random_case(0, planes, rows, columns, channels, count)
    out = lookup(table, positions)
    assert out.shape == (planes, count, channels)
    assert out.dtype == torch.float32
    if count:
        torch.testing.assert_close(out, expected(table, positions), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("planes", "rows", "columns", "channels", "count"), CASES)
def test_backward(planes, rows, columns, channels, count):
    table, positions = random_case(1, planes, rows, columns, channels, count)
    weights = torch.randn(planes, count, channels, generator=torch.Generator().manual_seed(2))
    gradients = []
    for function in (lookup, expected) if count else (lookup,):
        leaf = table.clone().requires_grad_()
        (function(leaf, positions) * weights).sum().backward()
        gradients.append(leaf.grad)
    assert gradients[0].shape == table.shape
    if count:
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    else:
        assert not gradients[0].any()


def test_backward_is_the_adjoint():
    """Lookups are linear in the planes: ⟨g, lookup(d)⟩ = ⟨gradient, d⟩ for every direction d."""
    table, positions = random_case(3, 2, 7, 9, 5, 800)
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(2, 800, 5, generator=generator)
    leaf = table.clone().requires_grad_()
    (lookup(leaf, positions) * weights).sum().backward()
    for _ in range(5):
        direction = torch.randn(table.shape, generator=generator)
        change = (lookup(direction, positions).double() * weights).sum()
        torch.testing.assert_close(
            change, (leaf.grad.double() * direction).sum(), rtol=1e-4, atol=1e-3
        )


def test_finite_differences():
    table, positions = random_case(5, 1, 3, 4, 2, 40)
    weights = torch.randn(1, 40, 2, generator=torch.Generator().manual_seed(6))
    leaf = table.clone().requires_grad_()
    (lookup(leaf, positions) * weights).sum().backward()
    numeric = torch.zeros_like(table)
    for index in range(table.numel()):
        step = torch.zeros_like(table)
        step.view(-1)[index] = 0.5  # the function is linear, so the step may be large
        difference = lookup(table + step, positions) - lookup(table - step, positions)
        numeric.view(-1)[index] = (difference.double() * weights).sum().float()
    torch.testing.assert_close(leaf.grad, numeric, atol=1e-4, rtol=1e-4)


def test_texel_centres_and_border():
    rows, columns = 3, 5
    table = torch.arange(rows * columns, dtype=torch.float32).reshape(1, rows, columns, 1)
    x = (torch.arange(columns) + 0.5) * 2 / columns - 1
    y = (torch.arange(rows) + 0.5) * 2 / rows - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)
    torch.testing.assert_close(lookup(table, grid).reshape(rows, columns), table[0, ..., 0])
    corners = torch.tensor([[[-1.0, -1], [1, -1], [-1, 1], [1, 1], [9, 9], [-9, 9]]])
    torch.testing.assert_close(
        lookup(table, corners)[0, :, 0], torch.tensor([0.0, 4, 10, 14, 14, 10])
    )


def test_views_that_are_not_contiguous():
    table, positions = random_case(7, 2, 6, 6, 4, 100)
    channels_first = table.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    wide = torch.cat([positions, positions], 2)[:, :, :2]
    assert not channels_first.is_contiguous()
    leaf = channels_first.clone(memory_format=torch.preserve_format).requires_grad_()
    out = lookup(leaf, wide)
    torch.testing.assert_close(out, lookup(table, positions))
    out.transpose(1, 2).square().sum().backward()  # a gradient that is not contiguous
    other = table.clone().requires_grad_()
    lookup(other, positions).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad)


def test_the_same_bytes_again():
    table, positions = random_case(8, 3, 16, 16, 8, 20_000)
    first = lookup(table, positions)
    assert np.array_equal(first.numpy(), lookup(table, positions).numpy())


def test_gradients_repeat():
    """Threads add in buffers of their own: the sum may differ by rounding and no more."""
    table, positions = random_case(9, 2, 8, 8, 4, 30_000)
    gradients = []
    for _ in range(3):
        leaf = table.clone().requires_grad_()
        lookup(leaf, positions).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-4, atol=1e-2)


def test_no_gradient_into_the_positions():
    table, positions = random_case(10, 1, 4, 4, 2, 10)
    positions.requires_grad_()
    leaf = table.clone().requires_grad_()
    lookup(leaf, positions).sum().backward()
    assert positions.grad is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    table, positions = random_case(11, 3, 16, 16, 8, 3000)
    results = []
    for device in ("cpu", "cuda"):
        leaf = table.to(device).clone().requires_grad_()
        out = lookup(leaf, positions.to(device))
        out.square().sum().backward()
        results.append((out.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-3, rtol=1e-3)
