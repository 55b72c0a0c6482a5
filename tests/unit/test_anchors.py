"""Head space from blendshapes: the table is the model's, and any head in any space is found."""

from __future__ import annotations

import numpy as np
import pytest

from head360.arkit import NAMES
from head360.arkit.anchors import anchors, fit, middles, vertex_areas
from head360.errors import BadInput
from head360.geometry.anchors import measure
from head360.geometry.bilinear import BilinearModel


def _points_of(vertices, deltas, faces):
    centres, moves = middles(vertices, deltas, vertex_areas(vertices, faces))
    return {n: c for n, c, moved in zip(NAMES, centres, moves, strict=True) if moved}


def test_the_table_is_what_the_model_gives():
    table, measured = anchors(), measure()
    assert list(table) == list(measured)
    for name, point in measured.items():
        assert table[name] == pytest.approx(point, abs=2e-5)


def test_the_table_is_a_face():
    table = anchors()
    assert table["eyeBlinkLeft"][0] > 0.02 > -0.02 > table["eyeBlinkRight"][0]
    assert table["browInnerUp"][1] > table["eyeBlinkLeft"][1] > table["jawOpen"][1]
    assert all(point[2] > 0.05 for point in table.values())


@pytest.mark.parametrize("seed", range(4))
def test_other_people_are_found_in_any_space(seed):
    """Teeth, eyes and lashes included, in centimetres, turned and moved."""
    rng = np.random.default_rng(seed)
    model = BilinearModel.builtin()
    person = model.identity(model.sample_shape(rng))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    shift, scale = rng.uniform(-300, 300, 3), 100.0
    vertices = scale * person.neutral.astype(np.float64) @ turn.T + shift
    found = fit(_points_of(vertices, scale * person.rig_deltas() @ turn.T, model.topology.faces))
    assert found.scale == pytest.approx(scale, rel=0.12)  # heads differ in size
    assert np.linalg.norm(found.matrix[:3, 3] - shift) / scale < 0.02
    angle = np.degrees(np.arccos((np.trace(turn.T @ found.matrix[:3, :3] / found.scale) - 1) / 2))
    assert angle < 9
    assert found.error < 0.01


def test_a_dense_patch_of_vertices_pulls_nothing():
    """Where a mesh is subdivided says nothing about where the face is."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21)), -1).reshape(-1, 2)
    coarse = np.column_stack([grid, np.zeros(len(grid))])
    index = np.arange(21 * 21).reshape(21, 21)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    bent = coarse.copy()
    bent[:, 0] = np.sign(bent[:, 0]) * np.abs(bent[:, 0]) ** 2  # crowds towards the middle
    for points in (coarse, bent):
        delta = np.zeros_like(points)
        delta[:, 2] = np.exp(-0.5 * ((points[:, 0] - 0.3) ** 2 + points[:, 1] ** 2) / 0.15**2)
        centre, _ = middles(points, delta[None], vertex_areas(points, faces))
        assert centre[0] == pytest.approx((0.3, 0.0, 0.0), abs=0.02)


def test_one_wrong_shape_does_not_turn_the_head():
    points = {name: 2.0 * point for name, point in anchors().items()}
    points["jawOpen"] = np.array([0.0, -9.0, 0.0])
    found = fit(points)
    assert np.abs(found.matrix - np.diag([2.0, 2.0, 2.0, 1.0])).max() < 1e-3


def test_shapes_that_move_nothing_are_told():
    vertices = np.random.default_rng(0).normal(size=(9, 3))
    deltas = np.zeros((2, 9, 3))
    deltas[1, 4] = 1.0
    centres, moves = middles(vertices, deltas, np.ones(9))
    assert moves.tolist() == [False, True]
    assert centres[1] == pytest.approx(vertices[4])


def test_what_is_no_face_is_refused():
    with pytest.raises(BadInput, match="Only 2 of the blendshapes"):
        fit({name: anchors()[name] for name in ("jawOpen", "browInnerUp")})
    with pytest.raises(BadInput, match="all move the same spot"):
        fit({name: np.ones(3) for name in anchors()})
