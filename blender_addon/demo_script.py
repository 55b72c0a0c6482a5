"""The demo inside Blender: only the extension's own operators, in the order an artist would.

``head360 demo`` runs this file with a Python that has bpy, or in a background Blender, and hands
it one JSON argument. It leaves a JSON report: what was made, or one sentence why not.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import bpy

CHECKOUT = Path(__file__).resolve().parents[1]
# scripts/blender_env.sh puts there what a Blender from the PATH lacks.
SITE = CHECKOUT / ".venv-blender" / "site"
sys.path[:0] = [str(path) for path in (SITE, CHECKOUT, CHECKOUT / "backend") if path.is_dir()]

HEIGHT = 1.6  # where the head floats above the floor, metres
ORBIT_DEG = 35.0
FOV_DEG = 20.0


def operator(function: Any, **arguments: Any) -> None:
    """Call an operator; Blender turns its ERROR report into a RuntimeError with that text."""
    if function(**arguments) != {"FINISHED"}:
        raise RuntimeError(f"{function.idname_py()} did not finish")


def set_stage(job: dict[str, Any]) -> Any:
    """Size, rate, range, light and backdrop of an empty scene."""
    from blender_addon import compat

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x = scene.render.resolution_y = job["size"]
    scene.render.resolution_percentage = 100
    scene.render.fps, scene.render.fps_base = job["fps"], 1.0
    scene.frame_start, scene.frame_end = 1, job["frames"]
    # The frames are finished pictures: the film-like default would change their colours.
    scene.view_settings.view_transform = "Standard"
    world = bpy.data.worlds.new("Studio")
    scene.world = world
    compat.use_nodes(world)
    background = world.node_tree.nodes.get("Background")
    if background is None:
        background = world.node_tree.nodes.new("ShaderNodeBackground")
    background.inputs["Color"].default_value = (0.55, 0.58, 0.62, 1.0)
    for name, energy, location in (
        ("Key", 30.0, (-1.0, -1.4, HEIGHT + 0.8)),
        ("Fill", 10.0, (1.3, -1.0, HEIGHT + 0.2)),
        ("Rim", 25.0, (0.6, 1.2, HEIGHT + 0.9)),
    ):
        light = bpy.data.lights.new(name, "AREA")
        light.energy, light.size = energy, 0.8
        lamp = bpy.data.objects.new(name, light)
        lamp.location = location
        scene.collection.objects.link(lamp)
        aim(lamp)
    return scene


def aim(item: Any) -> None:
    """Turn a light to the head."""
    from mathutils import Vector

    toward = Vector((0.0, 0.0, HEIGHT)) - item.location
    item.rotation_euler = toward.to_track_quat("-Z", "Y").to_euler()


def add_camera(scene: Any) -> Any:
    """A portrait camera that swings gently around the face."""
    from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, HEAD_TO_BLENDER

    centre = HEAD_TO_BLENDER[:3, :3] @ BOX_CENTRE
    pivot = bpy.data.objects.new("Camera Pivot", None)
    pivot.empty_display_size = 0.05
    pivot.location = (centre[0], centre[1], centre[2] + HEIGHT)
    data = bpy.data.cameras.new("Camera")
    data.sensor_width = 36.0
    data.lens = 18.0 / math.tan(math.radians(FOV_DEG) / 2)
    data.clip_start = 0.05
    camera = bpy.data.objects.new("Camera", data)
    distance = BOX_HALF * 1.08 / math.tan(math.radians(FOV_DEG) / 2)
    camera.location = (0.0, -distance, 0.0)
    camera.rotation_euler = (math.pi / 2, 0.0, 0.0)
    camera.parent = pivot
    scene.collection.objects.link(pivot)
    scene.collection.objects.link(camera)
    scene.camera = camera
    span = max(scene.frame_end - scene.frame_start, 1)
    for part in range(9):
        # A full swing: front, subject's left, front, subject's right, front; it loops.
        angle = ORBIT_DEG * math.sin(part / 8 * 2 * math.pi)
        pivot.rotation_euler = (math.radians(-4.0), 0.0, math.radians(angle))
        pivot.keyframe_insert("rotation_euler", frame=scene.frame_start + span * part / 8)
    return camera


def play(job: dict[str, Any]) -> dict[str, Any]:
    """Everything the demo shows; returns the report."""
    import blender_addon
    from blender_addon.session import session
    from head360.errors import BadInput

    missing = [name for name in ("zmq", "msgspec") if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"The Python of this Blender lacks {' and '.join(missing)}: run `make setup` and let "
            "the demo use the bpy module, or install them there."
        )
    out = Path(job["out"])
    blender_addon.register()
    try:
        scene = set_stage(job)
        operator(bpy.ops.head360.start_backend)
        device = session.device
        scene.cursor.location = (0.0, 0.0, HEIGHT)
        operator(bpy.ops.head360.create_head, model=job["model"])
        head = bpy.context.view_layer.objects.active
        camera = add_camera(scene)
        operator(
            bpy.ops.head360.import_take,
            filepath=job["take"],
            start_frame=1.0,
            first_second=job["first_second"],
            # A little longer than the range, so that the last frame is not past the last key.
            last_second=job["first_second"] + job["length"] + 0.1,
        )
        frames = out / "frames"
        operator(bpy.ops.head360.render_sequence, directory=str(frames), resume=False)

        scene.frame_set(max(job["frames"] // 3, 1))
        operator(bpy.ops.head360.extract_surface)
        surface = bpy.context.selected_objects[0]
        glb = out / "head.glb"
        operator(bpy.ops.head360.export_mesh, filepath=str(glb))
        # Side by side, so that both the rig and the neural surface can be seen.
        surface.location.x += 0.5
        scene.frame_set(1)
        scene.head360.output = "//frames/"
        look_through_camera()
        blend = save(out / "scene.blend")
        report = {
            "out": str(out),
            "frames": [str(frames / f"{n:04d}.png") for n in range(1, job["frames"] + 1)],
            "mesh": str(glb),
            "vertices": len(surface.data.vertices),
            "blend": str(blend),
            "take": job["take"],
            "blender": bpy.app.version_string,
            "device": device,
            "head": head.name,
        }
        check_file(blend, head.name, camera.name)
        return report
    finally:
        blender_addon.unregister()


def look_through_camera() -> None:
    """Open the file where the rendered frames are seen: in the camera view."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                area.spaces[0].region_3d.view_perspective = "CAMERA"
                area.spaces[0].shading.color_type = "VERTEX"  # the surface in its own colours


def save(target: Path) -> Path:
    """Save the scene whole or not at all, with paths relative to it."""
    partial = target.with_name(f".{target.stem}.partial.blend")
    for image in bpy.data.images:
        if image.source == "SEQUENCE":
            image.filepath = f"//frames/{Path(image.filepath).name}"
    bpy.ops.wm.save_as_mainfile(
        filepath=str(partial), compress=True, copy=True, relative_remap=False
    )
    os.replace(partial, target)
    return target


def check_file(path: Path, head: str, camera: str) -> None:
    """Open the saved file again: it must hold the head, its keys and the frames."""
    bpy.ops.wm.open_mainfile(filepath=str(path))
    keys = bpy.data.objects[head].data.shape_keys
    if len(keys.key_blocks) != 53 or keys.animation_data.action is None:
        raise RuntimeError("The saved Blender file lost the head's shapes: run the demo again.")
    slot = bpy.data.cameras[bpy.data.objects[camera].data.name].background_images[0]
    if not Path(bpy.path.abspath(slot.image.filepath)).is_file():
        raise RuntimeError("The saved Blender file lost its frames: run the demo again.")


def main() -> int:
    """Run the job given as JSON; leave the report (an error as sentence and wire code)."""
    from head360.errors import Head360Error

    job = json.loads(sys.argv[-1])
    try:
        report, code = play(job), 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: it becomes the report
        traceback.print_exc(file=sys.stderr)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        sentence = (lines or [type(error).__name__])[-1].removeprefix("Error: ")
        from blender_addon.session import session

        cause = session.last_error or error  # a RuntimeError of bpy.ops has lost its kind
        kind = type(cause) if isinstance(cause, Head360Error) else Head360Error
        report, code = {"error": sentence, "code": kind.code}, kind.exit_code
    Path(job["report"]).write_text(json.dumps(report), encoding="utf-8")
    return code


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Some bpy modules hang or crash in their exit handlers.
    os._exit(status)
