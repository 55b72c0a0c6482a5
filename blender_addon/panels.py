"""The Head360 tab of the sidebar. Drawing reads state only: it never asks the backend."""

from __future__ import annotations

import bpy

from head360.arkit import NAMES

from . import properties, rig
from .capture.cast import chosen_head
from .operators.base import TAB
from .operators.capture import HEAD360_OT_capture_training_set, estimate, outcome
from .operators.check_rig import EXTRA, is_current
from .scene import render_size
from .session import State, session
from .wrapping import draw_text, wrapped

_ICONS = {
    State.STOPPED: "RADIOBUT_OFF",
    State.STARTING: "SORTTIME",
    State.READY: "CHECKMARK",
    State.CRASHED: "ERROR",
}


class HEAD360_UL_models(bpy.types.UIList):
    """Installed models."""

    def draw_item(self, _context, layout, _data, item, _icon, _active, _property, _index):
        row = layout.row(align=True)
        row.label(text=item.name, icon="USER")
        kind = row.row()
        kind.alignment = "RIGHT"  # as narrow as its word: names of fitted heads are long
        kind.label(text=item.kind)


def _draw_flow(layout, context, flow):
    row = layout.row(align=True)
    known = f" {flow.fraction:.0%}" if flow.fraction else ""
    text = f"{flow.title}: {flow.phase}{known}" if flow.phase else flow.title + known
    if len(wrapped(context, text)) > 1:  # it would be clipped in the middle
        text = flow.title + known
    row.progress(factor=flow.fraction, text=text)
    row.operator("head360.cancel_work", text="", icon="X").flow = flow.id


class Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = TAB


class HEAD360_PT_backend(Sidebar, bpy.types.Panel):
    bl_label = "Backend"
    bl_order = 0

    def draw(self, context):
        layout = self.layout
        state = session.state
        text = "Not responding" if session.unresponsive else state.value
        layout.label(text=text, icon="SORTTIME" if session.unresponsive else _ICONS[state])
        if session.device:
            layout.label(text=session.device, icon="MEMORY")
        for flow in session.flows:
            _draw_flow(layout, context, flow)
        if session.message:
            box = layout.box().column(align=True)
            box.alert = True
            draw_text(box, context, session.message, "ERROR")
        row = layout.row(align=True)
        if state in (State.READY, State.STARTING):
            row.operator("head360.stop_backend", icon="PAUSE")
        else:
            row.operator("head360.start_backend", icon="PLAY")
            row.operator("head360.attach_backend", text="", icon="LINKED")
        row.operator("head360.reveal_log", text="", icon="TEXT")


class HEAD360_PT_head(Sidebar, bpy.types.Panel):
    bl_label = "Head"
    bl_order = 1

    def draw(self, context):
        layout = self.layout
        state = context.window_manager.head360
        row = layout.row()
        row.template_list(
            "HEAD360_UL_models", "", state, "models", state, "model_index", rows=2, maxrows=4
        )
        row.operator("head360.refresh_models", text="", icon="FILE_REFRESH")
        model = properties.selected_model(state)
        column = layout.column()
        column.use_property_split = True
        if model is not None:
            column.prop(state, "subject")
            column.prop(state, "style")
            if model.licence:
                column.label(text=model.licence, icon="INFO")
        layout.operator("head360.create_head", icon="ADD")


class HEAD360_PT_animation(Sidebar, bpy.types.Panel):
    bl_label = "Animation"
    bl_order = 4

    def draw(self, context):
        layout = self.layout
        head = rig.active_head(context)
        if head is not None:
            layout.label(text=head.name, icon="OUTLINER_OB_MESH")
        layout.operator("head360.import_take", icon="IMPORT")
        layout.operator("head360.reset_expression", icon="LOOP_BACK")


def _region_panel(identifier: str, label: str, first: int, last: int) -> type:
    """A collapsible sub-panel with the sliders of one region of the face."""

    def poll(_cls, context):
        return rig.active_head(context) is not None

    def draw(self, context):
        head = rig.active_head(context)
        column = self.layout.column(align=True)
        for name in NAMES[first:last]:
            block = head.data.shape_keys.key_blocks.get(name)
            if block is not None:
                column.prop(block, "value", text=name, slider=True)

    return type(
        f"HEAD360_PT_shapes_{identifier}",
        (Sidebar, bpy.types.Panel),
        {
            "bl_label": label,
            "bl_parent_id": "HEAD360_PT_animation",
            "bl_options": {"DEFAULT_CLOSED"},
            "bl_order": first,
            "poll": classmethod(poll),
            "draw": draw,
            "__module__": __name__,
        },
    )


class HEAD360_PT_render(Sidebar, bpy.types.Panel):
    bl_label = "Render"
    bl_order = 5

    def draw(self, context):
        layout = self.layout
        target = context.scene
        width, height = render_size(target)
        layout.prop(target.head360, "output", text="")
        layout.label(
            text=f"Frames {target.frame_start} to {target.frame_end}, {width} × {height}",
            icon="RENDER_ANIMATION",
        )
        layout.operator("head360.render_sequence", icon="RENDER_ANIMATION")


class HEAD360_PT_mesh(Sidebar, bpy.types.Panel):
    bl_label = "Mesh"
    bl_order = 6

    def draw(self, context):
        layout = self.layout
        column = layout.column()
        column.use_property_split = True
        column.prop(context.scene.head360, "surface_resolution")
        layout.operator("head360.extract_surface", icon="MESH_MONKEY")
        layout.operator("head360.export_mesh", icon="EXPORT")


class HEAD360_UL_hair(bpy.types.UIList):
    """Pieces of hair, each with a tick."""

    def draw_item(self, _context, layout, _data, item, _icon, _active, _property, _index):
        row = layout.row(align=True)
        row.prop(item, "use", text="")
        kind = "PARTICLES" if item.system else "OUTLINER_OB_CURVES"
        row.label(text=f"{item.name}: {item.system}" if item.system else item.name, icon=kind)


class HEAD360_UL_rig(bpy.types.UIList):
    """Blendshapes and what the rig has for them; fine ones are hidden unless asked for."""

    def draw_item(self, _context, layout, _data, item, _icon, _active, _property, _index):
        row = layout.row(align=True)
        if not item.source:
            row.label(text=item.name, icon="CANCEL")
            row.label(text=item.how)
        elif item.name == item.source:
            row.label(text=item.name, icon="CHECKMARK")
        else:
            row.prop(item, "use", text="")
            row.label(text=f"{item.source} + {item.other}" if item.other else item.source)
            row.prop(item, "target", text="", emboss=False, icon="FORWARD")

    def filter_items(self, _context, data, property_name):
        rows = getattr(data, property_name)
        shown = self.bitflag_filter_item
        fine = [row.name == row.source for row in rows]
        return [shown if data.show_all or not ok else 0 for ok in fine], []


def _split(layout):
    """Labels on the left; without dots, since nobody animates these settings."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    return column


def _draw_settings(column, settings):
    column.prop(settings, "layout")
    column.prop(settings, "source")
    if settings.source == "SOME":
        column.prop(settings, "count")
    if settings.source == "TAKE":
        column.prop(settings, "take")
    if settings.source in ("FRAMES", "TAKE"):
        column.prop(settings, "step")
    else:
        column.prop(settings, "skip_missing")
    if settings.layout == "SYNHEAD":
        column.prop(settings, "views")
    column.prop(settings, "size")
    column.prop(settings, "output")


class HEAD360_PT_training_set(Sidebar, bpy.types.Panel):
    bl_label = "Training Set"
    bl_order = 7
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        settings = context.scene.head360_capture
        column = _split(layout)
        column.prop(settings, "head")
        head = chosen_head(context)
        if settings.head is None:
            row = column.row()
            row.label(text="")
            row.label(text=head.name if head else "None", icon="OUTLINER_OB_MESH")
        _draw_settings(column, settings)
        for flow in session.flows:
            if flow.title == HEAD360_OT_capture_training_set.bl_label:
                _draw_capture(layout, context, flow)
                return
        draw_text(layout, context, estimate(context), "TIME")
        row = layout.row()
        row.scale_y = 1.3
        row.operator("head360.capture_training_set", icon="RENDER_STILL")
        if outcome.text:
            box = layout.box()
            box.alert = outcome.icon == "ERROR"
            draw_text(box, context, outcome.text, outcome.icon)
            if outcome.folder:
                box.operator("wm.path_open", text="Open Folder").filepath = outcome.folder


def _draw_capture(layout, context, flow):
    """How far a capture is; the time left on lines of its own, where nothing clips it."""
    row = layout.row(align=True)
    row.scale_y = 1.3
    row.progress(factor=flow.fraction, text=f"{flow.fraction:.0%}")
    row.operator("head360.cancel_work", text="", icon="X").flow = flow.id
    draw_text(layout, context, flow.phase or "starting", "RENDER_STILL")
    draw_text(layout, context, "Esc stops. The pictures are kept; capture again to go on.")


class _Part(Sidebar):
    bl_parent_id = "HEAD360_PT_training_set"


class HEAD360_PT_rig(_Part, bpy.types.Panel):
    bl_label = "Rig"
    bl_order = 0

    def draw(self, context):
        layout = self.layout
        rig_state = context.window_manager.head360_rig
        row = layout.row(align=True)
        row.operator("head360.check_rig", icon="VIEWZOOM")
        row.operator("head360.fix_names", icon="SORTALPHA")
        if not rig_state.head:
            return
        if not is_current(context):
            text = f"The report is about {rig_state.head} as it was: check the rig again."
            draw_text(layout, context, text, "INFO")
            return
        draw_text(layout, context, f"{rig_state.head}: {rig_state.summary}")
        shown = [row for row in rig_state.rows if rig_state.show_all or row.name != row.source]
        if shown:
            layout.template_list(
                "HEAD360_UL_rig", "", rig_state, "rows", rig_state, "index", rows=3, maxrows=8
            )
            _draw_rig_row(layout, context, rig_state)
        layout.prop(rig_state, "show_all")
        if rig_state.warnings:
            box = layout.box()
            for warning in rig_state.warnings:
                draw_text(box, context, warning.name, "ERROR")


def _draw_rig_row(layout, context, rig_state):
    """The selected line in full: a sidebar is too narrow for two long names side by side."""
    if not 0 <= rig_state.index < len(rig_state.rows):
        return
    item = rig_state.rows[rig_state.index]
    if not item.source or item.name == item.source:
        return
    column = layout.box().column()
    names = f"{item.source} + {item.other}" if item.other else item.source
    extra = item.how == EXTRA
    how = "none of the 52; type a name if it is one" if extra else item.how
    draw_text(column, context, f"{names}: {how}")
    column.prop(item, "target", text="", icon="FORWARD")


class HEAD360_PT_hair(_Part, bpy.types.Panel):
    bl_label = "Hair"
    bl_order = 1
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        settings = context.scene.head360_capture
        head = chosen_head(context)
        layout.operator("head360.find_hair", icon="VIEWZOOM")
        if head is None or settings.hair_of != head.name:
            draw_text(layout, context, "Not listed yet: a capture will look for hair by itself.")
        elif settings.hair:
            layout.template_list(
                "HEAD360_UL_hair", "", settings, "hair", settings, "hair_index", rows=2, maxrows=4
            )
        else:
            draw_text(layout, context, "No hair was found.")
        if settings.layout == "SYNHEAD":
            column = _split(layout)
            column.prop(settings, "bald")
            column.prop(settings, "mask")


class HEAD360_PT_head_frame(_Part, bpy.types.Panel):
    bl_label = "Head Frame"
    bl_order = 2
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.operator("head360.show_head_frame", icon="EMPTY_ARROWS")
        _split(layout).prop(context.scene.head360_capture, "frame_object")


class HEAD360_PT_rights(_Part, bpy.types.Panel):
    bl_label = "Colours and Rights"
    bl_order = 3
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        settings = context.scene.head360_capture
        self.layout.prop(settings, "keep_view")  # too long a label for half the width
        column = _split(self.layout)
        column.prop(settings, "consent")
        column.prop(settings, "licence")


CLASSES = (
    HEAD360_UL_models,
    HEAD360_UL_hair,
    HEAD360_UL_rig,
    HEAD360_PT_backend,
    HEAD360_PT_head,
    HEAD360_PT_animation,
    *(_region_panel(*region) for region in rig.REGIONS),
    HEAD360_PT_render,
    HEAD360_PT_mesh,
    HEAD360_PT_training_set,
    HEAD360_PT_rig,
    HEAD360_PT_hair,
    HEAD360_PT_head_frame,
    HEAD360_PT_rights,
)
