"""Which hair a fitted head wears: likeness of cuts, outlines, hats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from head360.arkit import COUNT
from head360.datasets import labels as classes
from head360.fitting.hair import above_brows, agreement, bluish, skin_depth, veiled, wears_hat
from head360.fitting.sights import Sight
from head360.fitting.wearable import wearable
from head360.geometry.bilinear import BilinearModel
from head360.heads.inputs import pose_inputs
from head360.rendering.cameras import orbit

NEUTRAL = np.zeros(COUNT, dtype=np.float32)


def test_a_base_wears_what_is_most_alike() -> None:
    styles = ("short02", "bob01", "afro01", "ponytail01")
    assert wearable([("bob01", 0.6), ("short02", 0.4)], styles)[0][0] == "bob01"
    assert wearable([("bob03", 0.5), ("short02", 0.2), ("bald", 0.3)], styles)[0][0] == "bob01"
    assert wearable([("coils01", 0.9), ("bald", 0.1)], styles)[0][0] == "afro01"
    assert wearable([("bald", 0.9), ("buzz01", 0.1)], styles)[0][0] is None
    scores = wearable([("unheard", 1.0)], styles)
    assert sum(score for _, score in scores) == pytest.approx(1.0)
    assert len(scores) == len(styles) + 1


def test_outlines_agree_by_their_common_area() -> None:
    hair = np.zeros((10, 10), dtype=np.float32)
    hair[:5] = 1.0
    bare, nothing = hair < 0.5, np.zeros_like(hair)
    assert agreement(hair, hair, bare) == pytest.approx(1.0)
    assert agreement(hair[::-1], hair, bare) < 0.03
    assert agreement(nothing, hair, bare) < 0.03
    assert agreement(nothing, nothing, bare) == 1.0
    assert agreement(hair[::-1], hair, bare, nothing > 0) == 1.0  # where nothing is known
    # One line too much over the face is worse than one line too few.
    more, less = hair.copy(), hair.copy()
    more[5], less[4] = 1.0, 0.0
    assert agreement(more, hair, bare) < agreement(less, hair, bare)


def test_a_hat_is_what_covers_the_skull_and_is_neither_hair_nor_skin() -> None:
    model = BilinearModel.builtin()
    topology = model.topology
    vertices = model.identity(model.mean_shape).pose(NEUTRAL)
    pose = pose_inputs(vertices, topology, 48)
    blank = np.zeros((96, 96), dtype=np.float32)
    sight = Sight(
        np.zeros((96, 96, 3), np.float32), blank == 0, np.full((96, 96), classes.SKIN, np.uint8),
        blank, blank, orbit(30.0, 10.0), NEUTRAL,
    )  # fmt: skip
    above = above_brows(sight, pose, topology)
    skull = above & np.isfinite(skin_depth(sight, pose, topology))
    brows, _ = sight.camera.project(vertices[topology.landmarks68[17:27]], 96, 96)
    rows = brows[:, 1].astype(int)
    assert above[: rows.min() - 4].all()
    assert not above[rows.max() + 4 :].any()
    assert not wears_hat(skull, sight)  # bald
    for label, hat in ((classes.HAIR, False), (classes.BACKGROUND, True)):
        labels = np.where(skull, label, classes.SKIN).astype(np.uint8)
        assert wears_hat(skull, dataclasses.replace(sight, labels=labels)) is hat
    # What the photograph does not show is no hat.
    outside = dataclasses.replace(sight, labels=labels, known=~skull)
    assert not wears_hat(skull, outside)


def test_blue_is_no_colour_of_hair() -> None:
    grown = (0.05, 0.04, 0.04), (0.22, 0.17, 0.22), (0.45, 0.37, 0.22), (0.7, 0.7, 0.72)
    assert not any(bluish(np.array(colour, dtype=np.float32)) for colour in grown)
    assert bluish(np.array((0.16, 0.2, 0.27), dtype=np.float32))
    assert not bluish(None)


def test_a_fringe_over_an_eye_that_the_photograph_shows_is_told() -> None:
    hair = np.zeros((8, 8), dtype=np.float32)
    labels = np.full((8, 8), classes.SKIN, dtype=np.uint8)
    labels[4, 1:3], labels[4, 5:7] = classes.EYES, classes.EYES
    sight = Sight(
        np.zeros((8, 8, 3), np.float32), hair == 0, labels, hair, hair, orbit(0.0, 0.0), NEUTRAL
    )
    fringe = hair.copy()
    fringe[:4] = 1.0
    assert veiled(fringe, sight) == 0.0
    fringe[4, :4] = 1.0
    assert veiled(fringe, sight) == pytest.approx(0.5)
    unseen = dataclasses.replace(sight, labels=np.full((8, 8), classes.HAIR, dtype=np.uint8))
    assert veiled(fringe, unseen) == 0.0
