"""Shape, expression and camera from landmarks: slopes, the prior, known truths, odd input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from head360.arkit import INDEX, NAMES
from head360.arkit.takes import synthetic_take
from head360.errors import BadInput
from head360.fitting import cameras
from head360.fitting.descent import descend
from head360.fitting.evidence import View, gather, outline
from head360.fitting.joint import Joint, LensPrior, State
from head360.fitting.landmark_model import JAW, LandmarkModel, bend, landmark_model, whitened_axes
from head360.fitting.priors import ExpressionPrior
from head360.fitting.shape import fit_shape, solve_camera
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.rendering.cameras import Camera, look_at, orbit
from head360.synthesis.dense import dense_points

SIZE = 512
MODEL = BilinearModel.builtin()
FACE = MODEL.topology.part_vertices("face")


@pytest.fixture(scope="module")
def points() -> LandmarkModel:
    return landmark_model(MODEL)


@dataclass(frozen=True)
class Sitting:
    """A head of the model that nobody fitted, and what a camera sees of it."""

    shape: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    camera: Camera

    @property
    def vertices(self) -> NDArray[np.float32]:
        return MODEL.vertices(self.shape, self.blendshapes)

    def view(self, rng: np.random.Generator, noise: float = 1.0, dense: bool = False) -> View:
        mesh = self.vertices
        marks = self.camera.project(mesh[MODEL.topology.landmarks68], SIZE, SIZE)[0]
        many = self.camera.project(dense_points(mesh), SIZE, SIZE)[0] if dense else None
        return View(
            marks + rng.normal(0, noise, marks.shape), np.full(68, max(noise, 0.2)),
            None if many is None else many + rng.normal(0, noise, many.shape), SIZE, SIZE,
        )  # fmt: skip


def sitting(seed: int, yaw: float = 0.0, expression: bool = False) -> Sitting:
    rng = np.random.default_rng([5, seed])
    shape = MODEL.sample_shape(rng)
    b = np.zeros(len(NAMES), dtype=np.float32)
    if expression:
        take = synthetic_take(4.0)
        b = take.weights[rng.integers(len(take))].copy()
        b[[INDEX[n] for n in NAMES if n.startswith(("eyeLook", "tongue"))]] = 0
    camera = orbit(yaw + rng.uniform(-8, 8), rng.uniform(-10, 10), fov_deg=rng.uniform(16, 28))
    return Sitting(shape, b, camera)


def shape_error(fitted: NDArray, truth: NDArray) -> float:
    """Millimetres between two neutral faces after the best rigid motion."""
    a, b = MODEL.neutral(fitted)[FACE], MODEL.neutral(truth)[FACE]
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, _, vt = np.linalg.svd(b.T @ a)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(np.linalg.norm(a @ turn.T - b, axis=1).mean() * 1000)


def degrees(a: Camera, b: Camera) -> float:
    turn = a.cam2world[:3, :3].T @ b.cam2world[:3, :3]
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


# --- the landmark model ---------------------------------------------------------------------------


def test_points_are_those_of_the_mesh(points: LandmarkModel) -> None:
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal(points.size), rng.uniform(0, 1, len(NAMES))
    b[[INDEX[n] for n in NAMES if n.startswith(("eyeLook", "tongue"))]] = 0  # beyond the linear
    mesh = MODEL.vertices(points.shape(w), b)
    seen = points.posed(w, b)
    np.testing.assert_allclose(seen[:68], mesh[MODEL.topology.landmarks68], atol=2e-6)
    np.testing.assert_allclose(seen[68:536], dense_points(mesh), atol=2e-6)
    # A jaw landmark is its own first candidate; the others lie on the skin, further in.
    np.testing.assert_allclose(seen[points.paths[:, 0]], seen[:JAW], atol=2e-6)
    walked = np.linalg.norm(np.diff(seen[points.paths], axis=1), axis=2).sum(axis=1)
    assert walked.min() > 0.015
    assert walked.max() < 0.09
    assert np.allclose(points.whiten(points.shape(w)), w, atol=1e-3)


def test_the_prior_is_that_of_tucker(points: LandmarkModel) -> None:
    factors = MODEL.shape_factors.astype(np.float64)
    covariance = np.cov(factors, rowvar=False)
    s = MODEL.sample_shape(np.random.default_rng(3)).astype(np.float64)
    away = s - factors.mean(axis=0)
    # The first axis is the mean direction itself: no head varies along it.
    expected = away @ np.linalg.pinv(covariance, rcond=1e-4) @ away
    w = points.whiten(s)
    assert w @ w == pytest.approx(expected, rel=1e-3)
    assert len(whitened_axes(MODEL)) == MODEL.shape_size - 1


def test_slopes_are_those_of_differences(points: LandmarkModel) -> None:
    rng = np.random.default_rng(4)
    held = sitting(2, 25)
    pose = cameras.from_camera(held.camera, SIZE, SIZE)
    space = rng.uniform(-0.08, 0.08, (9, 3)) + np.array([0, 0, 0.05])
    np.testing.assert_allclose(
        cameras.project(pose, space) + SIZE / 2, held.camera.project(space, SIZE, SIZE)[0]
    )
    again = cameras.to_camera(pose, SIZE, SIZE)
    np.testing.assert_allclose(again.flat25(), held.camera.flat25(), atol=1e-12)
    pixels, by_point, by_pose, by_lens = cameras.derivatives(pose, space)
    e = 1e-6
    for axis in range(3):
        moved = cameras.project(pose, space + e * np.eye(3)[axis])
        np.testing.assert_allclose((moved - pixels) / e, by_point[:, :, axis], rtol=1e-3, atol=0.5)
    for number in range(6):
        moved = cameras.project(pose.moved(e * np.eye(6)[number]), space)
        np.testing.assert_allclose((moved - pixels) / e, by_pose[:, :, number], atol=2e-2)
    moved = cameras.project(pose.moved(np.zeros(6), e), space)
    np.testing.assert_allclose((moved - pixels) / e, by_lens, atol=2e-2)

    prior = ExpressionPrior.usual()
    view = held.view(rng)
    evidence = gather(view, float(np.exp(pose.size)), "skin")
    kept = np.concatenate([[0], 1 + prior.active])
    tensor = points.tensor[evidence.rows][..., kept]
    lens = LensPrior(7.0, 0.4, 0.1, 0.5, 3.0, 9.0)
    joint = Joint([tensor, tensor], [evidence, evidence], prior, [0, 1], [lens], [0, 0])
    state = State(
        rng.normal(0, 0.3, points.size), (pose, pose.moved(np.full(6, 0.01))),
        rng.uniform(0, 0.3, (2, len(prior.active))),
    )  # fmt: skip
    cost, gradient, curvature = joint.linearise(state)
    assert cost == pytest.approx(joint.cost(state))
    assert np.linalg.eigvalsh(curvature).min() > -1e-6 * np.abs(curvature).max()
    for number in (0, 7, 49, 51, 54, 56, 60, 61, 70, len(gradient) - 1):
        step = np.zeros(len(gradient))
        step[number] = 2e-4  # float32 tensors: not smaller
        rise = joint.cost(joint.moved(state, step)) - joint.cost(joint.moved(state, -step))
        slope = rise / 4e-4
        assert slope == pytest.approx(gradient[number], rel=2e-2, abs=0.5), number


def test_descent_ends_where_bounded_least_squares_ends() -> None:
    """Parity with SciPy where the cost is quadratic."""

    class Squares:
        def __init__(self, seed: int) -> None:
            rng = np.random.default_rng(seed)
            self.a, self.y = rng.normal(size=(40, 12)), rng.normal(size=40)
            self.low, self.high = np.full(12, -0.05), rng.uniform(0.02, 0.3, 12)

        def cost(self, x: NDArray) -> float:
            return float(0.5 * ((self.a @ x - self.y) ** 2).sum())

        def linearise(self, x: NDArray) -> tuple[float, NDArray, NDArray]:
            return self.cost(x), self.a.T @ (self.a @ x - self.y), self.a.T @ self.a

        def moved(self, x: NDArray, step: NDArray) -> NDArray:
            return x + step

        def room(self, x: NDArray) -> tuple[NDArray, NDArray]:
            return self.low - x, self.high - x

    for seed in range(5):
        problem = Squares(seed)
        found = descend(problem, np.zeros(12), 60, enough=1e-12)
        best = lsq_linear(problem.a, problem.y, (problem.low, problem.high), tol=1e-12)
        assert (np.abs(best.active_mask) > 0).any()
        np.testing.assert_allclose(found, best.x, atol=1e-5)


# --- known truths ---------------------------------------------------------------------------------


def test_one_photograph_is_far_better_than_the_average_head() -> None:
    fitted, average, turned, seen = [], [], [], []
    for seed in range(6):
        held = sitting(seed, 18.0 * (-1) ** seed)
        fit = fit_shape([held.view(np.random.default_rng(seed))], MODEL)
        fitted.append(shape_error(fit.shape, held.shape))
        average.append(shape_error(MODEL.mean_shape, held.shape))
        turned.append(degrees(fit.views[0].camera, held.camera))
        mesh = MODEL.vertices(fit.shape, fit.views[0].blendshapes)[FACE]
        there = fit.views[0].camera.project(mesh, SIZE, SIZE)[0]
        truth = held.camera.project(held.vertices[FACE], SIZE, SIZE)[0]
        seen.append(np.linalg.norm(there - truth, axis=1).mean())
        assert fit.views[0].residual_px < 2.0
        assert fit.views[0].blendshapes.sum() < 0.6  # a face at rest is read as one
    assert np.mean(fitted) < 0.62 * np.mean(average)
    assert np.mean(turned) < 1.5
    assert np.mean(seen) < 2.0


def test_expressions_are_found() -> None:
    errors, sizes = [], []
    for seed in range(5):
        held = sitting(seed, expression=True)
        fit = fit_shape([held.view(np.random.default_rng(seed), dense=True)], MODEL)
        b = fit.views[0].blendshapes
        assert b.shape == (52,)
        assert b.min() >= 0
        assert b.max() <= 1
        told = [INDEX[n] for n in ("jawOpen", "mouthSmileLeft", "browInnerUp", "mouthPucker")]
        errors.append(np.abs(b[told] - held.blendshapes[told]).mean())
        sizes.append(np.abs(held.blendshapes[told]).mean())
    assert np.mean(errors) < 0.6 * np.mean(sizes)


def test_more_photographs_say_more() -> None:
    one, three, known = [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        front = sitting(seed, expression=True)
        sides = [
            replace(front, camera=orbit(yaw, 4, fov_deg=22), blendshapes=front.blendshapes * share)
            for yaw, share in ((-55, 0.5), (50, 0.0))
        ]
        views = [held.view(rng) for held in (front, *sides)]
        one.append(shape_error(fit_shape(views[:1], MODEL).shape, front.shape))
        fit = fit_shape(views, MODEL)
        assert len(fit.views) == 3
        three.append(shape_error(fit.shape, front.shape))
        truths = np.array([held.blendshapes for held in (front, *sides)])
        fit = fit_shape(views, MODEL, blendshapes=truths)
        known.append(shape_error(fit.shape, front.shape))
        np.testing.assert_allclose(fit.views[1].blendshapes, truths[1], atol=1e-6)
    assert np.mean(three) < 0.8 * np.mean(one)
    assert np.mean(known) < np.mean(three)


def test_what_photographs_share() -> None:
    held = sitting(3, expression=True)
    rng = np.random.default_rng(1)
    lens = orbit(0, 0, fov_deg=30)
    views = [
        replace(held, camera=Camera(look_at(place, (0, 0, 0.05)), lens.intrinsics)).view(rng)
        for place in ((-0.3, 0.0, 0.7), (0.0, 0.0, 0.7), (0.25, 0.0, 0.7))
    ]
    fit = fit_shape(views, MODEL, shared_expression=True, shared_lens=True)
    for view in fit.views[1:]:
        np.testing.assert_array_equal(view.blendshapes, fit.views[0].blendshapes)
        np.testing.assert_allclose(view.camera.intrinsics, fit.views[0].camera.intrinsics)
    focal = fit.views[0].camera.intrinsics[1, 1] / lens.intrinsics[1, 1]
    assert 0.7 < focal < 1.4
    told = fit_shape(views[:1], MODEL, fov_deg=30)
    assert told.views[0].camera.intrinsics[1, 1] == pytest.approx(lens.intrinsics[1, 1])


# --- the jaw --------------------------------------------------------------------------------------


@pytest.mark.parametrize("yaw", [-42, 42])
def test_outline_is_the_edge_of_the_picture_of_the_face(points: LandmarkModel, yaw: float) -> None:
    """Parity with the rasteriser: the chosen candidates lie on the border of the drawn face."""
    held = replace(sitting(1), camera=orbit(yaw, 3, fov_deg=18))
    mesh = held.vertices
    faces = MODEL.topology.faces[MODEL.topology.part_faces("face")].astype(np.int32)
    pixels, depth = held.camera.project(mesh, SIZE, SIZE)
    screen = np.concatenate([pixels, depth[:, None]], axis=1).astype(np.float32)
    drawn = raster.rasterize(screen[None], faces, SIZE, SIZE).face[0] >= 0
    pose = cameras.from_camera(held.camera, SIZE, SIZE)
    w = points.whiten(held.shape)
    edge = outline(points, pose, w, held.blendshapes)
    seen = cameras.project(pose, points.posed(w, held.blendshapes, edge.rows)) + SIZE / 2
    far = np.arange(1, 6) if yaw < 0 else np.arange(11, 16)
    far = far if _is_far(held, far) else JAW - 1 - far
    for x, y in seen[far]:
        row = np.flatnonzero(drawn[int(y)])
        border = min(abs(x - row[0]), abs(x - row[-1] - 1))
        assert border < 3.0
    near = edge.rows[JAW - 1 - far]
    assert (near == points.paths[JAW - 1 - far, 0]).sum() >= 4  # the near side stays


def _is_far(held: Sitting, rows: NDArray) -> bool:
    marks = held.vertices[MODEL.topology.landmarks68[:JAW]]
    away = np.linalg.norm(marks - held.camera.position, axis=1)
    return bool(away[rows].mean() > away[JAW - 1 - rows].mean())


def test_the_picture_tells_what_the_jaw_landmarks_are(points: LandmarkModel) -> None:
    wrong, right = [], []
    for seed, yaw in enumerate((-38, 40, 45)):
        held = sitting(seed, yaw)
        view = held.view(np.random.default_rng(seed))
        assert fit_shape([view], MODEL).views[0].jaw == "skin"
        pose = cameras.from_camera(held.camera, SIZE, SIZE)
        w = points.whiten(held.shape)
        edge = outline(points, pose, w, held.blendshapes)
        marks = np.array(view.landmarks)
        marks[:JAW] = cameras.project(pose, points.posed(w, held.blendshapes, edge.rows)) + SIZE / 2
        seen = replace(view, landmarks=marks)
        fit = fit_shape([seen], MODEL)
        assert fit.views[0].jaw == "outline"
        right.append(shape_error(fit.shape, held.shape))
        told = fit_shape([replace(seen, jaw="skin")], MODEL)
        wrong.append(shape_error(told.shape, held.shape))
    assert np.mean(right) < 0.6 * np.mean(wrong)


# --- odd input ------------------------------------------------------------------------------------


def test_missing_and_wild_landmarks_do_little_harm() -> None:
    held = sitting(4)
    view = held.view(np.random.default_rng(2))
    whole = fit_shape([view], MODEL)
    marks = np.array(view.landmarks)
    marks[[3, 20, 33, 50]] = np.nan
    marks[45] += (70, -40)
    fit = fit_shape([replace(view, landmarks=marks)], MODEL)
    assert np.isfinite(fit.views[0].residual_px)
    assert shape_error(fit.shape, held.shape) < shape_error(whole.shape, held.shape) + 0.8
    assert degrees(fit.views[0].camera, held.camera) < 3


def test_pictures_of_any_size_and_place_fit_alike() -> None:
    """The same landmarks in a larger picture: scaled, the same head comes out."""
    held = sitting(5)
    view = held.view(np.random.default_rng(3))
    large = View(np.asarray(view.landmarks) * 4, np.full(68, 4.0), None, 4 * SIZE, 4 * SIZE)
    a, b = fit_shape([view], MODEL), fit_shape([large], MODEL)
    assert shape_error(a.shape, b.shape) < 0.05
    np.testing.assert_allclose(a.views[0].camera.position, b.views[0].camera.position, atol=0.003)
    again = fit_shape([view], MODEL)
    np.testing.assert_array_equal(a.shape, again.shape)


def test_what_cannot_be_fitted_is_said() -> None:
    view = sitting(0).view(np.random.default_rng(0))
    with pytest.raises(BadInput, match="no photograph"):
        fit_shape([], MODEL)
    with pytest.raises(BadInput, match=r"photograph 2 .*\(68, 2\)"):
        fit_shape([view, replace(view, landmarks=np.zeros((5, 2)))], MODEL)
    hidden = np.array(view.landmarks)
    hidden[20:] = np.nan
    with pytest.raises(BadInput, match="shows more of the face"):
        fit_shape([replace(view, landmarks=hidden)], MODEL)
    with pytest.raises(BadInput, match="no face"):
        fit_shape([replace(view, landmarks=np.full((68, 2), 100.0))], MODEL)


# --- one camera -----------------------------------------------------------------------------------


def test_camera_of_a_known_mesh() -> None:
    rng = np.random.default_rng(6)
    held = sitting(1, 30, expression=True)
    space = np.concatenate([
        held.vertices[MODEL.topology.landmarks68], dense_points(held.vertices)
    ])  # fmt: skip
    exact = held.camera.project(space, 640, 480)[0]
    fov = 2 * np.degrees(np.arctan(0.5 / held.camera.intrinsics[1, 1]))
    # A camera of square pixels in a picture that is not square.
    wide = Camera(held.camera.cam2world, np.diag([0.75, 1, 1]) @ held.camera.intrinsics)
    wide.intrinsics[0, 2] = 0.5
    exact = wide.project(space, 640, 480)[0]
    found = solve_camera(space, exact, 640, 480, fov_deg=fov)
    assert degrees(found, wide) < 0.01
    np.testing.assert_allclose(found.position, wide.position, atol=5e-4)
    noisy = exact + rng.normal(0, 1, exact.shape)
    noisy[rng.choice(len(noisy), 90, replace=False)] += rng.uniform(-80, 80, (90, 2))
    noisy[5] = np.nan
    robust = solve_camera(space, noisy, 640, 480, fov_deg=fov)
    assert degrees(robust, wide) < 0.7
    assert np.linalg.norm(robust.position - wide.position) < 0.02
    near = solve_camera(space, exact, 640, 480, initial=robust)
    assert degrees(near, wide) < 0.01
    free = solve_camera(space, exact, 640, 480)
    assert degrees(free, wide) < 1.0
    with pytest.raises(BadInput, match="at least 6"):
        solve_camera(space[:5], exact[:5], 640, 480)


def test_bend_agrees_with_posed(points: LandmarkModel) -> None:
    rng = np.random.default_rng(7)
    w, b = rng.standard_normal(points.size), rng.uniform(0, 0.5, 52)
    places, by_w, by_b = bend(points.tensor[:68], w, b)
    np.testing.assert_allclose(places, points.posed(w, b, slice(0, 68)), atol=1e-6)
    step = rng.standard_normal(points.size) * 1e-2
    moved = points.posed(w + step, b, slice(0, 68)) - places
    np.testing.assert_allclose(moved, by_w @ step, atol=1e-6)  # linear in w
    push = rng.uniform(0, 0.2, 52)
    moved = points.posed(w, b + push, slice(0, 68)) - places
    np.testing.assert_allclose(moved, by_b @ push, atol=1e-6)  # and in b
