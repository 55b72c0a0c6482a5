"""What the extension remembers: session state, scene settings, and the mark of a head."""

from __future__ import annotations

from typing import NamedTuple

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import album, compat

OWN_STYLE = "__own__"
BALD = "__bald__"
# Blender does not keep the strings of dynamic enum items alive: we must.
_kept_items: dict[str, list[tuple]] = {}


def _keep(name: str, items: list[tuple]) -> list[tuple]:
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


class Stage(NamedTuple):
    """A finished stage of a fit: the ``number``-th of ``count``, and what came of it."""

    name: str
    text: str
    number: int
    count: int


stages: list[Stage] = []  # of the fit that is shown
editors: dict[str, str] = {}  # of the backend, and what each does


def _stage_items(_self, _context):
    items = [
        (name, name.title(), text, album.icon(f"stage:{name}"), number)
        for number, (name, text, *_) in enumerate(stages)
    ]
    return _keep("stages", items or [("NONE", "None", "", 0, 0)])


def _editor_items(_self, _context):
    # "filter:aged" is shown as Aged.
    items = [
        (name, name.rpartition(":")[2].replace("_", " ").title(), text)
        for name, text in editors.items()
    ]
    named = [
        (name, "Prompt" if name == "diffusers" else label, text) for name, label, text in items
    ]
    return _keep("editors", named or [("NONE", "None", "The backend has no editors")])


class HEAD360_PG_name(bpy.types.PropertyGroup):
    """One name; ``name`` is inherited."""


class HEAD360_PG_model(bpy.types.PropertyGroup):
    """One installed model, as the backend describes it."""

    kind: StringProperty(name="Kind", description="How the model renders")
    licence: StringProperty(name="Licence", description="What its pictures may be used for")
    made_by: StringProperty(name="Made By", description="What made it of another model")
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


def _is_candidate(_self, item):
    return item.type == "MESH" and item.data.shape_keys is not None


class HEAD360_PG_hair(bpy.types.PropertyGroup):
    """One piece of hair of the head that is photographed; ``name`` is the object's."""

    system: StringProperty(name="System", description="Particle system; empty for a whole object")
    use: BoolProperty(
        name="Hair", description="The bald pictures go without it, and the masks tell it apart"
    )


class HEAD360_PG_capture(bpy.types.PropertyGroup):
    """What a training set of the artist's own head is made of; saved with the scene."""

    head: PointerProperty(
        name="Head",
        description="Mesh with ARKit shape keys; the active object when empty",
        type=bpy.types.Object,
        poll=_is_candidate,
    )
    frame_object: PointerProperty(
        name="Frame Object",
        description="Object that shows where the head is: origin between the ears, -Y out of the "
        "face, +Z up; found from the shape keys when empty",
        type=bpy.types.Object,
    )
    hair: CollectionProperty(type=HEAD360_PG_hair)
    hair_index: IntProperty(name="Hair", description="Selected piece of hair")
    hair_of: StringProperty(name="Hair Of", description="Head that the list was made for")
    layout: EnumProperty(
        name="Layout",
        description="How the files are arranged",
        items=(
            ("SYNHEAD", "Multi-View", "Every pose from the cameras of the rig of 72"),
            ("MONOCULAR", "Monocular", "One moving camera films a performance"),
        ),
    )
    source: EnumProperty(
        name="Poses",
        description="What the head does",
        items=(
            ("ALL", "All 52 Expressions", "The neutral and each of the 52 shapes at full weight"),
            ("SOME", "Some Expressions", "The neutral and the most telling shapes"),
            ("FRAMES", "Frame Range", "The scene's animation, frame by frame"),
            ("TAKE", "Live Link Take", "A recorded performance (.csv)"),
        ),
        default="SOME",
    )
    count: IntProperty(
        name="Expressions", description="Shapes besides the neutral", default=8, min=0, max=52
    )
    step: IntProperty(
        name="Every", description="Take every so many frames", default=1, min=1, max=1000
    )
    take: StringProperty(
        name="Take",
        description="Live Link Face recording to perform",
        subtype="FILE_PATH",
        options=compat.RELATIVE_PATH,
    )
    views: IntProperty(
        name="Views", description="Cameras of the rig around the head", default=24, min=1, max=72
    )
    size: IntProperty(
        name="Size", description="Pixels along each side", default=512, min=16, max=4096
    )
    bald: BoolProperty(
        name="Bald Twins", description="Take every picture without hair as well", default=True
    )
    mask: BoolProperty(
        name="Masks", description="Tell head and hair apart in every picture", default=True
    )
    keep_view: BoolProperty(
        name="Keep View Transform",
        description="Use the scene's view transform, look and exposure instead of plain sRGB",
    )
    skip_missing: BoolProperty(
        name="Skip Missing", description="Leave out expressions that the rig has no shape for"
    )
    output: StringProperty(
        name="Output",
        description="Folder of the training set",
        default="//training_set/",
        subtype="DIR_PATH",
        options=compat.RELATIVE_PATH,
    )
    consent: StringProperty(
        name="Likeness", description="Whose likeness it is and who agreed, for the manifest"
    )
    licence: StringProperty(
        name="Licence", description="What the pictures may be used for, for the manifest"
    )
    seconds: FloatProperty(
        name="Seconds", description="What a render took the last time", options={"SKIP_SAVE"}
    )


class HEAD360_PG_rig_row(bpy.types.PropertyGroup):
    """One line of the rig's report; ``name`` is the blendshape it is about."""

    source: StringProperty(name="Key", description="Shape key of the rig")
    other: StringProperty(name="Other Half", description="Right half of a split shape")
    how: StringProperty(name="State", description="How the shape was found")
    target: StringProperty(
        name="New Name", description="Name that the shape key gets; empty leaves it as it is"
    )
    use: BoolProperty(name="Fix", description="Do this when Fix Names is pressed")


class HEAD360_PG_rig(bpy.types.PropertyGroup):
    """What Check Rig found; lives in the window manager and is forgotten with it."""

    head: StringProperty(name="Head", description="Object that was checked")
    rows: CollectionProperty(type=HEAD360_PG_rig_row)
    index: IntProperty(name="Row", description="Selected line")
    summary: StringProperty(name="Summary", description="The report in one line")
    warnings: CollectionProperty(type=HEAD360_PG_name)
    show_all: BoolProperty(name="Show All", description="List shapes that are fine as well")


class HEAD360_PG_making(bpy.types.PropertyGroup):
    """What Fit from Photo shows and Edit by Text asks for; lives in the window manager."""

    stage: EnumProperty(
        name="Stage", description="Which stage of the fit is shown", items=_stage_items
    )
    editor: EnumProperty(name="Editor", description="What changes the head", items=_editor_items)
    prompt: StringProperty(
        name="Prompt", description='What shall change, such as "make him look older"'
    )
    strength: FloatProperty(
        name="Strength",
        description="How much a filter changes",
        default=1.0,
        min=0.05,
        max=1.0,
        subtype="FACTOR",
    )
    guidance: FloatProperty(
        name="Prompt Guidance",
        description="How closely the diffusion model follows the prompt",
        default=7.5,
        min=1.0,
        max=30.0,
    )
    image_guidance: FloatProperty(
        name="Image Guidance",
        description="How closely the diffusion model stays with the head as it is",
        default=1.5,
        min=1.0,
        max=10.0,
    )
    steps: IntProperty(
        name="Steps",
        description="Steps of learning; 0 takes what the editor needs",
        default=0,
        min=0,
        max=20_000,
    )
    seed: IntProperty(name="Seed", description="The same seed gives the same head", min=0)


class HEAD360_PG_style(bpy.types.PropertyGroup):
    """One hair style that a photograph suggested; ``name`` is the style's, empty for bald."""

    probability: FloatProperty(name="Probability", description="How likely the style is")


class HEAD360_PG_look(bpy.types.PropertyGroup):
    """Which model a head object shows, as a whole."""

    model: StringProperty(name="Model", description="Name or path of its model")
    subject: StringProperty(name="Subject", description="Trained identity")
    style: StringProperty(name="Hair", description="Hair style of the head")
    is_bald: BoolProperty(name="Bald", description="The head wears no hair")


class HEAD360_PG_object(bpy.types.PropertyGroup):
    """Who a head object is; enough to create it again on any backend."""

    is_head: BoolProperty(name="Head", description="This mesh is a Head360 head")
    model: StringProperty(name="Model", description="Name or path of its model")
    subject: StringProperty(name="Subject", description="Trained identity")
    style: StringProperty(name="Hair", description="Hair style of the head")
    is_bald: BoolProperty(name="Bald", description="The head wears no hair")
    ranked: CollectionProperty(type=HEAD360_PG_style)
    other: PointerProperty(
        name="Other Look",
        description="The head on the other side of its last edit",
        type=HEAD360_PG_look,
    )
    edited: EnumProperty(
        name="Shows",
        description="Which side of its last edit the head shows",
        items=(
            ("NO", "Never Edited", "There was no edit"),
            ("AFTER", "After", "The head as the edit made it"),
            ("BEFORE", "Before", "The head as it was before the edit"),
        ),
    )


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
        entry.made_by = info.made_by
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
    HEAD360_PG_hair,
    HEAD360_PG_capture,
    HEAD360_PG_rig_row,
    HEAD360_PG_rig,
    HEAD360_PG_making,
    HEAD360_PG_style,
    HEAD360_PG_look,
    HEAD360_PG_object,
)
_POINTERS = (
    (bpy.types.WindowManager, "head360", HEAD360_PG_session),
    (bpy.types.WindowManager, "head360_rig", HEAD360_PG_rig),
    (bpy.types.WindowManager, "head360_making", HEAD360_PG_making),
    (bpy.types.Scene, "head360", HEAD360_PG_scene),
    (bpy.types.Scene, "head360_capture", HEAD360_PG_capture),
    (bpy.types.Object, "head360", HEAD360_PG_object),
)


def attach() -> None:
    """Hang our pointers on the kinds of data-blocks."""
    for owner, name, group in _POINTERS:
        setattr(owner, name, PointerProperty(type=group))


def detach() -> None:
    """Take them off again, also when only some are there."""
    for owner, name, _group in _POINTERS:
        if hasattr(owner, name):
            delattr(owner, name)
