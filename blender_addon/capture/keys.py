"""Digests of what a picture depends on, so that a second run knows which pictures still fit."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import bpy
import numpy as np

from .cast import Cast
from .frame import evaluate

VERSION = 2  # raise it when the same scene gives other pictures
_VALUES = {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
# Settings of the artist's that no picture depends on, or that every picture sets itself.
_IGNORED = {
    "filepath", "frame_path", "resolution_x", "resolution_y", "resolution_percentage", "name",
    "use_stamp", "use_nodes", "threads", "threads_mode", "use_lock_interface", "select",
    "location_absolute", "location", "width", "height", "is_active_output", "color_tag",
    "warning_propagation", "preview_samples", "show_options", "show_preview",
    "use_viewport_denoising",
}  # fmt: skip
_OUTLINES = {"CURVE", "SURFACE", "FONT", "META"}  # have a mesh only when asked for one
# Type of a mesh attribute → the property that holds a value, and its numbers.
_LAYERS = {
    "FLOAT": ("value", 1, np.float32), "INT": ("value", 1, np.int32), "INT8": ("value", 1, np.int8),
    "BOOLEAN": ("value", 1, np.bool_), "FLOAT2": ("vector", 2, np.float32),
    "FLOAT_VECTOR": ("vector", 3, np.float32), "FLOAT_COLOR": ("color", 4, np.float32),
    "BYTE_COLOR": ("color", 4, np.float32),
}  # fmt: skip


def describe(struct: Any) -> dict[str, Any]:
    """The plain values of a Blender struct by name; data-blocks that it points at by name."""
    found: dict[str, Any] = {}
    for item in struct.bl_rna.properties:
        name = item.identifier
        if name in _IGNORED or name.startswith(("stamp_", "use_stamp_", "ui_", "rna_", "bl_")):
            continue
        if item.type == "POINTER":
            target = getattr(struct, name, None)
            if isinstance(target, bpy.types.ID):
                found[name] = target.name
            elif isinstance(target, bpy.types.ColorRamp):
                found[name] = [describe(target), *(describe(stop) for stop in target.elements)]
            elif isinstance(target, bpy.types.CurveMapping):
                found[name] = [
                    [[round(float(x), 7) for x in point.location] for point in curve.points]
                    for curve in target.curves
                ]
        elif item.type in _VALUES and not (item.is_readonly and item.type == "STRING"):
            value = getattr(struct, name, None)
            if item.type == "ENUM" and item.is_enum_flag:
                value = sorted(value)
            elif getattr(item, "is_array", False):
                value = np.array(value, dtype=np.float64).round(7).ravel().tolist()
            found[name] = value if isinstance(value, (bool, int, str, list)) else repr(value)
    return found


def _tree(tree: Any) -> list[Any]:
    """A node tree: nodes, unconnected inputs, links; groups inside are named only."""
    if tree is None:
        return []
    nodes = []
    for node in tree.nodes:
        inputs = [
            repr(getattr(socket, "default_value", None))
            if not hasattr(getattr(socket, "default_value", None), "__len__")
            or isinstance(socket.default_value, str)
            else [round(float(x), 7) for x in socket.default_value]
            for socket in node.inputs
        ]
        nodes.append([node.name, node.bl_idname, describe(node), inputs])
    links = [
        [link.from_node.name, link.from_socket.identifier, link.to_node.name,
         link.to_socket.identifier]
        for link in tree.links
    ]  # fmt: skip
    return [nodes, sorted(links)]


def _engine(scene: Any) -> list[Any]:
    groups = [scene.render, scene.view_settings, scene.display_settings]
    if scene.render.engine == "CYCLES" and hasattr(scene, "cycles"):
        groups.append(scene.cycles)
    elif "EEVEE" in scene.render.engine:
        groups.append(scene.eevee)
    elif "WORKBENCH" in scene.render.engine:
        groups.append(scene.display.shading)
    return [describe(group) for group in groups]


def looks(cast: Cast, scene: Any) -> str:
    """Hex digest of what all pictures share: engine, lights, surfaces, combed hair, this code."""
    objects = [bpy.data.objects[name] for name in (*cast.members, *cast.others)]
    materials = {slot.material for item in objects for slot in item.material_slots if slot.material}
    lights = [
        [item.name, describe(item.data), _tree(item.data.node_tree)]
        for item in objects
        if item.type == "LIGHT"
    ]
    systems = [
        [item.name, system.name, describe(system.settings),
         _combed(system) if system.is_edited else ""]
        for item in objects
        for system in getattr(item, "particle_systems", ())
    ]  # fmt: skip
    layers = [[item.name, _layers(item.data)] for item in objects if item.type == "MESH"]
    parts = [
        VERSION, bpy.app.version_string, _engine(scene), lights, systems, layers,
        [piece.label for piece in cast.hair],
        [[mat.name, describe(mat), _tree(mat.node_tree)]
         for mat in sorted(materials, key=lambda mat: mat.name)],
        [describe(scene.world), _tree(scene.world.node_tree)] if scene.world else [],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def pose(cast: Cast, stage: Any) -> str:
    """Hex digest of where everything is on an evaluated stage: transforms and vertices."""
    depsgraph = evaluate(stage)
    digest = hashlib.sha256()
    for name in (*cast.members, *cast.others):
        placed = bpy.data.objects[name].evaluated_get(depsgraph)
        digest.update(name.encode())
        digest.update(np.array(placed.matrix_world, dtype=np.float32).tobytes())
        if placed.type == "MESH":
            digest.update(_positions(placed.data.vertices, "co"))
        elif placed.type == "CURVES":
            digest.update(_positions(placed.data.points, "position"))
        elif placed.type in _OUTLINES and (mesh := placed.to_mesh()) is not None:
            try:
                digest.update(_positions(mesh.vertices, "co"))
            finally:
                placed.to_mesh_clear()
    return digest.hexdigest()


def _layers(mesh: Any) -> str:
    """Hex digest of what a mesh says about its surface: materials, UVs, colours and the like."""
    digest = hashlib.sha256()
    for layer in sorted(mesh.attributes, key=lambda layer: layer.name):
        # Names with a dot are the editor's selections; positions count as posed.
        if layer.data_type in _LAYERS and layer.name[0] != "." and layer.name != "position":
            name, size, kind = _LAYERS[layer.data_type]
            flat = np.empty(len(layer.data) * size, dtype=kind)
            layer.data.foreach_get(name, flat)
            digest.update(f"{layer.name} {layer.domain}".encode() + flat.tobytes())
    return digest.hexdigest()


def _combed(system: Any) -> str:
    """Hex digest of hair that somebody combed."""
    digest = hashlib.sha256()
    for particle in system.particles:
        digest.update(_positions(particle.hair_keys, "co_local"))
    return digest.hexdigest()


def _positions(points: Any, name: str) -> bytes:
    flat = np.empty(len(points) * 3, dtype=np.float32)
    points.foreach_get(name, flat)
    return flat.tobytes()


def join(*parts: Any) -> str:
    """Hex digest of several texts and numbers."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
