"""Import a Live Link Face take as keyframes."""

from __future__ import annotations

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.arkit.takes import read_take
from head360.errors import BadInput, Head360Error

from .. import rig, scene
from ..session import session
from .base import needs_head, report_error


class HEAD360_OT_import_take(bpy.types.Operator, ImportHelper):
    bl_idname = "head360.import_take"
    bl_label = "Import Take"
    bl_description = "Key the head's 52 shapes from a Live Link Face CSV, at the right seconds"
    bl_options = {"REGISTER", "UNDO"}

    # Of our own: a dropped file sets it, and what an earlier import set must not count.
    filepath: StringProperty(
        name="File Path",
        description="The take to read",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", "HIDDEN"},
    )
    filename_ext = ".csv"
    filter_glob: StringProperty(default="*.csv", options={"HIDDEN"})
    start_frame: FloatProperty(
        name="Start Frame", description="Scene frame where the chosen part begins", default=1.0
    )
    first_second: FloatProperty(
        name="From",
        description="Where in the take to begin",
        default=0.0,
        min=0.0,
        subtype="TIME_ABSOLUTE",
    )
    last_second: FloatProperty(
        name="To",
        description="Where in the take to end; 0 means its end",
        default=0.0,
        min=0.0,
        subtype="TIME_ABSOLUTE",
    )
    sides: EnumProperty(
        name="Jaw/Mouth Sides",
        description="Whether the file exchanges left and right of the jaw and mouth directions",
        items=(
            ("auto", "Auto", "Decide by the header, check against the anatomy"),
            ("as_labelled", "As Labelled", "Believe the labels"),
            ("swapped", "Swapped", "Exchange them"),
        ),
        default="auto",
    )
    base: EnumProperty(
        name="Timecode Base",
        description="Frames a second that the timecode counts",
        items=(
            ("0", "Auto", "Infer it from the highest frame number"),
            ("24", "24", ""),
            ("25", "25", ""),
            ("30", "30", ""),
            ("60", "60", ""),
        ),
        default="0",
    )
    set_range: BoolProperty(
        name="Set Scene Range",
        description="Make the scene's frame range that of the take; the frame rate never changes",
        default=False,
    )

    @classmethod
    def poll(cls, context):
        return needs_head(cls, context)

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        for name in ("start_frame", "first_second", "last_second", "sides", "base", "set_range"):
            layout.prop(self, name)

    def invoke(self, context, event):
        if self.properties.is_property_set("filepath"):  # dropped on the view
            return context.window_manager.invoke_props_dialog(self)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        try:
            return self._import(context)
        except Head360Error as error:
            return report_error(self, error)

    def _import(self, context):
        head = rig.active_head(context)
        take = read_take(
            bpy.path.abspath(self.filepath), sides=self.sides, base=int(self.base) or None
        )
        last = self.last_second or take.duration
        chosen = (take.seconds >= self.first_second - 1e-9) & (take.seconds <= last + 1e-9)
        if not chosen.any():
            raise BadInput(
                f"The take lasts {take.duration:.2f} s and has nothing between "
                f"{self.first_second:.2f} and {last:.2f} s: choose a part inside it."
            )
        rate = scene.frames_per_second(context.scene)
        # Keys keep their sub-frame positions: rounding would move them by up to half a frame.
        origin = self.first_second if self.first_second > 0 else 0.0
        frames = self.start_frame + (take.seconds[chosen] - origin) * rate
        rig.key_take(head, take.name, frames, take.weights[chosen])
        if self.set_range:
            context.scene.frame_start = int(np.floor(frames[0]))
            context.scene.frame_end = int(np.ceil(frames[-1]))
        # The current frame must show the take at once, also without an animated frame change.
        current = context.scene
        current.frame_set(current.frame_current, subframe=current.frame_subframe)
        if take.head is not None:
            self.report({"INFO"}, "The take's head rotation is left out: turn the head object")
        for note in take.notes:
            self.report({"INFO"}, note)
        driven = rig.driven_shapes(head)
        if driven:
            self.report({"WARNING"}, f"{len(driven)} shapes have drivers, which win over the keys")
        span = f"frames {frames[0]:.1f} to {frames[-1]:.1f}"
        self.report({"INFO"}, f"{take.name}: {len(frames)} rows on {span}")
        session.message = ""
        return {"FINISHED"}


class HEAD360_FH_take(bpy.types.FileHandler):
    """Drop a CSV into the 3D view to import it."""

    bl_idname = "HEAD360_FH_take"
    bl_label = "Live Link Face Take"
    bl_import_operator = "head360.import_take"
    bl_file_extensions = ".csv"

    @classmethod
    def poll_drop(cls, context):
        return context.area is not None and context.area.type == "VIEW_3D"


CLASSES = (HEAD360_OT_import_take, HEAD360_FH_take)
