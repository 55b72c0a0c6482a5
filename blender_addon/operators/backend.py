"""Start, stop, attach and install the backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from head360.errors import BadInput, Head360Error

from .. import preferences
from ..session import session
from .base import FlowOperator, needs_backend, report_error

_INSTALLER = Path(__file__).resolve().parent.parent / "install_backend.py"
_BUNDLED = Path(__file__).resolve().parent.parent / "wheels"


class HEAD360_OT_start_backend(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.start_backend"
    bl_label = "Start Backend"
    bl_description = "Start the rendering backend on this computer and connect to it"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.client is not None or session.flows:
            cls.poll_message_set("The backend is running, or work is under way")
            return False
        return True

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

    def invoke(self, context, event):
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        # The file browser calls execute in a window as well, where nothing may wait.
        if bpy.app.background or self._flow is not None:
            return super().execute(context)
        return self.start(context)

    def steps(self, context):
        path = Path(bpy.path.abspath(self.filepath)) if self.filepath else None
        return session.attach_steps(path)

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

    def execute(self, context):
        for flow in session.flows:
            flow.cancel()
        return {"FINISHED"}


class HEAD360_OT_install_backend(FlowOperator, bpy.types.Operator):
    bl_idname = "head360.install_backend"
    bl_label = "Install Backend"
    bl_description = "Make a Python environment with the renderer; downloads a few gigabytes"
    bl_options = {"REGISTER"}

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
        folder = preferences.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "install.log"
        session.log_path = log
        command = [sys.executable, str(_INSTALLER), str(folder / "backend"), str(wheel)]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            while process.poll() is None:
                yield None
        finally:
            if process.poll() is None:
                process.terminate()
        if process.returncode:
            raise Head360Error(
                "The backend could not be installed: press Reveal Log, fix the cause, try again."
            )

    def finish(self, context, result):
        self.report({"INFO"}, "The backend is installed: press Start Backend")


class HEAD360_OT_reveal_log(bpy.types.Operator):
    bl_idname = "head360.reveal_log"
    bl_label = "Reveal Log"
    bl_description = "Open the backend's log as a text in Blender"
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
        self.report({"INFO"}, f"The log is in the text Head360 Log and at {path}")
        return {"FINISHED"}


CLASSES = (
    HEAD360_OT_start_backend,
    HEAD360_OT_attach_backend,
    HEAD360_OT_stop_backend,
    HEAD360_OT_refresh_models,
    HEAD360_OT_cancel_work,
    HEAD360_OT_install_backend,
    HEAD360_OT_reveal_log,
)
