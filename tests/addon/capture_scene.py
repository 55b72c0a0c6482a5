"""A character for the capture tests: a ball with a face that moves where faces move, and its hair.

Every blendshape pushes out what lies around its anchor, so head space can be found in it.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from addon_fake_head import RADII, ball

from head360.arkit import NAMES
from head360.arkit.anchors import anchors

SIZE = 48  # pixels of a quick picture
SPREAD = 0.02  # metres around an anchor


def face_deltas(points: np.ndarray) -> dict[str, np.ndarray]:
    """Blendshape → (N, 3) displacements in head space, metres."""
    table = anchors()
    deltas = {}
    for name in NAMES:
        centre = table.get(name, np.array([0.0, -0.06, 0.09]))
        distance = np.linalg.norm(points - centre, axis=1)
        push = np.array([0.0, -0.012 if name == "jawOpen" else 0.0, 0.008])
        if name in ("jawLeft", "mouthLeft", "jawRight", "mouthRight"):
            push = np.array([0.01 if name.endswith("Left") else -0.01, 0.0, 0.0])
        if name.startswith("eyeBlink"):
            push = np.array([0.0, -0.01, 0.0])
        deltas[name] = np.exp(-0.5 * (distance / SPREAD) ** 2)[:, None] * push
    return deltas


def material(name: str, colour: tuple[float, float, float]) -> Any:
    """A plain material."""
    from blender_addon import compat

    made = bpy.data.materials.new(name)
    compat.use_nodes(made)
    made.diffuse_color = (*colour, 1.0)
    made.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1.0)
    return made


def add_character(scene: Any, name: str = "Mia") -> Any:
    """The head, linked and active; it is no head of this extension."""
    from blender_addon import rig

    points, faces, uvs = ball(20, 28)
    points = points * RADII
    base = rig.to_blender(points)
    mesh = rig.mesh_from_arrays(name, base, faces)
    layer = mesh.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", uvs[faces.ravel()].astype(np.float32).ravel())
    mesh.materials.append(material(f"{name} Skin", (0.6, 0.4, 0.3)))
    head = bpy.data.objects.new(name, mesh)
    head.shape_key_add(name="Basis", from_mix=False)
    for shape, delta in face_deltas(points).items():
        key = head.shape_key_add(name=shape, from_mix=False)
        key.data.foreach_set("co", (base + rig.to_blender(delta)).ravel())
        key.value = 0.0
    scene.collection.objects.link(head)
    bpy.context.view_layer.objects.active = head
    bpy.context.view_layer.update()
    return head


def add_cap(scene: Any, head: Any) -> Any:
    """A cap of hair above the brows, a child of the head."""
    from blender_addon import rig

    points, faces, _uvs = ball(16, 24)
    keep = (points[:, 1] > 0.35)[faces].all(1)
    mesh = rig.mesh_from_arrays("Hair Cap", rig.to_blender(points * RADII * 1.1), faces[keep])
    mesh.materials.append(material("Hair", (0.1, 0.05, 0.02)))
    cap = bpy.data.objects.new("Hair Cap", mesh)
    cap.parent = head
    scene.collection.objects.link(cap)
    return cap


def add_light(scene: Any) -> Any:
    """A sun from the front, and a wall that must not be in any picture."""
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy = 3.0
    light.rotation_euler = (1.2, 0.0, 0.2)
    scene.collection.objects.link(light)
    wall = bpy.data.meshes.new("Wall")
    wall.from_pydata([(-5, 1, -5), (5, 1, -5), (5, 1, 5), (-5, 1, 5)], [], [(0, 1, 2, 3)])
    scene.collection.objects.link(bpy.data.objects.new("Wall", wall))
    return light


def ready(scene: Any, folder: Any) -> Any:
    """A character with hair and a light, and settings for a quick capture; returns the head."""
    head = add_character(scene)
    add_cap(scene, head)
    add_light(scene)
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 2
    scene.cycles.use_denoising = False
    settings = scene.head360_capture
    settings.size, settings.views, settings.count = SIZE, 2, 1
    settings.output = str(folder / "set")
    return head


def cast_of(scene: Any, head: Any, hair: Any = (), frame: Any = None) -> Any:
    """Who is in the picture."""
    from blender_addon.capture.cast import Cast

    return Cast.gather(scene, bpy.context.view_layer, head, hair, frame)


def piece(name: str, system: str = "") -> Any:
    """One piece of hair."""
    from blender_addon.capture.cast import Hair

    return Hair(name, system)


def complicate(scene: Any, head: Any) -> None:
    """Everything that a capture must leave alone."""
    blocks = head.data.shape_keys.key_blocks
    blocks["mouthPucker"].value = 0.3
    blocks["jawOpen"].slider_max = 0.5
    blocks["cheekPuff"].mute = True
    head["dial"] = 0.4
    driver = blocks["eyeBlinkLeft"].driver_add("value").driver
    variable = driver.variables.new()
    variable.targets[0].id, variable.targets[0].data_path = head, '["dial"]'
    driver.expression = "var"
    for frame, value in ((1, 0.0), (20, 0.9)):
        blocks["browInnerUp"].value = value
        blocks["browInnerUp"].keyframe_insert("value", frame=frame)
    head.select_set(True)
    scene.objects["Sun"].select_set(True)
    scene.frame_set(7, subframe=0.25)
    scene.timeline_markers.new("cut", frame=1).camera = scene.camera
    scene.render.film_transparent = False
    scene.render.resolution_percentage = 50
    scene.view_settings.exposure = 0.7
    head.modifiers.new("Particles", "PARTICLE_SYSTEM")
    strands = head.particle_systems[0]
    strands.name = "Locks"
    strands.settings.type = "HAIR"
    strands.settings.count, strands.settings.hair_length = 60, 0.05
    bpy.ops.mesh.primitive_cube_add(size=0.02, location=(0.5, 0, 0))  # another active object
    bpy.context.view_layer.objects.active = head
    bpy.context.view_layer.update()


# --- what was there before ------------------------------------------------------------------------

_VOLATILE = {"rna_type", "depsgraph", "users", "session_uid", "original", "is_updated",
             "is_updated_data", "use_nodes", "is_evaluated", "seconds",
             "tool_settings"}  # fmt: skip  # reading brushes that do not exist crashes 4.2
_INTERFACE = {"screens", "workspaces", "window_managers"}
_LONG = 120


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return value
    if isinstance(value, bpy.types.ID):
        return f"{type(value).__name__} {value.name}"
    if isinstance(value, bpy.types.bpy_struct):
        return dump(value, depth - 1) if depth else type(value).__name__
    if isinstance(value, set):
        return sorted(value)
    if hasattr(value, "__len__"):
        items = list(value)
        if len(items) > _LONG:
            return len(items)
        return [_plain(item, depth) for item in items]
    return repr(value)


def dump(struct: Any, depth: int = 4) -> dict[str, Any]:
    """Every property of a Blender struct, what hangs on it included."""
    return {
        item.identifier: _plain(getattr(struct, item.identifier, None), depth)
        for item in struct.bl_rna.properties
        if item.identifier not in _VOLATILE
    }


def everything() -> dict[str, Any]:
    """Every data-block with all its values, and what is selected and active."""
    bpy.context.view_layer.update()
    found: dict[str, Any] = {}
    for item in bpy.data.bl_rna.properties:
        if item.type == "COLLECTION" and item.identifier not in _INTERFACE:
            blocks = getattr(bpy.data, item.identifier)
            found[item.identifier] = {block.name: dump(block) for block in blocks}
    layer = bpy.context.view_layer
    if bpy.app.version >= (4, 3, 0):  # 4.2 counts a user too many whenever a scene is copied
        blocks = (*bpy.data.objects, *bpy.data.meshes)
        found["users"] = {block.name: block.users for block in blocks}
    found["active"] = layer.objects.active.name if layer.objects.active else None
    found["selected"] = [one.name for one in bpy.context.scene.objects if one.select_get()]
    found["frame"] = bpy.context.scene.frame_current_final
    return found


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Paths at which two dumps differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            path
            for key in before.keys() | after.keys()
            for path in differences(before.get(key), after.get(key), f"{where}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            path
            for number, pair in enumerate(zip(before, after, strict=True))
            for path in differences(*pair, f"{where}[{number}]")
        ]
    return [] if before == after else [f"{where}: {before!r} → {after!r}"]
