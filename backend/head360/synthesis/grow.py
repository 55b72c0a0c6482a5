"""Growing hair: strands on the average head, combed step by step, and the mesh they become."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.rendering.cameras import BOX_CENTRE, BOX_HALF
from head360.synthesis import ribbons
from head360.synthesis.combing import WHORL, combing_at, nearest_tie
from head360.synthesis.gathered import gathered, tie_points
from head360.synthesis.growth import Growth, Shell
from head360.synthesis.ribbons import Mesh, unit
from head360.synthesis.rooting import (
    cover_at,
    fullness_at,
    length_at,
    refined_scalp,
    scattered_roots,
)
from head360.synthesis.scalp import Scalp, above_hairline, angles, smooth
from head360.synthesis.strand_texture import WISPY

Doubles = NDArray[np.float64]

FLOOR = -0.70  # normalised y where long hair is cut: a little above the bust's edge
SKIN_GAP = 0.0008  # metres between the skin and the undercoat
_FLOOR_METRES = FLOOR * BOX_HALF + BOX_CENTRE[1] + 0.0005
_RISE = 0.016  # metres of strand over which it reaches its layer
_MIN_LENGTH = 0.003
_DOWN = np.array([0.0, -1.0, 0.0])
_NECK = np.array([0.0, 0.0, -0.02])
_CEILING = BOX_CENTRE[1] + BOX_HALF  # metres, the top of the box


@dataclass
class _Strands:
    """S strands of n points. Metres.

    ``layer`` (S,) 0 = next to the skin … 1 = outermost; ``end`` (S,) share of the strand that is
    left after cutting; ``lock`` (S,) the strand that leads each one's lock.
    """

    points: Doubles
    outward: Doubles
    layer: Doubles
    end: Doubles
    lock: NDArray[np.int64]


def grow(growth: Growth, scalp: Scalp) -> Mesh:
    """Grow a style around the average head; the same parameters give the same bytes."""
    rng = np.random.default_rng(growth.seed)
    pieces = _undercoats(growth, scalp, rng)
    if growth.count > 0:
        roots, normals = scattered_roots(growth, scalp, rng)
        strands = _combed(growth, scalp, roots, normals, rng)
        pieces.append(
            _locks(growth, strands) if growth.locks else _ribbons(growth, scalp, strands, rng)
        )
    for gather in growth.gathers:
        pieces.append(gathered(gather, scalp, growth, rng))
    mesh = ribbons.join(pieces)
    np.maximum(mesh.positions[:, 1], _FLOOR_METRES, out=mesh.positions[:, 1])
    return mesh


# --- strands ---------------------------------------------------------------------------------


def _combed(
    growth: Growth, scalp: Scalp, roots: Doubles, normals: Doubles, rng: np.random.Generator
) -> _Strands:
    """Integrate every strand from its root along comb, lift and gravity, outside the skin."""
    strands, count = len(roots), growth.points
    above = above_hairline(roots, growth.recede, growth.peak)
    length = length_at(growth, roots) * (0.30 + 0.70 * smooth(0, 9, above))
    length *= 1 + growth.spread * rng.uniform(-1, 1, strands)
    if growth.fade is not None:
        length *= 0.25 + 0.75 * fullness_at(growth, roots)
    length = np.maximum(length, _MIN_LENGTH)
    layer = rng.random(strands) ** 0.8
    tied = growth.comb == "tie"
    if tied:
        target = tie_points(growth.gathers, scalp)[nearest_tie(growth, roots)]
        target = target + 0.006 * unit(rng.standard_normal((strands, 3)))
        # The way over the skull is longer than the chord.
        chord = np.linalg.norm(target - roots, axis=1)
        length = chord * (1 + 0.9 * chord)
    wander = _wander(roots, rng) + 0.5 * rng.standard_normal((strands, 3))
    share = _spacing(growth)
    points = np.empty((strands, count, 3))
    outward = np.empty((strands, count, 3))
    here = roots + 0.0004 * normals
    points[:, 0], outward[:, 0] = here, normals
    heading = unit(0.4 * normals + combing_at(growth, here, roots))
    grade = normals
    for k in range(1, count):
        step = length * (share[k] - share[k - 1])
        run = length * 0.5 * (share[k] + share[k - 1])
        comb = combing_at(growth, here, roots)
        if growth.comb != "up":
            comb = unit(comb - grade * (comb * grade).sum(1, keepdims=True) * 0.95)
        fall = growth.gravity * smooth(0.0, 0.10, run) + smooth(0.02, -0.03, here[:, 1])
        fall = np.clip(fall, 0, 1)[:, None] * (0.0 if tied else 1.0)
        lift = growth.lift * np.exp(-run / (0.006 + 0.22 * length))
        want = comb * (1 - fall) + _DOWN * fall + lift[:, None] * grade
        # Below the ears the mass of hair closes towards the neck.
        away = here * [1.0, 0.0, 1.0] - _NECK
        want -= (growth.close * smooth(0.03, -0.05, here[:, 1]))[:, None] * unit(away)
        want += growth.mess * wander * np.minimum(run / 0.015, 1)[:, None]
        if growth.tuck:
            turn = growth.tuck * smooth(0.62, 1.0, np.full(strands, share[k]))
            want -= turn[:, None] * unit(grade * [1.0, 0.15, 1.0])
        heading = unit(0.35 * heading + 0.65 * unit(want))
        if tied:
            gap = np.linalg.norm(target - here, axis=1)
            near = smooth(0.05, 0.015, gap)[:, None]
            heading = unit(heading * (1 - near) + unit(target - here) * near)
            stride = np.minimum(np.maximum(step, gap / (count - k)), gap)
        else:
            stride = step
        here = here + stride[:, None] * heading
        here = _kept_off(growth, scalp, here, layer, length * share[k], share[k])
        _, grade = scalp.distance(here)
        points[:, k], outward[:, k] = here, grade
    lock = _shape_locks(growth, points, outward, length, rng)
    _push_out(scalp, points, 0.0012)
    _clear_face(growth, points)
    _below_ceiling(points)
    return _Strands(points, outward, layer, _cut(growth, points), lock)


def _spacing(growth: Growth) -> Doubles:
    """(n,) shares of the length: points are dense at the root, where straight hair bends most."""
    power = 1.0 if growth.comb in ("tie", "up") or growth.curl else 1.15 if growth.wave else 1.5
    return np.linspace(0, 1, growth.points) ** power


def _wander(roots: Doubles, rng: np.random.Generator) -> Doubles:
    """(S, 3) a smooth random field over the scalp: neighbours stray together."""
    field = np.zeros((len(roots), 3))
    for _ in range(6):
        wave = rng.standard_normal(3) * 75.0
        field += np.sin(roots @ wave + 6.283 * rng.random())[:, None] * rng.standard_normal(3)
    return 0.5 * field


def _kept_off(
    growth: Growth, scalp: Scalp, here: Doubles, layer: Doubles, run: Doubles, t: float
) -> Doubles:
    """Push points out to the height of their layer, and draw stray ones back to it."""
    away, grade = scalp.distance(here)
    height: Doubles = 0.0012 + layer * growth.thickness * (1 - np.exp(-run / _RISE))
    height *= 1 - 0.6 * smooth(0.055, 0.085, here[:, 2])  # a fringe lies on the forehead
    if growth.comb == "tie":
        height *= 1 - 0.5 * t
    deficit = height - away
    over = growth.hug * np.asarray(smooth(-0.02, 0.03, here[:, 1]))
    if growth.comb == "up":
        over = over * 0.0
        deficit = 0.0012 - away
    here = here + grade * (np.maximum(deficit, 0) + over * np.minimum(deficit, 0))[:, None]
    # Hair that is not a fringe parts around the face.
    if growth.fringe < 0.06:
        return here
    y, z = here[:, 1], here[:, 2]
    half = np.interp(
        y, [-0.10, -0.05, 0.0, 0.04, 0.075, 0.10], [0.052, 0.062, 0.069, 0.066, 0.05, 0.0]
    )
    inside = np.maximum(half - np.abs(here[:, 0]), 0) * smooth(0.035, 0.06, z)
    here[:, 0] += np.where(here[:, 0] > 0, 1.0, -1.0) * inside
    here[:, 2] -= 0.6 * inside
    return here


def _shape_locks(
    growth: Growth, points: Doubles, outward: Doubles, length: Doubles, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Close strands into locks, then wave and curl each lock; changes ``points``."""
    strands, count = points.shape[:2]
    leaders = np.arange(min(growth.clumps, strands))  # roots are scattered in random order
    apart = ((points[:, None, 0] - points[None, leaders, 0]) ** 2).sum(2)
    lock = leaders[apart.argmin(1)]
    t = np.linspace(0, 1, count)
    if growth.clump:
        pull = growth.clump * t**1.3
        points += pull[None, :, None] * (points[lock] - points)
    tangent = ribbons.directions(points)
    side = unit(np.cross(tangent, outward))
    run = _spacing(growth)[None] * length[:, None]
    tousled: Doubles = growth.tousle * rng.standard_normal((strands,))
    azimuth, _ = angles(points[:, 0])
    jitter: Doubles = 0.3 * rng.standard_normal((strands,))
    phase = tousled[lock] + jitter + 2.0 * np.radians(azimuth)
    if growth.wave:
        grown = growth.wave * smooth(0.01, 0.06, run)
        angle = 6.283 * run / growth.wave_length + phase[:, None]
        points += (grown * np.sin(angle))[..., None] * side
        points += (0.5 * grown * np.cos(angle))[..., None] * outward
    if growth.curl:
        grown = growth.curl * smooth(0.0, 0.025, run)
        angle = 6.283 * run / growth.pitch + phase[:, None]
        points += (grown * np.cos(angle))[..., None] * side
        points += (grown * (1 + np.sin(angle)))[..., None] * outward
    return lock


def _push_out(scalp: Scalp, points: Doubles, gap: float) -> None:
    flat = points[:, 1:].reshape(-1, 3)
    away, grade = scalp.distance(flat)
    flat = flat + grade * np.maximum(gap - away, 0)[:, None]
    points[:, 1:] = flat.reshape(points[:, 1:].shape)


def _clear_face(growth: Growth, points: Doubles) -> None:
    """What waves and locks brought before the face goes back beside it; changes ``points``."""
    if growth.fringe < 0.06:
        return
    y = points[..., 1]
    half = np.interp(y, [-0.10, -0.05, 0.0, 0.04, 0.07], [0.045, 0.054, 0.060, 0.056, 0.0])
    half = np.where(half > 0, half + 1.2 * growth.curl + 0.6 * growth.wave, 0)
    inside = np.maximum(half - np.abs(points[..., 0]), 0) * (points[..., 2] > 0.045)
    points[..., 0] += np.where(points[..., 0] > 0, 1.0, -1.0) * inside


def _below_ceiling(points: Doubles) -> None:
    """Press softly under the top of the box that the networks see; changes ``points``."""
    y = points[..., 1]
    start, room = _CEILING - 0.022, 0.015
    np.copyto(y, np.where(y > start, start + room * np.tanh((y - start) / room), y))


def _cut(growth: Growth, points: Doubles) -> Doubles:
    """Shorten strands that reach the floor or the eyes; changes ``points``, returns what stays."""
    count = points.shape[1]
    y = points[..., 1]
    before = (np.abs(points[..., 0]) < 0.056) & (points[..., 2] > 0.055)
    level = max(_FLOOR_METRES, growth.level)
    # No pair of scissors cuts every hair at one height.
    uneven = 0.0035 * np.sin(np.arange(len(points)) * 2.399)
    fringe = (growth.fringe + np.abs(uneven))[:, None]
    beyond = (y < level) | (before & (y < fringe))
    beyond[:, 0] = False
    reached = np.where(beyond.any(1), beyond.argmax(1), count)
    end = np.ones(len(points))
    t = np.linspace(0, 1, count)
    for strand in np.flatnonzero(reached < count):
        k = int(reached[strand])
        line = points[strand]
        limit = level if line[k, 1] < level else max(line[k, 1], fringe[strand, 0])
        drop = line[k - 1, 1] - line[k, 1]
        part = np.clip((line[k - 1, 1] - limit) / drop, 0.05, 1) if drop > 1e-9 else 1.0
        stop = (k - 1 + part) / (count - 1)
        at = t * stop
        points[strand] = np.stack([np.interp(at, t, line[:, axis]) for axis in range(3)], 1)
        end[strand] = stop
    np.maximum(points[..., 1], _FLOOR_METRES, out=points[..., 1])
    return end


# --- what it becomes ------------------------------------------------------------------------------


def _ribbons(growth: Growth, scalp: Scalp, strands: _Strands, rng: np.random.Generator) -> Mesh:
    count = len(strands.points)
    strip = rng.choice(7, count, p=[0.16, 0.16, 0.16, 0.16, 0.13, 0.13, 0.10])
    strip[(strands.layer < 0.5) & (strip == WISPY)] = 0
    # Hair on its way round the skull faces outward; far from it, away from the axis of the head.
    width = growth.width * (0.75 + 0.5 * rng.random(count))
    t = np.linspace(0, 1, strands.points.shape[1])
    depth = 0.62 + 0.38 * strands.layer
    shade = np.clip(depth[:, None] * (0.70 + 0.30 * smooth(0.0, 0.5, t))[None], 0, 1)
    roll = np.radians(growth.roll) * rng.standard_normal(count)
    mesh = ribbons.ribbons(strands.points, strands.outward, width, shade, strip, strands.end, roll)
    # Hairs of a head are never parallel: without this all of them would flash at once.
    stray = np.repeat(0.14 * rng.standard_normal(count), 2 * strands.points.shape[1])
    return dataclasses.replace(mesh, tangents=unit(mesh.tangents + stray[:, None] * mesh.normals))


def _locks(growth: Growth, strands: _Strands) -> Mesh:
    """Dreadlocks: every strand a felted tube."""
    lines = strands.points[: growth.locks]
    t = np.linspace(0, 1, lines.shape[1])
    radius = 0.5 * growth.width * np.interp(t, [0, 0.1, 0.85, 1], [0.6, 1.0, 0.9, 0.35])
    uneven = 1 + 0.12 * np.sin(np.arange(len(lines))[:, None] * 2.4 + 17 * t[None])
    return ribbons.tubes(lines, radius[None] * uneven, 0.85, 5, np.array([0.3, 0.2, 0.93]))


def _undercoats(growth: Growth, scalp: Scalp, rng: np.random.Generator) -> list[Mesh]:
    """The cover of the scalp and its raised copies."""
    corners, normals = refined_scalp(growth, scalp)
    middle = corners.mean(1)
    facing = unit(normals.sum(1))
    flow = combing_at(growth, middle, middle)
    flow = unit(flow - facing * (flow * facing).sum(1, keepdims=True) + 1e-6)
    cover, full = cover_at(growth, middle), fullness_at(growth, middle)
    density = cover * (growth.fade_cover + (growth.cap - growth.fade_cover) * full)
    if growth.comb == "part":
        line = np.abs(middle[:, 0] - growth.part) < 0.0018
        density = np.where(line & (middle[:, 2] > -0.04), 0.4 * density, density)
    pieces = [ribbons.undercoat(corners, normals, flow, density, SKIN_GAP, 0.8, rng)]
    coarse, upright = scalp.vertices[scalp.faces], scalp.normals[scalp.faces]
    for shell in growth.shells:
        pieces.append(_shell(growth, shell, coarse, upright, rng))
    return pieces


def _shell(
    growth: Growth, shell: Shell, corners: Doubles, normals: Doubles, rng: np.random.Generator
) -> Mesh:
    """A raised copy; it comes down to the skin along the hairline."""
    flat = corners.reshape(-1, 3)
    share = (cover_at(growth, flat) * fullness_at(growth, flat)).reshape(-1, 3)
    tops = corners + shell.height * smooth(0.05, 0.95, share)[:, :, None] * normals
    _below_ceiling(tops)
    bright = min(1.0, 0.55 + 10 * shell.height)
    density = shell.density * smooth(0.3, 0.8, share.mean(1))
    return ribbons.undercoat(
        tops, normals, unit(flat.reshape(-1, 3, 3).mean(1) - WHORL), density, SKIN_GAP, bright, rng
    )
