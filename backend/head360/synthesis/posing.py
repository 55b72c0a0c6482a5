"""The head's surface at one moment: normals to shade with, and what every vertex sees.

Parts that are finer than the depth pictures of ``occlusion`` (lids on eyeballs, the inside of the
mouth) get their shadows drawn by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.geometry.atlas import tile_rectangle
from head360.geometry.attach import vertex_normals
from head360.geometry.topology import Topology
from head360.synthesis.lights import LIGHTS
from head360.synthesis.occlusion import visibility, weigh

Floats = NDArray[np.float32]

_CORNEA = 0.9  # how much faster than the eyeball's the cornea's normals fan out
_EYEBALLS = ("eyeball_left", "eyeball_right")
_SOCKETS = (("eye_socket_left", "eyeball_left"), ("eye_socket_right", "eyeball_right"))


@dataclass(frozen=True)
class PosedSurface:
    """A head of N vertices at one moment.

    Attributes:
        vertices: (N, 3) float32 metres, head space.
        normals: (N, 3) float32 unit, to shade with: eyes have a cornea.
        true_normals: (N, 3) float32 unit: eyeballs are spheres.
        seen: (N, D) float32, see ``occlusion.visibility``.
    """

    vertices: Floats
    normals: Floats
    true_normals: Floats
    seen: Floats


class HeadSurface:
    """Makes :class:`PosedSurface` of one topology.

    Args:
        topology: of the bilinear model.
        fine: whether teeth and eyes get the latest look's shadows.
    """

    def __init__(self, topology: Topology, fine: bool) -> None:
        self.topology = topology
        self.fine = fine
        lashes = topology.part_faces("eyelashes")
        self.casters = np.delete(topology.faces, lashes, axis=0)
        self._iris = {name: self._iris_of(name) for name in _EYEBALLS}

    def posed(self, vertices: Floats) -> PosedSurface:
        """Normals and visibility of (N, 3) posed vertices."""
        shading, true = self.normals(vertices)
        seen = visibility(vertices, shading, self.casters)
        return PosedSurface(vertices, shading, true, seen)

    def normals(self, vertices: Floats) -> tuple[Floats, Floats]:
        """(N, 3) float32 unit normals of posed vertices: to shade with, and the true ones."""
        normals = vertex_normals(vertices, self.topology.faces)
        shading, true = normals.copy(), normals.copy()
        for name in _EYEBALLS:
            index = self.topology.part_vertices(name)
            true[index], shading[index] = self._round_eye(vertices[index], name)
        return shading, true

    def shadows(
        self, surface: PosedSurface, behind_hair: NDArray[np.uint8] | None = None
    ) -> Floats:
        """(N, C) what each vertex sees under every light, columns as in ``ShadeInput``.

        Args:
            surface: of this moment.
            behind_hair: (N, D) uint8 what hair leaves visible, 255 is all; None for a bald head.
        """
        seen = surface.seen
        if behind_hair is not None:
            seen = seen * (behind_hair * np.float32(1 / 255))
        out = np.concatenate(
            [weigh(seen, surface.normals, light) for light in LIGHTS.values()], axis=1
        )
        drawn = self._drawn(surface.vertices, out)
        if behind_hair is not None:
            # Eyes keep their drawn shadows, under the fringe as well.
            for name in _EYEBALLS:
                index = self.topology.part_vertices(name)
                drawn[index] *= behind_hair[index].mean(1, keepdims=True) / 255
        return drawn

    def _iris_of(self, eyeball: str) -> NDArray[np.bool_]:
        """Which vertices of an eyeball carry the iris, by its tile of the atlas."""
        topology = self.topology
        tile = "iris_" + eyeball.removeprefix("eyeball_")
        u0, v0, u1, v1 = tile_rectangle(tile)
        faces = topology.part_faces(eyeball)
        uv = topology.uvs[topology.face_uvs[faces]].mean(1)
        inside = (uv[:, 0] > u0) & (uv[:, 0] < u1) & (uv[:, 1] > v0) & (uv[:, 1] < v1)
        return np.isin(topology.part_vertices(eyeball), topology.faces[faces[inside]])

    def _round_eye(self, vertices: Floats, name: str) -> tuple[Floats, Floats]:
        """Normals (n, 3) of an eyeball: of the sphere, and with a cornea.

        The inner iris disc is flat and would catch no light.
        """
        centre = (vertices.min(0) + vertices.max(0)) / 2
        direction = vertices - centre
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        sphere = direction.copy()
        # The cornea bulges: its normals fan out faster, so lamps glint on the iris.
        gaze = direction[self._iris[name]].mean(0)
        gaze /= np.linalg.norm(gaze)
        cosine = (direction @ gaze)[:, None]
        aside = direction - cosine * gaze
        cornea = np.clip((cosine - 0.72) / 0.12, 0, 1)
        direction += _CORNEA * cornea * aside
        return sphere, direction / np.linalg.norm(direction, axis=1, keepdims=True)

    def _drawn(self, vertices: Floats, out: Floats) -> Floats:
        """``out`` (N, C) with the shadows that are drawn by hand."""
        parts = self.topology
        # Light that bounces inside the mouth is not traced: lift the darkness, keep its shape.
        mouth = parts.part_vertices("teeth", "gums_tongue", "mouth_socket")
        out[mouth] = out[mouth] ** 0.75
        # The socket's triangles are too coarse for that: it darkens with its depth behind the lips.
        socket = parts.part_vertices("mouth_socket")
        lips = vertices[parts.landmarks68[60:68], 2].mean()
        behind = np.clip((lips - 0.004 - vertices[socket, 2:]) / 0.03, 0, 1)
        out[socket] *= 1 - 0.85 * behind**0.7
        if self.fine:
            # Teeth and tongue darken inwards, or they would be a white strip in the dark.
            inner = parts.part_vertices("teeth", "gums_tongue")
            aside = np.abs(vertices[inner, 0]) / 0.03
            deep = np.clip((lips + 0.002 - vertices[inner, 2]) / 0.032, 0, 1) + 0.25 * aside**2
            out[inner] *= 1 - 0.72 * np.clip(deep, 0, 1)[:, None]
        # The lids' shadow on the eyeball is finer than the depth pictures.
        for name in _EYEBALLS:
            index = parts.part_vertices(name)
            low, high = vertices[index].min(0), vertices[index].max(0)
            centre, radius = (low + high) / 2, (high - low).max() / 2
            local = (vertices[index] - centre) / radius
            lid = np.clip((local[:, 1] - 0.12) / 0.42, 0, 1)
            corner = np.clip((np.abs(local[:, 0]) - 0.35) / 0.5, 0, 1)
            out[index] = ((1 - 0.55 * lid**1.5) * (1 - 0.35 * corner))[:, None]
        # What shows through the pupil is the back of the eye socket.
        for name, eyeball in _SOCKETS:
            index = parts.part_vertices(name)
            centre = vertices[parts.part_vertices(eyeball), 2].max() - 0.014
            out[index] *= np.clip((vertices[index, 2:] - centre) / 0.006, 0, 1)
        return out
