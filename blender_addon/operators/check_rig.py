"""Check a rig against ARKit's 52 shapes, and mend its names."""

from __future__ import annotations

import bpy

from head360.arkit.mapping import How
from head360.errors import BadInput, Head360Error

from .. import check_rig
from ..capture.cast import Cast, chosen_head
from ..session import session
from .base import needs_object_mode, report_error
from .capture import needs_rigged_head

EXTRA = "extra"


def fill(context, head, report) -> None:
    """Show a report in the panel."""
    rig = context.window_manager.head360_rig
    rig.head, rig.summary = head.name, report.summary
    rig.rows.clear()
    for match in report.names.matches:
        row = rig.rows.add()
        row.name, row.how = match.name, match.how.value
        row.source = match.sources[0] if match.sources else ""
        row.other = match.sources[1] if len(match.sources) == 2 else ""
        fixable = bool(match.sources) and match.how is not How.EXACT
        row.target = match.name if fixable else ""
        row.use = fixable
    for key in report.names.extra:
        row = rig.rows.add()
        row.source, row.how = key, EXTRA
    rig.index = next((k for k, row in enumerate(rig.rows) if row.use), 0)
    rig.warnings.clear()
    for sentence in report.warnings:
        rig.warnings.add().name = sentence


def is_current(context) -> bool:
    """Whether the report still tells of the chosen head and of the keys it has: undo does not."""
    rig, head = context.window_manager.head360_rig, chosen_head(context)
    if head is None or head.name != rig.head:
        return False
    keys = head.data.shape_keys
    told = {name for row in rig.rows for name in (row.source, row.other) if name}
    return told == {block.name for block in keys.key_blocks if block != keys.reference_key}


class HEAD360_OT_check_rig(bpy.types.Operator):
    bl_idname = "head360.check_rig"
    bl_label = "Check Rig"
    bl_description = "Compare the shape keys with ARKit's 52: names, effect, sides, settings"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return needs_rigged_head(cls, context) and needs_object_mode(cls, context)

    def execute(self, context):
        head = chosen_head(context)
        try:
            cast = Cast.gather(context.scene, context.view_layer, head, ())
            report = check_rig.examine(cast, head)
        except Head360Error as error:
            return report_error(self, error)
        fill(context, head, report)
        session.message = ""
        count = len(report.warnings)
        words = f"; {count} warning{'s' if count > 1 else ''}" if count else ""
        self.report({"INFO"}, f"{head.name}: {report.summary}{words}")
        return {"FINISHED"}


class HEAD360_OT_fix_names(bpy.types.Operator):
    bl_idname = "head360.fix_names"
    bl_label = "Fix Names"
    bl_description = (
        "Rename the ticked shape keys to ARKit's names and join ticked halves into a new key; "
        "animation and drivers follow"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        rig = context.window_manager.head360_rig
        if not any(row.use and row.source and row.target for row in rig.rows):
            cls.poll_message_set("Press Check Rig first, and tick what shall be mended")
            return False
        return needs_rigged_head(cls, context) and needs_object_mode(cls, context)

    def execute(self, context):
        try:
            return self._fix(context)
        except Head360Error as error:
            return report_error(self, error)

    def _fix(self, context):
        state = context.window_manager.head360_rig
        head = context.scene.objects.get(state.head)
        if head is None or head != chosen_head(context):
            raise BadInput("Another head was checked: press Check Rig again.")
        if head.library is not None or head.data.library is not None:
            raise BadInput(f"{head.name} is linked from another file: fix the names there.")
        ticked = [row for row in state.rows if row.use and row.source and row.target]
        halves = [(row.target, (row.source, row.other)) for row in ticked if row.other]
        renamed = check_rig.mend(
            head, {row.source: row.target for row in ticked if not row.other}, halves
        )
        cast = Cast.gather(context.scene, context.view_layer, head, ())
        fill(context, head, check_rig.examine(cast, head))
        session.message = ""
        joined = f", {len(halves)} joined" if halves else ""
        self.report({"INFO"}, f"{renamed} shape keys renamed{joined}: {state.summary}")
        return {"FINISHED"}


CLASSES = (HEAD360_OT_check_rig, HEAD360_OT_fix_names)
