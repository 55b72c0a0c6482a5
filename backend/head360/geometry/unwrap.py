"""UV charts for scanned-looking surfaces: flat projections, packed into one square by xatlas.

Charts are projections along one of 14 directions, not xatlas' own: those took 45 s of computation
for the 80 000 triangles of a 128³ head and came out as 3500 crumbs. These are about 170 for the
320 000 triangles of a 256³ head, within ten seconds.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from head360.errors import BadInput
from head360.geometry.isosurface import vertex_normals
from head360.rendering import raster

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

GUTTER = 4  # texels between charts
_SMOOTHING = 12  # passes over the normals that choose a direction
_STEEP = 0.03  # a triangle seen more obliquely leaves its chart
_SMALL = 0.002  # share of the triangles below which a chart joins a neighbour
_CRUMB = 24  # triangles below which a chart is worth no gutter: it joins a neighbour
_MAP = 1024  # texels of the depth map that finds overlaps
_FILLED = 0.55  # first guess of how well charts pack
_TRIES = 12


def unwrap(vertices: Floats, faces: Ints, size: int) -> tuple[Floats, Ints]:
    """Charts of a triangle mesh in one square.

    Args:
        vertices: (N, 3) float32; faces: (F, 3) int32.
        size: texels per side that the texture will have: decides how wide the gutters are.

    Returns:
        (U, 2) float32 uvs in [0, 1], origin bottom-left, and (F, 3) int32 into them. Charts do not
        overlap; a fold within one may, by less than one texel in a hundred.

    Raises:
        BadInput: xatlas is not installed.
    """
    xatlas = _xatlas()
    chart, direction = _charts(vertices, faces)
    corners, index = _split(faces, chart)
    owner = np.empty(len(corners), dtype=np.int64)
    owner[index] = direction[chart][:, None]
    axes = np.stack([_axes(d) for d in _DIRECTIONS])[owner]
    flat = np.einsum("nij,nj->ni", axes[:, :2], vertices[corners]).astype(np.float32)
    area = _areas(flat, index).sum()
    density = size * float(np.sqrt(_FILLED / max(area, 1e-12)))
    for _ in range(_TRIES):
        packed, uvs, side = _pack(xatlas, flat, index, chart, density, size)
        if side <= size:
            break
        density *= min(0.97, size / side)
    else:
        raise BadInput(f"The surface does not fit into {size} texels: choose a larger texture.")
    return (uvs / size).astype(np.float32), packed.astype(np.int32)


def _xatlas() -> Any:
    try:
        import xatlas
    except ImportError as error:
        raise BadInput(
            "A texture needs the package xatlas, which is not installed: "
            'pip install "head360[backend]", or ask for --texture 0 (vertex colours).'
        ) from error
    return xatlas


def _pack(
    xatlas: Any, flat: Floats, index: Ints, chart: NDArray[np.int64], density: float, size: int
) -> tuple[NDArray, Floats, int]:
    """One packing at ``density`` texels per unit: faces, uvs in texels, longer side."""
    atlas = xatlas.Atlas()
    atlas.add_uv_mesh(
        np.ascontiguousarray(flat * density),
        np.ascontiguousarray(index, dtype=np.uint32),
        np.ascontiguousarray(chart[:, None], dtype=np.uint32),
    )
    options = xatlas.PackOptions()
    options.texels_per_unit = 1.0
    options.resolution = 0
    options.padding = GUTTER
    options.bilinear = True
    options.bruteForce = False
    atlas.generate(pack_options=options)
    _, packed, uvs = atlas[0]
    sides = np.array([atlas.width, atlas.height], dtype=np.float32)
    return packed, uvs * sides, int(max(atlas.width, atlas.height))


_DIRECTIONS = np.array(
    [
        np.array(d) / np.linalg.norm(d)
        for d in itertools.product((-1.0, 0.0, 1.0), repeat=3)
        if sum(map(abs, d)) in (1.0, 3.0)
    ]
)


def _axes(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) right-handed rows: two axes of the picture, and the direction it is seen from."""
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([0.0, 0.0, -1.0])
    right = np.cross(up, direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


def _charts(vertices: Floats, faces: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(F,) chart of each triangle and (C,) direction of each chart."""
    corners = vertices[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    facing = normal @ _DIRECTIONS.T
    graph = _neighbours(faces)
    label = (_smooth_normals(vertices, faces)[faces].mean(1) @ _DIRECTIONS.T).argmax(1)
    label = _join_small(label, graph)
    steep = facing[np.arange(len(faces)), label] < _STEEP
    label = np.where(steep, facing.argmax(1), label)
    component, label = _join_crumbs(label + len(_DIRECTIONS) * steep, graph)
    hidden = _hidden(vertices, faces, component, label)
    component, label = _join_crumbs(label + len(_DIRECTIONS) * hidden, graph)
    _, first = np.unique(component, return_index=True)
    return component, label[first]


def _smooth_normals(vertices: Floats, faces: Ints) -> Floats:
    count = len(vertices)
    pairs = np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]])
    ones = np.ones(len(pairs), dtype=np.float32)
    graph = sp.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
    graph = graph + graph.T + sp.identity(count, dtype=np.float32, format="csr")
    normals = vertex_normals(vertices, faces)
    for _ in range(_SMOOTHING):
        normals = graph @ normals
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return np.asarray(normals, dtype=np.float32)


def _neighbours(faces: Ints) -> NDArray[np.int64]:
    """(E, 2) pairs of triangles that share an edge."""
    edges = np.sort(np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]]), axis=1)
    key = edges[:, 0].astype(np.int64) * (int(faces.max()) + 1) + edges[:, 1]
    order = np.argsort(key, kind="stable")
    face = np.tile(np.arange(len(faces)), 3)[order]
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    return np.stack([face[same], face[same + 1]], 1)


def _components(label: NDArray[np.integer], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(F,) connected components of equal labels, numbered from 0."""
    joined = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]]
    ones = np.ones(len(joined), dtype=bool)
    graph = sp.coo_matrix((ones, (joined[:, 0], joined[:, 1])), shape=(len(label),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _join_small(label: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give small components the label they share the longest border with."""
    for _ in range(6):
        component = _components(label, pairs)
        small = np.bincount(component) < _SMALL * len(label)
        both = np.concatenate([pairs, pairs[:, ::-1]])
        border = both[(label[both[:, 0]] != label[both[:, 1]]) & small[component[both[:, 0]]]]
        if not len(border):
            break
        votes = np.zeros((len(small), len(_DIRECTIONS)), dtype=np.int64)
        np.add.at(votes, (component[border[:, 0]], label[border[:, 1]]), 1)
        winner = np.where(votes.any(1) & small, votes.argmax(1), -1)
        label = np.where(winner[component] >= 0, winner[component], label)
    return label


def _join_crumbs(
    label: NDArray[np.int64], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Components of ``label``, crumbs joined to the neighbour with the longest common border.

    Returns:
        (F,) component and (F,) direction.
    """
    for _ in range(3):
        component = _components(label, pairs)
        small = np.bincount(component) < _CRUMB
        both = np.concatenate([pairs, pairs[:, ::-1]])
        crumb, other = component[both[:, 0]], component[both[:, 1]]
        border = small[crumb] & ~small[other]
        if not border.any():
            break
        keys, votes = np.unique(crumb[border] * len(small) + other[border], return_counts=True)
        best = keys[np.argsort(votes, kind="stable")]
        target = np.arange(len(small))
        target[best // len(small)] = best % len(small)
        _, first = np.unique(component, return_index=True)
        label = label[first][target[component]]
    return _components(label, pairs), label % len(_DIRECTIONS)


def _hidden(
    vertices: Floats, faces: Ints, component: NDArray[np.int64], label: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(F,) 1 where a triangle lies behind another one of its own chart."""
    hidden = np.zeros(len(faces), dtype=np.int64)
    order = np.argsort(component, kind="stable")
    for chart in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        if len(chart) < 8:
            continue
        axes = _axes(_DIRECTIONS[label[chart[0]]])
        used, index = np.unique(faces[chart], return_inverse=True)
        local = vertices[used] @ axes.T
        low, span = local.min(0), float(np.ptp(local, axis=0).max())
        # As many texels as triangles, so that small charts cost little.
        size = int(np.clip(4 * np.sqrt(len(chart)), 32, _MAP))
        screen = np.ones((len(used), 4), dtype=np.float32)
        screen[:, :2] = (local[:, :2] - low[:2]) / span * (size - 1) + 0.5
        screen[:, 2] = raster.NEAR * 2 + (local[:, 2].max() - local[:, 2])
        triangles = index.reshape(-1, 3).astype(np.int32)
        front = raster.rasterize(screen[None], triangles, size, size).depth[0]
        middle = screen[triangles].mean(1)
        seen = front[middle[:, 1].astype(int), middle[:, 0].astype(int)]
        edge = np.ptp(screen[triangles][:, :, 2], axis=1) + 3.0 * span / size
        hidden[chart] = middle[:, 2] > seen + edge
    return hidden


def _split(faces: Ints, chart: NDArray[np.int64]) -> tuple[NDArray[np.int64], Ints]:
    """Vertices of their own for every chart: (K,) source vertices and (F, 3) into them."""
    count = int(faces.max()) + 1
    key, index = np.unique(chart[:, None] * count + faces, return_inverse=True)
    return key % count, index.reshape(-1, 3).astype(np.int32)


def _areas(flat: Floats, index: Ints) -> Floats:
    a, b, c = (flat[index[:, k]] for k in range(3))
    cross = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return np.asarray(np.abs(cross) / 2)
