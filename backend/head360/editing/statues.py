"""Filters that turn a head into another material: the light stays, the colours go."""

from __future__ import annotations

import numpy as np

from head360.editing.guides import Floats, Guide
from head360.editing.tones import colour, lightness, mixed, softened
from head360.synthesis.blur import blur
from head360.synthesis.texel_map import smooth_step

_KEY = np.array([-0.45, 0.62, 0.64], dtype=np.float32)
_FILL = np.array([0.75, 0.10, 0.30], dtype=np.float32)


def _modelled(picture: Floats, guide: Guide, detail: float, *, dark_hair: bool = False) -> Floats:
    """(H, W) light on a head without colours of its own, about 0.2 … 1.1.

    Large forms come from the mesh under two lamps; what the skin shows beyond its mean tone (lips,
    brows, wrinkles, strands) remains as a relief of strength ``detail``. Hair is of the same
    material, unless ``dark_hair`` keeps how dark it is beside the skin.
    """
    normals = guide.normals / np.maximum(
        np.linalg.norm(guide.normals, axis=-1, keepdims=True), 1e-6
    )
    key = np.clip(normals @ (_KEY / np.linalg.norm(_KEY)), 0, 1)
    fill = np.clip(normals @ (_FILL / np.linalg.norm(_FILL)), 0, 1)
    sky = 0.5 + 0.5 * normals[..., 1]
    shape = 0.26 + 0.52 * key + 0.12 * fill + 0.22 * sky
    light = lightness(picture)
    skin = max(float(lightness(guide.tones.skin)), 0.05)
    body = shape * np.clip(light / skin, 0.15, 1.6) ** detail
    if guide.tones.hair is None:
        return np.asarray(body, np.float32)
    hair = max(float(lightness(guide.tones.hair)), 0.02)
    # At the hairline pixels mix with skin: brighter than any strand.
    strands = np.clip(light / hair, 0.2, 1.6) ** max(0.75, detail)
    if dark_hair:
        strands = strands * np.clip(hair / skin, 0.15, 1.0) ** 0.7
    # Under hair the mesh is still seen, so the same lamps model it.
    locks = np.where(guide.seen, 0.55 * shape + 0.25, 0.62) * (0.35 + 0.65 * strands)
    return np.asarray(body + guide.hair * (locks - body), np.float32)


def _ramp(value: Floats, stops: tuple[tuple[float, tuple[int, int, int]], ...]) -> Floats:
    at = [place for place, _ in stops]
    return np.stack(
        [np.interp(value, at, [rgb[k] / 255 for _, rgb in stops]) for k in range(3)], -1
    ).astype(np.float32)


def bronze(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Dark bronze, polished where light falls, green in the hollows."""
    value = _modelled(picture, guide, 0.45)
    metal = _ramp(
        value,
        (
            (0.0, (20, 12, 8)),
            (0.35, (62, 38, 22)),
            (0.62, (128, 84, 46)),
            (0.85, (196, 142, 82)),
            (1.05, (246, 212, 150)),
        ),
    )
    patina = guide.of(guide.places.noise(13.0, seed))
    share = np.clip(0.35 + 0.5 * patina, 0, 1) * np.clip((0.60 - value) / 0.35, 0, 1)
    metal = mixed(metal, colour(72, 112, 96) * (0.35 + value[..., None]), 0.45 * share)
    return mixed(picture, metal, strength * guide.alpha)


def marble(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """White marble with grey veins; eyes without a gaze."""
    value = _modelled(picture, guide, 0.30)
    solid = np.maximum(guide.eyes, guide.mouth)
    flat = softened(picture, solid, 4.0 / guide.scale)
    blank = _modelled(mixed(picture, flat, 0.85), guide, 0.22)
    value = value + guide.eyes * (blank - value)
    stone = _ramp(
        value,
        (
            (0.0, (88, 86, 88)),
            (0.4, (150, 147, 146)),
            (0.7, (208, 205, 201)),
            (0.95, (244, 242, 238)),
            (1.1, (252, 251, 249)),
        ),
    )
    places = guide.places
    wave = places.noise(38.0, seed) + 0.45 * places.noise(12.0, seed + 1)
    veins = np.exp(-((wave / 0.13) ** 2)) * smooth_step(places.noise(26.0, seed + 2), -0.2, 1.0)
    veins = veins.astype(np.float32)
    stone = stone * (1 - 0.17 * (guide.of(veins) * (1 - guide.hair))[..., None])
    return mixed(picture, stone, strength * guide.alpha)


def sketch(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Soft pencil on paper: outlines, shaded forms, dark strands."""
    value = _modelled(picture, guide, 0.8, dark_hair=True)
    light = lightness(picture)
    fine = blur(light, max(0.4, 0.7 / guide.scale))
    wide = blur(light, max(0.9, 2.2 / guide.scale))
    lines = np.clip((wide - fine) / 0.05, 0, 1) * guide.alpha
    grazing = np.clip(1 - np.linalg.norm(blur(guide.normals, 1.0), axis=-1), 0, 1)
    grain = guide.of(guide.places.noise(1.6, seed))
    tone = np.clip((0.92 - value) / 0.75, 0, 1) ** 1.25
    graphite = np.clip(0.62 * tone * (1 + 0.22 * grain) + 0.65 * lines + 0.5 * grazing, 0, 0.93)
    page = colour(246, 243, 236)
    drawing = page + graphite[..., None] * (colour(46, 46, 52) - page)
    return mixed(picture, drawing, strength * guide.alpha)
