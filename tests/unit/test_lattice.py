"""Attaching points to meshes and the warp that lets every identity wear the same hair."""

from __future__ import annotations

import numpy as np
import pytest

from head360.geometry.attach import attach, closest_on_triangle, vertex_normals
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lattice import Lattice
from head360.rendering.cameras import from_normalised, to_normalised


@pytest.fixture(scope="module")
def heads() -> tuple[np.ndarray, np.ndarray]:
    model = BilinearModel.builtin()
    skin = model.topology.part_vertices("face", "head_neck")
    shape = model.sample_shape(np.random.default_rng(5))
    return model.neutral(shape)[skin], model.neutral(model.mean_shape)[skin]


def test_closest_point_is_the_minimum_over_a_dense_grid() -> None:
    rng = np.random.default_rng(0)
    triangles = rng.normal(size=(40, 3, 3))
    points = rng.normal(size=(40, 3)) * 2
    bary = closest_on_triangle(points, triangles)
    assert bary.min() >= 0
    np.testing.assert_allclose(bary.sum(1), 1)
    steps = np.linspace(0, 1, 81)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(steps, steps))
    weights = np.stack([a, b, 1 - a - b], 1)[a + b <= 1]
    for point, triangle, found in zip(points, triangles, bary, strict=True):
        best = np.linalg.norm(weights @ triangle - point, axis=1).min()
        distance = np.linalg.norm(found @ triangle - point)
        assert distance <= best + 1e-9
        assert distance >= best - 0.1


def test_attached_points_keep_their_signed_height() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=float)
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    place = attach(np.array([[0.2, 0.2, 0.3], [0.9, 0.9, -0.2]]), vertices, faces, nearest=2)
    np.testing.assert_array_equal(place.face, [0, 1])
    np.testing.assert_allclose(place.height, [0.3, -0.2], atol=1e-12)


def test_vertex_normals_of_a_sphere_point_outwards() -> None:
    from skimage.measure import marching_cubes

    grid = np.linalg.norm(np.mgrid[-1:1:32j, -1:1:32j, -1:1:32j], axis=0)
    vertices, faces, _, _ = marching_cubes(grid, 0.7)
    normals = vertex_normals(vertices, faces)
    outward = vertices - vertices.mean(0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    cosine = (normals * outward).sum(1)
    assert np.abs(cosine).min() > 0.9


def test_warp_carries_an_identity_near_the_average_head(
    heads: tuple[np.ndarray, np.ndarray],
) -> None:
    identity, average = heads
    lattice = Lattice.between(identity, average)
    warped = from_normalised(lattice.to_canonical(to_normalised(identity).astype(np.float32)))
    before = np.linalg.norm(identity - average, axis=1).mean()
    after = np.linalg.norm(warped - average, axis=1).mean()
    assert before > 0.004
    assert after < 0.5 * before


def test_warp_and_its_inverse_cancel(heads: tuple[np.ndarray, np.ndarray]) -> None:
    lattice = Lattice.between(*heads)
    points = np.random.default_rng(1).uniform(-0.9, 0.9, (500, 3)).astype(np.float32)
    back = lattice.to_canonical(lattice.from_canonical(points))
    np.testing.assert_allclose(back, points, atol=2e-4)


def test_the_average_head_is_not_warped(heads: tuple[np.ndarray, np.ndarray]) -> None:
    average = heads[1]
    points = np.random.default_rng(2).uniform(-1, 1, (200, 3)).astype(np.float32)
    np.testing.assert_allclose(
        Lattice.between(average, average).to_canonical(points), points, atol=1e-6
    )
