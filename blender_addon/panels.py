"""The Head360 tab of the sidebar. Drawing reads state only: it never asks the backend."""

from __future__ import annotations

import bpy

from head360.arkit import NAMES

from . import properties, rig
from .scene import render_size
from .session import State, session

_ICONS = {
    State.STOPPED: "RADIOBUT_OFF",
    State.STARTING: "SORTTIME",
    State.READY: "CHECKMARK",
    State.CRASHED: "ERROR",
}
_MESSAGE_WIDTH = 44  # characters that fit a sidebar of usual width


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > _MESSAGE_WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


class HEAD360_UL_models(bpy.types.UIList):
    """Installed models."""

    def draw_item(self, _context, layout, _data, item, _icon, _active, _property, _index):
        row = layout.row(align=True)
        row.label(text=item.name, icon="USER")
        row.label(text=item.kind)


class _Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Head360"


class HEAD360_PT_backend(_Sidebar, bpy.types.Panel):
    bl_label = "Backend"
    bl_order = 0

    def draw(self, _context):
        layout = self.layout
        state = session.state
        text = "Not responding" if session.unresponsive else state.value
        layout.label(text=text, icon="SORTTIME" if session.unresponsive else _ICONS[state])
        if session.device:
            layout.label(text=session.device, icon="MEMORY")
        for flow in session.flows:
            row = layout.row(align=True)
            phase = f"{flow.title}: {flow.phase}" if flow.phase else flow.title
            known = f" {flow.fraction:.0%}" if flow.fraction else ""
            row.progress(factor=flow.fraction, text=phase + known)
            row.operator("head360.cancel_work", text="", icon="X").flow = flow.id
        if session.message:
            box = layout.box().column(align=True)
            box.alert = True
            for index, line in enumerate(_wrapped(session.message)):
                box.label(text=line, icon="ERROR" if index == 0 else "BLANK1")
        row = layout.row(align=True)
        if state in (State.READY, State.STARTING):
            row.operator("head360.stop_backend", icon="PAUSE")
        else:
            row.operator("head360.start_backend", icon="PLAY")
            row.operator("head360.attach_backend", text="", icon="LINKED")
        row.operator("head360.reveal_log", text="", icon="TEXT")


class HEAD360_PT_head(_Sidebar, bpy.types.Panel):
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


class HEAD360_PT_animation(_Sidebar, bpy.types.Panel):
    bl_label = "Animation"
    bl_order = 2

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
        (_Sidebar, bpy.types.Panel),
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


class HEAD360_PT_render(_Sidebar, bpy.types.Panel):
    bl_label = "Render"
    bl_order = 3

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


class HEAD360_PT_mesh(_Sidebar, bpy.types.Panel):
    bl_label = "Mesh"
    bl_order = 4

    def draw(self, context):
        layout = self.layout
        column = layout.column()
        column.use_property_split = True
        column.prop(context.scene.head360, "surface_resolution")
        layout.operator("head360.extract_surface", icon="MESH_MONKEY")
        layout.operator("head360.export_mesh", icon="EXPORT")


CLASSES = (
    HEAD360_UL_models,
    HEAD360_PT_backend,
    HEAD360_PT_head,
    HEAD360_PT_animation,
    *(_region_panel(*region) for region in rig.REGIONS),
    HEAD360_PT_render,
    HEAD360_PT_mesh,
)
