"""The skin as a graph of texels: where each lies on a posed mesh, and what its neighbours are.

A texel is one entry of the neural texture. Charts are cut where the atlas has room, so neighbours
across a seam are found in space; colours can then flow over the whole head (see ``reference``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.geometry.attach import vertex_normals
from head360.geometry.bake import Texels, texels
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lashes import solid_faces

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SKIN_PARTS = ("face", "head_neck")
EYE_PARTS = ("eyeball_left", "eyeball_right")
MOUTH_PARTS = ("mouth_socket", "gums_tongue", "teeth")
FINE = 256  # texels a side for which the lengths below are meant
_SEAM = 0.003  # metres across which charts are sewn together
_SLIT = 0.008  # metres beyond which texels that touch in the atlas are no neighbours
_SEAM_NEIGHBOURS = 3
_TWIN_REACH = 0.008  # metres between a texel and its mirrored twin


@dataclass(frozen=True)
class SkinGraph:
    """Texels of all solid parts, M of them; made once per model and texture size.

    Attributes:
        texels: faces and weights; ``texels.face`` indexes the *solid* triangles.
        faces: (F', 3) int32 the solid triangles.
        part: (M,) uint8 part of each texel, indices of ``Topology.part_names``.
        skin: (M,) bool, face, scalp, ears, neck; not eyes, nor what is inside the mouth.
        twin: (M,) int64 texel on the other side of the face, −1 where there is none.
        edges: (E, 2) int64 pairs of neighbouring skin texels.
    """

    texels: Texels
    faces: NDArray[np.int32]
    part: NDArray[np.uint8]
    skin: NDArray[np.bool_]
    twin: Ints
    edges: Ints
    names: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        """M."""
        return len(self.texels.index)

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """(M,) mask of the texels of parts."""
        return np.isin(self.part, [self.names.index(name) for name in parts])

    def placed(self, vertices: Floats) -> tuple[Floats, Floats]:
        """(M, 3) points and unit normals of the texels on posed ``vertices`` (N, 3)."""
        normals = vertex_normals(vertices, self.faces)
        points = self.texels.blend(vertices, self.faces)
        turned = self.texels.blend(normals, self.faces)
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)
        return points, turned

    def picture(self, values: Floats, ground: float = 0.0) -> Floats:
        """(M, C) values as a (S, S, C) picture, top row first."""
        size = self.texels.size
        out = np.full((size * size, values.shape[1]), ground, dtype=np.float32)
        out[self.texels.index] = values
        return out.reshape(size, size, -1)

    def gather(self, texture: Floats) -> Floats:
        """(M, C) entries of a neural texture (S, S, C), whose rows grow with v."""
        return np.ascontiguousarray(texture[::-1].reshape(-1, texture.shape[-1])[self.texels.index])

    def laplacian(self) -> sp.csr_matrix:
        """(M, M) graph Laplacian of the skin."""
        count = self.count
        one = np.ones(len(self.edges))
        adjacency = sp.coo_matrix((one, (self.edges[:, 0], self.edges[:, 1])), (count, count))
        adjacency = (adjacency + adjacency.T).tocsr()
        adjacency.data[:] = 1.0
        return (sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()


def skin_graph(model: BilinearModel, size: int) -> SkinGraph:
    """The graph of a model's atlas with ``size`` texels a side."""
    topology = model.topology
    solid = solid_faces(topology)
    faces = topology.faces[solid]
    found = texels(topology.uvs, topology.face_uvs[solid], size)
    part = topology.parts[solid][found.face]
    names = topology.part_names
    skin = np.isin(part, [names.index(name) for name in SKIN_PARTS])
    points = found.blend(model.neutral(model.mean_shape), faces)
    return SkinGraph(
        found, faces, part, skin, _twins(points, skin), _edges(found, points, skin), names
    )


def _edges(found: Texels, points: Floats, skin: NDArray[np.bool_]) -> Ints:
    size = found.size
    number = np.full(size * size, -1, dtype=np.int64)
    number[found.index[skin]] = np.flatnonzero(skin)
    grid = number.reshape(size, size)
    pairs = [
        np.stack([grid[:, :-1].ravel(), grid[:, 1:].ravel()], 1),
        np.stack([grid[:-1].ravel(), grid[1:].ravel()], 1),
    ]
    # Charts have borders: texels with a missing neighbour look for one in space.
    padded = np.pad(grid, 1, constant_values=-1)
    lonely = np.zeros_like(grid, dtype=np.bool_)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        lonely |= padded[dy : dy + size, dx : dx + size] < 0
    border = grid[lonely & (grid >= 0)]
    tree = cKDTree(points[border])
    coarse = max(1.0, FINE / size)
    reach = _SEAM * coarse
    distance, near = tree.query(points[border], k=_SEAM_NEIGHBOURS + 1, distance_upper_bound=reach)
    for column in range(1, _SEAM_NEIGHBOURS + 1):
        close = np.isfinite(distance[:, column])
        pairs.append(np.stack([border[close], border[near[close, column]]], 1))
    edges = np.concatenate(pairs)
    edges = edges[(edges >= 0).all(1)]
    # UV neighbours that are far apart in space lie on two sides of a slit, such as the lips.
    apart = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    edges = edges[apart < _SLIT * coarse]
    edges.sort(axis=1)
    return np.unique(edges, axis=0)


def _twins(points: Floats, skin: NDArray[np.bool_]) -> Ints:
    index = np.flatnonzero(skin)
    tree = cKDTree(points[index])
    distance, near = tree.query(points[index] * (-1.0, 1.0, 1.0))
    twin = np.full(len(points), -1, dtype=np.int64)
    close = distance < _TWIN_REACH
    twin[index[close]] = index[near[close]]
    return twin
