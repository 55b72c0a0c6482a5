"""File > Import > Gaussian Splat, and dropping such a file on the viewport."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.errors import BadInput, Head360Error
from head360.geometry.splatfile import read_splats

from .. import compat
from ..session import session
from .base import needs_object_mode, report_error
from .splat_cloud import build_cloud


class HEAD360_OT_import_splat(bpy.types.Operator, ImportHelper):
    bl_idname = "head360.import_splat"
    bl_label = "Import Gaussian Splat"
    bl_description = "Add the Gaussians of a 3DGS PLY as an object that shows their colours"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: StringProperty(default="*.ply", options={"HIDDEN"})
    files: CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"}
    )
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    up: EnumProperty(
        name="Up",
        description="The file's axis that points up in Blender",
        items=(
            ("Y", "Y", "Head360's own files, and most viewers"),
            ("-Y", "-Y", "Files of 3-D Gaussian Splatting made from photographs"),
            ("Z", "Z", "Files that are in Blender's axes already"),
        ),
        default="Y",
    )
    faint: FloatProperty(
        name="Least Opacity",
        description="Gaussians with less opacity are left out: they are drawn as solid bodies",
        default=0.2,
        min=0.0,
        max=1.0,
    )
    ellipsoids: BoolProperty(
        name="Ellipsoids",
        description="Draw every Gaussian as the ellipsoid it is; otherwise as a round point",
        default=True,
    )

    @classmethod
    def poll(cls, context):
        return needs_object_mode(cls, context)

    def invoke(self, context, event):
        if self.directory and self.files:  # dropped on a window: no file browser
            return self.execute(context)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        names = [item.name for item in self.files if item.name]
        paths = [Path(bpy.path.abspath(self.directory)) / name for name in names]
        try:
            # All files are read before anything is added.
            clouds = [
                (path.stem, self._read(path))
                for path in paths or [Path(bpy.path.abspath(self.filepath))]
            ]
            placed = [self._add(context, *cloud) for cloud in clouds]
        except Head360Error as error:
            return report_error(self, error)
        for item in context.selected_objects:
            item.select_set(False)
        for item in placed:
            if item.visible_get():
                item.select_set(True)
        context.view_layer.objects.active = placed[-1]
        session.message = ""
        count = sum(len(item.data.vertices) for item in placed)
        self.report({"INFO"}, f"{', '.join(item.name for item in placed)}: {count:,} Gaussians")
        return {"FINISHED"}

    def _read(self, path):
        cloud = read_splats(path)
        if not (cloud.opacities >= self.faint).any():
            raise BadInput(f"Every Gaussian of {path} is fainter than Least Opacity: lower it.")
        return cloud

    def _add(self, context, name, cloud):
        made = build_cloud(cloud, name, self.up, self.faint)
        modifier = made.modifiers[0]
        sockets = {s.name: s.identifier for s in modifier.node_group.interface.items_tree}
        if not self.ellipsoids:  # the nodes' own default
            compat.set_node_input(modifier, sockets["Ellipsoids"], False)
        try:
            context.collection.objects.link(made)
        except RuntimeError as error:
            bpy.data.meshes.remove(made.data)  # takes the object along
            raise BadInput(
                "The active collection takes no objects: select another collection."
            ) from error
        return made

    @classmethod
    def register(cls):
        bpy.types.TOPBAR_MT_file_import.append(_menu)

    @classmethod
    def unregister(cls):
        bpy.types.TOPBAR_MT_file_import.remove(_menu)


def _menu(menu, _context):
    menu.layout.operator(HEAD360_OT_import_splat.bl_idname, text="Gaussian Splat (.ply)")


class HEAD360_FH_splat(bpy.types.FileHandler):
    """Drop a file on the 3-D viewport; Blender asks which importer where there are several."""

    bl_idname = "HEAD360_FH_splat"
    bl_label = "Gaussian Splat"
    bl_import_operator = HEAD360_OT_import_splat.bl_idname
    bl_file_extensions = ".ply"

    @classmethod
    def poll_drop(cls, context):
        return context.area is not None and context.area.type == "VIEW_3D"


CLASSES = (HEAD360_OT_import_splat, HEAD360_FH_splat)
