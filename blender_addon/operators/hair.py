"""Change Hair: another hair style for a head, the one that its photograph suggests first."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty

from head360.errors import BadInput

from .. import looks, properties, rig
from .base import FlowOperator, needs_backend, needs_head

_kept: dict[str, list[tuple]] = {}  # Blender does not keep the strings of dynamic items alive


def _ranked_items(_self, context):
    """Styles of the active head's model; those that its photograph suggested come first."""
    head = rig.active_head(context) if context is not None else None
    items = []
    if head is not None:
        state = context.window_manager.head360
        model = state.models.get(head.head360.model)
        known = [style.name for style in model.styles] if model is not None else []
        likely = {entry.name or properties.BALD: entry.probability for entry in head.head360.ranked}
        ranked = [name for name in likely if name in known or name == properties.BALD]
        for name in [*ranked, *(name for name in [properties.BALD, *known] if name not in ranked)]:
            label = "Bald" if name == properties.BALD else name
            chance = likely.get(name)
            if chance is None:
                items.append((name, label, ""))
            else:
                share = f"  {chance:.0%}" if chance else "  nearest"
                items.append((name, label + share, "As in the photograph"))
    _kept["ranked"] = items or [("NONE", "None", "")]
    return _kept["ranked"]


class HEAD360_OT_set_hair(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.set_hair"
    bl_label = "Change Hair"
    bl_description = "Give the head another hair style; the photograph's likeliest come first"
    bl_options = {"UNDO"}

    style: EnumProperty(
        name="Hair",
        description="Hair style of the head",
        items=_ranked_items,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return needs_head(cls, context) and needs_backend(cls)

    def steps(self, context):
        head = rig.active_head(context)
        if self.style in ("", "NONE"):
            raise BadInput("The backend does not know the head's model: press Refresh Models.")
        style = None if self.style == properties.BALD else self.style
        return self._change(head.name, looks.look_of(head.head360), style)

    @staticmethod
    def _change(name, before, style):
        info, rgba = yield from looks.look_steps(before.model, before.subject or None, style)
        return name, before, info, rgba

    def finish(self, context, result):
        name, before, info, rgba = result
        head = looks.head_named(name, before)
        look = looks.show(info, rgba)
        looks.wear(head.head360, look)
        self.report({"INFO"}, f"{head.name} wears {look.style or 'no hair'}")


CLASSES = (HEAD360_OT_set_hair,)
