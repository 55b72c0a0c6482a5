"""Looking at every moment before the first picture: head space, weights, geometry, landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX
from head360.datasets.records import LANDMARKS
from head360.errors import BadInput

from . import keys
from .cast import Cast
from .frame import Finder, HeadFrame, coordinates, evaluate, given_frame, own_points, triangles
from .plan import Pose
from .stage import staged


@dataclass(frozen=True)
class Posed:
    """What is known of a moment.

    Attributes:
        frame: head space in the world.
        weights: (52,) float32 in [0, 1].
        key: digest of where everything is.
    """

    frame: HeadFrame
    weights: NDArray[np.float32]
    key: str


@dataclass(frozen=True)
class Surface:
    """The head as a mesh in head space, metres: (N, 3), (F, 3), (U, 2) and (F, 3) into the UVs."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    uvs: NDArray[np.float32] | None
    face_uvs: NDArray[np.int32] | None


class Surveyor:
    """Measures moments of one capture."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._finder = None if cast.frame else Finder(cast)
        self._still: HeadFrame | None = None

    def look(self, pose: Pose) -> Posed:
        """Everything about one moment.

        Raises:
            BadInput: no face is found in the shape keys, or left and right are exchanged.
        """
        frame = self._found(pose)
        with staged(self.cast, pose.moment) as stage:
            depsgraph = evaluate(stage)
            if frame is None:
                frame = given_frame(bpy.data.objects[self.cast.frame], depsgraph)
            weights = pose.weights
            if weights is None:
                weights = animated_weights(bpy.data.objects[self.cast.head], depsgraph)
            key = keys.pose(self.cast, stage)
        return Posed(frame, weights, keys.join(key, frame.world.round(7).tolist()))

    def _found(self, pose: Pose) -> HeadFrame | None:
        """Head space from the shape keys; measured again only where the scene moves."""
        if self._finder is None:
            return None
        if pose.moment.frame is not None:
            found = self._finder.at(pose.moment.frame)
        else:
            self._still = found = self._still or self._finder.at()
        if found.swapped:
            raise BadInput(
                f"Left and right of {self.cast.head} are exchanged: press Check Rig. "
                "ARKit's left is the character's own left."
            )
        if not found.believable:
            raise BadInput(
                f"The shape keys of {self.cast.head} do not show where its face is "
                f"({found.error * 1000:.0f} mm off): press Show Head Frame, move the frame to the "
                "head and pick it as Frame Object."
            )
        return found

    def surface(self, pose: Pose, frame: HeadFrame) -> Surface:
        """The head's evaluated mesh, modifiers included."""
        with staged(self.cast, pose.moment) as stage:
            placed = bpy.data.objects[self.cast.head].evaluated_get(evaluate(stage))
            matrix = np.array(placed.matrix_world, dtype=np.float64)
            mesh = placed.to_mesh()
            try:
                points = coordinates(mesh.vertices) @ matrix[:3, :3].T + matrix[:3, 3]
                faces = triangles(mesh)
                uvs, face_uvs = _uvs(mesh)
            finally:
                placed.to_mesh_clear()
        return Surface(frame.to_head(points), faces, uvs, face_uvs)

    def landmarks(self, pose: Pose, frame: HeadFrame) -> NDArray[np.float64] | None:
        """(68, 3) head space, metres, or None where the mesh marks none."""
        marks = landmark_weights(bpy.data.objects[self.cast.head])
        if marks is None:
            return None
        points, _linear = own_points(self.cast, pose.moment)
        if marks.shape[1] != len(points):
            return None
        return frame.to_head(marks @ points)


def animated_weights(head: Any, depsgraph: Any) -> NDArray[np.float32]:
    """(52,) values as evaluated, in [0, 1]; shapes that the rig lacks are zero."""
    blocks = head.data.shape_keys.evaluated_get(depsgraph).key_blocks
    weights = np.zeros(COUNT, dtype=np.float32)
    for block in blocks:
        if block.name in INDEX and not block.mute:
            weights[INDEX[block.name]] = block.value
    return np.clip(weights, 0.0, 1.0)


def landmark_weights(head: Any) -> NDArray[np.float64] | None:
    """(68, N) each row sums to 1: vertex groups or point attributes landmark_00 … landmark_67.

    None unless all 68 are there and hold something.
    """
    mesh = head.data
    names = [f"landmark_{k:02d}" for k in range(LANDMARKS)]
    marks = np.zeros((LANDMARKS, len(mesh.vertices)))
    groups = {
        head.vertex_groups[n].index: k for k, n in enumerate(names) if n in head.vertex_groups
    }
    for vertex in mesh.vertices if groups else ():
        for member in vertex.groups:
            if member.group in groups:
                marks[groups[member.group], vertex.index] = member.weight
    for row, name in enumerate(names):
        attribute = mesh.attributes.get(name)
        if (
            attribute is not None
            and attribute.domain == "POINT"
            and hasattr(attribute.data[0], "value")
        ):
            marks[row] = [float(item.value) for item in attribute.data]
    total = marks.sum(1)
    return marks / total[:, None] if (total > 0).all() else None


def _uvs(mesh: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.int32] | None]:
    layer = mesh.uv_layers.active
    if layer is None or len(layer.data) != len(mesh.loops):
        return None, None
    flat = np.empty(len(layer.data) * 2, dtype=np.float32)
    layer.data.foreach_get("uv", flat)
    loops = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
    mesh.loop_triangles.foreach_get("loops", loops)
    unique, inverse = np.unique(flat.reshape(-1, 2), axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)[loops].reshape(-1, 3).astype(np.int32)
