"""Fit from Photo: a photograph becomes a head; and the hair style that it wears."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.errors import BadInput, Cancelled

from .. import album, looks, properties, rig
from ..flows import Phase, in_thread
from ..session import session
from .base import (
    FlowOperator,
    is_background,
    needs_ability,
    needs_backend,
    needs_head,
    needs_object_mode,
    object_mode,
)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
TITLE = "Fit from Photo"
AUTO = "__auto__"
CONSENT = "The person who made this head stated in Blender: I may use these photographs."
_kept: dict[str, list[tuple]] = {}  # Blender does not keep the strings of dynamic items alive


@dataclass
class Outcome:
    """How the last fit went, for the panel: reports are gone after a few seconds."""

    text: str = ""
    icon: str = "NONE"
    notes: list[str] = field(default_factory=list)


outcome = Outcome()


def read_photos(paths, limits):
    """``client.Photo`` of every file. Reads files: never on the main thread.

    Raises:
        BadInput: a file cannot be read, is no picture, or is too large.
    """
    from head360.client import Photo

    if len(paths) > limits.photos:
        raise BadInput(f"Choose at most {limits.photos} photographs of one person.")
    photos = []
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput(f"{path.name} is not a photograph: choose JPEG, PNG, WebP, TIFF or BMP.")
        try:
            size = path.stat().st_size
            if size > limits.photo_bytes:
                raise BadInput(
                    f"{path.name} has {size >> 20} MiB, more than {limits.photo_bytes >> 20}: "
                    "save a smaller copy."
                )
            photos.append(Photo(path.name, path.read_bytes()))
        except OSError as error:
            raise BadInput(
                f"The photograph {path} cannot be read ({error.strerror}): choose another file."
            ) from error
    return photos


def base_model(state, wanted: str) -> str:
    """The model to fit: the one asked for, else the selected one where it can be, else the first.

    Raises:
        BadInput: there is none.
    """
    if wanted:
        return wanted
    fit = [item for item in state.models if item.kind != "gaussian" and not item.made_by]
    chosen = properties.selected_model(state)
    names = [item.name for item in fit]
    if chosen is not None and chosen.name in names:
        return chosen.name
    if not names:
        raise BadInput("No model that can be fitted is installed: press Refresh Models.")
    return names[0]


def _style_items(_self, context):
    state = context.window_manager.head360 if context is not None else None
    names = []
    if state is not None:
        for item in state.models:
            if item.kind != "gaussian" and not item.made_by:
                names = [style.name for style in item.styles]
                break
    items = [
        (AUTO, "Most Alike", "The style of the studio that looks most like the photograph"),
        (properties.BALD, "Bald", "No hair"),
        *((name, name, "") for name in names),
    ]
    _kept["styles"] = items
    return items


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


def _can_fit(cls, context) -> bool:
    """Poll: a fit may begin, with the reason when it may not."""
    if any(flow.title == TITLE for flow in session.flows):
        cls.poll_message_set("A head is being fitted: wait, or cancel it")
        return False
    return needs_ability(cls, "fit") and needs_object_mode(cls, context)


class HEAD360_OT_choose_photos(bpy.types.Operator, ImportHelper):
    bl_idname = "head360.choose_photos"
    bl_label = TITLE
    bl_description = "Make a head of the person in one photograph, or in several of one person"
    bl_options = set()  # it only asks: what it calls is the step that can be undone

    filter_glob: StringProperty(
        default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"}
    )
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN"})
    directory: StringProperty(
        name="Folder", description="Where the files are", subtype="DIR_PATH", options={"HIDDEN"}
    )

    @classmethod
    def poll(cls, context):
        return _can_fit(cls, context)

    def draw(self, context):
        column = self.layout.column()
        column.label(text="One face, open eyes, even light.")
        column.label(text="A side view helps with the ears.")

    def execute(self, context):
        # A dialog of its own, the one that dropped files get as well; it must not be this
        # operator's, whose file browser is just being closed.
        result = bpy.ops.head360.fit_photo(
            "INVOKE_DEFAULT",
            filepath=self.filepath,
            directory=self.directory,
            files=[{"name": item.name} for item in self.files],
        )
        return {"FINISHED"} if result == {"RUNNING_MODAL"} else result


class HEAD360_OT_fit_photo(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.fit_photo"
    bl_label = TITLE
    bl_description = "Make a head of the person in the photographs"
    bl_options = {"UNDO"}  # no REGISTER: the redo panel would run it synchronously

    filepath: StringProperty(
        name="Photograph",
        description="The photograph, when it is one",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", "HIDDEN"},
    )
    directory: StringProperty(
        name="Folder",
        description="Where the files are",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", "HIDDEN"},
    )
    files: CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"}
    )
    head_name: StringProperty(
        name="Name",
        description="Of the new model; the photograph's when empty",
        maxlen=60,
        options={"SKIP_SAVE"},
    )
    model: StringProperty(
        name="Model",
        description="Name of the model that is fitted; the selected one when empty",
        options={"SKIP_SAVE", "HIDDEN"},
    )
    style: EnumProperty(name="Hair", description="Hair style of the head", items=_style_items)
    face: IntProperty(
        name="Face",
        description="Which face of a group, counted by size; 0 takes the main one",
        default=0,
        min=0,
        max=100,
        options={"SKIP_SAVE"},
    )
    planes: BoolProperty(
        name="Refine Hair",
        description="Adapt the hair of the head as well; takes longer",
        options={"SKIP_SAVE"},
    )
    steps_wanted: IntProperty(
        name="Steps",
        description="Steps of the texture's inversion; 0 takes what is usual",
        default=0,
        min=0,
        max=20_000,
        options={"SKIP_SAVE"},
    )
    seed: IntProperty(
        name="Seed", description="The same seed gives the same head", min=0, options={"SKIP_SAVE"}
    )
    consent: BoolProperty(
        name="I may use this photo",
        description="It shows me, or who it shows has agreed; the statement is kept in the model",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return _can_fit(cls, context)

    def paths(self):
        """The chosen files."""
        folder = Path(bpy.path.abspath(self.directory))
        if self.directory and any(item.name for item in self.files):
            return [folder / item.name for item in self.files if item.name]
        return [Path(bpy.path.abspath(self.filepath))] if self.filepath else []

    def invoke(self, context, event):
        if not self.paths():
            bpy.ops.head360.choose_photos("INVOKE_DEFAULT")
            return {"CANCELLED"}
        if is_background():
            return self.execute(context)
        if not self.head_name:
            self.head_name = self.paths()[0].stem[:60]
        return context.window_manager.invoke_props_dialog(
            self, width=340, title=self.bl_label, confirm_text="Fit"
        )

    def draw(self, context):
        layout = self.layout
        column = layout.column(align=True)
        for path in self.paths():
            column.label(text=path.name, icon="IMAGE_DATA")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(self, "head_name")
        column.prop(self, "style")
        column.prop(self, "face")
        column.prop(self, "planes")
        layout.separator()
        layout.prop(self, "consent")
        row = layout.row()
        row.active = False
        row.label(text="It shows you, or the person has agreed.", icon="INFO")

    def execute(self, context):
        return self.confirmed(context)

    def ended(self, context, result):
        """Keep in ``outcome`` why it was CANCELLED."""
        if result == {"CANCELLED"}:
            stopped = isinstance(session.last_error, Cancelled)
            # An error stands in the red box already.
            outcome.text = "Stopped: nothing was made." if stopped else ""
            made = getattr(self, "_made", "")
            if made:  # stopped while it was being loaded
                outcome.text = f"The model {made} was made: choose it under Head."
            outcome.icon, outcome.notes = "INFO", []
            begin_stages()
        if context.area is not None:
            context.area.tag_redraw()
        return result

    def steps(self, context):
        paths = self.paths()
        if not paths:
            raise BadInput("Choose a photograph.")
        if not self.consent:
            raise BadInput('A head is fitted only after you tick "I may use this photo".')
        model = base_model(context.window_manager.head360, self.model)
        known = {AUTO: "", properties.BALD: None}
        wanted = {
            "name": self.head_name.strip() or paths[0].stem,
            "model": model,
            "style": known.get(self.style, self.style),
            "face": self.face or None,
            "steps": self.steps_wanted or None,
            "seed": self.seed,
            "planes": self.planes,
            "consent": CONSENT,
        }
        return self._fit(paths, wanted)

    def _fit(self, paths, wanted):
        from head360.protocol import tidy_name

        wanted["name"] = tidy_name(wanted["name"])
        begin_stages()
        outcome.text, outcome.notes = "", []
        limits = session.connected().welcome.limits
        yield Phase("reading the photographs", 0.0)
        photos = yield in_thread(lambda: read_photos(paths, limits))
        made = yield session.connected().fit_head(photos, **wanted), add_stage
        self._made = made.model  # lies in the models folder from now on
        yield Phase("loading the new head", 1.0)
        yield from session.models_steps()
        info, rgba = yield from looks.look_steps(made.model, None, "")
        mesh = yield session.connected().submit_head_mesh(info.head_id)
        return made, info, rgba, mesh

    def finish(self, context, result):
        made, info, rgba, mesh = result
        object_mode(context)
        head = rig.build_head(
            mesh, name=made.model, model=info.model, subject=info.subject, style=info.style
        )
        styles = [("" if name == "bald" else name, p) for name, p in made.styles]
        worn = info.style or ""
        if worn not in [name for name, _ in styles]:  # this model has none of them
            styles.insert(0, (worn, 0.0))
        for name, probability in styles:
            entry = head.head360.ranked.add()
            entry.name, entry.probability = name, probability
        rig.place_head(context, head)
        looks.show(info, rgba)
        state = context.window_manager.head360
        state.model_index = max(state.models.find(made.model), 0)
        outcome.text, outcome.icon = _summary(made), "CHECKMARK"
        likely = ", ".join(f"{name} {probability:.0%}" for name, probability in made.styles)
        outcome.notes = [*([f"The hair looks like {likely}."] if likely else []), *made.notes]
        self.report({"INFO"}, f"Fitted {head.name} in {made.seconds:.0f} s")


def _summary(made) -> str:
    """The result in one line."""
    told = [f"{made.model}: {made.seconds:.0f} s"]
    if "landmark_px" in made.facts:
        told.append(f"landmarks within {made.facts['landmark_px']:.1f} px")
    if "psnr_front" in made.facts:
        told.append(f"likeness {made.facts['psnr_front']:.1f} dB")
    return ", ".join(told)


def begin_stages() -> None:
    """Forget the stages of the fit before."""
    properties.stages.clear()
    album.forget("stage:")


def add_stage(event) -> None:
    """Show a finished stage; one without a picture is not worth a place."""
    if event.picture is None:
        return
    album.put(f"stage:{event.name}", event.picture)
    names = [name for name, _ in properties.stages]
    if event.name not in names:
        properties.stages.append((event.name, event.text))
    # The newest is shown; pictures of earlier ones are a click away.
    bpy.context.window_manager.head360_making.stage = event.name


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


class HEAD360_FH_photo(bpy.types.FileHandler):
    """Drop photographs into the 3D view, or on its sidebar, to fit a head to them."""

    bl_idname = "HEAD360_FH_photo"
    bl_label = "Fit a Head360 Head"
    bl_import_operator = "head360.fit_photo"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context):
        in_view = context.area is not None and context.area.type == "VIEW_3D"
        return in_view and HEAD360_OT_fit_photo.poll(context)


CLASSES = (
    HEAD360_OT_choose_photos,
    HEAD360_OT_fit_photo,
    HEAD360_OT_set_hair,
    HEAD360_FH_photo,
)
