"""Rays, sample placement and compositing of two overlapping media."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from head360.rendering.cameras import BOX_HALF, from_normalised, orbit

torch = pytest.importorskip("torch")

from head360.rendering.volume import (  # noqa: E402
    BAND_BACK,
    BAND_FRONT,
    GRID,
    HAIR_BIAS,
    HAIR_REACH,
    Rays,
    camera_rays,
    composite,
    hair_samples,
    head_samples,
)

BAND = BAND_FRONT + BAND_BACK
CELL = 2 / GRID  # normalised units


# ---------------------------------------------------------------- rays


@pytest.mark.parametrize("window", [None, (5, 3, 20, 17), (-4, -2, 9, 30)])
def test_rays_go_through_pixel_centres(window):
    width, height = 32, 24
    camera = orbit(40, -15, fov_deg=35, aspect=width / height)
    rays = camera_rays(camera, width, height, window)
    left, top, right, bottom = window or (0, 0, width, height)
    assert rays.directions.shape == ((right - left) * (bottom - top), 3)
    columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    for depth in (0.4, 1.3):
        points = from_normalised(rays.origin + depth * rays.directions.astype(np.float64))
        pixels, planar = camera.project(points, width, height)
        np.testing.assert_allclose(pixels[:, 0], columns.ravel(), atol=1e-3)
        np.testing.assert_allclose(pixels[:, 1], rows.ravel(), atol=1e-3)
        np.testing.assert_allclose(planar, depth, rtol=1e-5)


# ---------------------------------------------------------------- compositing


def composite_loop(depth, optical, values):
    """Front to back, one sample after another, in float64."""
    rays, samples = depth.shape
    weights = np.zeros((rays, samples))
    for r in range(rays):
        light = 1.0
        for k in np.argsort(depth[r], kind="stable"):
            alpha = 1 - np.exp(-optical[r, k])
            weights[r, k] = light * alpha
            light *= 1 - alpha
    return (weights[..., None] * values).sum(1), weights


def random_samples(seed, rays=40, samples=24, channels=5):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 1.5, (rays, samples))
    optical = rng.exponential(0.3, (rays, samples))
    unused = rng.random((rays, samples)) < 0.3
    depth[unused], optical[unused] = np.inf, 0
    depth[0], optical[0] = np.inf, 0
    return depth, optical, rng.normal(size=(rays, samples, channels))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_composite_against_a_loop(dtype):
    depth, optical, values = random_samples(0)
    tensors = [torch.from_numpy(a.astype(dtype)) for a in (depth, optical, values)]
    colour, weights = composite(*tensors)
    expected = composite_loop(depth, optical, values)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(colour.numpy(), expected[0], atol=tolerance)
    np.testing.assert_allclose(weights.numpy(), expected[1], atol=tolerance)
    assert (colour[0] == 0).all()


def test_composite_order_of_slots_does_not_matter():
    depth, optical, values = (torch.from_numpy(a) for a in random_samples(1))
    shuffle = torch.randperm(depth.shape[1], generator=torch.Generator().manual_seed(0))
    first, weights = composite(depth, optical, values)
    second, shuffled = composite(depth[:, shuffle], optical[:, shuffle], values[:, shuffle])
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(weights[:, shuffle], shuffled)


def test_composite_weights_sum_to_the_opacity():
    depth, optical, values = (torch.from_numpy(a) for a in random_samples(2))
    _, weights = composite(depth, optical, values)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), 1 - torch.exp(-optical.sum(1)))


def test_composite_opaque_and_thin_media():
    """No NaN behind an opaque sample, and no loss of precision in thin ones."""
    depth = torch.tensor([[1.0, 2.0, 3.0]])
    values = torch.eye(3)[None]
    colour, _ = composite(depth, torch.tensor([[0.0, 1e6, 1e6]]), values)
    torch.testing.assert_close(colour, torch.tensor([[0.0, 1.0, 0.0]]))
    thin = torch.full((1, 3), 1e-9)
    torch.testing.assert_close(composite(depth, thin, values)[1], thin, rtol=1e-6, atol=0)


def test_composite_gradients():
    depth, optical, values = (torch.from_numpy(a) for a in random_samples(3, 4, 6, 2))
    optical, values = optical.requires_grad_(), values.requires_grad_()
    assert torch.autograd.gradcheck(lambda o, v: composite(depth, o, v), (optical, values))


def test_two_overlapping_constant_media():
    """Head on [0.4, 1.0] and hair on [0.1, 0.7], sampled apart, seen as one medium.

    With σ the sum of the densities at t, T(t) = exp(−∫₀ᵗ σ); the light of medium i is
    ∫ σᵢ T dt, which is elementary on each of the three pieces.
    """
    head, hair = (0.4, 1.0, 3.0), (0.1, 0.7, 2.0)
    pieces = [(0.1, 0.4, 0.0, 2.0), (0.4, 0.7, 3.0, 2.0), (0.7, 1.0, 3.0, 0.0)]
    light, expected = 1.0, np.zeros(2)
    for start, stop, *density in pieces:
        total = sum(density)
        lost = light * (1 - np.exp(-total * (stop - start)))
        expected += lost * np.array(density) / total
        light -= lost
    errors = []
    for count in (64, 256):
        depth, optical, values = [], [], []
        for medium, (start, stop, density) in enumerate((head, hair)):
            # Unequal counts: each medium has strata of its own.
            strata = count + 7 * medium
            depth.append(start + (np.arange(strata) + 0.5) / strata * (stop - start))
            optical.append(np.full(strata, density * (stop - start) / strata))
            values.append(np.tile(np.eye(2)[medium], (strata, 1)))
        tensors = (
            torch.from_numpy(np.concatenate(part)[None]) for part in (depth, optical, values)
        )
        colour, weights = composite(*tensors)
        assert weights.sum().item() == pytest.approx(1 - light, abs=1e-12)
        errors.append(np.abs(colour[0].numpy() - expected).max())
    assert errors[0] < 5e-3
    assert errors[1] < errors[0] / 3  # first order in the spacing


# ---------------------------------------------------------------- samples around the mesh


def bumpy_mesh(width=20, height=16):
    """Rays of a window and a smooth mesh depth with a hole and a free border."""
    camera = orbit(20, 10, fov_deg=30)
    rays = camera_rays(camera, width, height)
    column, row = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    depth = (1.2 + 0.05 * column + 0.03 * row**2).astype(np.float32)
    depth[(np.abs(column) > 0.7) | (np.abs(row) > 0.7)] = np.inf
    depth[7, 9] = np.inf
    return depth, rays


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("count", [1, 5, 16])
def test_head_samples(count, jitter):
    mesh, rays = bumpy_mesh()
    rng = np.random.default_rng(0) if jitter else None
    samples, hit = head_samples(mesh, rays, count, rng)
    assert samples.depth.shape == samples.spacing.shape == (mesh.size, count)
    assert samples.depth.dtype == samples.spacing.dtype == np.float32
    np.testing.assert_array_equal(hit, np.isfinite(mesh).ravel())

    used = samples.spacing[:, 0] > 0
    assert used[hit].all()
    assert np.isfinite(samples.depth[used]).all()
    assert np.isposinf(samples.depth[~used]).all()
    assert (samples.spacing[~used] == 0).all()
    assert (np.diff(samples.depth[used], axis=1) > 0).all()
    np.testing.assert_allclose(samples.spacing[used].sum(1), BAND, rtol=1e-5)

    length = np.linalg.norm(rays.directions, axis=1)
    offset = (samples.depth[hit] - mesh.ravel()[hit, None]) * length[hit, None]
    assert offset.min() >= -BAND_FRONT - 1e-5
    assert offset.max() <= BAND_BACK + 1e-5
    stratum = (offset + BAND_FRONT) / BAND * count - np.arange(count)
    assert (stratum > -1e-3).all()
    assert (stratum < 1 + 1e-3).all()


def test_head_samples_beside_the_mesh():
    """One pixel around the silhouette has samples, at the nearest of its neighbours' depths."""
    mesh, rays = bumpy_mesh()
    samples, hit = head_samples(mesh, rays, 4, None)
    used = (samples.spacing[:, 0] > 0).reshape(mesh.shape)
    finite = np.pad(np.isfinite(mesh), 1)
    h, w = mesh.shape
    around = np.zeros_like(used)
    for dy in range(3):
        for dx in range(3):
            around |= finite[dy : dy + h, dx : dx + w]
    np.testing.assert_array_equal(used, around)
    assert not hit.reshape(mesh.shape)[7, 9]
    middle = samples.depth.reshape(*mesh.shape, 4)[7, 9].mean()
    length = np.linalg.norm(rays.directions, axis=1).reshape(mesh.shape)[7, 9]
    nearest = mesh[6:9, 8:11].min()
    assert middle == pytest.approx(nearest + (BAND_BACK - BAND_FRONT) / 2 / length, abs=1e-5)


def test_head_samples_of_an_empty_window():
    mesh = np.full((3, 4), np.inf, dtype=np.float32)
    rays = camera_rays(orbit(0, 0), 4, 3)
    samples, hit = head_samples(mesh, rays, 4, None)
    assert not hit.any()
    assert not samples.spacing.any()
    assert np.isposinf(samples.depth).all()


# ---------------------------------------------------------------- samples in the hair


def blob(seed=0):
    """Occupancy with a few boxes, indexed [z, y, x]."""
    rng = np.random.default_rng(seed)
    grid = np.zeros((GRID, GRID, GRID), dtype=np.uint8)
    for _ in range(4):
        low = rng.integers(GRID // 16, 5 * GRID // 8, 3)
        high = low + rng.integers(GRID // 6, GRID // 2, 3)
        grid[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    return grid


def occupied_depths(grid, rays, r, near, far, steps=40_000):
    """Finely marched: depths in occupied cells, and the length of one step in depth."""
    step = (far - near) / steps
    z = near + (np.arange(steps) + 0.5) * step
    cell = np.floor(((rays.origin + z[:, None] * rays.directions[r]) + 1) / 2 * GRID).astype(int)
    inside = ((cell >= 0) & (cell < GRID)).all(1)
    x, y, w = np.clip(cell, 0, GRID - 1).T
    return z[inside & (grid[w, y, x] != 0)], step


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("count", [3, 16])
def test_hair_samples(count, jitter):
    grid = blob()
    rays = camera_rays(orbit(25, 15, fov_deg=22), 12, 12)
    total = len(rays.directions)
    stop = np.full(total, np.inf, dtype=np.float32)
    samples = hair_samples(grid, rays, stop, count, np.random.default_rng(1) if jitter else None)
    assert samples.depth.shape == samples.spacing.shape == (total, count)
    length = np.linalg.norm(rays.directions, axis=1)
    distance = np.linalg.norm(rays.origin)
    crossing = 0
    for r in range(total):
        near, far = (distance - 2) / length[r], (distance + 2) / length[r]
        occupied, step = occupied_depths(grid, rays, r, near, far)
        depth, spacing = samples.depth[r], samples.spacing[r]
        expected = min(len(occupied) * step * length[r], HAIR_REACH)
        used = spacing > 0
        # The march looks twice a cell, so each end of an interval is off by half a step at most;
        # a ray meets four boxes, and may graze a corner.
        np.testing.assert_allclose(spacing.sum(), expected, atol=8 * CELL / 4 + 1e-6)
        if not used.any():
            assert np.isposinf(depth).all()
            continue
        crossing += 1
        assert used.all()
        assert (np.diff(depth) >= 0).all()
        # The strata widen with depth, all by the same law.
        strata = np.diff(np.linspace(0, 1, count + 1) ** HAIR_BIAS)
        np.testing.assert_allclose(spacing / spacing.sum(), strata, rtol=1e-4)
        if len(occupied):
            gap = np.abs(depth[:, None] - occupied[None]).min(1) * length[r]
            assert gap.max() <= CELL / 2
    assert crossing > 40


@settings(deadline=None, max_examples=40)
@given(st.floats(0.3, 2.0), st.integers(0, 2**31), st.integers(1, 12))
def test_hair_samples_stop(depth, seed, count):
    """Nothing beyond the stop depth; the spacing sums to the occupied length, or the reach."""
    grid = np.ones((GRID, GRID, GRID), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    rays = camera_rays(orbit(rng.uniform(-180, 180), rng.uniform(-60, 60), fov_deg=20), 6, 6)
    stop = (depth * rng.uniform(0.7, 1.3, 36)).astype(np.float32)
    stop[::5] = np.inf
    samples = hair_samples(grid, rays, stop, count, rng)
    used = samples.spacing > 0
    row, slot = np.nonzero(used)
    assert (samples.depth[row, slot] <= stop[row] + 1e-6).all()
    # A full grid: the occupied length is the part of the ray inside the box and before the stop.
    with np.errstate(divide="ignore"):
        sides = np.stack([-1 - rays.origin, 1 - rays.origin])[:, None] / rays.directions
    near, far = sides.min(0).max(1).clip(min=0), np.minimum(sides.max(0).min(1), stop)
    length = np.linalg.norm(rays.directions, axis=1)
    expected = np.minimum(np.maximum(far - near, 0) * length, HAIR_REACH)
    np.testing.assert_allclose(samples.spacing.sum(1), expected, atol=1e-4)


def test_hair_samples_skip_gaps_and_end_with_the_reach():
    """A thin fringe, a gap, a thick mass: the mass is sampled with what the fringe left over."""
    grid = np.zeros((GRID, GRID, GRID), dtype=np.uint8)
    grid[:, :, 0:3] = 1  # x from −1, three cells
    grid[:, :, GRID // 2 :] = 1  # x from 0 to 1
    fringe = 3 * CELL
    rays = Rays(np.array([-3, 0.01, 0.01], np.float32), np.array([[1, 0, 0]], np.float32))
    samples = hair_samples(grid, rays, np.full(1, np.inf, np.float32), 30, None)
    x = samples.depth[0] - 3
    assert fringe < HAIR_REACH
    assert ((x > -1) & (x < -1 + fringe)).sum() > 5
    assert ((x > 0) & (x < HAIR_REACH - fringe + CELL)).sum() > 10
    # The march looks twice a cell: the ends of an interval are off by half a look at most.
    assert ((x < -1 + fringe + CELL / 4) | (x > -CELL / 4)).all()
    assert samples.spacing.sum() == pytest.approx(HAIR_REACH, abs=1e-4)


def test_hair_samples_axes():
    """The grid is indexed [z, y, x]: one occupied cell is met by the one ray that aims at it."""
    grid = np.zeros((GRID, GRID, GRID), dtype=np.uint8)
    x, y, z = 10, 30, 50
    grid[z, y, x] = 1
    centre = (np.array([x, y, z]) + 0.5) * CELL - 1
    origin = np.array([0.3, -0.2, 3.0])
    directions = np.array([centre - origin, centre[[2, 1, 0]] - origin, centre[[1, 0, 2]] - origin])
    rays = Rays(origin.astype(np.float32), directions.astype(np.float32))
    samples = hair_samples(grid, rays, np.full(3, np.inf, np.float32), 4, None)
    np.testing.assert_array_equal((samples.spacing > 0).any(1), [True, False, False])
    np.testing.assert_allclose(samples.depth[0], 1, atol=CELL / np.linalg.norm(directions[0]))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("offset", [0.5, 1.5])
def test_hair_samples_of_a_ray_along_an_axis(axis, offset):
    grid = np.ones((GRID, GRID, GRID), dtype=np.uint8)
    origin = np.full(3, offset)
    origin[axis] = 4
    direction = np.zeros((1, 3))
    direction[0, axis] = -1 / BOX_HALF
    rays = Rays(origin.astype(np.float32), direction.astype(np.float32))
    samples = hair_samples(grid, rays, np.full(1, np.inf, np.float32), 8, None)
    expected = HAIR_REACH if offset < 1 else 0
    assert samples.spacing.sum() == pytest.approx(expected, abs=1e-5)


def test_hair_samples_from_inside_and_of_an_empty_grid():
    rays = Rays(np.zeros(3, np.float32), np.array([[0, 0, 1], [0.1, 1, 0]], np.float32))
    stop = np.full(2, np.inf, np.float32)
    grid = np.ones((GRID, GRID, GRID), dtype=np.uint8)
    samples = hair_samples(grid, rays, stop, 4, None)
    assert (samples.depth > 0).all()
    np.testing.assert_allclose(samples.spacing.sum(1), HAIR_REACH, atol=1e-5)
    samples = hair_samples(np.zeros_like(grid), rays, stop, 4, None)
    assert np.isposinf(samples.depth).all()
    assert not samples.spacing.any()
    assert not hair_samples(grid, rays, np.zeros(2, np.float32), 4, None).spacing.any()
