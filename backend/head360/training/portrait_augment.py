"""From a studio portrait to what a stranger's camera might have taken.

The studio shows bare busts before nothing. Here they get a background, clothes, glasses, hats and
hands before them, and the faults of real pictures, so that networks trained on them read
photographs. Everything is drawn from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.rendering.crops import cut, into_window
from head360.training import portrait_camera, portrait_scenery
from head360.training.portrait_props import beanie, dress, glasses, patches
from head360.training.portraits import PortraitSet

Floats = NDArray[np.floating]


@dataclass
class Sample:
    """One training picture of S² pixels.

    Attributes:
        pixels: (S, S, 3) uint8 sRGB.
        labels: (S, S) uint8 classes of ``datasets.labels`` of the bare bust, as the studio saw it;
            what is worn or held before it is in ``covered``.
        person: (S, S) float32 coverage by the person and the clothes, 0…1.
        hair: (S, S) float32 coverage by hair, 0…1; a hat covers it.
        clothes: (S, S) float32 how much of the picture clothes hide, 0…1.
        covered: (S, S) float32 coverage by a hat, glasses' rims, or something held before the head.
        points: (536, 2) float32 pixels, centres at +0.5: 68, then 468.
        visible: (536,) bool not hidden by the head itself nor outside the picture.
        mirrored: whether it was flipped.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    person: Floats
    hair: Floats
    clothes: Floats
    covered: Floats
    points: Floats
    visible: NDArray[np.bool_]
    mirrored: bool


@dataclass(frozen=True)
class Chances:
    """How often what happens.

    Attributes:
        flip, clothes, glasses, hat, patches: shares of the pictures.
        faults: 0…1 how strong the camera's faults are.
    """

    flip: float = 0.5
    clothes: float = 0.85
    glasses: float = 0.16
    hat: float = 0.12
    patches: float = 0.25
    faults: float = 1.0


def draw_sample(
    data: PortraitSet,
    row: int,
    matrix: Floats,
    size: int,
    rng: np.random.Generator,
    chances: Chances | None = None,
    mirrors: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
    canvas: Floats | None = None,
    place: NDArray[np.floating] | None = None,
) -> Sample:
    """Dress picture ``row`` up, and put it before a background.

    Args:
        data: a set of portraits.
        row: one of ``data.rows``.
        matrix: from ``rendering.crops.window``; a mirroring one needs ``mirrors``.
        size: pixels per side of the result.
        rng: draws everything else.
        chances: how often what happens.
        mirrors: (68,) and (468,) the twin of each point on the other side of the face.
        canvas: (H, W, 3) float32 in [0, 1] to paint the result into, as its background.
        place: (2,) of the result's centre in ``canvas``.

    Raises:
        ValueError: mirrored without ``mirrors``.
    """
    chances = chances or Chances()
    straight = Image.fromarray(data.rgba[row]).convert("RGBa")
    rgba = np.asarray(cut(straight, matrix, size), dtype=np.float32) / 255
    labels = np.asarray(cut(Image.fromarray(data.labels[row]), matrix, size, smooth=False))
    hair = np.asarray(cut(Image.fromarray(data.hair[row]), matrix, size), dtype=np.float32) / 255
    points = into_window(data.points[row], matrix)
    visible = np.array(data.visible[row])
    mirrored = bool(np.linalg.det(matrix[:, :2].astype(np.float64)) < 0)
    if mirrored:
        if mirrors is None:
            raise ValueError("a mirrored sample needs to know each point's twin")
        order = np.concatenate([mirrors[0], 68 + np.asarray(mirrors[1])])
        points, visible = points[order], visible[order]
    visible &= ((points >= 0) & (points < size)).all(1)
    colour, person = rgba[..., :3], rgba[..., 3]
    clothes = np.zeros((size, size), dtype=np.float32)
    covered = np.zeros((size, size), dtype=np.float32)
    front = _faces(points, visible)
    back = (
        portrait_scenery.background(rng, size, data)
        if canvas is None or place is None
        else _part(canvas, place, size)
    )
    picture: Floats = back * (1 - person[..., None]) + colour
    if rng.random() < chances.clothes:
        behind, before = dress(rng, labels, person, points)
        stuff = portrait_scenery.fabric(rng, size)
        picture = back * (1 - behind[..., None]) + stuff * behind[..., None]
        picture = picture * (1 - person[..., None]) + colour
        picture = picture * (1 - before[..., None]) + stuff * before[..., None]
        clothes = np.maximum(behind * (1 - person), before)
        person = np.maximum(person, behind)
    if front and rng.random() < chances.glasses:
        picture, rims = glasses(rng, picture, points)
        covered = np.maximum(covered, rims)
    if front and rng.random() < chances.hat:
        hat = beanie(rng, labels, points)
        shade = portrait_scenery.fabric(rng, size)
        picture = picture * (1 - hat[..., None]) + shade * hat[..., None]
        covered, person = np.maximum(covered, hat), np.maximum(person, hat)
        hair = hair * (1 - hat)
    if rng.random() < chances.patches:
        held = patches(rng, size)
        stuff = portrait_scenery.fabric(rng, size)
        picture = picture * (1 - held[..., None]) + stuff * held[..., None]
        covered = np.maximum(covered, held)
    if canvas is not None and place is not None:
        _paint(canvas, place, picture)
    pixels = portrait_camera.take(rng, picture, chances.faults)
    return Sample(
        pixels, labels, person, hair * (1 - clothes), clothes, covered, points, visible, mirrored
    )


def _corners(
    canvas: Floats, place: NDArray[np.floating], size: int
) -> tuple[int, int, slice, slice]:
    """Left and top of a crop around ``place``, and the part of the canvas that it covers."""
    left, top = (int(value) for value in np.round(np.asarray(place) - size / 2))
    rows = slice(max(top, 0), max(0, min(top + size, canvas.shape[0])))
    return left, top, rows, slice(max(left, 0), max(0, min(left + size, canvas.shape[1])))


def _part(canvas: Floats, place: NDArray[np.floating], size: int) -> Floats:
    """(S, S, 3) of the canvas around ``place``; grey beyond it."""
    left, top, rows, columns = _corners(canvas, place, size)
    out = np.full((size, size, 3), 0.5, dtype=np.float32)
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    out[inside] = canvas[rows, columns]
    return out


def _paint(canvas: Floats, place: NDArray[np.floating], picture: Floats) -> None:
    left, top, rows, columns = _corners(canvas, place, len(picture))
    canvas[rows, columns] = picture[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]


def _faces(points: Floats, visible: NDArray[np.bool_]) -> bool:
    """Whether both eyes are seen, so that something can be put on the nose."""
    return bool(visible[36:42].sum() >= 3 and visible[42:48].sum() >= 3 and visible[27:31].any())
