"""Rasterisers against a dense float64 reference: every pixel against every triangle."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, Camera, look_at, orbit
from head360.rendering.raster import (
    NEAR,
    PLANES,
    Cutout,
    Fragments,
    interpolate,
    orthographic_screens,
    perspective_screen,
    rasterize,
)

torch = pytest.importorskip("torch")

from head360.rendering import raster_gpu  # noqa: E402

SIZE = (41, 33)  # width, height: odd and unequal, so that swapped axes show
MARGIN = 1e-7  # of a barycentric weight, below which rounding decides about coverage


def _numba(screens, faces, width, height, cutout=None) -> Fragments:
    return rasterize(screens, faces, width, height, cutout, device="cpu")


def _torch(screens, faces, width, height, cutout=None, device="cpu") -> Fragments:
    return raster_gpu.rasterize_torch(screens, faces, width, height, cutout, device)


def _cuda(screens, faces, width, height, cutout=None) -> Fragments:
    return _torch(screens, faces, width, height, cutout, "cuda")


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
RASTERISERS = [
    pytest.param(_numba, id="numba"),
    pytest.param(_torch, id="torch"),
    pytest.param(_cuda, id="cuda", marks=[pytest.mark.gpu, needs_cuda]),
]
every = pytest.mark.parametrize("rasterise", RASTERISERS)


@dataclass
class Reference:
    """One view; ``sure`` is False where rounding decides about coverage, depth order or alpha."""

    face: np.ndarray
    bary: np.ndarray
    depth: np.ndarray
    sure: np.ndarray


def reference(screen, faces, width, height, cutout=None) -> Reference:
    """Solve each pixel's weights in each triangle as a linear system, in float64."""
    screen = np.asarray(screen, dtype=np.float64)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)
    best = np.full(len(pixels), np.inf)
    face = np.full(len(pixels), -1)
    bary = np.zeros((len(pixels), 2))
    sure = np.ones(len(pixels), dtype=bool)
    for index, triangle in enumerate(faces):
        x, y, z, w = screen[triangle].T
        if z.min() < NEAR:
            continue
        system = np.stack([x, y, np.ones(3)])
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        flat = np.linalg.solve(system, pixels.T).T
        inside = (flat >= 0).all(1)
        sure &= ~((flat > -MARGIN).all(1) & (np.abs(flat) < MARGIN).any(1))
        correct = flat * w / (flat @ w)[:, None]
        depth = correct @ z
        if cutout is not None and cutout.layers[index] >= 0:
            solid, clear = _alpha(correct, index, cutout)
            sure &= clear | ~inside
            inside &= solid
        sure &= ~(inside & np.isfinite(best) & (np.abs(depth - best) < 1e-5 * np.abs(depth)))
        nearer = inside & (depth < best)
        best[nearer], face[nearer], bary[nearer] = depth[nearer], index, correct[nearer, :2]
    shape = (height, width)
    return Reference(
        face.reshape(shape), bary.reshape(*shape, 2), best.reshape(shape), sure.reshape(shape)
    )


def _alpha(weights, index, cutout):
    """Whether each pixel passes the alpha test, and whether rounding leaves no doubt about it."""
    mask = cutout.masks[cutout.layers[index]]
    height, width = mask.shape
    uv = weights @ cutout.corner_uvs[index].astype(np.float64)
    x, y = uv[:, 0] * width, (1 - uv[:, 1]) * height
    clear = (np.abs(x - np.round(x)) > 1e-5) & (np.abs(y - np.round(y)) > 1e-5)
    column = np.clip(np.floor(np.nan_to_num(x)), 0, width - 1).astype(int)
    row = np.clip(np.floor(np.nan_to_num(y)), 0, height - 1).astype(int)
    return mask[row, column] >= 128, clear


def agree(fragments: Fragments, screens, faces, width, height, cutout=None) -> None:
    assert fragments.face.shape == (len(screens), height, width)
    assert fragments.face.dtype == np.int32
    assert fragments.bary.dtype == fragments.depth.dtype == np.float32
    for view, screen in enumerate(screens):
        expected = reference(screen, faces, width, height, cutout)
        sure = expected.sure
        assert sure.mean() > 0.97, "the scene says too little"
        np.testing.assert_array_equal(fragments.face[view][sure], expected.face[sure])
        np.testing.assert_allclose(fragments.bary[view][sure], expected.bary[sure], atol=2e-6)
        np.testing.assert_allclose(fragments.depth[view][sure], expected.depth[sure], rtol=1e-6)


def soup(seed: int, count: int, size: float, depths=(0.3, 3.0)) -> tuple[np.ndarray, np.ndarray]:
    """Screen (N, 4) and faces of random triangles, some of them partly or wholly off-screen."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.3, 1.3, (count, 1, 2))
    xy = (centre + rng.normal(scale=size, size=(count, 3, 2))) * SIZE
    z = rng.uniform(*depths, (count, 3, 1))
    screen = np.concatenate([xy, z, 1 / z], -1).reshape(-1, 4).astype(np.float32)
    faces = rng.permutation(3 * count).reshape(count, 3)  # mixes corners and windings
    faces = np.where(rng.random((count, 1)) < 0.5, faces, np.arange(3 * count).reshape(count, 3))
    return screen, faces.astype(np.int32)


@every
@pytest.mark.parametrize(
    ("count", "size"), [(60, 0.3), (200, 0.1), (400, 0.02)], ids=["large", "middle", "tiny"]
)
def test_random_soups(rasterise, count, size):
    views = [soup(seed, count, size) for seed in range(3)]
    screens, faces = np.stack([screen for screen, _ in views]), views[0][1]
    agree(rasterise(screens, faces, *SIZE), screens, faces, *SIZE)


@every
def test_near_plane_drops_whole_triangles(rasterise):
    screen, faces = soup(5, 150, 0.15, depths=(-0.5, 1.0))
    screen[::7, 2] = NEAR * 1.001  # just behind the plane: kept
    screen[::7, 3] = 1 / screen[::7, 2]
    assert ((screen[faces][..., 2] < NEAR).any(1)).mean() > 0.3
    agree(rasterise(screen[None], faces, *SIZE), screen[None], faces, *SIZE)


@every
def test_one_vertex_in_front_of_the_near_plane(rasterise):
    screen = np.array([[0, 0, 1, 1], [40, 0, 1, 1], [0, 30, 0.009, 1 / 0.009]], np.float32)
    fragments = rasterise(screen[None], np.array([[0, 1, 2]], np.int32), *SIZE)
    assert (fragments.face == -1).all()


@every
def test_nothing_to_see(rasterise):
    screen, faces = soup(1, 10, 0.1)
    for shift in (-1000, 1000):
        for axis in (0, 1):
            away = screen.copy()
            away[:, axis] += shift
            fragments = rasterise(away[None], faces, *SIZE)
            assert (fragments.face == -1).all()
            assert (fragments.bary == 0).all()
            assert np.isposinf(fragments.depth).all()
    fragments = rasterise(screen[None], np.zeros((0, 3), np.int32), *SIZE)
    assert (fragments.face == -1).all()


@every
def test_degenerate_triangles_are_skipped(rasterise):
    screen = np.array([[0, 0, 1, 1], [20, 20, 1, 1], [10, 10, 1, 1], [0, 0, 1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 0, 0]], np.int32)
    assert (rasterise(screen[None], faces, *SIZE).face == -1).all()


@every
def test_edges_belong_to_the_triangle_and_leave_no_holes(rasterise):
    """A grid whose vertices and diagonals lie exactly on pixel centres."""
    width, height = 17, 13
    x, y = np.meshgrid(np.arange(0, 17, 4) + 0.5, np.arange(0, 13, 4) + 0.5)
    screen = np.stack([x, y, np.full_like(x, 2), np.full_like(x, 0.5)], -1).reshape(-1, 4)
    corner = (np.arange(3)[:, None] * 5 + np.arange(4)).reshape(-1, 1)
    cells = np.array([[0, 1, 5], [6, 5, 1]], np.int32)
    faces = np.concatenate([corner + cells[:1], corner + cells[1:]]).astype(np.int32)
    fragments = rasterise(screen[None].astype(np.float32), faces, width, height)
    assert (fragments.face >= 0).all()
    np.testing.assert_array_equal(fragments.depth, 2)
    # On a shared diagonal the lower index wins: that is the first triangle of the cell.
    assert fragments.face[0, 2, 2] == 0
    assert fragments.face[0, 3, 3] == 12


@every
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_equal_depth_goes_to_the_lowest_index(rasterise, order):
    # No pixel centre lies on an edge; the next test looks at those.
    copies = np.array([[2, 2, 1.5, 1 / 1.5], [38, 3.25, 1.5, 1 / 1.5], [5, 30, 1.5, 1 / 1.5]])
    screen = np.concatenate([copies, copies[::-1], copies]).astype(np.float32)
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.int32)[list(order)]
    fragments = rasterise(screen[None], faces, *SIZE)
    assert set(np.unique(fragments.face)) == {-1, 0}
    assert (fragments.face == 0).sum() > 100


@every
@pytest.mark.parametrize("roll", [0, 1, 2])
@pytest.mark.parametrize("flip", [1, -1])
def test_pixels_exactly_on_an_edge_are_covered(rasterise, roll, flip):
    """Whichever corner the edge lies opposite to: else two triangles that share it leave a hole."""
    # Corners on multiples of 1/4: edge functions are exact in float64, only sums of weights round.
    x, y = np.random.default_rng(7).integers(0, 132, (2, 3000, 3)) / 4
    ends = np.array([x[:, :2], y[:, :2]])
    on_edge = np.floor((ends[..., 0] + ends[..., 1]) / 2) + 0.5  # near the middle of the edge
    cross = (ends[0, :, 1] - ends[0, :, 0]) * (on_edge[1] - ends[1, :, 0]) - (
        ends[1, :, 1] - ends[1, :, 0]
    ) * (on_edge[0] - ends[0, :, 0])
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    inside = ((on_edge >= ends.min(-1)) & (on_edge <= ends.max(-1))).all(0)
    chosen = np.flatnonzero((cross == 0) & (area != 0) & inside)
    assert len(chosen) > 20
    order = np.roll([0, 1, 2], roll)[::flip]
    for index in chosen:
        screen = np.ones((3, 4), np.float32)
        screen[:, 0], screen[:, 1] = x[index, order], y[index, order]
        face = rasterise(screen[None], np.array([[0, 1, 2]], np.int32), 33, 33).face[0]
        column, row = np.floor(on_edge[:, index]).astype(int)
        assert face[row, column] == 0, screen[:, :2]


@every
def test_the_nearest_wins_whatever_the_order(rasterise):
    near = np.array([[10, 5, 1, 1], [30, 5, 1, 1], [20, 25, 1, 1]], np.float32)
    far = near * (1, 1, 2, 0.5) + (0, 1, 0, 0)
    screen = np.concatenate([near, far]).astype(np.float32)
    first = rasterise(screen[None], np.array([[0, 1, 2], [3, 4, 5]], np.int32), *SIZE)
    second = rasterise(screen[None], np.array([[3, 4, 5], [0, 1, 2]], np.int32), *SIZE)
    hit = first.face >= 0
    np.testing.assert_array_equal(second.face[hit], 1 - first.face[hit])
    np.testing.assert_array_equal(first.depth, second.depth)
    assert (first.depth[0, 10, 20], first.face[0, 10, 20]) == (1, 0)


@functools.cache
def cutout_scene(seed: int = 3):
    screen, faces = soup(seed, 120, 0.25)
    rng = np.random.default_rng(seed)
    layers = rng.integers(-1, 3, len(faces)).astype(np.int32)
    uvs = rng.uniform(-0.2, 1.2, (len(faces), 3, 2)).astype(np.float32)
    masks = rng.choice(np.array([0, 127, 128, 255], np.uint8), (3, 12, 20))
    return screen, faces, Cutout(uvs, layers, masks)


@every
def test_cutouts(rasterise):
    screen, faces, cutout = cutout_scene()
    fragments = rasterise(screen[None], faces, *SIZE, cutout)
    agree(fragments, screen[None], faces, *SIZE, cutout)
    opaque = rasterise(screen[None], faces, *SIZE)
    assert (opaque.face != fragments.face).mean() > 0.1  # the masks matter in this scene


@every
def test_cutout_orientation(rasterise):
    """v points up: the mask's first row is at v = 1, at the top of the picture here."""
    screen = np.array([[0, 0, 1, 1], [16, 0, 1, 1], [0, 16, 1, 1], [16, 16, 1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [3, 2, 1]], np.int32)
    corners = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.float32)
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 0, :3] = 255
    cutout = Cutout(corners[faces], np.zeros(2, np.int32), mask)
    fragments = rasterise(screen[None], faces, 16, 16, cutout)
    expected = np.zeros((16, 16), dtype=bool)
    expected[:4, :12] = True
    np.testing.assert_array_equal(fragments.face[0] >= 0, expected)


def scene(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.8, 0.8, (count, 1, 3))
    corners = centre + rng.normal(scale=0.3, size=(count, 3, 3))
    vertices = (corners * BOX_HALF + BOX_CENTRE).reshape(-1, 3).astype(np.float32)
    return vertices, np.arange(3 * count, dtype=np.int32).reshape(count, 3)


@every
def test_perspective_weights_against_ray_casting(rasterise):
    """The weights name the point of the 3-D triangle that the pixel's ray hits."""
    width, height = SIZE
    vertices, faces = scene(11)
    camera = orbit(35, 20, fov_deg=70, aspect=width / height)
    screen = perspective_screen(vertices, camera, width, height)
    fragments = rasterise(screen[None], faces, width, height)
    row, column = np.nonzero(fragments.face[0] >= 0)
    assert len(row) > 300
    corners = vertices[faces[fragments.face[0, row, column]]].astype(np.float64)
    # The ray in head space, with planar depth as its parameter, meets the triangle's plane.
    pixel = np.stack([(column + 0.5) / width, (row + 0.5) / height, np.ones(len(row))], 1)
    ray = pixel @ np.linalg.inv(camera.intrinsics).T @ camera.cam2world[:3, :3].T
    edges = np.stack([corners[:, 0] - corners[:, 2], corners[:, 1] - corners[:, 2], -ray], -1)
    answer = np.linalg.solve(edges, (camera.position - corners[:, 2])[..., None])[..., 0]
    np.testing.assert_allclose(fragments.depth[0, row, column], answer[:, 2], rtol=2e-4)
    # Screen coordinates are float32, so triangles seen from the side are less exact.
    error = np.abs(fragments.bary[0, row, column] - answer[:, :2]).max(1)
    assert np.quantile(error, 0.9) < 2e-4
    assert error.max() < 2e-2


def test_perspective_screen_is_the_cameras_projection():
    vertices, _ = scene(4)
    camera = Camera(look_at((0.3, 0.2, 0.9), (0, 0, 0)), orbit(0, 0, fov_deg=40).intrinsics)
    screen = perspective_screen(vertices, camera, 640, 480)
    pixels, depth = camera.project(vertices, 640, 480)
    np.testing.assert_allclose(screen[:, :2], pixels, atol=1e-3)
    np.testing.assert_allclose(screen[:, 2], depth, rtol=1e-6)
    np.testing.assert_allclose(screen[:, 2] * screen[:, 3], 1, rtol=1e-6)


@every
def test_orthographic_sides(rasterise):
    """Pixel grid and depth of the six sides, weights without perspective."""
    size = 24
    vertices, faces = scene(8)
    screens = orthographic_screens(vertices, size)
    fragments = rasterise(screens, faces, size, size)
    agree(fragments, screens, faces, size, size)
    for plane, (column_axis, row_axis, view_axis) in enumerate(PLANES):
        for side, sign in enumerate((1, -1)):
            view = 2 * plane + side
            row, column = np.nonzero(fragments.face[view] >= 0)
            seen = interpolate(fragments, view, faces, ((vertices - BOX_CENTRE) / BOX_HALF))
            point = seen[row, column]
            texel = np.stack([column, row], 1)
            np.testing.assert_allclose(
                point[:, [column_axis, row_axis]], (texel + 0.5) * 2 / size - 1, atol=2e-5
            )
            depth = fragments.depth[view, row, column] - NEAR
            np.testing.assert_allclose(depth, 1 - sign * point[:, view_axis], atol=2e-5)


def test_interpolate():
    screen, faces = soup(9, 60, 0.3)
    fragments = _numba(screen[None], faces, *SIZE)
    values = np.random.default_rng(0).normal(size=(len(screen), 5)).astype(np.float32)
    out = interpolate(fragments, 0, faces, values)
    assert out.shape == (SIZE[1], SIZE[0], 5)
    hit = fragments.face[0] >= 0
    assert (out[~hit] == 0).all()
    weights = fragments.bary[0][hit].astype(np.float64)
    weights = np.concatenate([weights, 1 - weights.sum(1, keepdims=True)], 1)
    expected = np.einsum("pk,pkc->pc", weights, values[faces[fragments.face[0][hit]]])
    np.testing.assert_allclose(out[hit], expected, atol=1e-5)
    np.testing.assert_allclose(
        interpolate(fragments, 0, faces, np.ones((len(screen), 1)))[hit], 1, atol=1e-6
    )


def test_torch_in_small_chunks(monkeypatch):
    """Chunks of pairs smaller than one triangle give the same picture."""
    screen, faces, cutout = cutout_scene()
    whole = _torch(screen[None], faces, *SIZE, cutout)
    monkeypatch.setattr(raster_gpu, "_PAIRS_PER_CHUNK", 50)
    parts = _torch(screen[None], faces, *SIZE, cutout)
    np.testing.assert_array_equal(parts.face, whole.face)
    np.testing.assert_array_equal(parts.depth, whole.depth)


def test_numba_and_torch_see_the_same():
    """Also where rounding decides: the same formulas in the same precision."""
    screens = np.stack([soup(seed, 300, 0.15)[0] for seed in range(4)])
    faces = soup(0, 300, 0.15)[1]
    first, second = _numba(screens, faces, *SIZE), _torch(screens, faces, *SIZE)
    assert (first.face != second.face).mean() < 1e-3
    same = first.face == second.face
    np.testing.assert_allclose(first.depth[same], second.depth[same], rtol=1e-6)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("near", [False, True], ids=["in front", "through the near plane"])
def test_default_cuda_route(near):
    """What ``device="cuda"`` chooses: nvdiffrast where installed (its grid is 1/256 pixel)."""
    width, height = 256, 192
    screen, faces = soup(2, 200, 0.1, depths=(-0.3, 1.5) if near else (0.3, 3.0))
    screen[:, :2] *= (width / SIZE[0], height / SIZE[1])
    expected = _numba(screen[None], faces, width, height)
    found = rasterize(screen[None], faces, width, height, device="cuda")
    same = expected.face == found.face
    assert same.mean() > 0.99
    hit = same & (expected.face >= 0)
    np.testing.assert_allclose(found.depth[hit], expected.depth[hit], rtol=1e-2)
    assert np.quantile(np.abs(found.bary[hit] - expected.bary[hit]), 0.99) < 1e-2
