"""Gaussian splatting: what a picture of Gaussians is, and that its gradients are right."""

from __future__ import annotations

import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.special import sph_harm_y  # noqa: E402

from head360.rendering import sh, splats_gpu, splats_reference  # noqa: E402
from head360.rendering.cameras import Camera, intrinsics_from_fov, look_at, orbit  # noqa: E402
from head360.rendering.splats import (  # noqa: E402
    Gaussians,
    Layers,
    pinhole_of,
    render_batch,
    render_splats,
)

FOV = 30.0
DISTANCE = 0.5  # metres from the front camera to the origin
NAMES = ("means", "quaternions", "scales", "opacities", "colours")


def front(centre=(0.5, 0.5)) -> Camera:
    """On the +z axis, looking at the origin; ``centre`` is the normalised principal point."""
    intrinsics = intrinsics_from_fov(FOV)
    intrinsics[:2, 2] = centre
    return Camera(look_at((0, 0, DISTANCE), (0, 0, 0)), intrinsics)


def ball(position=(0, 0, 0), radius=0.01, opacity=0.8, colour=(1, 0.5, 0.25), dtype=torch.float64):
    """One round Gaussian as the five inputs."""
    rows = [position], [(1, 0, 0, 0)], [(radius,) * 3], opacity, [colour]
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return [*tensors[:3], tensors[3].reshape(1), tensors[4]]


def stack(*scenes):
    """Several scenes as one."""
    return [torch.cat(parts) for parts in zip(*scenes, strict=True)]


def cloud(count, seed, dtype=torch.float64, spread=0.25, size=0.02):
    """Random Gaussians of all shapes; with this spread some lie outside the pictures below."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.uniform(-spread / 2, spread / 2, (count, 3)),
        rng.normal(size=(count, 4)),
        rng.uniform(0.1, 1.0, (count, 3)) * size,
        rng.uniform(0.05, 0.98, count),
        rng.uniform(0, 1, (count, 3)),
    )
    return [torch.tensor(a, dtype=dtype) for a in arrays]


def leaves(scene, dtype=None):
    return [t.detach().to(dtype or t.dtype, copy=True).requires_grad_() for t in scene]


def layers_of(frame):
    """A frame as the layers that the reference returns; depth is multiplied by alpha again."""
    depth = torch.where(frame.alpha > 0, frame.depth, 0.0) * frame.alpha
    return Layers(frame.rgb, depth, 1 - frame.alpha, frame.means2d, frame.radii)


def weighted(layers: Layers, seed=3):
    """A scalar that depends on every pixel of every layer."""
    rng = np.random.default_rng(seed)
    height, width = layers.depth.shape
    weights = torch.tensor(rng.normal(size=(5, height, width)), dtype=layers.depth.dtype)
    planes = [*layers.colour.unbind(-1), layers.depth, layers.transmittance]
    return sum((w * p).sum() for w, p in zip(weights, planes, strict=True))


# ------------------------------------------------------------------------------- the picture


def test_one_round_gaussian_is_the_bell_curve_of_its_projection():
    size, radius, opacity = 33, 0.02, 0.8
    frame = render_splats(*ball(radius=radius, opacity=opacity), front(), size, size)
    focal = size * 0.5 / np.tan(np.radians(FOV) / 2)
    variance = (focal * radius / DISTANCE) ** 2 + 0.3
    offset = np.arange(size) + 0.5 - size / 2
    expected = opacity * np.exp(-(offset[:, None] ** 2 + offset**2) / 2 / variance)
    expected[expected < 1 / 255] = 0
    np.testing.assert_allclose(frame.alpha.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(frame.rgb.numpy(), expected[..., None] * (1, 0.5, 0.25), atol=1e-12)
    hit = frame.alpha > 0
    assert torch.allclose(frame.depth[hit], torch.tensor(DISTANCE, dtype=torch.float64))
    assert torch.isinf(frame.depth[~hit]).all()
    assert frame.visible.tolist() == [True]
    assert frame.radii.item() == pytest.approx(np.sqrt(2 * np.log(255 * 0.8) * variance), abs=0.01)


def test_centres_fall_where_the_camera_projects_them():
    scene, camera = cloud(40, 1), orbit(35, -12, aspect=50 / 30)
    frame = render_splats(*scene, camera, 50, 30)
    pixels, _ = camera.project(scene[0].numpy(), 50, 30)
    np.testing.assert_allclose(frame.means2d.numpy(), pixels, atol=1e-10)


def test_a_moved_principal_point_moves_the_picture():
    scene, size = ball(radius=0.03), 32
    centred = render_splats(*scene, front(), size, size).rgb
    moved = render_splats(*scene, front(centre=(0.5 + 5 / size, 0.5 - 3 / size)), size, size).rgb
    assert torch.allclose(moved[:-3, 5:], centred[3:, :-5], atol=1e-12)
    assert not torch.allclose(moved, centred, atol=1e-3)


def test_the_nearer_gaussian_lies_on_top_whatever_the_order_of_the_rows():
    near = ball((0, 0, 0.1), opacity=0.6, colour=(1, 0, 0))
    far = ball((0, 0, -0.1), opacity=0.5, colour=(0, 1, 0), radius=0.05)
    for scene in (stack(near, far), stack(far, near)):
        frame = render_splats(*scene, front(), 1, 1)
        # One pixel, both centres on it: over-compositing by hand.
        assert frame.rgb[0, 0].tolist() == pytest.approx([0.6, 0.4 * 0.5, 0])
        assert frame.alpha.item() == pytest.approx(1 - 0.4 * 0.5)
        expected = (0.6 * (DISTANCE - 0.1) + 0.2 * (DISTANCE + 0.1)) / 0.8
        assert frame.depth.item() == pytest.approx(expected)


def test_background_shows_through_what_is_not_covered():
    background = torch.tensor([0.1, 0.2, 0.9], dtype=torch.float64)
    plain = render_splats(*cloud(30, 2), front(), 40, 24)
    over = render_splats(*cloud(30, 2), front(), 40, 24, background)
    expected = plain.rgb + (1 - plain.alpha)[..., None] * background
    assert torch.allclose(over.rgb, expected)
    assert torch.equal(over.alpha, plain.alpha)


def test_antialiasing_dims_a_splat_smaller_than_a_pixel():
    size, radius = 31, 0.002
    scene = ball(radius=radius, opacity=0.9)
    focal = size * 0.5 / np.tan(np.radians(FOV) / 2)
    variance = (focal * radius / DISTANCE) ** 2
    peak = {
        switch: render_splats(*scene, front(), size, size, antialiased=switch).alpha.max().item()
        for switch in (False, True)
    }
    assert peak[False] == pytest.approx(0.9)
    assert peak[True] == pytest.approx(0.9 * variance / (variance + 0.3))


def test_what_lies_behind_opaque_layers_is_neither_drawn_nor_moved():
    """0.2^5 is the last transmittance above 1e-4: the sixth layer stops the pixel, undrawn."""
    layers = stack(*(ball((0, 0, -0.001 * k), radius=100.0, opacity=0.8) for k in range(10)))
    scene = leaves(layers)
    frame = render_splats(*scene, front(), 20, 20)
    assert torch.allclose(frame.alpha, torch.tensor(1 - 0.2**5, dtype=torch.float64), atol=1e-5)
    frame.rgb.sum().backward()
    assert torch.all(scene[4].grad[:5] > 0)
    for name, tensor in zip(NAMES, scene, strict=True):
        assert torch.all(tensor.grad[5:] == 0), name


# --------------------------------------------------------------- against the plain formulas


@pytest.mark.parametrize(
    ("dtype", "image_limit", "gradient_limit"),
    [(torch.float64, 1e-10, 1e-8), (torch.float32, 5e-6, 2e-4)],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
def test_pictures_and_gradients_are_those_of_the_dense_formulas(
    dtype, image_limit, gradient_limit, antialiased
):
    """float32's limits are relative to the largest gradient: 1/255 is a step, rounding moves it."""
    width, height, camera = 50, 37, orbit(20, 10, distance=0.6)
    fast = leaves(cloud(120, 5, dtype))
    slow = leaves(fast, torch.float64)
    frame = render_splats(*fast, camera, width, height, antialiased=antialiased)
    pinhole = pinhole_of(camera, width, height, 0.01)
    truth = splats_reference.rasterize_dense(Gaussians(*slow), pinhole, antialiased)
    shown = layers_of(frame)
    for name in ("colour", "depth", "transmittance"):
        worst = (getattr(shown, name) - getattr(truth, name)).abs().max().item()
        assert worst < image_limit, name
    assert not frame.visible.all()  # some lie outside this picture
    weighted(shown).backward()
    weighted(truth).backward()
    for name, a, b in zip((*NAMES, "means2d"), (*fast, frame.means2d), (*slow, truth.means2d),
                          strict=True):  # fmt: skip
        worst = ((a.grad - b.grad).abs().max() / b.grad.abs().max()).item()
        assert worst < gradient_limit, name


def test_gradcheck_in_float64_where_no_threshold_is_near():
    camera = orbit(25, -8, distance=0.4)
    scene = cloud(4, 7, spread=0.06, size=0.05)
    scene[2] += 0.06  # wide: α stays above 1/255 in the whole picture
    scene[3] = scene[3] * 0.3 + 0.2  # and the picture far from opaque
    scene[4] = torch.tensor(np.random.default_rng(8).normal(size=(4, 16, 3)) * 0.1)
    background = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)

    def render(*inputs):
        frame = render_splats(*inputs[:5], camera, 18, 13, inputs[5], antialiased=True)
        return frame.rgb, frame.alpha, frame.depth

    flat = [*scene[:4], sh.colours(scene[4], scene[0], camera.position)]
    smooth = splats_reference.rasterize_dense(
        Gaussians(*flat), pinhole_of(camera, 18, 13, 0.01), antialiased=True, cut_offs=False
    )
    assert torch.allclose(render(*scene, background)[1], 1 - smooth.transmittance, atol=1e-12)
    assert torch.autograd.gradcheck(render, leaves([*scene, background]), eps=1e-6, atol=1e-6)


def test_the_torch_route_for_cuda_agrees_with_numba():
    width, height, camera = 45, 37, orbit(-30, 5, distance=0.6)
    fast = leaves(cloud(150, 9))
    slow = leaves(fast)
    shown = layers_of(render_splats(*fast, camera, width, height))
    pinhole = pinhole_of(camera, width, height, 0.01)
    torch_layers = splats_gpu.rasterize_torch(Gaussians(*slow), pinhole, antialiased=False)
    assert torch.allclose(shown.colour, torch_layers.colour, atol=1e-10)
    assert torch.allclose(shown.radii, torch_layers.radii, atol=0.01)
    weighted(shown).backward()
    weighted(torch_layers).backward()
    for name, a, b in zip(NAMES, fast, slow, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-6, atol=1e-8), name


def test_screen_gradient_is_the_effect_of_moving_the_principal_point():
    """Moving it by δ pixels moves every 2-D mean by δ; all else stays."""
    size, step = 24, 1e-5
    scene = cloud(3, 11, spread=0.05, size=0.05)
    scene[2] += 0.1

    def loss(shift):
        frame = render_splats(*leaves(scene), front((0.5 + shift / size, 0.5)), size, size)
        return frame, weighted(layers_of(frame))

    frame, value = loss(0.0)
    with pytest.raises(RuntimeError, match="backward"):
        frame.screen_gradient()
    value.backward()
    numeric = (loss(step)[1] - loss(-step)[1]).item() / (2 * step)
    assert frame.means2d.grad[:, 0].sum().item() == pytest.approx(numeric, rel=1e-5)
    expected = frame.means2d.grad.norm(dim=1) * size / 2
    assert torch.allclose(frame.screen_gradient(), expected)


def test_same_bytes_on_every_run_and_with_any_number_of_threads():
    def run(threads):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            scene = leaves(cloud(3000, 13, torch.float32))
            frame = render_splats(*scene, orbit(10, 10), 96, 80)
            weighted(layers_of(frame)).backward()
        finally:
            numba.set_num_threads(before)
        return [frame.rgb, frame.depth, *(t.grad for t in scene)]

    first = run(1)
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        for a, b in zip(first, run(threads), strict=True):
            assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


def test_gradients_of_a_batch_add_up():
    cameras = [orbit(yaw, 0) for yaw in (0, 90)]
    together, apart = leaves(cloud(20, 15)), leaves(cloud(20, 15))
    frames = render_batch(*together, cameras, 20, 20)
    sum(frame.rgb.sum() for frame in frames).backward()
    for camera in cameras:
        render_splats(*apart, camera, 20, 20).rgb.sum().backward()
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a.grad, b.grad)


# ------------------------------------------------------------------------ spherical harmonics


def test_the_basis_is_the_real_spherical_harmonics():
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    polar = np.arccos(directions[:, 2])
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    expected = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            part = value.imag if order < 0 else value.real
            expected.append(part * (1 if order == 0 else np.sqrt(2)))
    result = sh.basis(torch.tensor(directions)).numpy()
    np.testing.assert_allclose(result, np.stack(expected, 1), atol=1e-13)


@pytest.mark.parametrize("count", sh.COUNTS)
def test_harmonic_colours_and_gradients_in_numba_are_those_of_torch(count):
    rng = np.random.default_rng(count)
    coefficients = leaves([torch.tensor(rng.normal(size=(30, count, 3)) * 1.5)])[0]
    means = leaves([torch.tensor(rng.normal(size=(30, 3)))])[0]
    position = np.array([0.3, -2.0, 1.5])
    shown = sh.colours(coefficients, means, position)
    directions = torch.nn.functional.normalize(means - torch.tensor(position), dim=1)
    weights = sh.basis(directions, count)
    expected = (torch.einsum("nk,nkc->nc", weights, coefficients) + 0.5).clamp(min=0)
    assert torch.allclose(shown, expected)
    assert (shown == 0).any()  # the clamp is part of the test
    factor = torch.tensor(rng.normal(size=(30, 3)))
    for a, b in zip(
        torch.autograd.grad((shown * factor).sum(), (coefficients, means)),
        torch.autograd.grad((expected * factor).sum(), (coefficients, means), allow_unused=True),
        strict=True,
    ):
        assert torch.allclose(a, torch.zeros_like(a) if b is None else b)


def test_a_plain_colour_survives_as_harmonic_of_degree_zero():
    scene = cloud(10, 17)
    plain = render_splats(*scene, front(), 16, 16).rgb
    coefficients = torch.cat([sh.from_rgb(scene[4])[:, None], torch.ones(10, 3, 3).double()], 1)
    harmonic = render_splats(*scene[:4], coefficients, front(), 16, 16, sh_degree=0).rgb
    assert torch.allclose(plain, harmonic)
    with pytest.raises(ValueError, match="degree 2"):
        render_splats(*scene[:4], coefficients, front(), 16, 16, sh_degree=2)


# ---------------------------------------------------------------------------------- the edges


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param([t[:0] for t in ball()], id="no Gaussians"),
        pytest.param(ball((0, 0, DISTANCE + 0.1)), id="behind the camera"),
        pytest.param(ball((0, 0, DISTANCE - 0.005)), id="nearer than the near plane"),
        pytest.param(ball(opacity=0.0), id="fully transparent"),
        pytest.param(ball((3.0, 0, 0)), id="beside the picture"),
    ],
)
def test_nothing_to_see_is_an_empty_picture_with_zero_gradients(scene):
    scene = leaves(scene)
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    frame = render_splats(*scene, front(), 17, 9, background)
    assert frame.rgb.shape == (9, 17, 3)
    assert torch.equal(frame.rgb, background.expand(9, 17, 3))
    assert torch.all(frame.alpha == 0)
    assert torch.isinf(frame.depth).all()
    assert not frame.visible.any()
    (frame.rgb.sum() + frame.alpha.sum()).backward()
    assert all(torch.all(t.grad == 0) for t in scene)


def test_a_huge_splat_covers_everything_evenly():
    scene = leaves(ball(radius=1000.0, opacity=0.5))
    frame = render_splats(*scene, front(), 70, 40)
    assert torch.allclose(frame.alpha, torch.tensor(0.5, dtype=torch.float64), atol=1e-3)
    frame.rgb.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in scene)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_numbers_are_named(name, value):
    scene = ball()
    scene[NAMES.index(name)].view(-1)[0] = value
    with pytest.raises(ValueError, match=f"{name} hold NaN or infinite"):
        render_splats(*scene, front(), 8, 8)


def test_inputs_that_do_not_fit_are_refused():
    good = ball()

    def refuse(match, *scene, camera=None, width=8, **options):
        with pytest.raises(ValueError, match=match):
            render_splats(*scene, camera or front(), width, 8, **options)

    refuse("scales have shape", *good[:2], good[2][:, :2], *good[3:])
    refuse("colours have shape", *good[:4], torch.zeros(1, 5, 3).double())
    refuse("all must agree", *good[:4], good[4].float())
    refuse("float32 or float64", *(t.half() for t in good))
    refuse(r"outside \[0, 1\]", *good[:3], good[3] + 1, good[4])
    refuse("quaternion is zero", good[0], good[1] * 0, *good[2:])
    refuse("at least one", *good, width=0)
    refuse("near is", *good, near=0.0)
    skewed = front()
    skewed.intrinsics[0, 1] = 0.1
    refuse("without skew", *good, camera=skewed)
