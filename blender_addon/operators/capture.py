"""Capture a training set of the artist's own head, and show where its face was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from bpy.props import StringProperty
from mathutils import Matrix

from head360.errors import BadInput, Cancelled, Head360Error
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF

from .. import rig
from ..capture import film, multiview
from ..capture import plan as planning
from ..capture.cast import Cast, Hair, chosen_head, find_hair
from ..capture.frame import Finder, object_matrix
from ..session import session
from .base import FlowOperator, needs_object_mode, report_error
from .sequence import output_folder

_UNSTATED = "Not stated by the artist."
_STOPPED = "Stopped: what was taken is kept; capture again to go on."
FRAME_MARK = "head360_frame"  # custom property of the objects that Show Head Frame adds


@dataclass
class Outcome:
    """How the last capture ended, for the panel: reports are gone after a few seconds."""

    text: str = ""
    icon: str = "NONE"
    folder: str = ""


outcome = Outcome()


def _noted(result: set[str], context: Any) -> set[str]:
    """Keep in ``outcome`` why a capture was CANCELLED; passes the operator's result on."""
    if result == {"CANCELLED"}:
        stopped = isinstance(session.last_error, Cancelled)
        outcome.text = _STOPPED if stopped else session.message or str(session.last_error)
        outcome.icon = "INFO" if stopped else "ERROR"
    if result <= {"CANCELLED", "FINISHED"} and context.area is not None:
        context.area.tag_redraw()
    return result


def needs_rigged_head(cls, context) -> bool:
    """Poll: there is a mesh with shape keys to work on, with the reason when there is not."""
    if chosen_head(context) is None:
        cls.poll_message_set("Select the head: a mesh with ARKit shape keys")
        return False
    return True


def update_hair(context, head) -> None:
    """List the hair of ``head``; what was ticked for the same head before stays ticked."""
    settings = context.scene.head360_capture
    same = settings.hair_of == head.name
    before = {(row.name, row.system): row.use for row in settings.hair} if same else {}
    settings.hair.clear()
    for piece, is_hair in find_hair(head, context.view_layer):
        row = settings.hair.add()
        row.name, row.system = piece.object, piece.system
        row.use = before.get((piece.object, piece.system), is_hair)
    settings.hair_of = head.name


def gather(context, head) -> Cast:
    """The cast of a capture as the settings describe it now.

    Without a list of hair for this head, what looks like hair is hair.
    """
    settings = context.scene.head360_capture
    if settings.hair_of == head.name:
        hair = [Hair(row.name, row.system) for row in settings.hair if row.use]
    else:
        hair = [piece for piece, is_hair in find_hair(head, context.view_layer) if is_hair]
    # A head that this extension made stands in head space already.
    frame = settings.frame_object or (head if rig.is_head(head) else None)
    return Cast.gather(context.scene, context.view_layer, head, hair, frame)


class HEAD360_OT_capture_training_set(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.capture_training_set"
    bl_label = "Capture Training Set"
    bl_description = (
        "Photograph the head from all sides with the scene's render engine. "
        "Esc stops; running again with the same settings goes on"
    )

    directory: StringProperty(
        name="Output",
        description="Folder of the training set; the scene's setting when empty",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        if any(flow.title == cls.bl_label for flow in session.flows):
            cls.poll_message_set("A training set is being captured: wait, or cancel it")
            return False
        return needs_rigged_head(cls, context) and needs_object_mode(cls, context)

    def invoke(self, context: Any, event: Any) -> set[str]:
        return _noted(super().invoke(context, event), context)

    def modal(self, context: Any, event: Any) -> set[str]:
        return _noted(super().modal(context, event), context)

    def steps(self, context):
        outcome.text = outcome.folder = ""
        settings = context.scene.head360_capture
        head = chosen_head(context)
        check_head(head, context)
        plan = planning.make(context.scene, head)
        cast = gather(context, head)
        root = output_folder(context, self.directory or settings.output)
        planning.check_space(root, plan)
        rights = (settings.consent or _UNSTATED, settings.licence or _UNSTATED)
        shoot = multiview.shoot if plan.layout == planning.SYNHEAD else film.shoot
        return shoot(plan, cast, root, rights)

    def finish(self, context, result):
        if result.taken:
            context.scene.head360_capture.seconds = result.seconds
        kept = f", {result.kept} kept" if result.kept else ""
        outcome.text, outcome.icon = f"{result.taken} shots taken{kept}.", "CHECKMARK"
        outcome.folder = str(result.manifest.parent)
        self.report({"INFO"}, f"{result.taken} shots taken{kept}: {outcome.folder}")


def check_head(head, context) -> None:
    """Raise BadInput when the head cannot be photographed whatever the settings."""
    keys = head.data.shape_keys
    if not keys.use_relative:
        raise BadInput(f"The shape keys of {head.name} are absolute: make them relative.")
    if head.name not in context.view_layer.objects or head.hide_render:
        raise BadInput(f"{head.name} is hidden from renders: show it first.")
    if head.hide_viewport:
        raise BadInput(f"{head.name} is disabled in viewports: enable it first.")


class HEAD360_OT_find_hair(bpy.types.Operator):
    bl_idname = "head360.find_hair"
    bl_label = "Find Hair"
    bl_description = "List particle hair, hair curves and hair meshes that belong to the head"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return needs_rigged_head(cls, context)

    def execute(self, context):
        update_hair(context, chosen_head(context))
        found = len(context.scene.head360_capture.hair)
        self.report({"INFO"}, f"{found} pieces of hair" if found else "No hair was found")
        return {"FINISHED"}


class HEAD360_OT_show_head_frame(bpy.types.Operator):
    bl_idname = "head360.show_head_frame"
    bl_label = "Show Head Frame"
    bl_description = "Add axes and a box where the face was found, to look at or to correct"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return needs_rigged_head(cls, context) and needs_object_mode(cls, context)

    def execute(self, context):
        try:
            return self._show(context)
        except Head360Error as error:
            return report_error(self, error)

    def _show(self, context):
        head = chosen_head(context)
        check_head(head, context)
        cast = Cast.gather(context.scene, context.view_layer, head, ())
        frame = Finder(cast).at()
        # One that the artist picked as frame object may have been corrected by hand: it stays.
        picked = context.scene.head360_capture.frame_object
        for item in [one for one in context.scene.objects if FRAME_MARK in one]:
            if picked is None or (item != picked and item.parent != picked):
                bpy.data.objects.remove(item)
        axes = _empty(context, "Head Frame", "ARROWS", 0.15)
        axes.matrix_world = Matrix(object_matrix(frame).tolist())
        box = _empty(context, "Head Frame Box", "CUBE", BOX_HALF)
        box.parent = axes
        box.location = rig.to_blender(np.asarray(BOX_CENTRE)).tolist()
        session.message = ""
        self.report(
            {"INFO"},
            f"A metre of the head is {frame.scale:.4g} units; the fit is "
            f"{frame.error * 1000:.1f} mm off",
        )
        return {"FINISHED"}


def _empty(context, name, kind, size):
    item = bpy.data.objects.new(name, None)
    item.empty_display_type, item.empty_display_size = kind, size
    item.show_in_front = True
    item[FRAME_MARK] = True
    context.scene.collection.objects.link(item)
    return item


def estimate(context) -> str:
    """What a capture will take, in a line for the panel; reads settings only."""
    settings = context.scene.head360_capture
    if settings.source == "FRAMES":
        span = context.scene.frame_end - context.scene.frame_start
        poses, word = span // settings.step + 1, "frames"
    elif settings.source == "TAKE":
        poses, word = 0, "moments of the take"
    else:
        poses = 1 + (52 if settings.source == "ALL" else settings.count)
        word = "poses"
    multi = settings.layout == planning.SYNHEAD
    # Until somebody looks for hair, the capture itself does: then there may be some.
    listed = settings.hair_of != ""
    hair = not listed or any(row.use for row in settings.hair)
    renders = 1 + (settings.bald + settings.mask if multi and hair else 0)
    parts = [f"{poses} {word}" if poses else word]
    if multi:
        parts.append(f"{settings.views} views")
    if renders > 1:
        parts.append(f"{renders} renders" if listed else f"up to {renders} renders")
    line = " × ".join(parts)
    if settings.seconds and poses:
        total = poses * (settings.views if multi else 1) * renders * settings.seconds
        line += f" ≈ {planning.duration(math.ceil(total))} at {settings.seconds:.1f} s each"
    return line


CLASSES = (
    HEAD360_OT_capture_training_set,
    HEAD360_OT_find_hair,
    HEAD360_OT_show_head_frame,
)
