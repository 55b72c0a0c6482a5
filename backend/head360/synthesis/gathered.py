"""Gathered hair: tails, buns and plaits, hung on a tie on the skull."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.rendering.cameras import BOX_CENTRE, BOX_HALF
from head360.synthesis import ribbons
from head360.synthesis.growth import Gather, Growth
from head360.synthesis.ribbons import Mesh, unit
from head360.synthesis.scalp import CENTRE, Scalp, smooth
from head360.synthesis.strand_texture import SOLID

Doubles = NDArray[np.float64]

_FLOOR = -0.70 * BOX_HALF + BOX_CENTRE[1] + 0.0005  # metres
_REACH = 0.105  # metres from the skull's centre, where ties lie before the skin is asked
_TIE_HEIGHT = 0.007  # metres above the skin


def tie_points(gathers: tuple[Gather, ...], scalp: Scalp | None) -> Doubles:
    """(G, 3) metres: on the skin of ``scalp``, or roughly there without one."""
    azimuth = np.radians([gather.azimuth for gather in gathers])
    elevation = np.radians([gather.elevation for gather in gathers])
    out = np.stack(
        [
            np.sin(azimuth) * np.cos(elevation), np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ],
        1,
    )  # fmt: skip
    points = CENTRE + _REACH * out
    if scalp is None:
        return points
    for _ in range(3):
        away, _ = scalp.distance(points)
        points = points - (away - _TIE_HEIGHT)[:, None] * out
    return points


def gathered(gather: Gather, scalp: Scalp, growth: Growth, rng: np.random.Generator) -> Mesh:
    """The hair beyond one tie."""
    tie = tie_points((gather,), scalp)[0]
    _, outward = scalp.distance(tie[None])
    if gather.kind == "bun":
        return _bun(gather, tie, unit(outward[0] + [0, 0.25, 0]), growth, rng)
    line = _hanging(gather, scalp, tie, outward[0])
    if gather.kind == "plait":
        return _plait(gather, line, growth, rng)
    return _tail(gather, line, scalp, growth, rng)


def _hanging(gather: Gather, scalp: Scalp, tie: Doubles, outward: Doubles) -> Doubles:
    """(n, 3) the middle line of what hangs from a tie."""
    count = 26
    step = gather.length / (count - 1)
    line = [tie]
    heading = unit(outward + np.array([0.0, 0.35 * gather.out, 0.0]))
    drift = np.array([0.0, 0.0, 0.45 if gather.forward else 0.0])
    for k in range(1, count):
        run = k * step
        fall = smooth(-0.01, 0.03 + 0.06 * gather.out, np.array(run))
        want = unit(
            outward * gather.out * (1 - fall) + np.array([0, -1.0, 0]) * fall + drift * fall
        )
        heading = unit(0.6 * heading + 0.4 * want)
        here = line[-1] + step * heading
        away, grade = scalp.distance(here[None])
        room = gather.radius * (0.75 if k > 3 else 0.4) + 0.002
        line.append(here + grade[0] * max(0.0, room - away[0]))
    return np.array(line)


def _tail(
    gather: Gather, line: Doubles, scalp: Scalp, growth: Growth, rng: np.random.Generator
) -> Mesh:
    """Ribbons through the cross-section of a tail, thick in its upper half."""
    count, points = max(70, 120 // len(growth.gathers)), 12
    t = np.linspace(0, 1, len(line))
    at = np.linspace(0, 1, points)
    thick = gather.radius * np.interp(at, [0, 0.08, 0.3, 0.75, 1], [0.42, 0.62, 1.0, 0.85, 0.35])
    across, over = ribbons.frames(line, np.array([1.0, 0.0, 0.1]))
    radius = np.sqrt(rng.random(count)) ** 0.7
    turn = 6.283 * rng.random(count)
    reach = 0.82 + 0.18 * rng.random(count)
    lines, facing = np.empty((count, points, 3)), np.empty((count, points, 3))
    drift = 0.25 * rng.standard_normal((count, 2))
    for k in range(count):
        where = at * reach[k]
        middle = np.stack([np.interp(where, t, line[:, axis]) for axis in range(3)], 1)
        a = np.stack([np.interp(where, t, across[:, axis]) for axis in range(3)], 1)
        b = np.stack([np.interp(where, t, over[:, axis]) for axis in range(3)], 1)
        x = radius[k] * np.cos(turn[k]) + drift[k, 0] * at**2
        y = radius[k] * np.sin(turn[k]) + drift[k, 1] * at**2
        run = where * gather.length
        swing = growth.wave * np.sin(6.283 * run / growth.wave_length + turn[k] * 0.6)
        lines[k] = middle + (thick * x + swing * at)[:, None] * a + (thick * y)[:, None] * b
        facing[k] = np.cos(turn[k]) * a + np.sin(turn[k]) * b
    away, grade = scalp.distance(lines.reshape(-1, 3))
    lines += (grade * np.maximum(0.002 - away, 0)[:, None]).reshape(lines.shape)
    np.maximum(lines[..., 1], _FLOOR, out=lines[..., 1])
    shade = np.repeat((0.5 + 0.5 * radius)[:, None], points, 1)
    strip = rng.choice(6, count)
    width = np.full(count, 0.011)
    fan = ribbons.ribbons(
        lines, facing, width, shade, strip, np.ones(count), 0.3 * rng.standard_normal(count)
    )
    return ribbons.join([fan, _band(line, gather.radius * 0.62)])


def _band(line: Doubles, radius: float) -> Mesh:
    """A lock wound around the tie."""
    turn = np.linspace(0, 2 * np.pi, 15)
    axis = unit(line[2] - line[0])
    a = unit(np.cross(axis, [0.3, 0.2, 0.9]))
    b = np.cross(axis, a)
    ring = line[1] + radius * (np.cos(turn)[:, None] * a + np.sin(turn)[:, None] * b)
    return ribbons.tubes(ring[None], np.full((1, len(ring)), 0.0042), 0.85, 5, axis)


def _bun(
    gather: Gather, tie: Doubles, outward: Doubles, growth: Growth, rng: np.random.Generator
) -> Mesh:
    """A rope of hair coiled upon itself, with locks wound over it."""
    radius = gather.radius
    centre = tie + outward * radius * 0.62
    a = unit(np.cross(outward, [0.2, 0.3, 0.9]))
    b = np.cross(outward, a)
    core = _ball(centre, a, b, outward, radius * 0.84)
    count, points = 110, 12
    lines, facing = np.empty((count, points, 3)), np.empty((count, points, 3))
    for k in range(count):
        # Great circles, most of them lying around the axis like wound hair.
        lean = 0.55 * rng.standard_normal()
        axis = unit(outward + lean * (a * np.cos(k * 2.4) + b * np.sin(k * 2.4)))
        u = unit(np.cross(axis, a + 0.1 * b))
        w = np.cross(axis, u)
        start, sweep = 6.283 * rng.random(), 1.6 + 1.2 * rng.random()
        angle = start + sweep * np.linspace(0, 1, points)
        height = rng.uniform(-0.75, 0.85)
        ring = np.sqrt(1 - height**2)
        ball = ring * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * w) + height * axis
        bulge = radius * (0.93 + 0.10 * rng.random() + growth.mess * 0.4 * rng.random())
        ends = 1 - 0.10 * np.abs(np.linspace(-1, 1, points)) ** 4
        lines[k] = centre + bulge * ends[:, None] * ball * 1.0
        facing[k] = ball
    lines -= outward * (0.20 * ((lines - centre) @ outward))[..., None]  # a bun is flatter
    shade = 0.62 + 0.38 * rng.random((count, 1)) * np.ones((1, points))
    wound = ribbons.ribbons(
        lines, facing, np.full(count, 0.012), shade, rng.choice(5, count), np.full(count, 0.75),
        0.12 * rng.standard_normal(count),
    )  # fmt: skip
    return ribbons.join([core, wound])


def _ball(centre: Doubles, a: Doubles, b: Doubles, axis: Doubles, radius: float) -> Mesh:
    """A dark solid core, so that nothing shows through."""
    angle = np.linspace(-1.45, 1.45, 10)
    line = centre + 0.8 * radius * np.sin(angle)[:, None] * axis
    return ribbons.tubes(line[None], radius * np.cos(angle)[None], 0.55, 14, a)


def _plait(gather: Gather, line: Doubles, growth: Growth, rng: np.random.Generator) -> Mesh:
    """Three tubes woven around the middle line, and a tuft below the tie at its end."""
    period = gather.radius * 3.4
    per_turn = 9
    woven = gather.length * 0.86
    count = max(8, int(woven / period * per_turn))
    t = np.linspace(0, 1, len(line))
    at = np.linspace(0, 0.86, count)
    middle = np.stack([np.interp(at, t, line[:, axis]) for axis in range(3)], 1)
    across, over = ribbons.frames(middle, np.array([1.0, 0.0, 0.0]))
    slim = np.interp(at, [0, 0.04, 0.6, 0.86], [0.65, 1.0, 0.9, 0.55])
    pieces = []
    for strand in range(3):
        angle = 2 * np.pi * (at * gather.length / period + strand / 3)
        x = 0.58 * gather.radius * np.sin(angle) * slim
        y = 0.36 * gather.radius * np.sin(2 * angle) * slim
        rope = middle + x[:, None] * across + y[:, None] * over
        rope[:, 1] = np.maximum(rope[:, 1], _FLOOR + 0.006)
        pieces.append(
            ribbons.tubes(
                rope[None], (0.50 * gather.radius * slim)[None], 0.9, 8, across[0], repeat=0.05
            )
        )
    last = line[-5:]
    tuft = gather.radius * np.linspace(0.35, 0.5, 5)
    if last[:, 1].min() > _FLOOR:
        pieces += [_band(line[-6:], gather.radius * 0.30), _tuft(last, tuft, rng)]
    whole = ribbons.join(pieces)
    np.maximum(whole.positions[:, 1], _FLOOR, out=whole.positions[:, 1])
    return whole


def _tuft(line: Doubles, radius: Doubles, rng: np.random.Generator) -> Mesh:
    """Loose ends below a plait."""
    count = 24
    turn, reach = 6.283 * rng.random(count), np.sqrt(rng.random(count))
    across, over = ribbons.frames(line, np.array([1.0, 0.0, 0.0]))
    x, y = (reach * np.cos(turn))[:, None, None], (reach * np.sin(turn))[:, None, None]
    lines = line[None] + radius[None, :, None] * (x * across[None] + y * over[None])
    facing = unit(x * across[None] + y * over[None])
    strip = rng.choice(SOLID - 1, count)
    return ribbons.ribbons(
        lines, facing, np.full(count, 0.008), np.full((count, len(line)), 0.85), strip,
        np.ones(count), 0.3 * rng.standard_normal(count),
    )  # fmt: skip
