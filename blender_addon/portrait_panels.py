"""Sidebar panels of Fit from Photo and Edit by Text. Drawing reads state only."""

from __future__ import annotations

import bpy

from . import album, looks, properties, rig
from .operators.editing import DIFFUSION, PREVIEW, HEAD360_OT_edit_head
from .operators.fitting import TITLE
from .operators.outcome import outcome
from .panels import Sidebar
from .session import session
from .wrapping import draw_text

_WHOLE = 10.0  # scale of a picture as wide as the sidebar: those of stages are rows of tiles
_LARGE = 8.0  # of a portrait
_HALF = 4.6  # of two side by side


def _running(title: str):
    return next((flow for flow in session.flows if flow.title == title), None)


def _doing(flow) -> str:
    """What is being done. The newest stage's result stands below its picture already."""
    last = properties.stages[-1] if properties.stages else None
    if last is not None and flow.phase == last.text and last.number < last.count:
        return f"Working on stage {last.number + 1} of {last.count}"
    phase = flow.phase or "starting"
    return phase[:1].upper() + phase[1:]


def _draw_progress(layout, context, flow):
    """Bar, time and cross, and in a line of its own, where nothing clips it, what is being done."""
    row = layout.row(align=True)
    row.scale_y = 1.3
    minutes, seconds = divmod(int(flow.seconds), 60)
    row.progress(factor=flow.fraction, text=f"{flow.fraction:.0%}   {minutes}:{seconds:02d}")
    row.operator("head360.cancel_work", text="", icon="X").flow = flow.id
    draw_text(layout, context, _doing(flow), "TIME")
    draw_text(layout, context, "Esc stops; nothing is changed.")


def _draw_stages(layout, context):
    making = context.window_manager.head360_making
    stage = next((one for one in properties.stages if one.name == making.stage), None)
    if stage is None:
        return
    box = layout.box().column(align=True)
    box.template_icon_view(making, "stage", show_labels=True, scale=_WHOLE, scale_popup=5.0)
    draw_text(box, context, f"{stage.number} of {stage.count}, {stage.name}: {stage.text}")


def _draw_hair(layout, head):
    settings = head.head360
    column = layout.column(align=True)
    icon = album.icon(looks.look_of(settings).picture)
    if icon:
        column.template_icon(icon, scale=_LARGE)
    row = column.row(align=True)
    row.label(text="Hair", icon="STRANDS")
    text = "Bald" if settings.is_bald else settings.style or "Own Hair"
    row.operator_menu_enum("head360.set_hair", "style", text=text)


class HEAD360_PT_fit(Sidebar, bpy.types.Panel):
    bl_label = "Likeness"
    bl_order = 2

    def draw(self, context):
        layout = self.layout
        flow = _running(TITLE)
        if flow is None:
            row = layout.row()
            row.scale_y = 1.3
            row.operator("head360.choose_photos", icon="IMAGE_DATA")
        else:
            _draw_progress(layout, context, flow)
            _draw_stages(layout, context)
            return
        if outcome.text:
            draw_text(layout, context, outcome.text, outcome.icon)
            for note in outcome.notes:
                draw_text(layout, context, note, "INFO")
        refused = bool(session.message) and not outcome.text
        if refused:  # what was seen tells why
            _draw_stages(layout, context)
        head = rig.active_head(context)
        if head is not None:
            _draw_hair(layout, head)
        if properties.stages and not refused:
            header, body = layout.panel("head360_stages", default_closed=True)
            header.label(text="Stages of the Last Fit")
            if body is not None:
                _draw_stages(body, context)


def _draw_wish(layout, context):
    making = context.window_manager.head360_making
    is_text = making.editor == DIFFUSION
    layout.prop(making, "editor", text="")
    if is_text:
        layout.prop(making, "prompt", text="", icon="TEXT", placeholder="make him look older")
    elif DIFFUSION not in properties.editors and session.is_connected:
        draw_text(
            layout,
            context,
            "For a prompt of your own, set Diffusion Model in the preferences and start the "
            "backend again.",
            "INFO",
        )
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    names = ("guidance", "image_guidance") if is_text else ("strength",)
    for name in (*names, "steps", "seed"):
        column.prop(making, name)
    row = layout.row()
    row.scale_y = 1.3
    row.operator("head360.edit_head", icon="OUTLINER_OB_FONT")


def _draw_sides(layout, settings):
    """Both sides of the last edit, the one that is shown marked."""
    shown, other = looks.look_of(settings), looks.look_of(settings.other)
    before, after = (shown, other) if settings.edited == "BEFORE" else (other, shown)
    row = layout.row()
    for label, look in (("Before", before), ("After", after)):
        column = row.column(align=True)
        icon = album.icon(look.picture)
        if icon:
            column.template_icon(icon, scale=_HALF)
        mark = "RADIOBUT_ON" if look is shown else "RADIOBUT_OFF"
        column.label(text=label, icon=mark)
    layout.operator("head360.toggle_edit", icon="UV_SYNC_SELECT")


class HEAD360_PT_edit(Sidebar, bpy.types.Panel):
    bl_label = "Edit by Text"
    bl_order = 3
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        flow = _running(HEAD360_OT_edit_head.bl_label)
        if flow is None:
            _draw_wish(layout, context)
        else:
            _draw_progress(layout, context, flow)
            if album.icon(PREVIEW):
                layout.template_icon(album.icon(PREVIEW), scale=_LARGE)
            return
        head = rig.active_head(context)
        if head is not None and head.head360.edited != "NO":
            _draw_sides(layout, head.head360)


CLASSES = (HEAD360_PT_fit, HEAD360_PT_edit)
