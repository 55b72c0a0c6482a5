"""Gaussians carried by a posed triangle mesh (ours; related: GaussianAvatars, SplattingAvatar).

A Gaussian is bound to a point of the neutral mesh, given by a triangle and barycentric weights. Its
mean and rotation are kept in canonical axes, those of the neutral head, with the mean as an offset
from that point. When the mesh moves, the point moves along, and offset, rotation and scale are
turned and stretched by the rotation and the stretch of the surface there. Gaussians with triangle
−1 are free: they belong to the head frame and do not move with the face.

Rotation and stretch of a triangle are those from its neutral to its posed frame. "smooth" frames
average them over the triangles around each vertex first and interpolate, so that long hair, which
sits far from its triangle, does not flutter with every fold of the skin. Parts of the mesh that
are not joined (eyeballs, teeth, tongue and gums) share no vertices, so each moves on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks import meshrig_cpu, quaternions

FREE = -1
_STRETCH = (0.5, 2.0)  # folded lids and lips must not shrink what sits on them to nothing
_FLAT = 1e-12  # squared area below which a triangle has no frame


@dataclass(frozen=True)
class Binding:
    """Where N Gaussians sit.

    Attributes:
        face: (N,) int64 triangle, or ``FREE``.
        bary: (N, 3) float32 weights of its corners; of no meaning where free.
        points: (N, 3) float32 canonical positions of the Gaussians, metres, head space.
    """

    face: NDArray[np.int64]
    bary: NDArray[np.float32]
    points: NDArray[np.float32]

    @staticmethod
    def free(points: NDArray[np.floating]) -> Binding:
        """Points (N, 3) that belong to the head frame."""
        count = len(points)
        face = np.full(count, FREE, dtype=np.int64)
        bary = np.full((count, 3), 1 / 3, dtype=np.float32)
        return Binding(face, bary, np.asarray(points, dtype=np.float32))

    def joined(self, other: Binding) -> Binding:
        """Both, self first."""
        return Binding(
            np.concatenate([self.face, other.face]),
            np.concatenate([self.bary, other.bary]),
            np.concatenate([self.points, other.points]),
        )


def bind_surface(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    count: int,
    rng: np.random.Generator,
    weights: NDArray[np.floating] | None = None,
    reach: NDArray[np.floating] | None = None,
) -> Binding:
    """Points spread evenly over a mesh, or above it.

    Args:
        vertices: (V, 3) neutral, metres; faces: (F, 3) counter-clockwise from outside.
        count: of points.
        rng: of the random numbers.
        weights: (F,) how much denser than elsewhere a triangle is filled.
        reach: (F,) metres up to which points rise along the normal, uniformly; hair.
    """
    corners = np.asarray(vertices, dtype=np.float64)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    density = area if weights is None else area * weights
    # Evenly spaced along the cumulated area: no lucky clumps.
    ticks = (np.arange(count) + rng.random(count)) / count * density.sum()
    face = np.searchsorted(np.cumsum(density), ticks).clip(0, len(faces) - 1)
    root, share = np.sqrt(rng.random(count)), rng.random(count)
    bary = np.stack([1 - root, root * (1 - share), root * share], 1)
    points = (bary[:, :, None] * corners[face]).sum(1)
    if reach is not None:
        unit = normal[face] / np.maximum(area[face], 1e-24)[:, None]
        points = points + unit * (reach[face] * rng.random(count))[:, None]
    return Binding(face.astype(np.int64), bary.astype(np.float32), points.astype(np.float32))


@dataclass(frozen=True)
class Carry:
    """What the mesh does to N Gaussians: x = anchors + stretch · R(turns)·offset.

    Attributes:
        anchors: (N, 3) posed binding points; turns: (N, 4) unit quaternions; stretch: (N, 1).
    """

    anchors: Tensor
    turns: Tensor
    stretch: Tensor


class MeshRig(nn.Module):
    """The neutral mesh and what its motion does to what is bound to it.

    Args:
        neutral: (V, 3) vertices in the space of the means.
        faces: (F, 3).
        smooth: see above.
    """

    neutral: Tensor
    faces: Tensor
    basis: Tensor
    size: Tensor

    def __init__(self, neutral: Tensor, faces: Tensor, smooth: bool = True) -> None:
        super().__init__()
        self.smooth = smooth
        # The mesh belongs to the head's geometry; files of the network do not repeat it.
        self.register_buffer("neutral", neutral.clone(), persistent=False)
        self.register_buffer("faces", faces.to(torch.int64).clone(), persistent=False)
        basis, squared = _frames(neutral[self.faces])
        self.ring = meshrig_cpu.Ring.of(self.faces.cpu().numpy(), len(neutral))
        self.least = _FLAT * float(squared.mean())
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("size", squared, persistent=False)

    def rest(self, face: Tensor, bary: Tensor) -> Tensor:
        """(N, 3) binding points of the neutral mesh, zero for free Gaussians."""
        points = (self.neutral[self.faces[face.clamp(min=0)]] * bary[..., None]).sum(1)
        return torch.where(face[:, None] == FREE, 0.0, points)

    @torch.no_grad()
    def carry(self, vertices: Tensor, face: Tensor, bary: Tensor) -> Carry:
        """Follow posed vertices (V, 3), in the space of the means; nothing here is learned."""
        if vertices.device.type != "cpu":
            return self._carry_torch(vertices, face, bary)
        posed, faces, basis, size = (
            np.ascontiguousarray(t.numpy()) for t in (vertices, self.faces, self.basis, self.size)
        )
        ring = self.ring if self.smooth else None
        limits = (self.least, *_STRETCH)
        out = meshrig_cpu.carry(posed, faces, basis, size, ring, face.numpy(), bary.numpy(), limits)
        return Carry(*(torch.from_numpy(array) for array in out))

    def _carry_torch(self, vertices: Tensor, face: Tensor, bary: Tensor) -> Carry:
        index = face.clamp(min=0)
        corners = self.faces[index]
        anchors = (vertices[corners] * bary[..., None]).sum(1)
        turns, stretch = self._surface(vertices)
        if self.smooth:
            at_vertex = self._to_vertices(torch.cat([turns, stretch], 1))
            mixed = (at_vertex[corners] * bary[..., None]).sum(1)
            turns, stretch = F.normalize(mixed[:, :4], dim=1), mixed[:, 4:]
        else:
            turns, stretch = turns[index], stretch[index]
        free = face[:, None] == FREE
        return Carry(
            torch.where(free, 0.0, anchors),
            torch.where(free, quaternions.identity((1,), turns), turns),
            torch.where(free, 1.0, stretch),
        )

    def _surface(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Rotation (F, 4) and stretch (F, 1) of every triangle since the neutral mesh."""
        basis, squared = _frames(vertices[self.faces])
        turns = quaternions.from_matrices(basis @ self.basis.transpose(1, 2))
        flat = (squared < self.least) | (self.size < self.least)
        turns = torch.where(flat[:, None], quaternions.identity((1,), turns), turns)
        ratio = (squared / self.size.clamp(min=1e-30)) ** 0.25  # areas' square root
        ratio = torch.where(flat, 1.0, ratio).clamp(*_STRETCH)
        return turns, ratio[:, None]

    def _to_vertices(self, values: Tensor) -> Tensor:
        """Averages (V, 5) of triangles' values (F, 5) around every vertex, by neutral area.

        Rotations are near each other and have w ≥ 0, so that quaternions may be averaged.
        """
        weight = self.size.sqrt()[:, None]
        sums = values.new_zeros(len(self.neutral), values.shape[1] + 1)
        weighted = torch.cat([values * weight, weight], 1)
        for corner in range(3):
            sums.index_add_(0, self.faces[:, corner], weighted)
        return sums[:, :-1] / sums[:, -1:].clamp(min=1e-30)


def _frames(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal frames (F, 3, 3), axes in columns, and four times the squared area (F,)."""
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = torch.linalg.cross(edge, other)
    squared = (normal * normal).sum(1)
    tangent = F.normalize(edge, dim=1, eps=1e-20)
    normal = F.normalize(normal, dim=1, eps=1e-20)
    return torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], 2), squared
