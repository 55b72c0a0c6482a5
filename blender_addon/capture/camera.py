"""A head-space camera as a Blender camera, exactly: the inverse of ``camera_from_blender``."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from head360.errors import BadInput
from head360.rendering.cameras import Camera

from .changes import Changes
from .frame import HeadFrame

_SENSOR = 36.0  # millimetres, Blender's own
_NEAR, _FAR = 0.02, 50.0  # metres of the head, around what a picture of a head can hold
_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV axes ↔ Blender's


def place(changes: Changes, scene: Any, camera: Camera, frame: HeadFrame) -> Any:
    """Make ``camera`` the camera of ``scene`` for as long as ``changes`` lasts; returns the object.

    The scene's resolution must be set already; pixels are square.

    Raises:
        BadInput: the camera has other focal lengths across than along, in pixels.
    """
    width, height = scene.render.resolution_x, scene.render.resolution_y
    (fx, skew, cx), (_, fy, cy) = camera.intrinsics[0], camera.intrinsics[1]
    if abs(fx * width - fy * height) > 1e-6 * fx * width or skew:
        raise BadInput("The camera has no square pixels, which Blender cannot film with.")
    data = bpy.data.cameras.new("Head360 Capture")
    changes.later(lambda: bpy.data.cameras.remove(data))
    item = bpy.data.objects.new("Head360 Capture", data)
    changes.later(lambda: bpy.data.objects.remove(item))
    data.type, data.sensor_fit, data.sensor_width = "PERSP", "HORIZONTAL", _SENSOR
    data.lens = fx * _SENSOR
    # Blender counts shifts in widths here, to where the camera would have to move.
    data.shift_x, data.shift_y = 0.5 - cx, (cy - 0.5) * height / width
    data.clip_start, data.clip_end = _NEAR * frame.scale, _FAR * frame.scale
    pose = frame.world @ camera.cam2world @ _FLIP_YZ
    pose[:3, :3] /= np.linalg.norm(pose[:3, :3], axis=0)  # a camera has no size
    item.matrix_world = Matrix(pose.tolist())
    scene.collection.objects.link(item)
    scene.camera = item
    return item
