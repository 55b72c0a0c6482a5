"""From strands to triangles: flat ribbons, round tubes and the undercoat of the scalp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.synthesis.strand_texture import (
    PATCH_HEIGHT,
    PATCH_TEXEL,
    PATCH_WIDTH,
    PATCHES,
    SIZE,
    SOLID,
    STRIP_WIDTH,
)

Doubles = NDArray[np.float64]

_MARGIN = 1.5 / SIZE  # keeps bilinear lookups inside a strip


@dataclass(frozen=True)
class Mesh:
    """Hair geometry with what its shading needs. M vertices, F triangles.

    Attributes:
        positions: (M, 3) metres; normals, tangents: (M, 3) unit.
        shade: (M,) 0…1, how much of the sky a vertex sees inside the mass of hair.
        faces: (F, 3); corner_uvs: (F, 3, 2), v up.
    """

    positions: Doubles
    normals: Doubles
    tangents: Doubles
    shade: Doubles
    faces: NDArray[np.int32]
    corner_uvs: Doubles


def join(pieces: list[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(piece.positions) for piece in pieces[:-1]])
    return Mesh(
        np.concatenate([piece.positions for piece in pieces]),
        np.concatenate([piece.normals for piece in pieces]),
        np.concatenate([piece.tangents for piece in pieces]),
        np.concatenate([piece.shade for piece in pieces]),
        np.concatenate(
            [piece.faces + start for piece, start in zip(pieces, starts, strict=True)]
        ).astype(np.int32),
        np.concatenate([piece.corner_uvs for piece in pieces]),
    )


def unit(vectors: Doubles) -> Doubles:
    """Normalise along the last axis; zero vectors stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def directions(points: Doubles) -> Doubles:
    """(S, n, 3) polylines → unit tangents by central differences."""
    out = np.empty_like(points)
    out[:, 1:-1] = points[:, 2:] - points[:, :-2]
    out[:, 0] = points[:, 1] - points[:, 0]
    out[:, -1] = points[:, -1] - points[:, -2]
    return unit(out)


def strip_bounds(strip: NDArray[np.integer]) -> tuple[Doubles, Doubles]:
    """Left and right u of texture strips."""
    left = strip * STRIP_WIDTH / SIZE + _MARGIN
    return left, left + STRIP_WIDTH / SIZE - 2 * _MARGIN


def ribbons(
    points: Doubles,
    outward: Doubles,
    width: Doubles,
    shade: Doubles,
    strip: NDArray[np.integer],
    end: Doubles,
    roll: Doubles,
) -> Mesh:
    """Sweep flat ribbons along polylines.

    Args:
        points: (S, n, 3) metres, root first.
        outward: (S, n, 3) unit, where the flat side shall face.
        width: (S,) metres; shade: (S, n).
        strip: (S,) texture strips.
        end: (S,) share of the texture's length that is used: less where a strand was cut.
        roll: (S,) radians by which a ribbon is turned about its strand.
    """
    strands, count = points.shape[:2]
    tangent = directions(points)
    side = unit(np.cross(tangent, outward))
    facing = unit(np.cross(side, tangent))
    turned = np.cos(roll)[:, None, None] * side + np.sin(roll)[:, None, None] * facing
    t = np.linspace(0, 1, count)
    profile = np.interp(t, [0, 0.15, 0.7, 1], [0.75, 1.0, 1.0, 0.6])
    half = 0.5 * width[:, None, None] * profile[None, :, None] * turned
    positions = np.stack([points - half, points + half], 2).reshape(-1, 3)
    # Normals fan out across a ribbon: a lock is round, not a tape.
    normals = unit(np.stack([facing - 0.45 * turned, facing + 0.45 * turned], 2)).reshape(-1, 3)
    left, right = strip_bounds(strip)
    flip = np.arange(strands) % 2 == 1
    left, right = np.where(flip, right, left), np.where(flip, left, right)
    v = 1 - _MARGIN - (1 - 2 * _MARGIN) * t[None] * end[:, None]
    uv = np.stack(
        [np.stack([np.broadcast_to(u[:, None], v.shape), v], -1) for u in (left, right)], 2
    ).reshape(-1, 2)
    base = (np.arange(strands)[:, None] * count + np.arange(count - 1)[None]).reshape(-1) * 2
    faces = np.concatenate(
        [np.stack([base, base + 1, base + 2], 1), np.stack([base + 1, base + 3, base + 2], 1)]
    )
    return Mesh(
        positions, normals, tangent.repeat(2, 1).reshape(-1, 3), shade.repeat(2, 1).reshape(-1),
        faces.astype(np.int32), uv[faces],
    )  # fmt: skip


def frames(points: Doubles, first: Doubles) -> tuple[Doubles, Doubles]:
    """Two unit vectors (n, 3) across an (n, 3) polyline, carried along without twisting."""
    tangent = directions(points[None])[0]
    across = np.empty_like(points)
    current = first
    for k, along in enumerate(tangent):
        current = unit(current - along * (current @ along))
        across[k] = current
    return across, np.cross(tangent, across)


def tubes(
    points: Doubles, radius: Doubles, shade: float, sides: int, first: Doubles, repeat: float = 0.12
) -> Mesh:
    """Round tubes of solid hair along polylines.

    Args:
        points: (S, n, 3) metres; radius: (S, n) metres.
        shade: the sky a tube sees; sides: of its section.
        first: (3,) reference across the tubes.
        repeat: metres of tube along which the texture is run through once.
    """
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    pieces = []
    for line, thick in zip(points, radius, strict=True):
        count = len(line)
        a, b = frames(line, first)
        ring = np.cos(turn)[None, :, None] * a[:, None] + np.sin(turn)[None, :, None] * b[:, None]
        positions = (line[:, None] + thick[:, None, None] * ring).reshape(-1, 3)
        tangent = directions(line[None])[0][:, None].repeat(sides, 1).reshape(-1, 3)
        cell = np.arange((count - 1) * sides)
        k, j = cell // sides, cell % sides
        following = (j + 1) % sides
        corners = np.stack(
            [
                k * sides + j,
                k * sides + following,
                (k + 1) * sides + j,
                (k + 1) * sides + following,
            ],
            1,
        )
        run = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        # Back and forth through the middle of the strip: no seam, no faded ends.
        fold = np.abs((run / repeat) % 2 - 1) * 0.7 + 0.15
        left, right = strip_bounds(np.array(SOLID))
        u0 = left + (right - left) * j / sides
        u1 = left + (right - left) * (j + 1) / sides
        uv = np.stack(
            [
                np.stack([u0, fold[k]], -1), np.stack([u1, fold[k]], -1),
                np.stack([u0, fold[k + 1]], -1), np.stack([u1, fold[k + 1]], -1),
            ],
            1,
        )  # fmt: skip
        two = np.array([[0, 2, 1], [1, 2, 3]])
        pieces.append(
            Mesh(
                positions, ring.reshape(-1, 3), tangent, np.full(len(positions), shade),
                corners[:, two].reshape(-1, 3).astype(np.int32), uv[:, two].reshape(-1, 3, 2),
            )
        )  # fmt: skip
    return join(pieces)


def undercoat(
    corners: Doubles,
    normals: Doubles,
    flow: Doubles,
    density: Doubles,
    height: float,
    shade: float,
    rng: np.random.Generator,
) -> Mesh:
    """Cover triangles of the scalp with patches of short fibres.

    Args:
        corners, normals: (F, 3, 3) of the scalp's triangles, metres.
        flow: (F, 3) where the fibres lie.
        density: (F,) 0…1; triangles of none are left out.
        height: metres above the skin.
        shade: the sky the cover sees.
        rng: shifts the patches from triangle to triangle.
    """
    wanted = density > 0.5 / PATCHES
    corners, normals, flow, density = (array[wanted] for array in (corners, normals, flow, density))
    count = len(corners)
    facing = unit(normals.sum(1))
    along = unit(flow - facing * (flow * facing).sum(1, keepdims=True))
    across = np.cross(along, facing)
    offset = (corners - corners.mean(1, keepdims=True)) / PATCH_TEXEL
    local = np.stack([(offset * across[:, None]).sum(2), -(offset * along[:, None]).sum(2)], 2)
    span = np.ptp(local, axis=1)
    room = np.array([PATCH_WIDTH, PATCH_HEIGHT]) - 4.0
    # A triangle larger than a patch is shrunk into it.
    local *= np.minimum(1.0, room / np.maximum(span, 1e-9))[:, None]
    low = local.min(1)
    free = np.maximum(room - np.ptp(local, axis=1), 0.0)
    texel = local - low[:, None] + 2.0 + (rng.random((count, 2)) * free)[:, None]
    patch = np.clip(np.round(density * PATCHES).astype(int) - 1, 0, PATCHES - 1)
    u = (SIZE - PATCH_WIDTH + texel[..., 0]) / SIZE
    # Patch 0 is the lowest of the picture.
    v = (patch[:, None] * PATCH_HEIGHT + texel[..., 1]) / SIZE
    # Neighbours share vertices: they are attached and carried only once.
    positions = (corners + height * normals).reshape(-1, 3)
    micrometres = np.round(positions * 1e6).astype(np.int64)
    key = (micrometres[:, 0] * 1_000_003 + micrometres[:, 1]) * 1_000_003 + micrometres[:, 2]
    _, first, faces = np.unique(key, return_index=True, return_inverse=True)
    return Mesh(
        positions[first], unit(normals.reshape(-1, 3)[first]), along.repeat(3, 0)[first],
        np.full(len(first), shade), faces.reshape(-1, 3).astype(np.int32), np.stack([u, v], -1),
    )  # fmt: skip
