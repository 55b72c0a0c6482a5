"""The artist's scene in and out: cameras, image sequences, extracted surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.rendering.cameras import Camera, camera_from_blender

from . import compat, rig


def render_size(scene: Any) -> tuple[int, int]:
    """(width, height) in pixels of the scene's output, its percentage included."""
    render = scene.render
    percentage = render.resolution_percentage
    # In whole numbers, as Blender does it: 0.29 * 100 falls short of 29.
    width, height = (
        max(edge * percentage // 100, 1) for edge in (render.resolution_x, render.resolution_y)
    )
    return width, height


def frames_per_second(scene: Any) -> float:
    """Scene rate, 29.97 and the like included."""
    return scene.render.fps / scene.render.fps_base


def head_camera(scene: Any, head: Any, depsgraph: Any) -> tuple[Camera, float]:
    """The scene camera as ``head`` sees it at this moment, and the head's scale.

    Raises:
        BadInput: no camera, or a camera or head transform that a pinhole picture cannot express.
    """
    if scene.camera is None or scene.camera.type != "CAMERA":
        raise BadInput("The scene has no camera: add one and make it the active camera.")
    camera = scene.camera.evaluated_get(depsgraph)
    if camera.data.type != "PERSP":
        raise BadInput(
            f"The camera {scene.camera.name} is not a perspective camera: "
            "set its lens type to Perspective."
        )
    if camera.matrix_world.determinant() <= 0:
        raise BadInput(
            f"The camera {scene.camera.name} is mirrored or has no scale: apply its scale."
        )
    width, height = render_size(scene)
    projection = camera.calc_matrix_camera(
        depsgraph,
        x=width,
        y=height,
        scale_x=scene.render.pixel_aspect_x,
        scale_y=scene.render.pixel_aspect_y,
    )
    placed = head.evaluated_get(depsgraph).matrix_world
    try:
        return camera_from_blender(camera.matrix_world, projection, placed)
    except ValueError as error:
        raise BadInput(
            f"{head.name} cannot be rendered ({error}): "
            "give the head a uniform, positive scale, its parents included."
        ) from error


@contextmanager
def kept_frame(scene: Any) -> Iterator[None]:
    """Leave the scene at the frame and sub-frame where it was, whatever happens inside."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        with suppress(ReferenceError):  # undone or closed meanwhile: nothing to put back
            if (scene.frame_current, scene.frame_subframe) != (frame, subframe):
                scene.frame_set(frame, subframe=subframe)


def load_sequence(paths: list[Path], first_frame: int, name: str) -> Any:
    """The PNG files as one image data-block of source SEQUENCE, straight alpha, sRGB."""
    image = bpy.data.images.load(str(paths[0]), check_existing=False)
    image.name = name
    image.source = "SEQUENCE"
    image.alpha_mode = "STRAIGHT"
    image.colorspace_settings.name = "sRGB"
    image["head360_first_frame"] = first_frame
    return image


def show_in_camera(camera: Any, image: Any, first_frame: int, count: int, offset: int) -> Any:
    """Show the sequence in the camera view, in front of the scene; replaces our earlier one.

    ``offset`` is the number of the first file minus one.
    """
    data = camera.data
    for slot in list(data.background_images):
        if slot.image is not None and "head360_first_frame" in slot.image:
            data.background_images.remove(slot)
    slot = data.background_images.new()
    slot.image = image
    slot.alpha = 1.0
    slot.display_depth = "FRONT"
    slot.frame_method = "STRETCH"
    user = slot.image_user
    user.frame_start, user.frame_duration, user.frame_offset = first_frame, count, offset
    user.use_auto_refresh = True
    data.show_background_images = True
    return slot


def srgb_to_linear(values: NDArray) -> NDArray[np.float32]:
    """sRGB-encoded [0, 1] → scene linear, any shape."""
    values = np.clip(np.asarray(values, dtype=np.float32), 0.0, 1.0)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _colour_material(name: str) -> Any:
    material = bpy.data.materials.new(name)
    compat.use_nodes(material)
    tree = material.node_tree
    shader = tree.nodes.get("Principled BSDF")
    colour = tree.nodes.new("ShaderNodeVertexColor")
    colour.layer_name = "Colour"
    colour.location = (-250.0, 250.0)
    if shader is not None:
        shader.inputs["Roughness"].default_value = 0.6
        tree.links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    return material


def build_surface(surface: Any, name: str, matrix: Any) -> Any:
    """A mesh object (not linked yet) of an extracted surface, with its vertex colours.

    ``matrix`` is the head's ``matrix_world``: the surface stands where the head stands.
    """
    if len(surface.faces) == 0:
        raise BadInput("The extracted surface is empty: try a higher resolution.")
    mesh = rig.mesh_from_arrays(name, rig.to_blender(surface.vertices), surface.faces)
    layer = mesh.color_attributes.new(name="Colour", type="FLOAT_COLOR", domain="POINT")
    colours = np.ones((len(surface.vertices), 4), dtype=np.float32)
    colours[:, :3] = srgb_to_linear(surface.colours)
    layer.data.foreach_set("color", colours.ravel())
    mesh.color_attributes.active_color = layer
    mesh.materials.append(_colour_material(name))
    placed = bpy.data.objects.new(name, mesh)
    placed.matrix_world = matrix
    return placed
