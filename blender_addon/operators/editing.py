"""Edit by Text: a prompt or a filter changes how a head looks; and back again."""

from __future__ import annotations

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty

from head360.errors import BadInput

from .. import album, looks, rig
from ..flows import Phase
from ..session import redraw, session
from .base import FlowOperator, needs_ability, needs_head, report_error

DIFFUSION = "diffusers"
PREVIEW = "preview"


class HEAD360_OT_edit_head(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.edit_head"
    bl_label = "Edit by Text"
    bl_description = "Change how the head looks, by a prompt or a filter; a new model is made of it"
    bl_options = {"UNDO"}  # no REGISTER: the redo panel would run it synchronously

    prompt: StringProperty(
        name="Prompt",
        description="What shall change; the panel's when empty",
        options={"SKIP_SAVE"},
    )
    editor: StringProperty(
        name="Editor",
        description="What changes the head; the panel's when empty",
        options={"SKIP_SAVE"},
    )
    strength: FloatProperty(
        name="Strength",
        description="How much a filter changes; 0 takes the panel's",
        default=0.0,
        min=0.0,
        max=1.0,
        options={"SKIP_SAVE"},
    )
    steps_wanted: IntProperty(
        name="Steps",
        description="Steps of learning; 0 takes the panel's",
        default=0,
        min=0,
        max=20_000,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        if any(flow.title == cls.bl_label for flow in session.flows):
            cls.poll_message_set("A head is being edited: wait, or cancel it")
            return False
        return needs_ability(cls, "edit") and needs_head(cls, context)

    def steps(self, context):
        head = rig.active_head(context)
        asked = context.window_manager.head360_making
        editor = self.editor or asked.editor
        if not editor or editor == "NONE":
            raise BadInput("This backend has no editors: install its backend extra again.")
        prompt = self.prompt or asked.prompt
        is_text = editor == DIFFUSION
        if is_text and not prompt.strip():
            raise BadInput('Say in the prompt what to change, such as "make him look older".')
        wanted = {
            "editor": editor,
            "prompt": prompt.strip() if is_text else "",
            "strength": None if is_text else self.strength or asked.strength,
            "guidance": asked.guidance if is_text else None,
            "image_guidance": asked.image_guidance if is_text else None,
            "steps": self.steps_wanted or asked.steps or None,
            "seed": asked.seed,
        }
        return self._edit(head.name, looks.look_of(head.head360), wanted)

    @staticmethod
    def _edit(name, before, wanted):
        from head360.protocol import tidy_name

        album.forget(PREVIEW)
        yield Phase("picturing the head as it is", 0.0)
        info, rgba = yield from looks.look_steps(before.model, before.subject or None, before.style)
        looks.show(info, rgba)
        short = wanted["prompt"] or wanted["editor"].rpartition(":")[2]
        title = tidy_name(f"{before.model} {short}"[:60])
        made = yield session.connected().edit_head(info.head_id, title, **wanted), show_preview
        yield Phase("loading the edited head", 1.0)
        yield from session.models_steps()
        edited, rgba = yield from looks.look_steps(made.model, made.subject, made.style)
        return name, before, edited, rgba, made.seconds

    def finish(self, context, result):
        name, before, info, rgba, seconds = result
        album.forget(PREVIEW)
        head = looks.head_named(name, before)
        settings = head.head360
        looks.wear(settings, looks.show(info, rgba))
        looks.wear(settings.other, before)
        settings.edited = "AFTER"
        self.report({"INFO"}, f"Edited {head.name} in {seconds:.0f} s")


def show_preview(event) -> None:
    """Show what the head looks like by now."""
    if event.picture is not None:
        album.put(PREVIEW, event.picture)


class HEAD360_OT_toggle_edit(bpy.types.Operator):
    bl_idname = "head360.toggle_edit"
    bl_label = "Before/After"
    bl_description = "Show the head as it was before its last edit, or as it is after it"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not needs_head(cls, context):
            return False
        if rig.active_head(context).head360.edited == "NO":
            cls.poll_message_set("The head was never edited")
            return False
        return True

    def execute(self, context):
        settings = rig.active_head(context).head360
        try:
            shown, other = looks.look_of(settings), looks.look_of(settings.other)
            looks.wear(settings, other)
            looks.wear(settings.other, shown)
        except (ReferenceError, TypeError) as error:
            return report_error(self, error)
        settings.edited = "BEFORE" if settings.edited == "AFTER" else "AFTER"
        session.message = ""
        redraw()  # Blender does not do it for what a script or a shortcut toggles
        return {"FINISHED"}


CLASSES = (HEAD360_OT_edit_head, HEAD360_OT_toggle_edit)
