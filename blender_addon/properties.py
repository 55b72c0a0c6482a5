"""What the extension remembers: session state, scene settings, and the mark of a head."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import compat

OWN_STYLE = "__own__"
BALD = "__bald__"
# Blender does not keep the strings of dynamic enum items alive: we must.
_kept_items: dict[str, list[tuple[str, str, str]]] = {}


def _keep(name: str, items: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    _kept_items[name] = items
    return items


def _subject_items(self, _context):
    model = selected_model(self)
    names = [item.name for item in model.subjects] if model else []
    return _keep("subjects", [(name, name, "") for name in names] or [("NONE", "None", "")])


def _style_items(self, _context):
    model = selected_model(self)
    names = [item.name for item in model.styles] if model else []
    own = (OWN_STYLE, "Own Hair", "The hair the subject was trained with")
    bald = (BALD, "Bald", "No hair")
    return _keep("styles", [own, *((name, name, "") for name in names), bald])


class HEAD360_PG_name(bpy.types.PropertyGroup):
    """One name; ``name`` is inherited."""


class HEAD360_PG_model(bpy.types.PropertyGroup):
    """One installed model, as the backend describes it."""

    kind: StringProperty(name="Kind", description="How the model renders")
    licence: StringProperty(name="Licence", description="What its pictures may be used for")
    subjects: CollectionProperty(type=HEAD360_PG_name)
    styles: CollectionProperty(type=HEAD360_PG_name)


class HEAD360_PG_session(bpy.types.PropertyGroup):
    """Connection and progress; lives in the window manager, so it is neither saved nor undone."""

    models: CollectionProperty(type=HEAD360_PG_model)
    model_index: IntProperty(
        name="Model", description="Model that a new head uses", options={"SKIP_SAVE"}
    )
    subject: EnumProperty(name="Subject", description="Who the new head is", items=_subject_items)
    style: EnumProperty(name="Hair", description="Hair of the new head", items=_style_items)


class HEAD360_PG_scene(bpy.types.PropertyGroup):
    """Settings that belong to a scene and are saved with it."""

    output: StringProperty(
        name="Output",
        description="Folder for rendered frames",
        default="//head360/",
        subtype="DIR_PATH",
        options=compat.RELATIVE_PATH,
    )
    surface_resolution: IntProperty(
        name="Resolution",
        description="Cells along each edge of the box in which the surface is searched",
        default=160,
        min=32,
        max=512,
    )


class HEAD360_PG_object(bpy.types.PropertyGroup):
    """Who a head object is; enough to create it again on any backend."""

    is_head: BoolProperty(name="Head", description="This mesh is a Head360 head")
    model: StringProperty(name="Model", description="Name or path of its model")
    subject: StringProperty(name="Subject", description="Trained identity")
    style: StringProperty(name="Hair", description="Hair style of the head")
    is_bald: BoolProperty(name="Bald", description="The head wears no hair")


def selected_model(session):
    """The chosen entry of the model list, or None."""
    if 0 <= session.model_index < len(session.models):
        return session.models[session.model_index]
    return None


def fill_models(session, infos) -> None:
    """Show what the backend has; keeps the selection where the name survives."""
    before = selected_model(session)
    name = before.name if before else ""
    session.models.clear()
    for info in infos:
        entry = session.models.add()
        entry.name, entry.kind, entry.licence = info.name, info.kind, info.licence
        for subject in info.subjects:
            entry.subjects.add().name = subject
        for style in info.styles:
            entry.styles.add().name = style
    session.model_index = max(session.models.find(name), 0)


CLASSES = (
    HEAD360_PG_name,
    HEAD360_PG_model,
    HEAD360_PG_session,
    HEAD360_PG_scene,
    HEAD360_PG_object,
)
_POINTERS = (
    (bpy.types.WindowManager, HEAD360_PG_session),
    (bpy.types.Scene, HEAD360_PG_scene),
    (bpy.types.Object, HEAD360_PG_object),
)


def attach() -> None:
    """Hang one pointer on each kind of data-block."""
    for owner, group in _POINTERS:
        owner.head360 = PointerProperty(type=group)


def detach() -> None:
    """Take them off again, also when only some are there."""
    for owner, _group in _POINTERS:
        if hasattr(owner, "head360"):
            del owner.head360
