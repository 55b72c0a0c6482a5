"""Where clothes, glasses, hats and hands cover a portrait; all as coverage in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import distance_transform_edt

from head360.datasets import labels as classes

Floats = NDArray[np.floating]


def _soft(picture: Image.Image, radius: float = 0.7) -> Floats:
    blurred = picture.filter(ImageFilter.BoxBlur(radius))
    return np.asarray(blurred, dtype=np.float32) / 255


def _frame(points: Floats) -> tuple[Floats, Floats, Floats, float]:
    """The face's own axes in the picture: between the eyes, right and down as unit vectors, and
    the height from the eyes to the chin."""
    eyes, chin = points[36:48].mean(0), points[8]
    down = chin - eyes
    height = max(float(np.linalg.norm(down)), 4.0)
    down = down / height
    return eyes, np.array([down[1], -down[0]], dtype=np.float32), down.astype(np.float32), height


def dress(
    rng: np.random.Generator, labels: NDArray[np.uint8], person: Floats, points: Floats
) -> tuple[Floats, Floats]:
    """Shoulders behind the bust, and clothes on it below some neckline.

    Returns:
        (S, S) coverage behind the person, and (S, S) coverage before it.
    """
    size = len(labels)
    _, right, down, height = _frame(points)
    # The neck's middle is below the jaw's corners, whichever way the face looks.
    rows, columns = np.nonzero(labels == classes.NECK)
    if len(rows) < 8:
        middle = points[[4, 12]].mean(0)
    else:
        along = columns * right[0] + rows * right[1]
        lean = np.median(along[rows >= np.quantile(rows, 0.3)])
        level = float(points[8] @ down)
        middle = right * lean + down * level
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    across = ((x - middle[0]) * right[0] + (y - middle[1]) * right[1]) / height
    below = ((x - middle[0]) * down[0] + (y - middle[1]) * down[1]) / height
    width, drop = rng.uniform(0.95, 1.7), rng.uniform(0.22, 0.6)
    slope = rng.uniform(0.25, 0.6)
    shoulders = below - drop - slope * np.abs(across) ** rng.uniform(1.0, 2.0) / width**1.5
    edge = 1.5 / height
    behind = np.clip(np.minimum(shoulders, width - np.abs(across)) / edge + 0.5, 0, 1)
    if rng.random() < 0.5:
        collar = rng.uniform(0.12, 0.5)  # round
        line = below - collar + rng.uniform(0.0, 0.9) * np.maximum(0, np.abs(across) - 0.1)
    else:
        collar = rng.uniform(0.35, 1.0)  # a V, open to ``collar`` below the chin
        line = below - collar + rng.uniform(0.8, 2.2) * np.abs(across)
    bust = np.isin(labels, (classes.NECK, classes.BACKGROUND)).astype(np.float32)
    if rng.random() < 0.3:  # a scarf lies over hair too
        bust = (below > collar * 0.7).astype(np.float32) * (labels != classes.SKIN)
    before = np.clip(line / edge + 0.5, 0, 1) * bust * np.maximum(person, behind)
    return behind.astype(np.float32), before.astype(np.float32)


def glasses(rng: np.random.Generator, picture: Floats, points: Floats) -> tuple[Floats, Floats]:
    """``picture`` (S, S, 3) with glasses on, and (S, S) coverage by their rims."""
    size = len(picture)
    ring, lens = Image.new("L", (size, size)), Image.new("L", (size, size))
    draw, fill = ImageDraw.Draw(ring), ImageDraw.Draw(lens)
    centres = [points[36:42].mean(0), points[42:48].mean(0)]
    gap = max(float(np.linalg.norm(centres[1] - centres[0])), 4.0)
    unit = (centres[1] - centres[0]) / gap
    normal = np.array([-unit[1], unit[0]])
    wide, high = gap * rng.uniform(0.36, 0.46), gap * rng.uniform(0.22, 0.42)
    thick = max(1, round(gap * float(rng.choice([0.02, 0.05, 0.1]))))
    power = rng.uniform(1.6, 5)  # 2 is round, more is boxy
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    px = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / power)
    py = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / power)
    sink = gap * rng.uniform(-0.02, 0.1)
    for centre in centres:
        outline = centre + normal * sink + np.outer(px * wide, unit) + np.outer(py * high, normal)
        corners = [tuple(corner) for corner in outline]
        draw.line([*corners, corners[0]], 255, thick)
        fill.polygon(corners, 255)
    bridge = [centres[0] + unit * wide, centres[1] - unit * wide]
    draw.line([tuple(end) for end in bridge], 255, thick)
    for side, centre, jaw in ((-1, centres[0], points[0]), (1, centres[1], points[16])):
        hinge = centre + side * unit * wide
        if float((jaw - hinge) @ unit) * side > 0:  # the arm is seen where the temple is
            draw.line([tuple(hinge), tuple(jaw)], 255, thick)
    rims, panes = _soft(ring, 0.4), _soft(lens)
    tint = rng.uniform(0, 0.15) if rng.random() < 0.75 else rng.uniform(0.5, 0.97)
    dark = np.clip(rng.uniform(0, 0.25) + rng.normal(0, 0.04, 3), 0, 1)
    out = picture * (1 - panes[..., None] * tint) + dark * panes[..., None] * tint
    if rng.random() < 0.5:  # a window reflected
        angle = rng.uniform(-1, 1)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) / gap
        band = np.abs((x + angle * y) % 1.2 - 0.6) < rng.uniform(0.03, 0.15)
        out = out + (panes * band * rng.uniform(0.1, 0.5))[..., None]
    frame = np.clip(rng.uniform(0, 1) ** 2 + rng.normal(0, 0.1, 3), 0, 1)
    out = out * (1 - rims[..., None]) + frame * rims[..., None]
    solid = panes if tint > 0.5 else np.zeros_like(panes)
    return np.clip(out, 0, 1).astype(np.float32), np.maximum(rims, solid)


def beanie(rng: np.random.Generator, labels: NDArray[np.uint8], points: Floats) -> Floats:
    """(S, S) coverage by a hat on the skull down to some height of the forehead."""
    size = len(labels)
    eyes, right, down, height = _frame(points)
    width = float(np.abs((points[:17] - eyes) @ right).max())
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    across = (x - eyes[0]) * right[0] + (y - eyes[1]) * right[1]
    above = -((x - eyes[0]) * down[0] + (y - eyes[1]) * down[1])
    middle = float((points[[0, 16]].mean(0) - eyes) @ right)
    rim = height * (rng.uniform(0.22, 0.6) + rng.uniform(-0.25, 0.35) * (across / width) ** 2)
    top = height * rng.uniform(1.0, 1.5)
    half = width * rng.uniform(1.02, 1.3)
    dome = ((across - middle) / half) ** 2 + (np.maximum(above, 0) / top) ** 2
    inside = np.clip((1 - dome) * height / 4 + 0.5, 0, 1)
    if rng.random() < 0.3:  # hair above the rim is pressed under it
        inside = np.maximum(inside, (labels == classes.HAIR).astype(np.float32))
    return (inside * np.clip((above - rim) / 1.5 + 0.5, 0, 1)).astype(np.float32)


def wool(rng: np.random.Generator, ink: Floats, cover: Floats, points: Floats) -> Floats:
    """(S, S, 3) ``ink`` as cloth on a round head: shaded towards its outline, ribbed, with a brim.

    Args:
        rng: draws how strong each is.
        ink: (S, S, 3) of the cloth laid flat.
        cover: (S, S) of the hat.
        points: (68, 2) landmarks, pixels.
    """
    size = len(cover)
    eyes, right, down, height = _frame(points)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    across = ((x - eyes[0]) * right[0] + (y - eyes[1]) * right[1]) / height
    above = -((x - eyes[0]) * down[0] + (y - eyes[1]) * down[1]) / height
    inside = distance_transform_edt(cover > 0.5) / height
    light = 1 - rng.uniform(0, 0.6) * np.exp(-inside / rng.uniform(0.06, 0.25))
    light += rng.uniform(-0.35, 0.35) * across
    if rng.random() < 0.5:
        waves = rng.uniform(8, 40) * 2 * np.pi
        light *= 1 + rng.uniform(0, 0.25) * np.sin(waves * (across + 0.1 * across**3))
    if rng.random() < 0.5:  # folded up, and dark under the fold
        fold = above - rng.uniform(0.5, 1.0)
        light *= 1 + rng.uniform(-0.2, 0.3) * (fold < 0)
        light *= 1 - rng.uniform(0, 0.5) * np.exp(-np.abs(fold) / 0.03)
    return np.clip(ink * np.clip(light, 0, 1.6)[..., None], 0, 1).astype(np.float32)


def patches(rng: np.random.Generator, size: int) -> Floats:
    """(S, S) coverage by one to three things held or hanging before the camera."""
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(0, size, 2)
        radius = size * np.exp(rng.uniform(np.log(0.03), np.log(0.28)))
        count = int(rng.integers(3, 12))
        turn = np.sort(rng.uniform(0, 2 * np.pi, count))
        away = radius * rng.uniform(0.5, 1.3, count)
        shape = centre + np.stack([np.cos(turn), np.sin(turn)], 1) * away[:, None]
        draw.polygon([tuple(corner) for corner in shape], 255)
    return _soft(picture, float(rng.choice([0.5, 0.5, 2.0])))
