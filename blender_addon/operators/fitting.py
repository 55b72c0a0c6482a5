"""Fit from Photo: a photograph becomes a head."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.errors import BadInput, Cancelled, Head360Error

from .. import looks, properties, rig
from ..flows import Phase, in_thread
from ..session import session
from .base import (
    FlowOperator,
    frame_lost,
    is_background,
    needs_ability,
    needs_object_mode,
    object_mode,
    show_tab,
)
from .outcome import add_stage, begin_stages, hair_note, outcome, summary
from .photographs import SUFFIXES, read_photos, spoken

TITLE = "Fit from Photo"
AUTO = "__auto__"
CONSENT = "The person who made this head stated in Blender: I may use these photographs."
_kept: dict[str, list[tuple]] = {}  # Blender does not keep the strings of dynamic items alive


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
    _asked = _unseen = False  # the dialog was open; the tab is still to be opened

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
        description="Which face of a group, counted from the left; 0 takes the main one",
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
    again: BoolProperty(
        name="Again",
        description="The dialog was confirmed without the tick that it needs",
        options={"SKIP_SAVE", "HIDDEN"},
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
        self._asked = True
        return context.window_manager.invoke_props_dialog(
            self, width=340, title=self.bl_label, confirm_text="Fit"
        )

    def draw(self, context):
        layout = self.layout
        column = layout.column(align=True)
        paths = self.paths()
        for path in paths:
            column.label(text=path.name, icon="IMAGE_DATA")
        if len(paths) > 1:
            column.label(text="All of one person, the first from the front.", icon="INFO")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(self, "head_name")
        column.prop(self, "style")
        column.prop(self, "face")
        column.prop(self, "planes")
        layout.separator()
        missing = self.again and not self.consent
        row = layout.row()
        row.alert = missing
        text = "I may use these photos" if len(paths) > 1 else None
        row.prop(self, "consent", text=text)
        row = layout.row()
        row.active = missing
        told = "Tick this: it shows you, or who it shows has agreed."
        row.label(
            text=told if missing else "It shows you, or the person has agreed.",
            icon="ERROR" if missing else "INFO",
        )

    def execute(self, context):
        if self._asked and not self.consent:
            return self._ask_again()
        result = self.confirmed(context)
        self._unseen = result == {"RUNNING_MODAL"}
        return result

    def _ask_again(self):
        """The same dialog with the same answers: who forgot one tick keeps the others."""
        given = ("filepath", "directory", "head_name", "model", "style", "face", "planes")
        bpy.ops.head360.fit_photo(
            "INVOKE_DEFAULT",
            again=True,
            files=[{"name": item.name} for item in self.files],
            steps_wanted=self.steps_wanted,
            seed=self.seed,
            **{name: getattr(self, name) for name in given},
        )
        return {"CANCELLED"}

    def modal(self, context, event):
        # Who dropped a photograph on a view without the sidebar would not see how far it is.
        if self._unseen and event.type == "TIMER":
            self._unseen = not show_tab(context)
        return super().modal(context, event)

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
            if stopped:  # what was refused may be seen in the pictures: which face has which number
                begin_stages()
        return result

    def steps(self, context):
        begin_stages()
        outcome.text, outcome.notes = "", []
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
        limits = session.connected().welcome.limits
        yield Phase("reading the photographs", 0.0)
        photos = yield in_thread(lambda: read_photos(paths, limits))
        try:
            made = yield session.connected().fit_head(photos, **wanted), add_stage
        except Cancelled:
            raise
        except Head360Error as error:
            raise type(error)(spoken(str(error))) from error
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
        frame_lost(context, head)
        looks.show(info, rgba)
        state = context.window_manager.head360
        state.model_index = max(state.models.find(made.model), 0)
        outcome.text, outcome.icon = summary(made), "CHECKMARK"
        model = state.models[state.model_index]
        outcome.notes = hair_note(made.styles, [style.name for style in model.styles])
        outcome.notes += [spoken(note) for note in made.notes]
        self.report({"INFO"}, f"Fitted {head.name} in {made.seconds:.0f} s")


class HEAD360_FH_photo(bpy.types.FileHandler):
    """Drop photographs into the 3D view, or on its sidebar, to fit a head to them.

    Blender asks whether they are meant for this or for an empty. While a head is being fitted, or
    in Edit Mode, the choice is still offered, greyed and with the reason: without it the
    photograph would at once become an empty that nobody wanted.
    """

    bl_idname = "HEAD360_FH_photo"
    bl_label = "Fit a Head360 Head"
    bl_import_operator = "head360.fit_photo"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context):
        in_view = context.area is not None and context.area.type == "VIEW_3D"
        return in_view and needs_ability(HEAD360_OT_fit_photo, "fit")


CLASSES = (
    HEAD360_OT_choose_photos,
    HEAD360_OT_fit_photo,
    HEAD360_FH_photo,
)
