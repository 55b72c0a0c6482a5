"""Extract the neural surface as a mesh, and write meshes as GLB."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty
from bpy_extras.io_utils import ExportHelper

from head360 import files
from head360.errors import BadInput, Head360Error

from .. import rig, scene
from ..session import session
from .base import (
    FlowOperator,
    needs_backend,
    needs_head,
    needs_object_mode,
    object_mode,
    report_error,
)


class HEAD360_OT_extract_surface(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.extract_surface"
    bl_label = "Extract Surface"
    bl_description = "Add the neural surface, hair included, as a mesh with vertex colours"
    bl_options = {"UNDO"}  # no REGISTER: the redo panel would run it synchronously

    resolution: IntProperty(
        name="Resolution",
        description="Cells along each edge of the search box; 0 takes the scene's setting",
        default=0,
        min=0,
        max=512,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        if not needs_object_mode(cls, context):
            return False
        return needs_backend(cls) and needs_head(cls, context)

    def steps(self, context):
        head = rig.active_head(context)
        depsgraph = context.evaluated_depsgraph_get()
        weights = rig.weights(head, depsgraph)
        matrix = head.evaluated_get(depsgraph).matrix_world.copy()
        resolution = self.resolution or context.scene.head360.surface_resolution
        return self._extract(head.head360, f"{head.name} Surface", weights, matrix, resolution)

    @staticmethod
    def _extract(settings, name, weights, matrix, resolution):
        style = None if settings.is_bald else settings.style
        info = yield from session.head_steps(settings.model, settings.subject or None, style)
        surface = yield session.connected().extract_surface(info.head_id, weights, resolution)
        return surface, name, matrix

    def finish(self, context, result):
        object_mode(context)
        placed = scene.build_surface(*result)
        try:
            context.collection.objects.link(placed)
        except RuntimeError as error:
            mesh, materials = placed.data, list(placed.data.materials)
            bpy.data.objects.remove(placed)
            bpy.data.meshes.remove(mesh)
            for material in materials:
                bpy.data.materials.remove(material)
            raise BadInput(
                "The active collection takes no objects: select another collection."
            ) from error
        for item in context.selected_objects:
            item.select_set(False)
        if placed.visible_get():
            placed.select_set(True)
        self.report({"INFO"}, f"{placed.name}: {len(placed.data.vertices)} vertices")


class HEAD360_OT_export_mesh(bpy.types.Operator, ExportHelper):
    bl_idname = "head360.export_mesh"
    bl_label = "Export GLB"
    bl_description = "Write the selected meshes, shape keys and vertex colours included, as GLB"
    bl_options = {"REGISTER"}

    filename_ext = ".glb"
    filter_glob: StringProperty(default="*.glb", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        if not any(item.type == "MESH" for item in context.selected_objects):
            cls.poll_message_set("Select a mesh, such as an extracted surface")
            return False
        return True

    def execute(self, context):
        target = Path(bpy.path.abspath(self.filepath)).with_suffix(".glb")
        try:
            if not hasattr(bpy.types, "EXPORT_SCENE_OT_gltf"):
                raise BadInput("Blender's glTF exporter is off: enable glTF 2.0 in Add-ons.")
            files.writable_folder(target.parent)
            self._write(target)
        except (Head360Error, RuntimeError) as error:
            return report_error(self, error)
        session.message = ""
        self.report({"INFO"}, f"Wrote {target}")
        return {"FINISHED"}

    @staticmethod
    def _write(target: Path) -> None:
        # The exporter writes in place and appends the suffix itself: give it a name of ours with
        # that suffix, and rename when the file is whole.
        partial = target.with_name(f".{target.stem}.partial.glb")
        try:
            bpy.ops.export_scene.gltf(
                filepath=str(partial),
                export_format="GLB",
                use_selection=True,
                export_vertex_color="MATERIAL",
                export_animations=False,
            )
            with files.atomic_path(target) as temporary:
                partial.replace(temporary)
        finally:
            partial.unlink(missing_ok=True)


CLASSES = (HEAD360_OT_extract_surface, HEAD360_OT_export_mesh)
