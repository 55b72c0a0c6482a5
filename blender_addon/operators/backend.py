"""Start, stop, attach and install the backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.errors import BadInput, Head360Error

from .. import preferences
from ..session import session
from .base import FlowOperator, is_background, needs_backend, report_error

_INSTALLER = Path(__file__).resolve().parent.parent / "install_backend.py"
_installing: subprocess.Popen | None = None  # a cancelled one still puts back what was there
_BUNDLED = Path(__file__).resolve().parent.parent / "wheels"


def _is_free(cls, connected: str) -> bool:
    """Poll: no backend and no work, with the reason when there is."""
    if session.is_connected:
        cls.poll_message_set(connected)
        return False
    if session.flows:
        cls.poll_message_set("Work is under way: wait, or cancel it")
        return False
    return True


class HEAD360_OT_start_backend(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.start_backend"
    bl_label = "Start Backend"
    bl_description = "Start the rendering backend on this computer and connect to it"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return _is_free(cls, "A backend is connected already")

    def steps(self, context):
        return session.start_steps()

    def finish(self, context, result):
        self.report({"INFO"}, f"The backend runs on {session.device}")


class HEAD360_OT_attach_backend(FlowOperator, bpy.types.Operator, ImportHelper):
    bl_idname = "head360.attach_backend"
    bl_label = "Attach Backend"
    bl_description = "Connect to a backend that is already running, by its connection file"
    bl_options = {"REGISTER"}

    filename_ext = ".json"
    filter_glob: StringProperty(default="connection-*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return _is_free(cls, "Stop the backend first")

    def invoke(self, context, event):
        folder = preferences.runtime_folder()
        if folder is None:
            from head360.connection import default_runtime_dir

            folder = default_runtime_dir()
        self.filepath = f"{folder}{os.sep}"
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        return self.confirmed(context)

    def steps(self, context):
        path = Path(bpy.path.abspath(self.filepath)) if self.filepath else None
        # A folder: the file browser was confirmed as it opened. The newest backend will do.
        return session.attach_steps(None if path is None or path.is_dir() else path)

    def finish(self, context, result):
        self.report({"INFO"}, f"Connected to a backend on {session.device}")


class HEAD360_OT_stop_backend(bpy.types.Operator):
    bl_idname = "head360.stop_backend"
    bl_label = "Stop Backend"
    bl_description = "Stop all work, disconnect, and end the backend that was started here"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.client is None and session.backend is None:
            cls.poll_message_set("No backend is running")
            return False
        return True

    def execute(self, context):
        session.stop(wait=bpy.app.background)
        return {"FINISHED"}


class HEAD360_OT_refresh_models(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.refresh_models"
    bl_label = "Refresh Models"
    bl_description = "Ask the backend again which models are installed"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return needs_backend(cls)

    def steps(self, context):
        return session.models_steps()

    def finish(self, context, result):
        self.report({"INFO"}, f"{len(result)} models")


class HEAD360_OT_cancel_work(bpy.types.Operator):
    bl_idname = "head360.cancel_work"
    bl_label = "Cancel"
    bl_description = "Stop the work that is under way; finished frames are kept"
    bl_options = {"INTERNAL"}

    flow: IntProperty(name="Work", description="Its number; 0 stops all", options={"HIDDEN"})

    def execute(self, context):
        for flow in session.flows:
            if self.flow in (0, flow.id):
                flow.cancel()
        return {"FINISHED"}


class HEAD360_OT_install_backend(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.install_backend"
    bl_label = "Install Backend"
    bl_description = "Make a Python environment with the renderer; downloads a few gigabytes"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if _installing is not None and _installing.poll() is None and not session.flows:
            cls.poll_message_set("The cancelled installation is being taken back: wait a moment")
            return False
        return _is_free(cls, "Stop the backend first")

    def steps(self, context):
        if not bpy.app.online_access:
            raise BadInput(
                "Blender may not use the internet: allow online access in Preferences > System."
            )
        wheels = sorted(_BUNDLED.glob("head360-*.whl"))
        if not wheels:
            raise BadInput(
                "This copy of the extension carries no head360 wheel: install the released zip, "
                "or set Backend Python in the preferences."
            )
        return self._install(wheels[-1])

    @staticmethod
    def _install(wheel):
        global _installing
        from head360.launcher import clean_environment

        folder = preferences.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "install.log"
        session.log_path = log
        command = [sys.executable, str(_INSTALLER), str(folder / "backend"), str(wheel)]
        options = {}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NO_WINDOW
        with open(log, "wb") as output:
            _installing = process = subprocess.Popen(
                [*command, "--parent-pipe"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                **options,
            )
        try:
            while process.poll() is None:
                yield None
        finally:
            # At the pipe's end, also when Blender dies, it ends pip and puts back what was there.
            process.stdin.close()
        if process.returncode:
            raise Head360Error(
                "The backend could not be installed: press Reveal Log, fix the cause, try again."
            )

    def finish(self, context, result):
        self.report({"INFO"}, "The backend is installed: press Start Backend")


class HEAD360_OT_reveal_log(bpy.types.Operator):
    bl_idname = "head360.reveal_log"
    bl_label = "Reveal Log"
    bl_description = "Open the backend's log in a text editor"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        path = session.log_path
        try:
            if path is None or not path.is_file():
                raise BadInput("There is no log yet: start the backend first.")
            # Only the end: a log may have grown to megabytes.
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-2000:]
        except (Head360Error, OSError) as error:
            return report_error(self, error)
        text = bpy.data.texts.get("Head360 Log") or bpy.data.texts.new("Head360 Log")
        text.clear()
        text.write("\n".join([str(path), "", *lines]))
        if not is_background():
            self._show(context, text)
        self.report({"INFO"}, f"The log is in the text Head360 Log and at {path}")
        return {"FINISHED"}

    @staticmethod
    def _show(context, text):
        """In a text editor that is open, else in a window of its own."""
        areas = [area for window in context.window_manager.windows for area in window.screen.areas]
        area = next((area for area in areas if area.type == "TEXT_EDITOR"), None)
        if area is None:
            bpy.ops.wm.window_new()
            area = context.window_manager.windows[-1].screen.areas[0]
            area.type = "TEXT_EDITOR"
        area.spaces.active.text = text


CLASSES = (
    HEAD360_OT_start_backend,
    HEAD360_OT_attach_backend,
    HEAD360_OT_stop_backend,
    HEAD360_OT_refresh_models,
    HEAD360_OT_cancel_work,
    HEAD360_OT_install_backend,
    HEAD360_OT_reveal_log,
)
