"""What operators share: one way to report an error, one way to wait for the backend."""

from __future__ import annotations

import logging
from typing import Any

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Vector

from head360.errors import Cancelled, Head360Error

from .. import rig
from ..flows import Flow, Steps
from ..session import redraw, session

logger = logging.getLogger(__name__)
_TICK = 0.05
_NOTICED = 0.1  # share of the view's height from which on a head is seen
TAB = "Head360"  # of the sidebar


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


def show_tab(context: Any) -> bool:
    """Open the Head360 tab beside the 3D view that the work was asked in. True once it is open.

    A sidebar knows its tabs only after it was drawn: call again on the next tick.
    """
    area = context.area
    if area is None or area.type != "VIEW_3D":
        return True
    area.spaces.active.show_region_ui = True
    region = next((one for one in area.regions if one.type == "UI"), None)
    if region is None or region.active_panel_category == TAB:
        return True
    try:
        region.active_panel_category = TAB
    except (AttributeError, TypeError):  # not drawn yet, so it has no tabs
        return False
    area.tag_redraw()
    return True


def frame_lost(context: Any, head: Any) -> None:
    """Turn the 3D view to ``head`` where it would not be noticed: too small, or out of sight.

    A head of 25 cm in the middle of Blender's first cube of 2 m is found by nobody.
    """
    area = context.area
    if area is None or area.type != "VIEW_3D" or area.spaces.active.region_3d is None:
        return
    looking = area.spaces.active.region_3d
    region = next((one for one in area.regions if one.type == "WINDOW"), None)
    if region is None or looking.view_perspective == "CAMERA" or not head.visible_get():
        return
    context.view_layer.update()
    corners = [
        location_3d_to_region_2d(region, looking, head.matrix_world @ Vector(corner))
        for corner in head.bound_box
    ]
    if all(
        corner is not None and 0 <= corner.x <= region.width and 0 <= corner.y <= region.height
        for corner in corners
    ):
        rows = [corner.y for corner in corners]
        if max(rows) - min(rows) >= _NOTICED * region.height:
            return
    with context.temp_override(area=area, region=region):
        bpy.ops.view3d.view_selected()


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
        redraw()  # after what follows: it is drawn once this event is through
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
