"""New skins from the licensed ones: two blended, shifted in tone, aged, and marked by seed.

Colour and detail are kept apart: below a few millimetres detail comes from one skin alone, so that
no blend shows two noses or two sets of lips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.synthesis.blur import blur, window_of
from head360.synthesis.texel_map import Floats, Mask, SurfaceMap, smooth_step

if TYPE_CHECKING:
    from head360.synthesis.subjects import SkinTouch

_SPLIT = 0.016  # of the picture's side: where colour ends and detail begins
_CHEEKS = ((0.42, 0.52), (0.29, 0.38))  # rows and columns of one cheek; the other is mirrored


def blend_skins(
    face: Image.Image,
    back: Image.Image,
    other: tuple[Image.Image, Image.Image] | None,
    lines: tuple[Image.Image, Image.Image] | None,
    touch: SkinTouch,
    sides: tuple[int, int],
    seed: int,
) -> tuple[Image.Image, Image.Image]:
    """Face and back-of-head pictures of a blended skin.

    Args:
        face, back: the first skin, which also gives the detail.
        other, lines: face and back of the skins named in ``touch``.
        touch: blend, complexion and age.
        sides: texels per side of the results.
        seed: of the blend's unevenness.
    """
    results = []
    gain = None
    for index, (first, side) in enumerate(zip((face, back), sides, strict=True)):
        one = _log(first, side)
        sigma = _SPLIT * side
        low = _blur(one, sigma)
        detail = one - low
        if other is not None:
            rng = np.random.default_rng([seed, 74, index])
            noise = blur(rng.normal(size=(side, side)), side / 8)
            noise /= max(float(noise.std()), 1e-9)
            share = np.clip(touch.blend + 0.05 * noise, 0, 1)[..., None].astype(np.float32)
            low = low + share * (_blur(_log(other[index], side), sigma) - low)
        if touch.complexion is not None:
            if gain is None:  # the face decides for both pictures
                gain = np.log(np.array(touch.complexion, dtype=np.float32)) - cheek_colour(low)
            low = low + gain
        if lines is not None:
            old = _log(lines[index], side)
            detail = detail + touch.age * (old - _blur(old, sigma))
        colour = np.clip(np.exp(low + detail), 0, 255)
        results.append(Image.fromarray(np.rint(colour).astype(np.uint8)))
    return results[0], results[1]


def cheek_colour(face: Floats) -> Floats:
    """(3,) median of a (S, S, 3) face picture over both cheeks."""
    side = len(face)
    (r0, r1), (c0, c1) = ((int(a * side), int(b * side)) for a, b in _CHEEKS)
    patches = np.concatenate([face[r0:r1, c0:c1], face[r0:r1, side - c1 : side - c0]])
    colour: Floats = np.median(patches.reshape(-1, 3), axis=0)
    return colour


def _log(picture: Image.Image, side: int) -> Floats:
    small = picture.resize((side, side), Image.Resampling.LANCZOS)
    return np.log(np.maximum(np.asarray(small, dtype=np.float32), 2.0))


def _blur(values: Floats, sigma: float) -> Floats:
    blurred: Floats = blur(values, sigma, truncate=3.0)
    return blurred


@dataclass
class SkinMap:
    """Where on everybody's skin marks gather; each map is made when it is first asked for.

    Attributes:
        surface: of the generic head, R texels per side.
        lips: (R, R) where nothing of it is painted.
    """

    surface: SurfaceMap
    lips: Floats

    @cached_property
    def skin(self) -> Mask:
        """(R, R) texels of the face's part."""
        return self.surface.on("face")

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns that hold all of ``skin``."""
        return window_of(self.skin, 0)

    @cached_property
    def flush(self) -> Floats:
        """(R, R) where blood shows: cheeks, nose, chin, ears."""
        nose, chin = self.surface.landmarks[30], self.surface.landmarks[8]
        ears = np.array([0.078, 0.0, -0.01], dtype=np.float32)
        return self._spread(
            self._bump(self._cheek(), 0.024)
            + 0.9 * self._bump(nose, 0.015)
            + 0.5 * self._bump(chin, 0.016)
            + 0.9 * self._bump(ears, 0.022)
        )

    @cached_property
    def freckled(self) -> Floats:
        """(R, R) where the sun draws freckles."""
        bridge = self.surface.landmarks[29]
        return self._spread(
            self._bump(self._cheek(), 0.021)
            + 0.8 * self._bump(bridge, 0.017)
            + 0.06 * smooth_step(self._points[:, 2], 0.06, 0.09)
        )

    @cached_property
    def bearded(self) -> NDArray[np.float64]:
        """(R, R) float64 where a beard grows."""
        side, height, depth = (
            np.abs(self._points[:, 0]), self._points[:, 1], self._points[:, 2],
        )  # fmt: skip
        # From the side of the mouth the beard's edge climbs to the ear.
        edge = np.interp(side, (0.0, 0.012, 0.026, 0.045, 0.062, 0.072), (
            -0.036, -0.036, -0.047, -0.049, -0.022, 0.006,
        ))  # fmt: skip
        region = smooth_step(edge - height, -0.003, 0.007) * smooth_step(height, -0.128, -0.104)
        region *= smooth_step(depth, 0.005, 0.03) * (1 - self.lips[self.skin])
        out = np.zeros(self.skin.shape)
        out[self.skin] = region
        return out

    @cached_property
    def _points(self) -> Floats:
        return self.surface.positions[self.skin]

    def _spread(self, values: NDArray[np.floating]) -> Floats:
        out = np.zeros(self.skin.shape, dtype=np.float32)
        out[self.skin] = values
        return out

    def _cheek(self) -> Floats:
        points = self.surface.landmarks
        centre = 0.5 * points[45] + 0.3 * points[54] + 0.2 * points[35]
        return np.asarray(centre, dtype=np.float32)

    def _bump(self, centre: Floats, radius: float) -> Floats:
        """(P,) a soft ball around a point, mirrored to both sides, at the texels of the skin."""
        total = np.zeros(len(self._points), dtype=np.float32)
        for sign in (-1.0, 1.0):
            offset = self._points - centre * np.array([sign, 1, 1], dtype=np.float32)
            x, y, z = (offset**2).T
            np.maximum(total, np.exp(-(x + y + z) / radius**2), out=total)
        return total


def mark_skin(
    atlas: NDArray[np.uint8],
    places: SkinMap,
    touch: SkinTouch,
    stubble_colour: tuple[int, int, int],
    seed: int,
) -> None:
    """Blood, freckles, moles and shaved beards onto the skin of ``atlas``, in place.

    Args:
        atlas: (R, R, 3) uint8 sRGB.
        places: of the same size.
        touch: how much of each.
        stubble_colour: sRGB 0–255 of the hair beneath.
        seed: of this subject's marks.
    """
    rng = np.random.default_rng([seed, 75])
    paint = atlas.astype(np.float32)
    window, bare = places.window, 1 - places.lips
    flush = (touch.redness * places.flush[window] * bare[window])[..., None]
    paint[window] *= 1 + flush * np.array([0.03, -0.075, -0.06], dtype=np.float32)
    if touch.stubble:
        _stubble(paint, places.bearded, touch.stubble, stubble_colour, rng)
    if touch.freckles:
        count = int(touch.freckles * 520)
        chance = places.freckled * bare
        _dots(paint, chance, count, (0.55, 1.0), (0.05, 0.15, 0.20), touch.freckles, rng)
    if touch.moles:
        chance = places.skin * bare * (places.surface.positions[..., 2] > 0.02)
        _dots(paint, chance, touch.moles, (0.8, 1.3), (0.38, 0.50, 0.55), 1.0, rng)
    atlas[window] = np.clip(paint[window], 0, 255).astype(np.uint8)


def _dots(
    paint: Floats,
    chance: Floats,
    count: int,
    radius: tuple[float, float],
    loss: tuple[float, float, float],
    strength: float,
    rng: np.random.Generator,
) -> None:
    """Multiply soft dots of pigment in; ``loss`` is the share of each channel they take away."""
    weight = np.cumsum(chance.ravel(), dtype=np.float64)
    chosen = np.searchsorted(weight, rng.random(count) * weight[-1])
    side = paint.shape[1]
    reach = np.arange(-4, 5)
    for texel, wide, deep in zip(
        chosen, rng.uniform(*radius, count), rng.uniform(0.45, 1.0, count), strict=True
    ):
        row, column = int(texel) // side, int(texel) % side
        if not (4 <= row < len(paint) - 4 and 4 <= column < side - 4):
            continue
        shift = rng.uniform(-0.5, 0.5, 2)
        spot = np.exp(
            -((reach[:, None] - shift[0]) ** 2 + (reach[None] - shift[1]) ** 2) / (2 * wide**2)
        )
        patch = paint[row - 4 : row + 5, column - 4 : column + 5]
        patch *= 1 - deep * strength * spot[..., None] * np.array(loss)


def _stubble(
    paint: Floats,
    bearded: NDArray[np.float64],
    amount: float,
    colour: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """The shadow of a shaved beard: dots of hair and the cool tone of those beneath the skin."""
    window = window_of(bearded > 0, 0)
    grain = blur(rng.normal(size=bearded.shape), 0.55)
    hairs = np.clip((grain[window] / grain.std() - 0.55) / 1.6, 0, 1)
    cool = np.array([0.17, 0.12, 0.09], dtype=np.float32)
    skin, region = paint[window], bearded[window]
    skin *= 1 - (amount * region)[..., None] * cool
    share = (amount * region * hairs * 0.7)[..., None]
    skin += share * (np.array(colour, dtype=np.float32) - skin)
