"""The shipped head keeps its codes apart: each moves its own part of the picture only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from head360 import heads
from head360.arkit import INDEX
from head360.rendering.cameras import orbit
from head360.server.heads_table import resolve

if TYPE_CHECKING:
    from head360.heads.base import Codes, Head

SIZE = 160
FRONT, BACK = orbit(0.0, 0.0), orbit(180.0, 0.0)
SPEAKING = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "eyeBlinkLeft")


@pytest.fixture(scope="module")
def head() -> Head:
    return heads.load(resolve("starter").path)


def picture(head: Head, codes: Codes, camera, **blend: float) -> np.ndarray:
    """(SIZE, SIZE, 3) on white."""
    weights = np.zeros(52, dtype=np.float32)
    for name, value in blend.items():
        weights[INDEX[name]] = value
    rgba = head.render(head.pose(codes, weights), camera, SIZE, SIZE).rgba
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def face_box() -> tuple[slice, slice]:
    """Rows and columns between brows and lips, seen from the front: no short hair hangs there."""
    corners = np.array([[-0.045, -0.055, 0.09], [0.045, 0.03, 0.09]])
    pixels, _ = FRONT.project(corners, SIZE, SIZE)
    left, right = sorted(pixels[:, 0].astype(int))
    top, bottom = sorted(pixels[:, 1].astype(int))
    return slice(top, bottom), slice(left, right)


@pytest.mark.parametrize("index", [0, 1])
def test_expressions_leave_the_back_of_the_head_alone(head: Head, index: int) -> None:
    codes = head.codes(head.subjects[index])
    moved = dict.fromkeys(SPEAKING, 0.8)
    front, back = (
        np.abs(picture(head, codes, camera) - picture(head, codes, camera, **moved)).mean()
        for camera in (FRONT, BACK)
    )
    assert front > 0.004
    assert back < 0.003  # the jaw widens the neck a little
    assert back < front / 2


@pytest.mark.parametrize("style", ["short02", "short04", "ponytail01"])
def test_hair_leaves_the_face_alone(head: Head, style: str) -> None:
    subject = head.subjects[0]
    bald, worn = (picture(head, head.codes(subject, s), FRONT) for s in (None, style))
    change = np.abs(bald - worn)
    assert change[face_box()].mean() < 1e-4
    assert change.mean() > 0.004


def test_shape_moves_the_outline_and_texture_does_not(head: Head) -> None:
    first, second = (head.codes(name, None) for name in head.subjects[:2])
    painted = dataclasses.replace(first, subject=second.subject)
    shaped = dataclasses.replace(first, shape=second.shape)
    weights = np.zeros(52, dtype=np.float32)
    alpha = [
        head.render(head.pose(codes, weights), FRONT, SIZE, SIZE).rgba[..., 3]
        for codes in (first, painted, shaped)
    ]
    assert np.abs(alpha[1] - alpha[0]).mean() < 0.004
    assert np.abs(alpha[2] - alpha[0]).mean() > 0.005
