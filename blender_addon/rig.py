"""The head mesh with its 52 shape keys, and the way from a posed object back to 52 weights."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, NAMES
from head360.errors import BadInput
from head360.rendering.cameras import HEAD_TO_BLENDER

from . import compat

_SKIN = (0.62, 0.42, 0.34, 1.0)
_ROTATION = HEAD_TO_BLENDER[:3, :3].astype(np.float32)
REGIONS: tuple[tuple[str, str, int, int], ...] = (
    # (identifier, label, first shape, one past the last)
    ("eye_left", "Left Eye", 0, 7),
    ("eye_right", "Right Eye", 7, 14),
    ("jaw", "Jaw", 14, 18),
    ("mouth", "Mouth", 18, 41),
    ("brows", "Brows", 41, 46),
    ("cheeks_nose", "Cheeks and Nose", 46, 51),
    ("tongue", "Tongue", 51, 52),
)


def to_blender(points: NDArray) -> NDArray:
    """Head space (…, 3) → the head object's own space: the face looks along −Y, +Z is up."""
    return np.ascontiguousarray(np.asarray(points, dtype=np.float32) @ _ROTATION.T)


def is_head(item: Any) -> bool:
    """Whether an object is one of ours and still has its shape keys."""
    return bool(
        item is not None
        and item.type == "MESH"
        and item.head360.is_head
        and item.data.shape_keys is not None
    )


def active_head(context: Any) -> Any | None:
    """The active object when it is a head, else the only head of the scene, else None."""
    if is_head(context.active_object):
        return context.active_object
    heads = [item for item in context.scene.objects if is_head(item)]
    return heads[0] if len(heads) == 1 else None


def mesh_from_arrays(name: str, vertices: NDArray, faces: NDArray) -> Any:
    """A triangle mesh, smooth shaded, vertices already in the object's space."""
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, dtype=np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.update(calc_edges=True)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), dtype=bool))
    mesh.validate()
    return mesh


def _skin_material(name: str) -> Any:
    material = bpy.data.materials.new(name)
    compat.use_nodes(material)
    material.diffuse_color = _SKIN
    shader = material.node_tree.nodes.get("Principled BSDF")
    if shader is not None:
        shader.inputs["Base Color"].default_value = _SKIN
        shader.inputs["Roughness"].default_value = 0.5
        shader.inputs["Subsurface Weight"].default_value = 0.1
        shader.inputs["Subsurface Radius"].default_value = (0.01, 0.004, 0.002)
    return material


def build_head(arrays: Any, *, name: str, model: str, subject: str, style: str | None) -> Any:
    """Make the head object (not linked to a scene yet) from the backend's ``HeadMesh``.

    On any error the data-blocks made so far are removed again.
    """
    deltas = np.asarray(arrays.deltas, dtype=np.float32)
    if deltas.shape != (COUNT, len(arrays.vertices), 3):
        raise BadInput("The backend sent a damaged head mesh: restart it and try again.")
    base = to_blender(arrays.vertices)
    mesh = mesh_from_arrays(name, base, arrays.faces)
    head = bpy.data.objects.new(name, mesh)
    if len(mesh.polygons) == len(arrays.faces):  # validate() may drop broken faces
        layer = mesh.uv_layers.new(name="UVMap")
        corners = np.asarray(arrays.uvs, dtype=np.float32)[np.asarray(arrays.face_uvs).ravel()]
        layer.data.foreach_set("uv", np.ascontiguousarray(corners).ravel())
    mesh.materials.append(_skin_material(f"{name} Skin"))

    head.shape_key_add(name="Basis", from_mix=False)
    for shape, delta in zip(NAMES, deltas, strict=True):
        key = head.shape_key_add(name=shape, from_mix=False)
        key.data.foreach_set("co", (base + to_blender(delta)).ravel())
        key.slider_min, key.slider_max, key.value = 0.0, 1.0, 0.0
    settings = head.head360
    settings.is_head = True
    settings.model, settings.subject = model, subject
    settings.style, settings.is_bald = style or "", style is None
    return head


def remove_head(head: Any) -> None:
    """Take back everything :func:`build_head` made."""
    mesh = head.data
    materials = [slot for slot in mesh.materials if slot is not None]
    bpy.data.objects.remove(head)
    if mesh.users == 0:
        bpy.data.meshes.remove(mesh)
    for material in materials:
        if material.users == 0:
            bpy.data.materials.remove(material)


def place_head(context: Any, head: Any) -> None:
    """Put a new head into the scene: at the cursor, active, the only one selected.

    Raises:
        BadInput: the active collection takes no objects; the head is removed again.
    """
    try:
        context.collection.objects.link(head)
    except RuntimeError as error:  # a linked or locked collection
        remove_head(head)
        raise BadInput(
            "The active collection takes no objects: select another collection."
        ) from error
    head.location = context.scene.cursor.location
    for item in context.selected_objects:
        item.select_set(False)
    context.view_layer.objects.active = head
    if head.visible_get():
        head.select_set(True)


def weights(head: Any, depsgraph: Any) -> NDArray[np.float32]:
    """(52,) blend weights of ``head`` at the depsgraph's moment, drivers and keyframes included.

    Raises:
        BadInput: a shape key was deleted or renamed.
    """
    keys = head.data.shape_keys
    blocks = keys.evaluated_get(depsgraph).key_blocks
    result = np.zeros(COUNT, dtype=np.float32)
    for index, name in enumerate(NAMES):
        block = blocks.get(name)
        if block is None:
            raise BadInput(
                f"The head {head.name} has lost its shape key {name}: "
                "give the key that name again, or create the head anew."
            )
        result[index] = 0.0 if block.mute else block.value
    return np.clip(result, 0.0, 1.0)


def set_weights(head: Any, values: NDArray) -> None:
    """Set the 52 sliders at once, whatever the order of the keys in the list."""
    blocks = head.data.shape_keys.key_blocks
    for name, value in zip(NAMES, values, strict=True):
        block = blocks.get(name)
        if block is not None:
            block.value = float(value)


def key_take(head: Any, name: str, frames: NDArray, values: NDArray) -> Any:
    """Animate ``head`` with ``values`` (R, 52) at scene ``frames`` (R,), as one new action.

    A new action each time: what animated the head before stays in the file untouched.
    """
    keys = head.data.shape_keys
    missing = [shape for shape in NAMES if shape not in keys.key_blocks]
    if missing:
        raise BadInput(
            f"The head {head.name} has lost its shape key {missing[0]}: "
            "give the key that name again, or create the head anew."
        )
    action, fcurves = compat.new_action(name, keys)
    for index, shape in enumerate(NAMES):
        compat.fill_fcurve(fcurves, f'key_blocks["{shape}"].value', frames, values[:, index])
    compat.assign_action(keys, action)
    return action


def driven_shapes(head: Any) -> list[str]:
    """Names of shape keys with a driver, which wins over keyframes."""
    data = head.data.shape_keys.animation_data
    paths = {curve.data_path for curve in data.drivers} if data is not None else set()
    return [shape for shape in NAMES if f'key_blocks["{shape}"].value' in paths]
