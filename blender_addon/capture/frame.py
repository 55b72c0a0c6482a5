"""Head space in the artist's scene: found from the shape keys, or given by an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.arkit import NAMES
from head360.arkit.anchors import anchors, fit, middles, vertex_areas
from head360.errors import BadInput
from head360.rendering.cameras import HEAD_TO_BLENDER, blender_to_head

from .cast import Cast
from .changes import Changes
from .stage import Moment, staged

Matrix = NDArray[np.float64]
# Modifiers that move vertices but keep their number and order: shape keys can be followed through.
_DEFORMING = {
    "ARMATURE", "CAST", "CURVE", "DISPLACE", "HOOK", "LAPLACIANDEFORM", "LATTICE", "MESH_DEFORM",
    "SHRINKWRAP", "SIMPLE_DEFORM", "SMOOTH", "CORRECTIVE_SMOOTH", "LAPLACIANSMOOTH",
    "SURFACE_DEFORM", "WARP", "WAVE", "PARTICLE_SYSTEM", "VERTEX_WEIGHT_EDIT",
    "VERTEX_WEIGHT_MIX", "VERTEX_WEIGHT_PROXIMITY", "UV_PROJECT", "UV_WARP",
}  # fmt: skip
_BULK = 0.015  # metres from the middle of the face to that of the mesh: a head, not a mask
_FAR = 0.02  # metres of remaining error from which the fit is not to be believed


@dataclass(frozen=True)
class HeadFrame:
    """Where the head is.

    Attributes:
        world: (4, 4) float64 head space in metres → Blender's world.
        scale: Blender units in a metre of the head.
        error: what remains of the fit, metres of the head; 0 for a frame that was given.
        swapped: the rig's left is the subject's right.
    """

    world: Matrix
    scale: float
    error: float = 0.0
    swapped: bool = False

    @property
    def believable(self) -> bool:
        """Whether the anchors agree well enough that this is a face."""
        return self.error < _FAR

    def to_head(self, points: NDArray) -> NDArray[np.float64]:
        """(…, 3) world → head space, metres."""
        inverse = np.linalg.inv(self.world)
        return np.asarray(points, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]


def coordinates(data: Any) -> NDArray[np.float32]:
    """(N, 3) of a collection whose members have ``co``."""
    flat = np.empty(len(data) * 3, dtype=np.float32)
    data.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def triangles(mesh: Any) -> NDArray[np.int32]:
    """(F, 3) corners of a mesh's triangulation."""
    mesh.calc_loop_triangles()
    flat = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
    mesh.loop_triangles.foreach_get("vertices", flat)
    return flat.reshape(-1, 3)


def key_deltas(
    head: Any, sources: Mapping[str, str] | None = None
) -> dict[str, NDArray[np.float32]]:
    """ARKit name → (N, 3) displacement from the key it is relative to, in the object's space.

    ``sources`` names the key of each shape where that is not the shape's own name.
    """
    blocks = head.data.shape_keys.key_blocks
    names = {name: name for name in NAMES} if sources is None else sources
    return {
        name: coordinates(blocks[key].data) - coordinates(blocks[key].relative_key.data)
        for name, key in names.items()
        if key in blocks
    }


def own_points(cast: Cast, moment: Moment) -> tuple[NDArray, NDArray]:
    """World positions (N, 3) float64 of the head's own vertices at a moment, and (3, 3) the linear
    part of the object's matrix. Armatures and other deformations are included; modifiers that
    change the number of vertices are left out.
    """
    head = bpy.data.objects[cast.head]
    with Changes() as changes:
        for mod in head.modifiers:
            if mod.type not in _DEFORMING:
                changes.set(mod, "show_viewport", False)
        with staged(cast, moment) as scene:
            placed = head.evaluated_get(evaluate(scene))
            matrix = np.array(placed.matrix_world, dtype=np.float64)
            mesh = placed.to_mesh()
            try:
                points = coordinates(mesh.vertices).astype(np.float64)
            finally:
                placed.to_mesh_clear()
    if len(points) != len(head.data.vertices):
        points = coordinates(head.data.shape_keys.reference_key.data).astype(np.float64)
    return points @ matrix[:3, :3].T + matrix[:3, 3], matrix[:3, :3]


def evaluate(scene: Any) -> Any:
    """The dependency graph of a stage, evaluated at the stage's frame as a render would do it."""
    # Not view_layer.update(): that makes the graph the active one, which writes animated values
    # back into the artist's objects.
    scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
    return scene.view_layers[0].depsgraph


class Finder:
    """Finds head space again and again (a head that an armature turns), reading the keys once.

    Attributes:
        swapped: whether the rig's left is the subject's right; None before the first look.
    """

    def __init__(self, cast: Cast, sources: Mapping[str, str] | None = None) -> None:
        self.cast = cast
        head = bpy.data.objects[cast.head]
        table = anchors()
        deltas = {n: delta for n, delta in key_deltas(head, sources).items() if n in table}
        self.names = list(deltas)
        if not self.names:
            raise BadInput(
                f"{head.name} has no shape keys with ARKit's names: press Check Rig to see why."
            )
        self._deltas = np.stack(list(deltas.values()))
        self._faces = triangles(head.data)
        self.swapped: bool | None = None

    def at(self, frame: float | None = None) -> HeadFrame:
        """The frame at a moment of the scene.

        Raises:
            BadInput: too few shapes to tell where the face is.
        """
        rest = Moment(np.zeros(len(NAMES), np.float32), frame)
        points, linear = own_points(self.cast, rest)
        centres, moves = middles(points, self._deltas, vertex_areas(points, self._faces))
        usable = [k for k, (name, moved) in enumerate(zip(self.names, moves, strict=True)) if moved]
        if self.swapped is None:
            self.swapped = self._is_swapped(points, centres, usable, linear)
        found = fit({self._own(self.names[k]): centres[k] for k in usable})
        return HeadFrame(found.matrix, found.scale, found.error, bool(self.swapped))

    def _own(self, name: str) -> str:
        return other_side(name) if self.swapped else name

    def _is_swapped(
        self, points: NDArray, centres: NDArray, usable: list[int], linear: NDArray
    ) -> bool:
        """Whether left and right are exchanged: then the best fit looks out of the back.

        A face is nearly flat, so a mirrored one fits almost as well when it is turned round.
        """
        found = fit({self.names[k]: centres[k] for k in usable})
        forward = found.matrix[:3, 2] / found.scale
        areas = vertex_areas(points, self._faces)
        behind = centres[usable].mean(0) - areas @ points / max(float(areas.sum()), 1e-300)
        depth = float(behind @ forward) / found.scale
        if abs(depth) > _BULK:
            return depth < 0
        # Only a mask, then: its surface looks outwards.
        corners = points[self._faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        if np.linalg.det(linear) < 0:
            normals = -normals
        pull = np.einsum("kni,kni->n", self._deltas, self._deltas)
        outward = (pull[self._faces].mean(1)[:, None] * normals).sum(0)
        return bool(outward @ forward < 0)


def other_side(name: str) -> str:
    """``eyeBlinkLeft`` ↔ ``eyeBlinkRight``; a name without a side stays."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name[: -len(side)] + other
    return name


def given_frame(item: Any, depsgraph: Any | None = None) -> HeadFrame:
    """The frame that an object shows: origin between the ears, −Y out of the face, +Z up, and a
    unit of its own as long as a metre of the head.

    Raises:
        BadInput: its scale is zero, mirrored or not uniform.
    """
    placed = item if depsgraph is None else item.evaluated_get(depsgraph)
    matrix = np.array(placed.matrix_world, dtype=np.float64)
    try:
        to_head, scale = blender_to_head(matrix)
    except ValueError as error:
        raise BadInput(
            f"{item.name} cannot be a head frame ({error}): give it a uniform, positive scale."
        ) from error
    return HeadFrame(np.linalg.inv(to_head), scale)


def object_matrix(frame: HeadFrame) -> Matrix:
    """(4, 4) matrix of the object that shows ``frame``; see :func:`given_frame`."""
    return frame.world @ HEAD_TO_BLENDER.T
