"""Render the scene's frame range through the backend into numbered PNG files."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from bpy.props import BoolProperty, StringProperty

from head360 import files, provenance
from head360.errors import BadInput

from .. import preferences, rig, scene
from ..flows import Phase, in_thread
from ..session import session
from .base import FlowOperator, needs_backend, needs_head

_SLICE = 0.05  # seconds of frame evaluation before Blender gets to draw


def output_folder(context, given: str) -> Path:
    """The absolute output folder, proven writable.

    Raises:
        BadInput: relative to a file that was never saved, or not writable.
    """
    folder = given or context.scene.head360.output
    if folder.startswith("//") and not bpy.data.filepath:
        raise BadInput(
            "The output folder is relative to the Blender file, which is not saved yet: "
            "save the file, or choose an absolute folder."
        )
    return files.writable_folder(bpy.path.abspath(folder))


@dataclass(frozen=True)
class Place:
    """What is rendered, by name: pointers do not survive an undo."""

    scene: str
    layer: str
    head: str

    def find(self):
        """(scene, view layer, head) as they are now.

        Raises:
            BadInput: one of them was deleted or renamed.
        """
        target = bpy.data.scenes.get(self.scene)
        layer = target.view_layers.get(self.layer) if target is not None else None
        head = target.objects.get(self.head) if target is not None else None
        if layer is None or not rig.is_head(head):
            raise BadInput("The head or the scene changed meanwhile: start again.")
        return target, layer, head


def frame_steps(place):
    """Flow: ``SequenceFrame`` of every frame in the range; leaves the scene at its frame."""
    from head360.client import SequenceFrame

    collected = []
    target, layer, head = place.find()
    numbers = range(target.frame_start, target.frame_end + 1, max(target.frame_step, 1))
    with scene.kept_frame(target):
        pause = time.perf_counter() + _SLICE
        for number in numbers:
            target.frame_set(number)
            # frame_set evaluates every view layer, so this one is up to date.
            depsgraph = layer.depsgraph
            camera, _scale = scene.head_camera(target, head, depsgraph)
            weights = rig.weights(head, depsgraph)
            collected.append(SequenceFrame(number, np.array(weights), camera))
            if time.perf_counter() > pause:
                yield Phase("reading frames", len(collected) / len(numbers))
                target, layer, head = place.find()
                pause = time.perf_counter() + _SLICE
    return collected


def picture_note(info):
    """What every picture of the head ``info`` says about itself; None when it shall not."""
    if not preferences.get().provenance:
        return None
    made_by = {model.name: model.made_by for model in session.models}.get(info.model, "")
    return provenance.facts(info.model, info.subject, info.style, made_by)


def open_folder(folder, resume, head_id, frames, width, height, note=None):
    """(writer, {number: hash}, frames still to render). Reads files: never on the main thread."""
    from head360.client import SequenceWriter, parameters_hash

    writer = SequenceWriter(folder, resume=resume, note=note)
    hashes = {one.number: parameters_hash(head_id, one, width, height) for one in frames}
    missing = [one for one in frames if not writer.is_done(one.number, hashes[one.number])]
    return writer, hashes, missing


class HEAD360_OT_render_sequence(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.render_sequence"
    bl_label = "Render Sequence"
    bl_description = "Render the frame range of the active head into PNG files and show them"
    bl_options = {"UNDO"}  # no REGISTER: the redo panel would run it synchronously

    directory: StringProperty(
        name="Output",
        description="Folder for the frames; the scene's setting when empty",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )
    resume: BoolProperty(
        name="Resume", description="Keep frames that are already there and still fit", default=True
    )
    load: BoolProperty(
        name="Load Result",
        description="Load the frames as an image sequence and show it in the camera view",
        default=True,
    )

    @classmethod
    def poll(cls, context):
        if any(flow.title == cls.bl_label for flow in session.flows):
            cls.poll_message_set("A sequence is being rendered: wait, or cancel it")
            return False
        return needs_backend(cls) and needs_head(cls, context)

    def steps(self, context):
        head = rig.active_head(context)
        place = Place(context.scene.name, context.view_layer.name, head.name)
        # Complain before any work: about the camera now, about the folder now.
        scene.head_camera(context.scene, head, context.evaluated_depsgraph_get())
        folder = output_folder(context, self.directory)
        return self._render(place, folder)

    def _render(self, place, folder):
        target, _layer, head = place.find()
        width, height = scene.render_size(target)
        camera = target.camera.name
        settings = head.head360
        style = None if settings.is_bald else settings.style
        info = yield from session.head_steps(settings.model, settings.subject or None, style)
        frames = yield from frame_steps(place)
        resume, note = self.resume, picture_note(info)
        yield Phase("checking finished frames", 0.0)
        writer, hashes, missing = yield in_thread(
            lambda: open_folder(folder, resume, info.head_id, frames, width, height, note)
        )
        if missing:
            job = session.connected().render_sequence(info.head_id, missing, width, height)
            pool = ThreadPoolExecutor(1, "head360-frames")  # a frame costs two waits for the disk
            try:
                yield (
                    job,
                    lambda event: pool.submit(
                        writer.write, event.number, event.png, hashes[event.number]
                    ),
                )
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        numbers = [frame.number for frame in frames]
        return (place.scene, camera), numbers, [writer.path(number) for number in numbers]

    def finish(self, context, result):
        (scene_name, camera_name), numbers, paths = result
        target = bpy.data.scenes.get(scene_name)
        camera = target.objects.get(camera_name) if target is not None else None
        if self.load and camera is not None:
            image = scene.load_sequence(paths, numbers[0], f"{paths[0].parent.name} frames")
            scene.show_in_camera(
                camera, image, numbers[0], numbers[-1] - numbers[0] + 1, numbers[0] - 1
            )
            if len(numbers) < numbers[-1] - numbers[0] + 1:
                self.report(
                    {"WARNING"}, "The frame step leaves frames out: the camera view lacks them"
                )
        self.report({"INFO"}, f"{len(paths)} frames in {paths[0].parent}")


CLASSES = (HEAD360_OT_render_sequence,)
