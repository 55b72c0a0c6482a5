"""The hair of a fitted head: ranked by a classifier, tried on, coloured as in the photograph.

A classifier and the outlines of all styles of the studio say which one it is (``fitting.hulls``). A
base wears only some: each gets the probability of those that it resembles, is put on the fitted
head, and its own outline speaks as well. Under a hat only what hangs below it counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from head360.datasets import labels as classes
from head360.fitting.hairstyle import to_oklab
from head360.fitting.hulls import hull_outline, outlined
from head360.fitting.inversion import Wearing
from head360.fitting.pictures import grid
from head360.fitting.sights import Sight
from head360.fitting.wearable import BALD, wearable
from head360.geometry.lattice import Lattice
from head360.geometry.topology import Topology
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs
from head360.rendering import raster
from head360.sheets import over, table

Floats = NDArray[np.float32]

# Weights of an outline's agreement against a log probability: of all styles of the studio, and of
# the base's own, whose studio twins have spoken already. On held-out studio portraits 12 raises
# top-1 of all styles from 74 to 84 %, and more than a little of the second makes heads in other
# styles wear what fills their outline, curls above all (benchmarks/hair_choice.py).
_STUDIO, _OUTLINE = 12.0, 1.0
_FLOOR = 0.02  # probability that every style has
_LITTLE = 0.01  # share of the picture that hair may be out of place without saying much
_HAT = 0.4  # share of the skull that is neither hair nor skin, from which on a hat covers it
# Exponents of the classifier's probabilities: real photographs are not quite what it knows, and
# under a hat it sees wool.
_TRUST, _DOUBT = 0.75, 0.3
_BLUE = -0.025  # Oklab's b of hair: no scalp grows what is bluer, so it is wool, or dyed
_VEIL = 8.0  # weight of eyes, brows and lips that a style hides and the photograph shows
_SIDE = 192
_BROWS = slice(17, 27)  # of the 68 landmarks
_UP = np.array([0.0, 0.05, 0.0], dtype=np.float32)


@dataclass(frozen=True)
class Hair:
    """What a fitted head wears.

    Attributes:
        codes: shape, style and hair colour; the subject is the base's first.
        top3: (style of the studio or "bald", probability), by classifier and outlines.
        candidates: (style of the base, None for bald; score) best first, Σ = 1.
        picture: (H, W, 3) uint8 the photograph and the best candidates; brief: the same in two
            lines.
        hat: whether something covers the top of the head.
    """

    codes: Codes
    top3: list[tuple[str, float]]
    candidates: list[tuple[str | None, float]]
    picture: NDArray[np.uint8]
    brief: NDArray[np.uint8]
    hat: bool = False


def choose_hair(
    base: HexPlaneHead,
    shape: Floats,
    sight: Sight,
    pose: PoseInputs,
    ranking: Sequence[tuple[str, float]],
    colour: Floats | None,
    wanted: str | None,
    progress: Callable[[float], None],
) -> Hair:
    """Choose style and colour.

    Args:
        base: whose styles are there.
        shape: (S,) of the fitted head.
        sight: the first photograph; pose: of the head in it.
        ranking: the classifier's, all studio styles and "bald", with probabilities.
        colour: (3,) sRGB of the hair in the photograph, or None.
        wanted: a style of the base, None for bald, "" for the one that looks most alike.
        progress: called with the share that is done; what it raises stops the work.
    """
    plain = Codes(base.subjects[0], np.asarray(shape, dtype=np.float32), None)
    scores: dict[str | None, float] = {}
    skin = skin_depth(sight, pose, base.model.topology)
    above = above_brows(sight, pose, base.model.topology)
    hat = wears_hat(above & np.isfinite(skin), sight)
    told = sight.known & ~above if hat else sight.known
    trust = _DOUBT if hat or bluish(colour) else _TRUST
    lattice = base.identity(plain.shape)[1]
    ranking = by_outline(ranking, lattice, sight, skin, told, trust=trust)
    likely = dict(wearable(ranking, base.styles))
    for number, (style, share) in enumerate(likely.items()):
        progress(0.8 * number / len(likely))
        outline = style_outline(base, dataclasses.replace(plain, style=style), sight, pose)
        alike = agreement(outline, sight.hair, sight.face(), told)
        scores[style] = score(share, alike, veiled(outline, sight))
    total = sum(scores.values())
    order = sorted(((s, v / total) for s, v in scores.items()), key=lambda item: -item[1])
    style = order[0][0] if wanted == "" else wanted
    dye = None
    if style is not None and colour is not None:
        red, green, blue = (float(np.clip(channel, 0, 1)) for channel in colour)
        dye = red, green, blue
    codes = dataclasses.replace(plain, style=style, hair_colour=dye)
    progress(0.8)
    shown = [style, *[other for other, _ in order if other != style][:2]]
    picture, brief = _try_on(base, codes, shown, sight, pose)
    return Hair(codes, [(n, float(p)) for n, p in ranking[:3]], order, picture, brief, hat)


def score(likely: float, alike: float, veil: float, weight: float = _OUTLINE) -> float:
    """How much speaks for a style of the base.

    Args:
        likely: its probability; alike: agreement of its outline, see :func:`agreement`.
        veil: see :func:`veiled`.
        weight: of ``alike`` against the log probability.
    """
    return (likely + _FLOOR) * float(np.exp(weight * alike - _VEIL * veil))


def agreement(
    outline: Floats,
    hair: Floats,
    bare: NDArray[np.bool_],
    known: NDArray[np.bool_] | None = None,
) -> float:
    """0…1: twice the common area by the sum of both areas, where little of either is no matter.

    Hair over ``bare`` skin counts double: hair out of place is seen more than hair that is missing.

    Args:
        outline, hair: (S, S) shares of hair that a style shows and that the photograph shows.
        bare: (S, S) where the photograph shows skin.
        known: (S, S) where it tells whether there is hair; everywhere by default.
    """
    if known is not None:
        outline, hair = outline * known, hair * known
    common = float(np.minimum(outline, hair).sum())
    total = float(outline.sum() + hair.sum() + outline[bare].sum())
    little = _LITTLE * outline.size
    return (2 * common + little) / (total + little)


def above_brows(sight: Sight, pose: PoseInputs, topology: Topology) -> NDArray[np.bool_]:
    """(S, S) pixels higher than the brows, along the head's own axis."""
    size = sight.size
    brows = pose.vertices[topology.landmarks68[_BROWS]].mean(0)
    ends, _ = sight.camera.project(np.stack([brows, brows + _UP]), size, size)
    up = ends[1] - ends[0]
    y, x = np.mgrid[0:size, 0:size] + 0.5
    return np.asarray((x - ends[0, 0]) * up[0] + (y - ends[0, 1]) * up[1] > 0)


def skin_depth(sight: Sight, pose: PoseInputs, topology: Topology) -> Floats:
    """(S, S) metres along the axis to the posed mesh, +inf where it is not."""
    screen = raster.perspective_screen(pose.vertices, sight.camera, sight.size, sight.size)
    drawn = raster.rasterize(screen[None], topology.faces, sight.size, sight.size)
    return np.asarray(drawn.depth[0], dtype=np.float32)


def head_mask(sight: Sight, pose: PoseInputs, topology: Topology) -> NDArray[np.bool_]:
    """(S, S) pixels whose middle shows the posed mesh."""
    return np.isfinite(skin_depth(sight, pose, topology))


def by_outline(
    ranking: Sequence[tuple[str, float]],
    lattice: Lattice,
    sight: Sight,
    skin: Floats,
    told: NDArray[np.bool_],
    weight: float = _STUDIO,
    trust: float = _TRUST,
) -> list[tuple[str, float]]:
    """The classifier's ``ranking`` with the say of every studio style's outline, best first.

    Args:
        ranking: (studio style or "bald", probability).
        lattice: of the fitted head.
        sight, skin: the photograph and the depth of the bald head in it.
        told: (S, S) where the photograph tells whether there is hair.
        weight: of the agreement against the log probability; 0 leaves outlines out.
        trust: exponent of the classifier's probabilities.
    """
    bare = sight.face()
    ranking = [(name, chance**trust) for name, chance in ranking]

    def alike(outline: Floats) -> float:
        against = _VEIL / weight * veiled(outline, sight) if weight else 0.0
        return agreement(outline, sight.hair, bare, told) - against

    def draw(name: str) -> Floats:
        if name == BALD:
            return np.zeros_like(sight.hair)
        return hull_outline(name, lattice, sight, skin)

    return outlined(ranking, alike, draw, weight)


def bluish(colour: Floats | None) -> bool:
    """Whether (3,) sRGB in [0, 1] is bluer than hair grows; a hat that passed for hair may be."""
    return colour is not None and bool(to_oklab(np.asarray(colour))[2] < _BLUE)


def veiled(outline: Floats, sight: Sight) -> float:
    """0…1 how much of the eyes, brows and lips that the photograph shows an ``outline`` hides."""
    shown = np.isin(sight.labels, (classes.EYES, classes.BROWS, classes.LIPS))
    return float(outline[shown].mean()) if shown.any() else 0.0


def wears_hat(skull: NDArray[np.bool_], sight: Sight) -> bool:
    """Whether most of the ``skull`` (S, S) that the photograph shows is neither hair nor skin."""
    seen = skull & sight.known
    covered = seen & (sight.labels == classes.BACKGROUND)
    return bool(covered.sum() > _HAT * max(1, seen.sum()))


def style_outline(base: HexPlaneHead, codes: Codes, sight: Sight, pose: PoseInputs) -> Floats:
    """(S, S) share of hair that ``codes`` shows at the photograph's camera."""
    size = sight.size
    if codes.style is None:
        return np.zeros((size, size), dtype=np.float32)
    _, lattice = base.identity(codes.shape)
    look = base.look(codes)
    wearing = Wearing(
        base.net, base.model.topology, look.hair, None, base.hair_box(codes, lattice), lattice,
        base.device,
    )  # fmt: skip
    view = wearing.window(pose, sight.camera, size // 4 * 2)
    with torch.no_grad():
        out, share = wearing.render(look.texture, pose, [view])
    covered = (share * out[:, 3:].clamp(0, 1))[0, 0].cpu().numpy()
    small = Image.fromarray(np.ascontiguousarray(covered, dtype=np.float32))
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))


def _try_on(
    base: HexPlaneHead, codes: Codes, styles: list[str | None], sight: Sight, pose: PoseInputs
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    photo = Image.fromarray((sight.pixels * 255 + 0.5).astype(np.uint8))
    tiles = [np.asarray(photo.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))]
    for style in styles:
        worn = dataclasses.replace(
            codes, style=style, hair_colour=None if style is None else codes.hair_colour
        )
        posed = base.pose(worn, sight.blendshapes)
        tiles.append(over(base.render(posed, sight.camera, _SIDE, _SIDE).rgba))
    names = [style or "bald" for style in styles]
    labels = ["photo", f"chosen: {names[0]}", *(f"or: {name}" for name in names[1:])]
    half = -(-len(tiles) // 2)
    lines = [
        np.asarray(table([("", tiles[part])], labels[part]))
        for part in (slice(half), slice(half, None))
        if tiles[part]
    ]
    return np.asarray(table([("", tiles)], labels)), grid(lines)
