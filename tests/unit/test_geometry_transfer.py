"""Deltas carried by local frames."""

from __future__ import annotations

import numpy as np
import pytest

from head360.errors import BadInput
from head360.geometry.assets import VARIABLE, find_assets
from head360.geometry.bilinear import BilinearModel
from head360.geometry.gaze import rotation
from head360.geometry.transfer import FrameTransfer, apply_gradients, similarity


@pytest.fixture(scope="module")
def mesh() -> tuple[np.ndarray, np.ndarray]:
    """A bumpy 12×12 sheet."""
    x, y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 12), indexing="ij")
    points = np.stack([x, y, 0.3 * np.sin(2 * x) * np.cos(y)], axis=-1).reshape(-1, 3)
    ids = np.arange(144).reshape(12, 12)
    a, b, c, d = ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return points, faces


def test_rigid_rotation_rotates_the_delta(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    points, faces = mesh
    turn = rotation(40.0, -25.0)
    gradients = FrameTransfer(points, faces).gradients(points @ turn.T + (1.0, 2.0, 3.0))
    delta = np.random.default_rng(0).standard_normal((2, len(points), 3))
    np.testing.assert_allclose(apply_gradients(gradients, delta), delta @ turn.T, atol=1e-5)


def test_affine_map_is_found(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    """In-plane stretch is recovered; a wider head gets a wider smile."""
    points, faces = mesh
    flat = points * (1, 1, 0)
    gradients = FrameTransfer(flat, faces).gradients(flat * (1.5, 1.0, 1.0))
    delta = np.tile([0.2, 0.1, 0.0], (1, len(points), 1))
    expected = np.tile([0.3, 0.1, 0.0], (1, len(points), 1))
    np.testing.assert_allclose(apply_gradients(gradients, delta), expected, atol=1e-5)


def test_rigid_groups_get_one_similarity(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    points, faces = mesh
    extra = np.random.default_rng(1).standard_normal((20, 3))
    both = np.concatenate([points, extra])
    group = np.arange(144, 164)
    moved = both.copy()
    moved[group] = 1.3 * both[group] @ rotation(10, 20).T
    moved[group] += 0.01 * np.random.default_rng(2).standard_normal((20, 3))
    transfer = FrameTransfer(both, faces, rigid_groups=[group])
    maps = transfer.gradients(moved)[group]
    assert np.ptp(maps, axis=0).max() == 0.0
    square = maps[0].T @ maps[0]
    np.testing.assert_allclose(square, np.eye(3) * square[0, 0], atol=1e-5)
    np.testing.assert_allclose(similarity(extra, 2 * extra), 2 * np.eye(3), atol=1e-12)


def test_expressions_depend_on_identity() -> None:
    """Not plain addition: the same shape differs between people by more than its rounding."""
    model = BilinearModel.builtin()
    face = model.topology.part_vertices("face")
    first, second = (model.deltas(model.shape_factors[i])[:, face] for i in (0, 1))
    difference = np.linalg.norm(first - second, axis=2)
    size = np.linalg.norm(first, axis=2)
    moving = size > 2e-3
    assert (difference[moving] / size[moving]).mean() > 0.05
    assert difference.max() > 1e-3


@pytest.mark.assets
def test_blinks_close_on_random_heads() -> None:
    try:
        assets = find_assets()
    except BadInput:
        pytest.skip("the raw assets are not here")
    from head360 import arkit
    from head360.geometry.ict import load_ict
    from head360.geometry.population import draw_coefficients
    from head360.geometry.transfer import ict_transfer

    ict = load_ict(assets)
    transfer = ict_transfer(ict)
    blink = ict.expression_deltas[arkit.INDEX["eyeBlinkLeft"]]
    eye = transfer.apertures[0]
    shut = ict.neutral + blink
    generic = (shut[eye.upper] - shut[eye.lower])[:, 1]
    framed, plain = [], []
    for head in ict.identities(draw_coefficients(8, 100, seed=7)):
        own = head + apply_gradients(transfer.gradients(head), blink[None])[0]
        added = head + blink
        framed.append((own[eye.upper] - own[eye.lower])[:, 1] - generic)
        plain.append((added[eye.upper] - added[eye.lower])[:, 1] - generic)
    # Positive is open. Ours may close a little further, never stay open as plain addition does.
    still_open = np.sqrt(np.mean(np.square(np.maximum(framed, 0.0))))
    assert still_open < 0.4e-3
    assert still_open < 0.5 * np.sqrt(np.mean(np.square(np.maximum(plain, 0.0))))


@pytest.mark.assets
def test_streamed_gram_equals_the_plain_one() -> None:
    try:
        assets = find_assets()
    except BadInput:
        pytest.skip("the raw assets are not here")
    from head360.geometry.ict import load_ict
    from head360.geometry.population import build_population
    from head360.geometry.tucker import gram

    population = build_population(load_ict(assets), kept=5, held_out=1)
    some = np.arange(0, 20_000, 23)
    plain = gram(population.slices(some))
    np.testing.assert_allclose(population.gram(some), plain, rtol=1e-6)
    # The jaw is one rigid map: teeth and chin move alike.
    active, change = population.change(1 + 17, some)
    expected = np.einsum("ab,vb->va", population.jaw_maps[2], population.deltas[17, some[active]])
    np.testing.assert_allclose(change[2], expected, atol=1e-7)


def test_missing_assets_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BadInput, match=VARIABLE):
        find_assets()
