"""Splats on CUDA: gsplat and the torch route must show what the CPU shows, gradients included."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from head360.rendering import splats_gpu  # noqa: E402
from head360.rendering.cameras import Camera, orbit  # noqa: E402
from head360.rendering.splats import Gaussians, _frame, pinhole_of, render_splats  # noqa: E402

WIDTH, HEIGHT = 150, 118
LIMIT = 1e-3

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
pytestmark = [pytest.mark.gpu, needs_cuda]


def camera() -> Camera:
    """Off-centre, so that a principal point taken for granted would show."""
    view = orbit(25, 12, distance=0.6, aspect=WIDTH / HEIGHT)
    view.intrinsics[:2, 2] = (0.53, 0.46)
    return view


def scene(device, count=2000, coefficients=0):
    rng = np.random.default_rng(1)
    # Opacities below 0.95: releases of gsplat differ in where they clamp α (0.99 or 0.999).
    arrays = (
        rng.uniform(-0.12, 0.12, (count, 3)),
        rng.normal(size=(count, 4)),
        rng.uniform(0.1, 1.0, (count, 3)) * 0.01,
        rng.uniform(0.05, 0.95, count),
        rng.normal(size=(count, coefficients, 3)) * 0.2
        if coefficients
        else rng.uniform(size=(count, 3)),
    )
    return [torch.tensor(a, dtype=torch.float32, device=device).requires_grad_() for a in arrays]


def loss(frame):
    rng = np.random.default_rng(2)
    weights = torch.tensor(rng.normal(size=(HEIGHT, WIDTH, 5)), dtype=torch.float32)
    weights = weights.to(frame.rgb.device)
    depth = torch.where(frame.alpha > 0, frame.depth, 0.0) * frame.alpha
    pixels = torch.cat([frame.rgb, frame.alpha[..., None], depth[..., None]], -1)
    return (weights * pixels).sum()


def routes():
    """What may render on CUDA here."""
    yield (
        "chosen",
        lambda inputs, antialiased: render_splats(
            *inputs, camera(), WIDTH, HEIGHT, antialiased=antialiased
        ),
    )
    pinhole = pinhole_of(camera(), WIDTH, HEIGHT, 0.01)
    yield (
        "torch",
        lambda inputs, antialiased: _frame(
            splats_gpu.rasterize_torch(Gaussians(*inputs), pinhole, antialiased), None
        ),
    )


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize(("name", "render"), list(routes()))
def test_pictures_and_gradients_are_those_of_the_cpu(name, render, antialiased):
    here, there = scene("cpu"), scene("cuda")
    expected = render_splats(*here, camera(), WIDTH, HEIGHT, antialiased=antialiased)
    shown = render(there, antialiased)
    # 1/255 is a step: rounding may take a pixel over it, so a few may differ by as much.
    for a, b in ((shown.rgb, expected.rgb), (shown.alpha, expected.alpha)):
        difference = (a.cpu() - b).abs()
        assert (difference > LIMIT).float().mean() < 1e-4, name
        assert difference.max() < 2 / 255, name
    both = (shown.alpha.cpu() > 0) & (expected.alpha > 0)
    assert both.float().mean() > 0.2
    assert (shown.depth.cpu() - expected.depth)[both].abs().median() < 1e-5
    assert (shown.visible.cpu() == expected.visible).float().mean() > 0.999
    loss(shown).backward()
    loss(expected).backward()
    for a, b in zip(there, here, strict=True):
        assert (a.grad.cpu() - b.grad).norm() < LIMIT * b.grad.norm(), name
    screen = expected.screen_gradient()
    assert (shown.screen_gradient().cpu() - screen).norm() < LIMIT * screen.norm(), name


def test_harmonics_agree_with_the_cpu():
    here, there = scene("cpu", 500, 16), scene("cuda", 500, 16)
    expected = render_splats(*here, camera(), WIDTH, HEIGHT)
    shown = render_splats(*there, camera(), WIDTH, HEIGHT)
    assert ((shown.rgb.cpu() - expected.rgb).abs() > LIMIT).float().mean() < 1e-4
    expected.rgb.square().sum().backward()
    shown.rgb.square().sum().backward()
    for a, b in zip(there, here, strict=True):
        assert (a.grad.cpu() - b.grad).norm() < LIMIT * b.grad.norm()


def test_no_gaussians_and_double_precision_render_too():
    empty = [t[:0] for t in scene("cuda")]
    assert torch.all(render_splats(*empty, camera(), 20, 10).alpha == 0)
    double = [t.detach().double() for t in scene("cuda", 50)]
    on_cpu = render_splats(*(t.cpu() for t in double), camera(), 40, 30)
    assert torch.allclose(render_splats(*double, camera(), 40, 30).rgb.cpu(), on_cpu.rgb, atol=1e-9)


def test_the_benchmark_names_its_rasteriser():
    assert splats_gpu.implementation("cuda") in ("gsplat", "torch")
