"""The errors a user can meet, each with one sentence that says what to do next.

Every error carries the exit code of the command line (DESIGN: 0 done, 2 bad input, 3 model
missing or invalid, 69 no device, 75 try again, 85 checkpointed) and a short wire code, so that the
command line, the server and the Blender extension report the same thing in the same words.
"""

from __future__ import annotations


class Head360Error(Exception):
    """Base of all expected failures; its text is written for the person at the screen."""

    exit_code = 1
    code = "INTERNAL"


class BadInput(Head360Error):
    """A file, value or folder given by the user cannot be used as it is."""

    exit_code = 2
    code = "INPUT_INVALID"


class ModelInvalid(Head360Error):
    """A model package is missing, damaged or made by an incompatible version."""

    exit_code = 3
    code = "MODEL_INVALID"


class NoDevice(Head360Error):
    """The device that was asked for does not exist on this machine."""

    exit_code = 69
    code = "RESOURCE_EXHAUSTED"


class TryAgain(Head360Error):
    """The backend is out of reach or busy; the same request may succeed later."""

    exit_code = 75
    code = "BUSY"


class Cancelled(Head360Error):
    """The user stopped the work; what was finished is kept."""

    exit_code = 75
    code = "CANCELLED"


class Checkpointed(Head360Error):
    """Training stopped on request after saving everything needed to go on."""

    exit_code = 85
    code = "CHECKPOINTED"


BY_CODE: dict[str, type[Head360Error]] = {
    cls.code: cls
    for cls in (Head360Error, BadInput, ModelInvalid, NoDevice, TryAgain, Cancelled, Checkpointed)
}
