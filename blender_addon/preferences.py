"""Preferences: where the backend's Python, the models and the log are."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from head360.errors import BadInput

from .install_backend import COMPLETE

PACKAGE = __package__  # the extension's name in this Blender; sub-packages take it from here
LOGGERS = (PACKAGE, "head360")
LOG_LEVELS = ("ERROR", "WARNING", "INFO", "DEBUG")
_DEFAULTS = {
    "backend_python": "",
    "models_folder": "",
    "runtime_folder": "",
    "diffusion": "",
    "autostart": False,
    "provenance": True,
    "log_level": "WARNING",
}


def apply_log_level(_settings: Any = None, _context: Any = None) -> None:
    """Make the extension and the client log as much as the preferences say."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(get().log_level)


class HEAD360_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = PACKAGE

    backend_python: StringProperty(
        name="Backend Python",
        description="Python that has head360 with its backend extra; empty: the installed backend",
        subtype="FILE_PATH",
    )
    models_folder: StringProperty(
        name="Models", description="Folder with more model packages", subtype="DIR_PATH"
    )
    runtime_folder: StringProperty(
        name="Runtime Folder",
        description="Private folder for the connection file and the log; empty: the system's",
        subtype="DIR_PATH",
    )
    diffusion: StringProperty(
        name="Diffusion Model",
        description="For Edit by Text with a prompt: folder of an InstructPix2Pix model, or the "
        "hub name of one that this computer has; the backend takes it when it starts",
    )
    autostart: BoolProperty(
        name="Start with Blender", description="Start the backend when Blender starts"
    )
    provenance: BoolProperty(
        name="Mark Pictures",
        description="Write into rendered PNG files that they are synthetic, and of which model",
        default=True,
    )
    log_level: EnumProperty(
        name="Log",
        description="How much the extension writes to Blender's console",
        items=[(level, level.title(), "") for level in LOG_LEVELS],
        default="WARNING",
        update=apply_log_level,
    )

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        column = layout.column()
        for name in _DEFAULTS:
            column.prop(self, name)
        row = layout.row()
        row.operator("head360.install_backend", icon="IMPORT")
        row.operator("head360.reveal_log", icon="TEXT")


def get() -> Any:
    """The preferences; the defaults while the extension is registered without being enabled."""
    entry = bpy.context.preferences.addons.get(PACKAGE)
    if entry is None or entry.preferences is None:
        return SimpleNamespace(**_DEFAULTS)
    return entry.preferences


def user_folder() -> Path:
    """A folder of our own that Blender keeps across updates; the add-on's may be read-only."""
    try:
        return Path(bpy.utils.extension_path_user(PACKAGE, create=True))
    except ValueError:  # running from a checkout, not as an extension
        base = bpy.utils.user_resource("DATAFILES") or tempfile.gettempdir()
        return Path(base) / "head360"


def venv_python() -> Path | None:
    """Python of the environment that Install Backend made; None before it is complete."""
    folder = user_folder() / "backend"
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    python = folder.joinpath(*inside)
    return python if (folder / COMPLETE).is_file() and python.is_file() else None


def backend_python() -> Path:
    """The interpreter for the backend.

    Raises:
        BadInput: there is none.
    """
    chosen = get().backend_python or os.environ.get("HEAD360_BACKEND_PYTHON", "")
    if chosen:
        path = Path(bpy.path.abspath(chosen))
        if not path.is_file():
            raise BadInput(
                f"The backend's Python {path} does not exist: correct it in the preferences."
            )
        return path
    installed = venv_python()
    if installed is not None:
        return installed
    raise BadInput(
        "No backend is installed: press Install Backend in the preferences of the extension, "
        "or set Backend Python there."
    )


def diffusion_model() -> str:
    """Folder or hub name of the model behind edits by text, "" for none."""
    chosen = get().diffusion.strip()
    path = bpy.path.abspath(chosen)
    return str(Path(path).expanduser()) if chosen.startswith(("//", "~")) else chosen


def runtime_folder() -> Path | None:
    """Where the connection file lies; None for the system's own place."""
    chosen = get().runtime_folder or os.environ.get("HEAD360_RUNTIME_DIR", "")
    return Path(bpy.path.abspath(chosen)) if chosen else None


CLASSES = (HEAD360_AP_preferences,)
