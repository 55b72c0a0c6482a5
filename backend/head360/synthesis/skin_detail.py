"""Relief, gloss and thinness of the skin as a small atlas, made from the albedo and the geometry.

What the eye calls plastic is skin that shines alike everywhere. Pores and wrinkles that the albedo
shows are given a relief, a fine noise fills what its resolution lost, and the gloss differs between
forehead, nose, lips and cheeks.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from head360.geometry.topology import Topology
from head360.synthesis.blur import blur
from head360.synthesis.parsing import SIZE, mouth_masks

Floats = NDArray[np.float32]

MAP = 512  # texels per side of the map
_SLOPE = 0.55  # slope that a full channel stands for
_FROM_ALBEDO, _FROM_NOISE = 1.7, 0.24
# Where skin is oily: landmark, reach in metres, extra gloss.
_OILY = ((30, 0.016, 0.55), (29, 0.012, 0.35), (27, 0.03, 0.25), (8, 0.014, 0.2), (33, 0.008, 0.2))
_NOSTRILS = (31, 35)
_TAIL = 6.5  # standard deviations beyond which a bell is less than float32 can add to 0.95


def skin_map(atlas: NDArray[np.uint8], regions: Floats, seed: int) -> NDArray[np.uint8]:
    """(512, 512, 4) uint8, top row first: slope along u and v (128 is flat), gloss, thinness.

    A gloss of 128 is that of cheeks; thinness is how much light passes from behind.

    Args:
        atlas: (1024, 1024, 3) uint8 sRGB albedo.
        regions: (512, 512, 2) of :func:`skin_regions`.
        seed: of the noise.
    """
    light = atlas.astype(np.float32).mean(2) / 255
    light = light.reshape(MAP, 2, MAP, 2).mean((1, 3))
    detail = np.log(np.maximum(light, 0.05))
    detail = np.clip(blur(detail, 0.6) - blur(detail, 3.0), -0.12, 0.12)
    noise = np.random.default_rng(seed).normal(0, 1, (MAP, MAP)).astype(np.float32)
    pores = blur(noise, 0.9)
    pores /= pores.std()
    blotches = blur(noise, 9.0)
    blotches /= blotches.std()
    height = _FROM_ALBEDO * detail + _FROM_NOISE * 0.25 * pores
    across = np.gradient(height, axis=1)
    along = -np.gradient(height, axis=0)  # v grows upwards
    gloss = regions[..., 0] * (1 + 0.10 * blotches + 0.18 * pores * (regions[..., 0] < 1.6))
    gloss += 2.0 * detail
    channels = np.stack(
        [across / _SLOPE * 127 + 128, along / _SLOPE * 127 + 128, gloss * 128,
         regions[..., 1] * 255], -1,
    )  # fmt: skip
    return np.clip(np.round(channels), 0, 255).astype(np.uint8)


def skin_regions(topology: Topology, average: Floats, texels: Floats) -> Floats:
    """(512, 512, 2) float32 of everyone: gloss in units of a cheek's, and thinness in [0, 1].

    Args:
        topology: of the bilinear model.
        average: (N, 3) float32 the neutral average head, metres.
        texels: ``parsing.skin_positions`` of it.
    """
    texels = np.where(np.isnan(texels), 1.0, texels)
    marks = average[topology.landmarks68]
    gloss = np.full((SIZE, SIZE), 0.95, dtype=np.float32)
    for mark, reach, extra in _OILY:
        _add_bell(gloss, texels, marks[mark], reach, extra)
    _add_bell(gloss, texels, marks[27] + (0.0, 0.035, -0.005), 0.035, 0.3)
    mouth, lips = mouth_masks(topology)
    soft = blur((lips | mouth).astype(np.float32), 3.0)
    gloss = gloss * (1 - soft) + 1.75 * soft
    ears = np.clip((np.abs(texels[..., 0]) - 0.073) / 0.008, 0, 1)
    ears *= (np.abs(texels[..., 1]) < 0.05) & (np.abs(texels[..., 2]) < 0.05)
    thin = blur(ears.astype(np.float32), 2.0)
    for mark in _NOSTRILS:
        nostril = np.zeros_like(thin)
        _add_bell(nostril, texels, marks[mark], 0.007, 0.5)
        thin = np.maximum(thin, nostril)
    both = np.stack([gloss, np.clip(thin, 0, 1)], -1)
    return both.reshape(MAP, 2, MAP, 2, 2).mean((1, 3)).astype(np.float32)


def _add_bell(out: Floats, texels: Floats, centre: Floats, reach: float, height: float) -> None:
    """Add a bell of deviation ``reach`` around ``centre``, as far as it changes ``out``."""
    middle = np.asarray(centre, dtype=np.float32)
    near = np.abs(texels[..., 0] - middle[0]) < _TAIL * reach
    near &= np.abs(texels[..., 1] - middle[1]) < _TAIL * reach
    offset = texels[near] - middle
    distance = (offset**2).sum(-1)
    out[near] += height * np.exp(-distance / (2 * reach * reach)).astype(np.float32)


@functools.cache
def flat_map() -> NDArray[np.uint8]:
    """(1, 1, 4) the map of a look without fine skin."""
    return np.zeros((1, 1, 4), dtype=np.uint8)
