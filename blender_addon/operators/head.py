"""Create a head; put its face back to rest."""

from __future__ import annotations

import bpy
import numpy as np
from bpy.props import StringProperty

from head360.errors import BadInput

from .. import properties, rig
from ..session import session
from .base import (
    FlowOperator,
    frame_lost,
    needs_backend,
    needs_head,
    needs_object_mode,
    object_mode,
    report_error,
)


class HEAD360_OT_create_head(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.create_head"
    bl_label = "Create Head"
    bl_description = "Add a head with the 52 ARKit shape keys at the 3D cursor"
    bl_options = {"UNDO"}  # no REGISTER: the redo panel would run it synchronously

    model: StringProperty(
        name="Model",
        description="Name of the model; the one selected in the list when empty",
        options={"SKIP_SAVE"},
    )
    subject: StringProperty(
        name="Subject", description="Who it is; the model's first when empty", options={"SKIP_SAVE"}
    )
    style: StringProperty(
        name="Hair",
        description="Hair style; the subject's own when empty, 'none' for a bald head",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return needs_backend(cls) and needs_object_mode(cls, context)

    def invoke(self, context, event):
        state = context.window_manager.head360
        chosen = properties.selected_model(state)
        if chosen is not None and not self.model:
            self.model, self.style = chosen.name, state.style
            self.subject = "" if state.subject == "NONE" else state.subject
        return self.start(context)

    def steps(self, context):
        chosen = properties.selected_model(context.window_manager.head360)
        model = self.model or (chosen.name if chosen is not None else "")
        if not model:
            raise BadInput("No model is installed: set the models folder in the preferences.")
        known = {properties.OWN_STYLE: "", properties.BALD: None, "none": None}
        style = known.get(self.style, self.style)
        return self._create(model, self.subject or None, style)

    @staticmethod
    def _create(model, subject, style):
        info = yield from session.head_steps(model, subject, style)
        mesh = yield session.connected().submit_head_mesh(info.head_id)
        return info, model, mesh

    def finish(self, context, result):
        info, model, mesh = result
        object_mode(context)
        head = rig.build_head(
            mesh, name=info.subject or "Head", model=model, subject=info.subject, style=info.style
        )
        rig.place_head(context, head)
        frame_lost(context, head)
        self.report({"INFO"}, f"Created {head.name}")


class HEAD360_OT_reset_expression(bpy.types.Operator):
    bl_idname = "head360.reset_expression"
    bl_label = "Reset Expression"
    bl_description = "Set all 52 shape keys of the head to zero"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return needs_head(cls, context)

    def execute(self, context):
        try:
            rig.set_weights(rig.active_head(context), np.zeros(52))
        except (ReferenceError, TypeError) as error:
            return report_error(self, error)
        session.message = ""
        return {"FINISHED"}


CLASSES = (HEAD360_OT_create_head, HEAD360_OT_reset_expression)
