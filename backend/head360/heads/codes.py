"""Arithmetic on codes: blends of two heads, heads that nobody has seen, other hair colours.

Texture t, shape s and hair h are independent (Head360 §3), so each can be moved alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel
from head360.heads.base import Codes

Weights = tuple[tuple[str, float], ...]
_PARENTS = 3  # subjects whose free textures make a new one


def texture_weights(codes: Codes) -> Weights:
    """Subjects and weights of the texture."""
    return codes.textures or ((codes.subject, 1.0),)


def hair_weights(codes: Codes) -> Weights:
    """Styles and weights of the hair; empty when bald."""
    if codes.style is None:
        return ()
    return codes.hairs or ((codes.style, 1.0),)


def interpolate(
    start: Codes, end: Codes, *, texture: float = 0.0, shape: float = 0.0, hair: float = 0.0
) -> Codes:
    """A head between two others, each of the three codes by its own amount, 0 start … 1 end.

    Hair that only one of them wears does not fade (a blend with nothing is not hair): it changes
    half-way.

    Raises:
        BadInput: an amount outside 0…1, or the heads have shapes of different length.
    """
    for name, value in (("texture", texture), ("shape", shape), ("hair", hair)):
        if not 0.0 <= value <= 1.0:  # also catches NaN
            raise BadInput(f"The amount of {name} is {value}: choose a number from 0 to 1.")
    if start.shape.shape != end.shape.shape:
        raise BadInput("The two heads are of different mesh models: choose two of one model.")
    styles = hair_weights(start), hair_weights(end)
    if all(styles):
        hairs = mix(styles[0], styles[1], hair)
        style: str | None = max(hairs, key=lambda item: item[1])[0]
    else:
        nearer = start if hair < 0.5 else end
        hairs, style = nearer.hairs, nearer.style
    colour = start.hair_colour if hair < 0.5 else end.hair_colour
    if start.hair_colour is not None and end.hair_colour is not None:
        a, b = np.array(start.hair_colour), np.array(end.hair_colour)
        red, green, blue = ((1 - hair) * a + hair * b).tolist()
        colour = (red, green, blue)
    textures = mix(texture_weights(start), texture_weights(end), texture)
    return Codes(
        max(textures, key=lambda item: item[1])[0],
        ((1 - shape) * start.shape + shape * end.shape).astype(np.float32),
        style,
        textures if len(textures) > 1 else (),
        hairs if len(hairs) > 1 else (),
        hair_colour=colour,
    )


def mix(first: Weights, second: Weights, share: float) -> Weights:
    """Weights of ``first`` and ``second`` blended by ``share``; entries without weight are left."""
    total: dict[str, float] = {}
    for weights, part in ((first, 1.0 - share), (second, share)):
        for name, weight in weights:
            total[name] = total.get(name, 0.0) + part * weight
    return tuple((name, weight) for name, weight in total.items() if weight != 0.0)


def draw(
    seed: int,
    model: BilinearModel,
    subjects: tuple[str, ...],
    styles: tuple[str, ...],
    *,
    generated: bool,
) -> Codes:
    """A head that was not trained: new shape, new texture, one of the styles; seeded.

    Args:
        seed: 0 … 2³¹ − 1.
        model: the bilinear mesh.
        subjects, styles: of the head.
        generated: textures come from a generator, see :func:`gaussian_weights`.

    Raises:
        BadInput: the seed is out of range.
    """
    if not 0 <= seed < 2**31:
        raise BadInput(f"The seed {seed} is out of range: choose 0 to {2**31 - 1}.")
    rng = np.random.default_rng(seed)
    shape = model.sample_shape(rng)
    style = styles[int(rng.integers(len(styles)))] if styles else None
    weights = (gaussian_weights if generated else family_weights)(rng, len(subjects))
    textures = tuple((subjects[k], w) for k, w in weights)
    return Codes(max(textures, key=lambda item: item[1])[0], shape, style, textures)


def gaussian_weights(rng: np.random.Generator, count: int) -> list[tuple[int, float]]:
    """Weights Σ = 1 of ``count`` codes whose blend is a draw from their Gaussian.

    With codes c and g ~ N(0, 1): mean(c) + Σ gₖ (cₖ − mean(c)) / √(n − 1) has the mean and the
    covariance of the codes, whatever their dimension.
    """
    if count == 1:
        return [(0, 1.0)]
    draws = rng.standard_normal(count) / np.sqrt(count - 1)
    weights = 1.0 / count + draws - draws.mean()
    return [(k, float(w)) for k, w in enumerate(weights)]


def family_weights(rng: np.random.Generator, count: int) -> list[tuple[int, float]]:
    """Positive weights Σ = 1 of a few of ``count``: what free planes can be blended by."""
    chosen = rng.choice(count, min(_PARENTS, count), replace=False)
    weights = rng.dirichlet(np.full(len(chosen), 2.0))
    return [(int(k), float(w)) for k, w in zip(chosen, weights, strict=True)]


def recoloured(codes: Codes, colour: tuple[float, float, float] | None) -> Codes:
    """The same head with hair of another colour, sRGB in [0, 1]; None is its own.

    Raises:
        BadInput: a channel outside 0…1, or there is no hair.
    """
    if colour is not None:
        if codes.style is None:
            raise BadInput("A bald head has no hair colour: choose a hair style first.")
        if not all(0.0 <= channel <= 1.0 for channel in colour):
            raise BadInput(f"The hair colour {colour} is out of range: use three numbers 0 to 1.")
    return dataclasses.replace(codes, hair_colour=colour)
