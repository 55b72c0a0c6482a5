"""Teeth, gums, tongue and the bag of the mouth, painted by where each texel lies on the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from head360.geometry.topology import Topology
from head360.synthesis.blur import blur, window_of
from head360.synthesis.texel_map import Floats, Mask, SurfaceMap, smooth_step

# sRGB 0–255. Teeth run from light to worn by the subject's shade.
_TEETH_LIGHT, _TEETH_DARK = (238, 232, 218), (224, 211, 184)
_INCISAL = (186, 192, 197)
_GUM_NEAR, _GUM_FAR, _GUM_DARK = (206, 126, 120), (158, 66, 66), (112, 62, 64)
_TONGUE, _TONGUE_TIP, _TONGUE_COAT = (184, 92, 92), (196, 88, 90), (204, 142, 136)
# The studio shades the depth of the mouth; paint that is dark as well would make it a black hole.
_BAG_NEAR, _BAG_FAR = (172, 88, 84), (112, 46, 46)
_MARGIN = 16  # texels around a window that no blur here reaches beyond
_GAP = 0.0004  # metres around a neighbour in which a tooth darkens


@dataclass(frozen=True)
class Teeth:
    """The single teeth of the mesh.

    Attributes:
        of_vertex: (N,) int32 tooth of each vertex, −1 elsewhere.
        rank: (T,) 0 for the front teeth … 7 for the wisdom teeth.
        upper: (T,) whether it belongs to the upper jaw.
        margin, edge: (T,) metres, y of the gum line and of the biting edge.
    """

    of_vertex: NDArray[np.int32]
    rank: NDArray[np.int32]
    upper: Mask
    margin: NDArray[np.float64]
    edge: NDArray[np.float64]


def find_teeth(topology: Topology, generic: Floats, tongue: Mask) -> Teeth:
    """Tell the teeth apart: each is a connected piece of the mesh.

    Args:
        topology: of the head.
        generic: (N, 3) float32 metres.
        tongue: (N,) vertices of the tongue, which shares a part with the gums.
    """
    faces = topology.faces[topology.part_faces("teeth")]
    count = len(generic)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    of_vertex = np.full(count, -1, dtype=np.int32)
    used = np.unique(faces)
    _, of_vertex[used] = np.unique(component[used], return_inverse=True)
    members = [np.flatnonzero(of_vertex == k) for k in range(of_vertex.max() + 1)]
    centre = np.array([generic[index].mean(0) for index in members])
    upper = centre[:, 1] > centre[:, 1].mean()
    rank = np.zeros(len(members), dtype=np.int32)
    for jaw in (True, False):
        for side in (-1, 1):
            row = np.flatnonzero((upper == jaw) & (np.sign(centre[:, 0]) == side))
            rank[row[np.argsort(-centre[row, 2])]] = np.arange(len(row))
    gums = topology.part_vertices("gums_tongue")
    gums = gums[~tongue[gums]]
    margin, edge = np.zeros(len(members)), np.zeros(len(members))
    for k, index in enumerate(members):
        sign = 1.0 if upper[k] else -1.0
        height = sign * generic[index, 1]
        near = np.linalg.norm(generic[gums][:, [0, 2]] - centre[k, [0, 2]], axis=1) < 0.006
        near &= (sign * (generic[gums, 1] - centre[k, 1]) > -0.006) & (
            np.abs(generic[gums, 1] - centre[k, 1]) < 0.015
        )
        edge[k] = sign * height.min()
        margin[k] = sign * (sign * generic[gums, 1][near]).min() if near.any() else centre[k, 1]
    return Teeth(of_vertex, rank, upper, margin, edge)


@dataclass(frozen=True)
class Region:
    """Texels of one tissue: P of them, in a window of the atlas.

    Attributes:
        window: rows and columns, with room around the texels for blurs.
        where: (h, w) which texels of the window.
        positions, normals: (P, 3) float32 of the generic head, metres and unit.
    """

    window: tuple[slice, slice]
    where: Mask
    positions: Floats
    normals: Floats

    @staticmethod
    def of(surface: SurfaceMap, where: Mask) -> Region:
        """The (R, R) texels ``where``."""
        window = window_of(where, _MARGIN)
        return Region(window, where[window], surface.positions[where], surface.normals[where])

    def put(self, atlas: NDArray[np.uint8], colour: NDArray[np.floating]) -> None:
        """Write (P, 3) colours, 0–255."""
        atlas[self.window][self.where] = np.clip(colour, 0, 255).astype(np.uint8)

    def soft(self, noise: NDArray[Any], sigma: float | tuple[float, float]) -> Any:
        """(P,) of (R, R) noise, blurred."""
        return blur(noise[self.window], sigma)[self.where]


@dataclass(frozen=True)
class MouthMap:
    """What every subject's mouth has in common.

    Attributes:
        teeth: see :func:`find_teeth`.
        crowns, gums, tongue, bag: texels of the tissues.
        tooth: (P,) which tooth each texel of the crowns is on.
        gap: (P,) metres to the next tooth of the same row, large where none is near.
        bare: (Q,) metres from each texel of the gums to the teeth.
        size: texels per side of the atlas.
    """

    teeth: Teeth
    crowns: Region
    gums: Region
    tongue: Region
    bag: Region
    tooth: NDArray[np.int32]
    gap: NDArray[np.float64]
    bare: NDArray[np.float64]
    size: int

    @staticmethod
    def of(surface: SurfaceMap, topology: Topology, teeth: Teeth, tongue: Mask) -> MouthMap:
        """Find the tissues of a head.

        Args:
            surface: of the generic head.
            topology: of the head.
            teeth: see :func:`find_teeth`.
            tongue: (N,) vertices of the tongue.
        """
        is_tongue = np.concatenate([tongue[topology.faces].all(1), [False]])[surface.face]
        flesh, on_teeth = surface.on("gums_tongue"), surface.on("teeth")
        crowns, gums = Region.of(surface, on_teeth), Region.of(surface, flesh & ~is_tongue)
        tooth = teeth.of_vertex[topology.faces[surface.face[on_teeth], 0]]
        bare = cKDTree(crowns.positions[::4]).query(gums.positions, distance_upper_bound=0.02)[0]
        return MouthMap(
            teeth, crowns, gums, Region.of(surface, flesh & is_tongue),
            Region.of(surface, surface.on("mouth_socket")), tooth,
            _gaps(crowns.positions, teeth, tooth), bare, surface.size,
        )  # fmt: skip


def _gaps(points: Floats, teeth: Teeth, tooth: NDArray[np.int32]) -> NDArray[np.float64]:
    """(P,) metres from texels of the crowns to the next tooth."""
    gap = np.full(len(points), np.inf)
    for k in range(len(teeth.rank)):
        own = tooth == k
        # Only its row: the jaws overlap where the generic mouth is closed.
        others = points[~own & (teeth.upper[tooth] == teeth.upper[k])][::3]
        if own.any():
            low, high = points[own].min(0) - 0.003, points[own].max(0) + 0.003
            near = others[((others > low) & (others < high)).all(1)]
            if len(near):
                gap[own] = cKDTree(near).query(points[own], distance_upper_bound=0.003)[0]
    return gap


def paint_mouth(atlas: NDArray[np.uint8], mouth: MouthMap, seed: int, darkness: float) -> None:
    """Paint everything inside the mouth onto ``atlas``, in place.

    Args:
        atlas: (R, R, 3) uint8 sRGB, top row first.
        mouth: of an atlas of the same size.
        seed: of this subject's mouth.
        darkness: 0…1, how much pigment the gums have.
    """
    rng = np.random.default_rng([seed, 71])
    mouth.crowns.put(atlas, _teeth(mouth, rng))
    mouth.gums.put(atlas, _gums(mouth, darkness, rng))
    mouth.tongue.put(atlas, _tongue(mouth, rng))
    inward = smooth_step(mouth.bag.positions[:, 2], 0.106, 0.060)[:, None]
    mouth.bag.put(atlas, _mix(_BAG_NEAR, _BAG_FAR, inward))


def _mix(
    first: tuple[int, int, int] | NDArray[np.floating],
    second: tuple[int, int, int] | NDArray[np.floating],
    share: NDArray[np.floating] | float,
) -> NDArray[np.floating]:
    a, b = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    return a + (b - a) * share


def _teeth(mouth: MouthMap, rng: np.random.Generator) -> NDArray[np.floating]:
    """(P, 3) colours of the crowns."""
    teeth, tooth, points = mouth.teeth, mouth.tooth, mouth.crowns.positions
    count = len(teeth.rank)
    shade = float(rng.beta(1.6, 2.4))
    base = _mix(_TEETH_LIGHT, _TEETH_DARK, shade) * (1 + 0.016 * rng.normal(size=(count, 1)))
    base = base * np.where(teeth.rank[:, None] == 2, (0.985, 0.96, 0.90), 1.0)
    base = base * (1 - 0.012 * np.maximum(teeth.rank - 2, 0))[:, None]
    # From the gum line (0) to the biting edge (1).
    along = (teeth.margin[tooth] - points[:, 1]) / (teeth.margin[tooth] - teeth.edge[tooth])
    colour: NDArray[np.floating] = base[tooth]
    neck = smooth_step(along, 0.42, -0.05)[:, None]
    colour = colour * (1 - neck * (np.array([0.05, 0.10, 0.22]) * (0.6 + 0.6 * shade)))
    clear = (
        smooth_step(along, 0.55, 1.0)
        * np.array([0.46, 0.40, 0.22, 0.05, 0, 0, 0, 0])[np.minimum(teeth.rank[tooth], 7)]
    )
    colour = _mix(colour, _INCISAL, clear[:, None])
    noise = np.random.default_rng(int(rng.integers(2**31))).normal(size=(mouth.size, mouth.size))
    streaks = mouth.crowns.soft(noise, (3.0, 0.7))
    colour = colour * (1 + 0.012 * streaks / max(float(streaks.std()), 1e-9))[:, None]
    shadow = np.exp(-((np.minimum(mouth.gap, 1.0) / _GAP) ** 2))[:, None]
    return colour * (1 - shadow * np.array([0.42, 0.55, 0.60]))


def _gums(mouth: MouthMap, darkness: float, rng: np.random.Generator) -> NDArray[np.floating]:
    points = mouth.gums.positions
    away = smooth_step(np.minimum(mouth.bare, 0.02), 0.0004, 0.006)[:, None]
    colour = _mix(_GUM_NEAR, _GUM_FAR, away)
    noise = mouth.gums.soft(rng.normal(size=(mouth.size, mouth.size)), 3.0)
    mottle = noise / max(float(noise.std()), 1e-9)
    colour = colour * (1 + 0.035 * mottle)[:, None]
    pigment = np.clip(0.45 * darkness + 0.12 * darkness * mottle, 0, 0.7)[:, None]
    colour = _mix(colour, _GUM_DARK, pigment)
    return colour * (1 - 0.2 * smooth_step(points[:, 2], 0.075, 0.03))[:, None]


def _tongue(mouth: MouthMap, rng: np.random.Generator) -> NDArray[np.floating]:
    points, normals = mouth.tongue.positions, mouth.tongue.normals
    shape = (mouth.size, mouth.size)
    top = smooth_step(normals[:, 1], 0.1, 0.6)
    front = points[:, 2].max()
    tip = smooth_step(points[:, 2], front - 0.016, front - 0.002)[:, None]
    colour = _mix(_TONGUE, _TONGUE_TIP, tip)
    side = np.abs(points[:, 0])
    coat = top * smooth_step(side, 0.018, 0.003) * (1 - 0.75 * tip[:, 0])
    colour = _mix(colour, _TONGUE_COAT, (0.55 * coat)[:, None])
    grain = rng.normal(size=shape)
    fine = mouth.tongue.soft(grain, 0.8) - mouth.tongue.soft(grain, 2.0)
    colour = colour * (1 + 0.085 * top * fine / max(float(fine.std()), 1e-9))[:, None]
    # Fungiform papillae: a few redder dots, most of them near the tip.
    dots = mouth.tongue.soft((rng.random(shape) < 0.012).astype(np.float32), 0.8)
    dots = np.clip(dots * 4, 0, 1) * top * (0.35 + 0.65 * tip[:, 0])
    colour = _mix(colour, (178, 56, 62), (0.55 * dots)[:, None])
    groove = top * np.exp(-((points[:, 0] / 0.0011) ** 2)) * (1 - tip[:, 0])
    colour = colour * (1 - np.outer(groove, (0.22, 0.30, 0.28)))
    return colour * (1 - 0.2 * smooth_step(points[:, 2], 0.07, 0.035))[:, None]
