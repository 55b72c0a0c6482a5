"""What the stages of a fit look like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from head360.datasets import labels as classes
from head360.fitting.sights import cut_out
from head360.geometry.attach import vertex_normals
from head360.rendering import raster
from head360.rendering.cameras import Camera

if TYPE_CHECKING:
    from head360.fitting.faces import Face

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SIDE = 448  # of a stage's picture
_FOUND, _OTHER = (64, 220, 120), (150, 150, 160)
_NUMBER = (18, 20)  # pixels across and down of a face's number


def boxes(pixels: Pixels, faces: list[Face], chosen: Face | None) -> Pixels:
    """The photograph with every face that was found, and the landmarks of the chosen one.

    Several faces are numbered from the left; without a chosen one all are marked alike.
    """
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    ordered = sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))
    for number, face in enumerate(ordered, 1):
        colour = _FOUND if chosen is None or face is chosen else _OTHER
        box = [float(v) * scale for v in face.box]
        draw.rectangle(box, outline=colour, width=2)
        if len(faces) > 1:  # as --face counts them
            wide, high = _NUMBER[0] + 9 * (number > 9), _NUMBER[1]
            # A face may touch the rim or leave the picture; its number may not.
            left = min(max(box[0], 0.0), size[0] - 1 - wide)
            top = min(max(box[1] - high, 0.0), size[1] - 1 - high)
            draw.rectangle([left, top, left + wide, top + high], fill=colour)
            draw.text((left + 5, top), str(number), fill=(20, 20, 20), font_size=17)
    if chosen is not None:
        _dots(draw, chosen.landmarks * scale, _FOUND, 1.5)
    return np.asarray(picture)


def upright(pixels: Pixels, face: Face) -> tuple[Pixels, float]:
    """The face turned upright, and the degrees by which the photograph is tilted."""
    right, left = face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)
    tilt = float(np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0])))
    centre = np.nanmean(face.landmarks, 0)
    reach = 1.1 * float(max(face.box[2] - face.box[0], face.box[3] - face.box[1]))
    angle = np.radians(tilt)
    cosine, sine = np.cos(angle) * 2 * reach / SIDE, np.sin(angle) * 2 * reach / SIDE
    first = centre - np.array([cosine - sine, sine + cosine]) * SIDE / 2
    turned = Image.fromarray(pixels).transform(
        (SIDE, SIDE), Image.Transform.AFFINE,
        (cosine, -sine, float(first[0]), sine, cosine, float(first[1])),
        Image.Resampling.BILINEAR, fillcolor=(255, 255, 255),
    )  # fmt: skip
    return np.asarray(turned), tilt


def overlay(
    pixels: Pixels, camera: Camera, vertices: Floats, faces: NDArray[np.int32], landmarks: Floats,
    window: tuple[float, float, float],
) -> Pixels:  # fmt: skip
    """The fitted mesh over the photograph beside it, with the landmarks that were found."""
    height, width = pixels.shape[:2]
    left, top, side = window
    photo = cut_out(pixels, window, SIDE, ground=255)
    screen = raster.perspective_screen(vertices, camera, width, height)
    screen[:, 0] = (screen[:, 0] - left) * SIDE / side
    screen[:, 1] = (screen[:, 1] - top) * SIDE / side
    found = raster.rasterize(screen[None], faces, SIDE, SIDE)
    normals = raster.interpolate(found, 0, faces, vertex_normals(vertices, faces))
    towards = camera.position / np.linalg.norm(camera.position)
    shade = np.clip((normals @ towards.astype(np.float32)), 0, 1)[..., None]
    clay = (0.25 + 0.75 * shade) * np.array([205, 190, 178], dtype=np.float32)
    covered = (found.face[0] >= 0)[..., None]
    mixed = np.where(covered, 0.25 * photo + 0.75 * clay, photo).astype(np.uint8)
    pictures = []
    for ground in (photo, mixed):
        picture = Image.fromarray(ground)
        _dots(ImageDraw.Draw(picture), (landmarks - (left, top)) * SIDE / side, _FOUND, 2)
        pictures.append(np.asarray(picture))
    return np.concatenate(pictures, 1)


def parsed(pixels: Pixels, labels: NDArray[np.uint8], window: tuple[float, float, float]) -> Pixels:
    """Photograph and classes side by side."""
    photo = cut_out(pixels, window, SIDE, ground=255)
    colours = cut_out(classes.PALETTE[labels], window, SIDE)
    names = cut_out(labels, window, SIDE, nearest=True)
    mixed = np.where((names > 0)[..., None], 0.45 * photo + 0.55 * colours, 0.35 * photo)
    return np.concatenate([photo, mixed.astype(np.uint8)], 1)


def grid(tiles: list[Pixels]) -> Pixels:
    """Pictures of any sizes, each in the middle of a cell, white around.

    In as many columns as leave them largest where a small square shows them all.
    """
    high, wide = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    columns = min(
        range(len(tiles), 0, -1),
        key=lambda count: max(count * wide, math.ceil(len(tiles) / count) * high),
    )
    lines = math.ceil(len(tiles) / columns)
    out = np.full((lines * high, columns * wide, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top = number // columns * high + (high - tile.shape[0]) // 2
        left = number % columns * wide + (wide - tile.shape[1]) // 2
        out[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return out


def brief(strips: list[Pixels]) -> Pixels:
    """Strips of tiles, one of each photograph, as a small square can show them.

    The strip of one photograph is broken into lines; of two photographs the last two tiles are
    shown, of more the last one: it says most.
    """
    if len(strips) == 1:
        return grid(np.split(strips[0], range(SIDE, strips[0].shape[1], SIDE), axis=1))
    kept = 2 * SIDE if len(strips) == 2 else SIDE
    return grid([strip[:, -kept:] for strip in strips])


def row(pictures: list[Floats], side: int = SIDE) -> Pixels:
    """(H, W, 3) float32 pictures in [0, 1], equally large, side by side."""
    tiles = []
    for picture in pictures:
        whole = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
        tiles.append(np.asarray(whole.resize((side, side), Image.Resampling.LANCZOS)))
    return np.concatenate(tiles, 1)


def rows(pictures: list[Floats], side: int = 256) -> Pixels:
    """(H, W, 3) float32 pictures in [0, 1] in a near square; the last line ends in white."""
    return grid([row([picture], side) for picture in pictures])


def _dots(
    draw: ImageDraw.ImageDraw, points: NDArray, colour: tuple[int, int, int], radius: float
) -> None:
    for x, y in points[np.isfinite(points).all(1)]:
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
