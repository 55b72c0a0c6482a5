"""The edge of the face: drawn, found again, hidden, and what it does for a fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from head360.datasets.labels import BACKGROUND, HAIR, LIPS, MOUTH, NECK, SKIN
from head360.errors import BadInput
from head360.fitting import cameras
from head360.fitting.cameras import Pose
from head360.fitting.contour import Contour, edge_finder, lip_edges, rim
from head360.fitting.evidence import EYES, View, outline
from head360.fitting.landmark_model import landmark_model
from head360.fitting.shape import fit_shape
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.rendering.cameras import Camera, orbit
from head360.synthesis.parsing import below_jaw

SIZE = 384
MODEL = BilinearModel.builtin()
POINTS = landmark_model(MODEL)
CAMERA = orbit(4.0, -3.0, fov_deg=22.0)
NEUTRAL = np.zeros(52)


def drawn(vertices: NDArray[np.float32], camera: Camera = CAMERA) -> NDArray[np.uint8]:
    """(384, 384) labels of a bald head, as the studio has them."""
    topology = MODEL.topology
    faces = topology.faces[topology.part_faces("face", "head_neck")]
    screen = raster.perspective_screen(vertices, camera, SIZE, SIZE)
    seen = raster.rasterize(screen[None], faces, SIZE, SIZE)
    below = below_jaw(MODEL.neutral(MODEL.mean_shape)).astype(np.float32)[:, None]
    neck = raster.interpolate(seen, 0, faces, below)[..., 0] > 0
    labels = np.where(neck, NECK, SKIN)
    return np.where(seen.face[0] < 0, BACKGROUND, labels).astype(np.uint8)


def compared(
    labels: NDArray[np.uint8], w: NDArray[np.float64], camera: Camera = CAMERA
) -> tuple[Contour, Pose]:
    """The edges of a neutral head beside those of some labels."""
    pose = cameras.from_camera(camera, SIZE, SIZE)
    edge = outline(POINTS, pose, w, NEUTRAL)
    jaw = edge.rows, edge.seen, edge.normals
    ends = rim(POINTS, pose, w, NEUTRAL, jaw, np.full(2, SIZE / 2))
    vertices = MODEL.neutral(POINTS.shape(w))
    eyes = float(np.exp(pose.size)) * EYES
    return edge_finder(MODEL).compare(labels, vertices, pose, ends, eyes), pose


def wide() -> NDArray[np.float64]:
    """Identity of a head with a broad jaw, well within what the prior takes for human."""
    left, right = 3, 13  # of the jaw
    rows = POINTS.tensor[[left, right], 0, 1:, 0].astype(np.float64)
    across = rows[1] - rows[0]  # by each axis
    return 3.0 * across / np.linalg.norm(across)


def test_a_head_lies_on_its_own_edges() -> None:
    w = wide() / 2
    found, pose = compared(drawn(MODEL.neutral(POINTS.shape(w))), w)
    assert len(found.rows) == 21  # eleven of the jaw, ten of the ears
    own = cameras.project(pose, POINTS.posed(w, NEUTRAL, found.rows)) + SIZE / 2
    assert np.linalg.norm(own - found.pixels, axis=1).max() < 1.5


def test_a_broad_face_is_seen_beside_the_average_one() -> None:
    """By how much the edges lie apart is by how much the outlines do."""
    w = wide()
    labels = drawn(MODEL.neutral(POINTS.shape(w)))
    found, pose = compared(labels, np.zeros(POINTS.size))
    rows = found.rows
    own, true = (
        cameras.project(pose, POINTS.posed(x, NEUTRAL, rows)) + SIZE / 2
        for x in (np.zeros(POINTS.size), w)
    )
    normal = found.root[:, 0] / np.linalg.norm(found.root[:, 0], axis=1, keepdims=True)
    moved = ((found.pixels - own) * normal).sum(1)
    apart = ((true - own) * normal).sum(1)
    cheeks = np.abs(apart) > 2
    assert cheeks.sum() >= 6
    assert np.abs(moved - apart)[cheeks].mean() < 0.35 * np.abs(apart)[cheeks].mean()


def test_hair_and_the_picture_s_border_hide_edges() -> None:
    w = np.zeros(POINTS.size)
    labels = drawn(MODEL.neutral(MODEL.mean_shape))
    curtain = labels.copy()
    middle = SIZE // 2
    curtain[:, middle:][labels[:, middle:] == BACKGROUND] = HAIR
    free, _ = compared(labels, w)
    half, _ = compared(curtain, w)
    assert 5 < len(half.rows) < len(free.rows) - 5
    assert (half.pixels[:, 0] < middle + 40).all()
    # What a parser of another house calls 8 hides as hair does.
    curtain[curtain == HAIR] = 8
    assert compared(curtain, w)[0].rows.tolist() == half.rows.tolist()
    assert not len(compared(np.zeros_like(labels), w)[0].rows)


def test_a_picture_that_ends_at_the_cheek_tells_nothing_about_it() -> None:
    w = np.zeros(POINTS.size)
    vertices = MODEL.neutral(MODEL.mean_shape)
    # The ears of the right half of the picture are beyond its border.
    aside = orbit(4.0, -3.0, fov_deg=22.0, target=(-0.14, 0.0, 0.0))
    labels = drawn(vertices, aside)
    assert (labels[:, -1] == SKIN).any()
    cut, _ = compared(labels, w, aside)
    whole, _ = compared(drawn(vertices), w)
    gone = set(whole.rows.tolist()) - set(cut.rows.tolist())
    assert set(POINTS.ears[1].tolist()) <= gone
    assert not gone & set(POINTS.ears[0].tolist())


def test_a_hand_at_the_chin_does_not_push_the_face_in() -> None:
    w = np.zeros(POINTS.size)
    labels = drawn(MODEL.neutral(MODEL.mean_shape))
    free, pose = compared(labels, w)
    chin = cameras.project(pose, POINTS.posed(w, NEUTRAL, np.array([8])))[0] + SIZE / 2
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    held = labels.copy()
    held[(x - chin[0]) ** 2 + (y - chin[1]) ** 2 < 22**2] = BACKGROUND
    found, _ = compared(held, w)
    own = cameras.project(pose, POINTS.posed(w, NEUTRAL, found.rows)) + SIZE / 2
    assert len(found.rows) < len(free.rows)
    assert np.linalg.norm(own - found.pixels, axis=1).max() < 8


def test_a_mouth_is_as_open_as_its_parsed_picture() -> None:
    """Where lips end, however little the landmarks open; nothing of closed or hidden mouths."""
    vertices = MODEL.neutral(MODEL.mean_shape)
    marks = CAMERA.project(vertices[MODEL.topology.landmarks68], SIZE, SIZE)[0]
    middle = marks[60:68].mean(0)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    across, down = (x - middle[0]) / 24, y - middle[1]
    labels = np.full((SIZE, SIZE), SKIN, dtype=np.uint8)
    labels[across**2 + (down / 16) ** 2 < 1] = LIPS
    labels[(across / 0.8) ** 2 + (down / 8) ** 2 < 1] = MOUTH
    eyes = float(np.linalg.norm(marks[36:42].mean(0) - marks[42:48].mean(0)))
    found = lip_edges(labels, marks, eyes)
    assert found.rows.tolist() == [61, 67, 62, 66, 63, 65]
    for pixel in found.pixels:
        off = (pixel - middle) / (0.8 * 24, 8)
        assert np.linalg.norm(off) == pytest.approx(1, abs=0.12)
    # Found landmarks at rest, and the fit opens the mouth as the labels say.
    view = View(marks, np.full(68, 2.0), None, SIZE, SIZE, "skin", labels)
    opened, closed = (
        np.linalg.norm(fitted.points[66] - fitted.points[62])
        for given in (view, dataclasses.replace(view, labels=None))
        for fitted in fit_shape([given], MODEL).views
        if fitted.points is not None
    )
    assert closed < 3
    assert opened > 9
    labels[labels == MOUTH] = LIPS
    assert not len(lip_edges(labels, marks, eyes).rows)
    assert not len(lip_edges(labels, np.full_like(marks, np.nan), eyes).rows)


def test_labels_of_another_size_are_refused() -> None:
    marks = np.random.default_rng(0).random((68, 2)) * SIZE
    small = np.zeros((SIZE, SIZE - 1), dtype=np.uint8)
    with pytest.raises(BadInput, match="labels of photograph 1"):
        fit_shape([View(marks, None, None, SIZE, SIZE, labels=small)], MODEL)


def test_edges_widen_a_face_that_landmarks_take_for_average() -> None:
    """Where a finder leans towards the average the parsed picture puts it right."""
    w = wide()
    shape = POINTS.shape(w)
    vertices = MODEL.neutral(shape)
    marks = CAMERA.project(vertices[MODEL.topology.landmarks68], SIZE, SIZE)[0]
    usual = CAMERA.project(MODEL.neutral(MODEL.mean_shape)[MODEL.topology.landmarks68], SIZE, SIZE)[
        0
    ]
    marks[:17] = 0.3 * marks[:17] + 0.7 * usual[:17]
    view = View(marks, np.full(68, 3.0), None, SIZE, SIZE, "skin")

    def breadth(given: View) -> float:
        neutral = MODEL.neutral(fit_shape([given], MODEL).shape)
        jaw = neutral[MODEL.topology.landmarks68]
        scale = np.linalg.norm(jaw[36] - jaw[45])  # size is nobody's to tell
        return float(np.linalg.norm(jaw[4] - jaw[12]) / scale)

    true = vertices[MODEL.topology.landmarks68]
    wanted = float(np.linalg.norm(true[4] - true[12]) / np.linalg.norm(true[36] - true[45]))
    blind = breadth(view)
    told = breadth(dataclasses.replace(view, labels=drawn(vertices)))
    assert abs(told - wanted) < 0.5 * abs(blind - wanted)
