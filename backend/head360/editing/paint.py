"""Filters of skin and hair: painted on the generic head, so that all views agree.

Places are millimetres on the generic head (x to the subject's left, y up from between the ears),
lines are seen from the front.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from head360.editing.guides import MAP, Floats, Guide, Places
from head360.editing.tones import colour, lightness, mixed, saturated, softened, toned
from head360.synthesis.texel_map import smooth_step

_made: dict[tuple[int, str, int], Any] = {}


def _once(maker: Callable[[Places, int], Any]) -> Callable[[Places, int], Any]:
    """Maps are painted once for each canvas and seed."""

    @functools.wraps(maker)
    def wrapped(places: Places, seed: int) -> Any:
        key = id(places), maker.__name__, seed
        if key not in _made:
            _made[key] = maker(places, seed)
            weakref.finalize(places, _made.pop, key, None).atexit = False
        return _made[key]

    return wrapped


# --- age ------------------------------------------------------------------------------------------

# Lines of one half of a face, from the front: (points, width in mm, depth); mirrored. Light comes
# from above, so the skin above a fold catches it and the fold itself lies in shadow.
_CREASES: tuple[tuple[tuple[tuple[float, float], ...], float, float], ...] = (
    (((0, 54), (12, 56), (26, 55), (42, 49)), 1.5, 0.60),
    (((0, 63), (14, 65), (29, 63), (46, 55)), 1.6, 0.75),
    (((0, 72), (13, 73.5), (26, 72), (38, 66)), 1.5, 0.50),
    (((5.5, 29), (6.5, 36), (5.5, 45)), 1.5, 0.70),
    (((50, 17), (57, 21), (65, 28)), 1.3, 0.55),
    (((50.5, 13.5), (58, 13), (67, 14)), 1.3, 0.65),
    (((49.5, 10), (56, 5), (63, 1)), 1.3, 0.55),
    (((47, 7), (52, 1), (58, -7)), 1.3, 0.40),
    (((16.5, 8), (21, 2), (29, -0.5), (38, 1.5), (46, 8)), 1.6, 0.65),
    (((13, 3), (20, -7), (30, -12), (42, -11)), 2.4, 0.45),
    (((14, -23), (22, -30), (30, -42), (34, -58)), 2.6, 1.00),
    (((28, -58), (31.5, -68), (30, -80)), 2.3, 0.70),
    (((46, -28), (52, -44), (49, -62)), 2.2, 0.35),
    (((0, -71.5), (8, -72), (15, -76)), 2.0, 0.35),
    (((0, -118), (22, -117), (46, -110)), 3.0, 0.55),
    (((0, -136), (22, -135), (46, -128)), 3.0, 0.45),
    (((4, -45), (4.4, -37)), 1.0, 0.40),
    (((10, -45.5), (11, -38)), 1.0, 0.45),
    (((16, -49), (18.5, -41)), 1.0, 0.40),
)


@_once
def _age_maps(places: Places, seed: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """(creases, lit skin above them, spots, hollows, blotches), each (MAP, MAP)."""
    rng = np.random.default_rng([seed, 83])
    creases = np.zeros((MAP, MAP), dtype=np.float32)
    lit = np.zeros((MAP, MAP), dtype=np.float32)
    uneven = np.clip(0.8 + 0.4 * places.noise(7.0, seed), 0.25, 1.15)
    for points, width, depth in _CREASES:
        line = np.array(points, dtype=np.float64)
        line[1:-1] += rng.normal(0, 0.7, line[1:-1].shape)
        distance, along, above = places.distance(line, mirror=True)
        ends = smooth_step(1 - along, 0.0, 0.35)
        if points[0][0] > 0:  # lines across the middle have no end there
            ends = ends * smooth_step(along, 0.0, 0.25)
        fold = 0.45 * np.exp(-((distance / (0.55 * width)) ** 2))
        fold += (
            0.55 * np.exp(-((distance / (1.7 * width)) ** 2)) * smooth_step(-above, -width, width)
        )
        creases = np.maximum(creases, depth * ends * fold)
        ridge = np.exp(-(((distance - 1.9 * width) / (1.2 * width)) ** 2)) * (above > 0)
        lit = np.maximum(lit, depth * ends * ridge)
    height = places.surface.positions[..., 1]
    chance = (
        places.skin
        * smooth_step(height, -0.17, -0.13)
        * (
            0.12
            + places.spot(58, 28, 22)
            + 0.8 * places.spot(50, -8, 18)
            + 0.6 * places.spot(24, 74, 24)
        )
    )
    spots = np.maximum(
        places.dots(chance, 34, (1.5, 3.2), seed),
        0.5 * places.dots(chance, 90, (0.8, 1.4), seed + 1),
    )
    hollows = np.maximum.reduce(
        [
            0.9 * places.spot(27, 2, 10),
            0.75 * places.spot(46, -38, 16),
            0.5 * places.spot(62, 28, 14),
            0.6 * places.spot(14, 17, 8),
            0.5 * places.spot(31, -84, 11),
            0.5 * places.spot(44, 20, 6),
        ]
    )
    blotches = np.clip(
        0.6 * places.noise(13.0, seed + 2) + 0.4 * places.noise(5.0, seed + 3), -2, 2
    )
    return creases * uneven, lit * uneven, spots * places.skin, hollows * places.skin, blotches


def aged(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Forty years: folds where faces fold, uneven and paler skin, thin lips, grey hair."""
    creases, lit, spots, hollows, blotches = (
        strength * guide.of(part)[..., None] for part in _age_maps(guide.places, seed)
    )
    skin, tone = guide.skin, guide.tones.skin
    # The lines that are there already deepen.
    fine = picture - softened(picture, skin, 2.4 / guide.scale)
    out = picture + strength * 0.7 * np.clip(fine, -0.06, 0.06)
    out = saturated(out, 1 - 0.22 * strength)
    out = out * (1 - 0.03 * strength * np.array([0.9, 0.9, 0.8], np.float32))
    out = out * (1 + 0.024 * blotches * np.array([0.3, 1.0, 0.9], np.float32))
    out = out * (1 - hollows * np.array([0.14, 0.19, 0.17], np.float32))
    out = out * (1 - creases * np.array([0.30, 0.40, 0.42], np.float32))
    out = out + lit * 0.07 * tone
    out = out * (1 - spots * np.array([0.12, 0.20, 0.26], np.float32))
    out = mixed(picture, out, skin)
    # Lips lose colour and edge.
    pale = mixed(out, saturated(0.6 * out + 0.4 * tone, 0.85), 0.6 * strength * guide.lips)
    out = _grey_brows(pale, guide, strength)
    out = mixed(out, out * colour(244, 236, 222), guide.eyes * strength)
    return _grey_hair(out, guide, strength)


def _grey_brows(picture: Floats, guide: Guide, strength: float) -> Floats:
    """Hair of the brows is what is darker than the skin around it."""
    band = guide.of(guide.places.brows) * (1 - guide.hair)
    around = lightness(softened(picture, guide.skin, 7.0 / guide.scale))
    darker = np.clip((around - lightness(picture)) / 0.12, 0, 1)
    light = 0.45 * lightness(picture)[..., None] + 0.40 * around[..., None] + 0.06
    grey = np.asarray(light * colour(252, 250, 246), np.float32)
    return mixed(picture, grey, 0.8 * strength * band * darker)


def _grey_hair(picture: Floats, guide: Guide, strength: float) -> Floats:
    if guide.tones.hair is None:
        return picture
    mean = max(float(lightness(guide.tones.hair)), 0.02)
    strands = np.clip(lightness(picture) / mean, 0.0, 1.6) ** 0.8
    silver = (0.57 * strands)[..., None] * colour(253, 250, 244)
    return mixed(picture, np.clip(silver, 0, 0.95), 0.9 * strength * guide.hair)


# --- complexions ----------------------------------------------------------------------------------


@_once
def _sun_map(places: Places, seed: int) -> Floats:
    """(MAP, MAP) where the sun reaches: 1 on nose, cheekbones and forehead, less below the chin."""
    y = places.surface.positions[..., 1]
    reached = 0.72 + 0.1 * smooth_step(y, -0.1, 0.0)
    bumps = np.maximum.reduce(
        [
            places.spot(0, -10, 16),
            places.spot(42, -8, 18),
            places.spot(0, 62, 30),
            0.6 * places.spot(0, -84, 12),
        ]
    )
    return np.asarray((reached + 0.25 * bumps) * (1 + 0.02 * places.noise(16.0, seed)), np.float32)


def tan(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Darker and warmer; the fairer the skin, the more."""
    tone = guide.tones.skin
    fair = float(np.clip((lightness(tone) - 0.12) / 0.5, 0.3, 1.0))
    target = saturated(tone * (1 - fair * np.array([0.15, 0.24, 0.30], np.float32)), 0.96)
    brown = toned(picture, tone, target)
    out = mixed(picture, brown, strength * guide.of(_sun_map(guide.places, seed)) * guide.skin)
    return mixed(out, brown, 0.55 * strength * guide.lips)


def pale(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Lighter and cooler; hue and shadows stay believable on any skin."""
    tone = guide.tones.skin
    light = float(lightness(tone))
    lift = min((light + 0.48 * max(0.0, 0.86 - light)) / max(light, 0.05), 1.35)
    target = saturated(np.clip(tone * lift, 0, 0.95), 0.62) * colour(250, 253, 255)
    fair = toned(picture, tone, target)
    # Blood still shows through: nose, cheeks and lids keep some of their difference.
    flush = picture - softened(picture, guide.skin, 6.0 / guide.scale)
    out = mixed(picture, fair + 0.25 * flush, strength * guide.skin)
    return mixed(out, saturated(fair, 1.35), 0.6 * strength * guide.lips)


@_once
def _freckle_map(places: Places, seed: int) -> Floats:
    chance = places.skin * (
        places.spot(30, -10, 21)
        + 0.9 * places.spot(0, -4, 15)
        + 0.30 * places.spot(0, 58, 38)
        + 0.35 * places.spot(50, 2, 22)
        + 0.12 * places.face
    )
    large = places.dots(chance, 130, (0.9, 1.5), seed)
    small = places.dots(chance, 620, (0.5, 0.95), seed + 1)
    return np.asarray(np.maximum(large, 0.8 * small) * places.skin, np.float32)


def freckles(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Pigment in dots, warmer than the skin they are on; a little sun around them."""
    dots = strength * guide.of(_freckle_map(guide.places, seed))
    warm = strength * guide.of(_sun_map(guide.places, seed)) * guide.of(guide.places.face)
    out = picture * np.exp(-0.06 * warm[..., None] * np.array([0.3, 1.0, 1.3], np.float32))
    out = out * np.exp(-dots[..., None] * np.array([0.26, 0.50, 0.66], np.float32))
    return mixed(picture, out, guide.skin)


# --- make-up --------------------------------------------------------------------------------------

_RED = colour(150, 28, 42)
_SHADOW = colour(92, 54, 70)
_INK = colour(26, 18, 20)
_BLUSH = np.array([0.00, 0.15, 0.11], dtype=np.float32)  # what is taken away


@_once
def _makeup_maps(places: Places, seed: int) -> tuple[Floats, Floats, Floats]:
    """(shadow, liner, blush), each (MAP, MAP) in [0, 1]."""
    y = places.surface.positions[..., 1] * 1000
    lid = places.curve(np.array([(20, 15), (28, 22), (38, 22.5), (47, 17)]), 5.5, mirror=True)
    above = smooth_step(y, 10.5, 15.0)
    shadow = lid * above
    outer = 0.8 * places.spot(47, 20, 8) * smooth_step(y, 11.0, 16.0)
    shadow = np.maximum(shadow, outer)
    liner = np.maximum(
        places.curve(
            np.array([(19.5, 14.0), (27.5, 19.8), (38.5, 19.0), (46, 14.2), (51, 18.0)]),
            1.5,
            mirror=True,
        ),
        0.55 * places.curve(np.array([(30, 9.8), (38.5, 9.9), (45, 13.0)]), 1.1, mirror=True),
    )
    blush = np.maximum(places.spot(45, -14, 15), 0.7 * places.spot(54, -4, 13))
    return shadow * places.skin, liner * places.skin, blush * places.skin


def makeup(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """An evening make-up."""
    shadow, liner, blush = (strength * guide.of(part) for part in _makeup_maps(guide.places, seed))
    skin = guide.skin
    even = mixed(picture, softened(picture, skin, 1.8 / guide.scale), 0.5 * strength)
    out = even * (1 - 0.9 * blush[..., None] * _BLUSH)
    out = mixed(out, _SHADOW * (0.45 + 0.75 * lightness(picture)[..., None]), 0.72 * shadow)
    out = mixed(out, np.broadcast_to(_INK, out.shape), 0.9 * liner)
    out = mixed(picture, out, skin)
    lips = guide.lips
    mean = max(float(lightness(guide.tones.skin)), 0.1)
    relief = np.clip(lightness(picture) / (0.78 * mean), 0.3, 1.6)[..., None]
    red = _RED * float(np.clip(0.35 + mean, 0.5, 1.0))
    return mixed(out, np.clip(red * relief, 0, 1), 0.85 * strength * lips)


# --- horror ---------------------------------------------------------------------------------------


@_once
def _undead_maps(places: Places, seed: int) -> tuple[Floats, Floats, Floats]:
    """(sunken places, veins, blotches), each (MAP, MAP)."""
    sunken = np.maximum.reduce(
        [
            places.spot(30, 13, 17),
            0.75 * places.spot(44, -38, 19),
            0.5 * places.spot(62, 28, 15),
            0.6 * places.spot(0, -30, 7),
        ]
    )
    ridge = np.abs(places.noise(15.0, seed) + 0.45 * places.noise(6.0, seed + 1))
    veins = np.exp(-((ridge / 0.16) ** 2)) * smooth_step(places.noise(30.0, seed + 2), -0.2, 0.6)
    blotches = np.clip(
        0.6 * places.noise(16.0, seed + 3) + 0.4 * places.noise(6.0, seed + 4), -1.5, 1.5
    )
    return (
        np.asarray(sunken, np.float32),
        np.asarray(veins, np.float32),
        np.asarray(blotches, np.float32),
    )


def undead(picture: Floats, guide: Guide, strength: float, seed: int) -> Floats:
    """Bloodless skin, sunken eyes, veins; the eyes dim, the hair without shine."""
    sunken, veins, blotches = (
        strength * guide.of(part) for part in _undead_maps(guide.places, seed)
    )
    mean = max(float(lightness(guide.tones.skin)), 0.05)
    # Dark skin greys without becoming fair.
    target = 0.35 * mean + 0.65 * min(mean, 0.55)
    light = (lightness(picture) / mean * target)[..., None]
    dead = light * colour(240, 248, 226) * 1.02
    dead = dead * (1 - 0.55 * sunken[..., None] * np.array([0.80, 1.0, 0.86], np.float32))
    dead = dead * (1 - 0.26 * veins[..., None] * np.array([1.0, 0.72, 0.45], np.float32))
    dead = dead * (1 - 0.05 * blotches[..., None] * np.array([0.4, 1.0, 0.9], np.float32))
    out = mixed(picture, dead, strength * guide.skin)
    lips = (0.62 * light) * colour(196, 176, 205)
    out = mixed(out, lips, 0.85 * strength * guide.lips)
    milky = 0.55 * picture + 0.42 * colour(225, 228, 210)
    out = mixed(out, np.clip(milky, 0, 0.9), 0.7 * strength * guide.eyes)
    dull = saturated(picture, 0.35) * 0.85
    return mixed(out, dull, strength * guide.hair)
