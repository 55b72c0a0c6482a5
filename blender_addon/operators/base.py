"""What operators share: one way to report an error, one way to wait for the backend."""

from __future__ import annotations

import logging
from typing import Any

import bpy

from head360.errors import Cancelled, Head360Error

from .. import rig
from ..flows import Flow, Steps
from ..session import session

logger = logging.getLogger(__name__)
_TICK = 0.05


def report_error(operator: Any, error: BaseException) -> set[str]:
    """Say it in one sentence in the status bar, the panel and the log; always CANCELLED."""
    session.last_error = error
    if isinstance(error, Cancelled):
        operator.report({"WARNING"}, str(error))
    elif isinstance(error, ReferenceError):  # undo or delete while it was under way
        operator.report({"ERROR"}, "The head or the scene changed meanwhile: start again.")
    elif isinstance(error, Head360Error):
        session.message = str(error)
        operator.report({"ERROR"}, str(error))
    else:
        logger.error("%s failed", operator.bl_idname, exc_info=error)
        session.message = f"{operator.bl_label} failed: {error}. The log has the details."
        operator.report({"ERROR"}, session.message)
    return {"CANCELLED"}


def needs_backend(cls: Any) -> bool:
    """Poll: a backend is connected, with the reason when it is not."""
    if not session.is_connected:
        cls.poll_message_set("Start the backend first (Head360 > Backend)")
        return False
    return True


def needs_ability(cls: Any, name: str) -> bool:
    """Poll: a backend is connected and can do ``name``, with the reason when it cannot."""
    if not needs_backend(cls):
        return False
    if name not in session.client.features:
        cls.poll_message_set(
            "This backend cannot do that: it is older than the extension, or incomplete; press "
            "Install Backend in the preferences"
        )
        return False
    return True


def needs_head(cls: Any, context: Any) -> bool:
    """Poll: there is a head to work on, with the reason when there is not."""
    if rig.active_head(context) is None:
        cls.poll_message_set("Select a Head360 head, or create one (Head360 > Head)")
        return False
    return True


def needs_object_mode(cls: Any, context: Any) -> bool:
    """Poll: nothing is in Edit, Sculpt or another mode, with the reason when something is."""
    if context.mode != "OBJECT":
        cls.poll_message_set("Leave Edit Mode first: objects are added in Object Mode")
        return False
    return True


def object_mode(context: Any) -> None:
    """Back to Object Mode, if the user went elsewhere while the work was under way."""
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")


def is_background() -> bool:
    """No window, so nothing draws and no timer fires."""
    return bpy.app.background


class FlowOperator:
    """An operator whose work is a flow: modal with a window, synchronous in the background.

    Subclasses give ``steps`` (a generator; it may check its input and raise at once) and
    ``finish`` (use the result on the main thread). The scene changes in ``finish`` only.
    """

    _flow: Flow | None = None
    _timer: Any = None

    def steps(self, context: Any) -> Steps:
        raise NotImplementedError

    def finish(self, context: Any, result: Any) -> None:
        raise NotImplementedError

    def ended(self, context: Any, result: set[str]) -> set[str]:
        """Hear how it ended, or that it has begun; returns ``result``."""
        return result

    def confirmed(self, context: Any) -> set[str]:
        """``execute`` of what a dialog or file browser confirms: in a window nothing may wait."""
        if is_background() or self._flow is not None:
            return FlowOperator.execute(self, context)
        return self.start(context)

    def execute(self, context: Any) -> set[str]:
        session.message = ""
        try:
            self.finish(context, session.run(self.bl_label, self.steps(context)))
        except Exception as error:  # noqa: BLE001 - every failure must reach the user as a report
            return self.ended(context, report_error(self, error))
        return self.ended(context, {"FINISHED"})

    def start(self, context: Any) -> set[str]:
        """Begin the modal version; what ``invoke`` returns."""
        if is_background():
            return self.execute(context)
        session.message = ""
        try:
            self._flow = session.begin(self.bl_label, self.steps(context))
        except Exception as error:  # noqa: BLE001
            return self.ended(context, report_error(self, error))
        manager = context.window_manager
        self._timer = manager.event_timer_add(_TICK, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def invoke(self, context: Any, _event: Any) -> set[str]:
        return self.start(context)

    def modal(self, context: Any, event: Any) -> set[str]:
        flow = self._flow
        if flow is None:
            return {"CANCELLED"}
        if event.type == "ESC" and event.value == "PRESS":
            flow.cancel()
            return {"RUNNING_MODAL"}
        if not flow.finished:
            return {"PASS_THROUGH"}
        self._end_timer(context)
        if flow.error is not None:
            return self.ended(context, report_error(self, flow.error))
        try:
            self.finish(context, flow.result)
        except Exception as error:  # noqa: BLE001
            return self.ended(context, report_error(self, error))
        return self.ended(context, {"FINISHED"})

    def cancel(self, context: Any) -> None:
        """The window was closed: stop the work as well."""
        if self._flow is not None:
            self._flow.cancel()
        self._end_timer(context)

    def _end_timer(self, context: Any) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
