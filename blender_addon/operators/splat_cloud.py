"""Gaussian splats as an object that shows their colours: points or ellipsoids by geometry nodes."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.geometry.splatfile import SplatCloud

from .. import compat
from ..scene import srgb_to_linear

GROUP = "Head360 Splats"
MATERIAL = "Head360 Splats"
COLOUR, OPACITY, RADIUS, SIZE, TURN = "Colour", "opacity", "radius", "size", "turn"
_C0 = 0.28209479177387814  # of the constant harmonic
_EDGE = 1.5  # standard deviations at which a solid body looks as large as the soft splat

# Rows: the file's axes in Blender's (x right, y away, z up).
UP: dict[str, NDArray[np.float64]] = {
    "Y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-Y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "Z": np.eye(3),
}


def build_cloud(cloud: SplatCloud, name: str, up: str = "Y", faint: float = 0.0) -> Any:
    """A mesh object (not linked yet) with a vertex a Gaussian, and nodes that draw bodies there.

    Point attributes: ``Colour`` (scene linear), ``opacity``, ``radius`` and ``size`` (metres; the
    geometric mean of the standard deviations, and all three), ``turn`` (quaternion).

    Args:
        up: the file's axis that points up, a key of :data:`UP`.
        faint: Gaussians with less opacity are left out.
    """
    kept = np.flatnonzero(cloud.opacities >= faint)
    axes = UP[up]
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(kept))
    points = cloud.means[kept].astype(np.float64) @ axes.T
    mesh.vertices.foreach_set("co", points.astype(np.float32).ravel())
    colours = np.ones((len(kept), 4), dtype=np.float32)
    colours[:, :3] = srgb_to_linear(cloud.sh[kept, 0] * _C0 + 0.5)
    layer = mesh.color_attributes.new(name=COLOUR, type="FLOAT_COLOR", domain="POINT")
    layer.data.foreach_set("color", colours.ravel())
    scales = cloud.scales[kept].astype(np.float64)
    for key, kind, field, values in (
        (OPACITY, "FLOAT", "value", cloud.opacities[kept]),
        (RADIUS, "FLOAT", "value", np.exp(np.log(np.maximum(scales, 1e-9)).mean(1))),
        (SIZE, "FLOAT_VECTOR", "vector", scales),
        (TURN, "QUATERNION", "value", _turned(axes, cloud.quaternions[kept])),
    ):
        attribute = mesh.attributes.new(name=key, type=kind, domain="POINT")
        attribute.data.foreach_set(field, np.ascontiguousarray(values, dtype=np.float32).ravel())
    # Adding further attributes may move the layers in memory: ask for it again.
    mesh.color_attributes.active_color = mesh.color_attributes[COLOUR]
    mesh.materials.append(_material())
    placed = bpy.data.objects.new(name, mesh)
    modifier = placed.modifiers.new(GROUP, "NODES")
    modifier.node_group = _group()
    return placed


def _turned(axes: NDArray[np.float64], quaternions: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 4) quaternions, scalar first, of Gaussians whose space is rotated by ``axes``."""
    from mathutils import Matrix

    w, x, y, z = Matrix(axes.tolist()).to_quaternion()
    a, b, c, d = quaternions.astype(np.float64).T
    return np.stack(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ],
        axis=1,
    )


def _material() -> Any:
    """Shines in the splats' own colours: their light is in them already."""
    found = bpy.data.materials.get(MATERIAL)
    if found is not None:
        return found
    material = bpy.data.materials.new(MATERIAL)
    compat.use_nodes(material)
    tree = material.node_tree
    tree.nodes.clear()
    out = tree.nodes.new("ShaderNodeOutputMaterial")
    glow = tree.nodes.new("ShaderNodeEmission")
    both = tree.nodes.new("ShaderNodeVectorMath")
    both.operation = "ADD"
    # Points carry the colour themselves, ellipsoids through what instances them: whichever it is
    # not is black.
    for index, kind in enumerate(("GEOMETRY", "INSTANCER")):
        colour = tree.nodes.new("ShaderNodeAttribute")
        colour.attribute_name, colour.attribute_type = COLOUR, kind
        colour.location = (-500.0, -200.0 * index)
        tree.links.new(colour.outputs["Color"], both.inputs[index])
    both.location, glow.location, out.location = (-250.0, 0.0), (0.0, 0.0), (200.0, 0.0)
    tree.links.new(both.outputs[0], glow.inputs["Color"])
    tree.links.new(glow.outputs["Emission"], out.inputs["Surface"])
    return material


def _group() -> Any:
    """Nodes: vertices with the attributes above → ellipsoids, or points."""
    found = bpy.data.node_groups.get(GROUP)
    if found is not None:
        return found
    group = bpy.data.node_groups.new(GROUP, "GeometryNodeTree")
    group.is_modifier = True
    face = group.interface
    face.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    ellipsoids = face.new_socket("Ellipsoids", in_out="INPUT", socket_type="NodeSocketBool")
    ellipsoids.default_value = True
    scale = face.new_socket("Scale", in_out="INPUT", socket_type="NodeSocketFloat")
    scale.default_value, scale.min_value, scale.max_value = _EDGE, 0.0, 10.0
    face.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")

    def node(kind: str, x: float, y: float) -> Any:
        made = group.nodes.new(kind)
        made.location = (x, y)
        return made

    def named(name: str, kind: str, y: float) -> Any:
        made = node("GeometryNodeInputNamedAttribute", -600, y)
        made.data_type = kind
        made.inputs["Name"].default_value = name
        return made.outputs["Attribute"]

    link = group.links.new
    start, end = node("NodeGroupInput", -800, 0), node("NodeGroupOutput", 600, 0)
    times = node("ShaderNodeMath", -400, -200)
    times.operation = "MULTIPLY"
    link(named(RADIUS, "FLOAT", -200), times.inputs[0])
    link(start.outputs["Scale"], times.inputs[1])
    points = node("GeometryNodeMeshToPoints", -200, 0)
    link(start.outputs["Geometry"], points.inputs["Mesh"])
    link(times.outputs[0], points.inputs["Radius"])
    ball = node("GeometryNodeMeshIcoSphere", -200, -250)
    ball.inputs["Radius"].default_value = 1.0
    ball.inputs["Subdivisions"].default_value = 2
    shaded = node("GeometryNodeSetMaterial", 0, -250)
    link(ball.outputs["Mesh"], shaded.inputs["Geometry"])
    stretch = node("ShaderNodeVectorMath", -400, -400)
    stretch.operation = "SCALE"
    link(named(SIZE, "FLOAT_VECTOR", -400), stretch.inputs[0])
    link(start.outputs["Scale"], stretch.inputs["Scale"])
    bodies = node("GeometryNodeInstanceOnPoints", 200, -200)
    link(points.outputs["Points"], bodies.inputs["Points"])
    link(shaded.outputs["Geometry"], bodies.inputs["Instance"])
    link(named(TURN, "QUATERNION", -600), bodies.inputs["Rotation"])
    link(stretch.outputs[0], bodies.inputs["Scale"])
    dots = node("GeometryNodeSetMaterial", 200, 100)
    link(points.outputs["Points"], dots.inputs["Geometry"])
    for setter in (shaded, dots):
        setter.inputs["Material"].default_value = _material()
    switch = node("GeometryNodeSwitch", 400, 0)
    switch.input_type = "GEOMETRY"
    link(start.outputs["Ellipsoids"], switch.inputs["Switch"])
    link(dots.outputs["Geometry"], switch.inputs["False"])
    link(bodies.outputs["Instances"], switch.inputs["True"])
    link(switch.outputs["Output"], end.inputs["Geometry"])
    return group
