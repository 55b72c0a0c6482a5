"""Operators as a window runs them: a timer, Esc, a message box; driven here by a stub context."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import bpy
import pytest

from head360.errors import BadInput, Cancelled, TryAgain

TIMER = SimpleNamespace(type="TIMER", value="NOTHING")
ESC = SimpleNamespace(type="ESC", value="PRESS")


class Manager:
    """Stands in for the window manager; counts timers and handlers."""

    def __init__(self):
        self.timers, self.handlers = [], []

    def event_timer_add(self, seconds, window):
        self.timers.append(window)
        return window

    def event_timer_remove(self, timer):
        self.timers.remove(timer)

    def modal_handler_add(self, operator):
        self.handlers.append(operator)


@pytest.fixture
def context():
    return SimpleNamespace(window_manager=Manager(), window=object())


@pytest.fixture
def work(addon, monkeypatch):
    """An operator that waits for ``future``, then fails with ``error`` or finishes."""
    from blender_addon.operators import base

    class Work(base.FlowOperator):
        bl_idname, bl_label = "head360.work", "Work"

        def __init__(self):
            self.reports, self.results, self.cleaned = [], [], False
            self.future, self.error = Future(), None

        def report(self, kind, text):
            self.reports.append((kind, text))

        def steps(self, context):
            return self._steps()

        def _steps(self):
            try:
                return (yield self.future)
            finally:
                self.cleaned = True

        def finish(self, context, result):
            if self.error is not None:
                raise self.error
            self.results.append(result)

    monkeypatch.setattr(base, "is_background", lambda: False)
    base.session.message = "what was wrong before"
    yield Work()
    base.session.flows.clear()
    base.session.message = ""


def _begin(work, context):
    assert work.invoke(context, TIMER) == {"RUNNING_MODAL"}
    assert context.window_manager.handlers == [work]
    assert len(context.window_manager.timers) == 1
    assert work.modal(context, TIMER) == {"PASS_THROUGH"}
    from blender_addon.session import session

    assert session.message == ""
    assert session.flows == [work._flow]
    return session


def test_finish(work, context):
    session = _begin(work, context)
    session.pump()
    assert work.modal(context, TIMER) == {"PASS_THROUGH"}
    work.future.set_result("done")
    session.pump()
    assert work.modal(context, TIMER) == {"FINISHED"}
    assert work.results == ["done"]
    assert context.window_manager.timers == []
    assert (session.flows, session.message) == ([], "")


def test_error(work, context):
    session = _begin(work, context)
    work.future.set_exception(TryAgain("It is busy: try again."))
    session.pump()
    assert session.message == ""  # the operator says it, once
    assert work.modal(context, TIMER) == {"CANCELLED"}
    assert work.reports == [({"ERROR"}, "It is busy: try again.")]
    assert session.message == "It is busy: try again."
    assert context.window_manager.timers == []
    assert work.cleaned


def test_error_while_finishing(work, context):
    session = _begin(work, context)
    work.error = BadInput("The collection takes no objects.")
    work.future.set_result(None)
    session.pump()
    assert work.modal(context, TIMER) == {"CANCELLED"}
    assert session.message == "The collection takes no objects."
    assert context.window_manager.timers == []


def test_escape(work, context):
    session = _begin(work, context)
    assert work.modal(context, ESC) == {"RUNNING_MODAL"}
    session.pump()
    assert isinstance(work._flow.error, Cancelled)
    assert work.modal(context, TIMER) == {"CANCELLED"}
    assert work.reports == [({"WARNING"}, "Work: stopped.")]
    assert session.message == ""  # who stops the work himself needs no red box
    assert context.window_manager.timers == []
    assert work.cleaned


def test_undo_meanwhile(work, context):
    session = _begin(work, context)
    work.error = ReferenceError("StructRNA of type Object has been removed")
    work.future.set_result(None)
    session.pump()
    assert work.modal(context, TIMER) == {"CANCELLED"}
    assert "StructRNA" not in work.reports[0][1] + session.message


def test_the_window_was_closed(work, context):
    session = _begin(work, context)
    work.cancel(context)
    assert context.window_manager.timers == []
    session.pump()
    assert work.cleaned
    assert session.flows == []


def test_wrong_from_the_start(work, context, monkeypatch):
    def refuse(context):
        raise BadInput("There is no camera.")

    monkeypatch.setattr(work, "steps", refuse)
    assert work.invoke(context, TIMER) == {"CANCELLED"}
    assert context.window_manager.timers == []


@pytest.mark.parametrize("caught", [False, True])
def test_a_part_that_cannot_be_used_ends_the_flow(addon, caught):
    from blender_addon.flows import Flow

    from head360.client import Done, FrameDone

    seen, cancelled = [], []
    # The job's end comes in the same breath as the frame, and never again.
    batches = [[FrameDone(1, b"png", 0.1, 1, 2), FrameDone(2, b"png", 0.1, 2, 2), Done("all")]]
    job = SimpleNamespace(
        poll=lambda: batches.pop() if batches else [], cancel=lambda: cancelled.append(True)
    )

    def on_part(event):
        seen.append(event.number)
        raise RuntimeError("Image 'Frame' has been removed")

    def steps():
        try:
            yield job, on_part
        except RuntimeError:
            if not caught:
                raise
            assert cancelled == [True]  # the backend was told before the caller is
            return "what there is"
        finally:
            seen.append("cleaned")

    flow = Flow("Render", steps())
    for _ in range(4):
        flow.advance()
    assert flow.finished
    assert seen == [1, "cleaned"]
    assert cancelled == [True]
    assert flow.result == ("what there is" if caught else None)
    assert (flow.error is None) == caught
    assert caught or "removed" in str(flow.error)


def test_autostart_without_a_backend_says_so(addon, monkeypatch):
    from blender_addon import preferences
    from blender_addon import session as module

    module.session.stop(wait=True)
    settings = SimpleNamespace(**{**preferences._DEFAULTS, "autostart": True})
    monkeypatch.setattr(preferences, "get", lambda: settings)
    monkeypatch.setenv("HEAD360_BACKEND_PYTHON", "/nowhere/python")
    module._autostart()
    assert "does not exist" in module.session.message
    module.session.message = ""


def test_a_late_connection_is_closed(addon, monkeypatch, tmp_path):
    from blender_addon import session as module

    connecting, closed = Future(), []
    monkeypatch.setattr(module, "in_thread", lambda function: connecting)
    flow = module.Flow("Attach", module.Session()._connect_steps(tmp_path / "file"))
    flow.advance()
    flow.cancel()
    flow.advance()
    assert isinstance(flow.error, Cancelled)
    connecting.set_result(SimpleNamespace(close=lambda: closed.append(True)))
    assert closed == [True]


def test_half_an_environment_is_not_used(addon, monkeypatch, tmp_path):
    from blender_addon import preferences

    monkeypatch.setattr(preferences, "user_folder", lambda: tmp_path)
    python = tmp_path / "backend" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert preferences.venv_python() is None
    (tmp_path / "backend" / ".complete").touch()
    assert preferences.venv_python() == python


def test_a_dropped_take_shows_its_options(addon):
    from blender_addon.operators.animation import HEAD360_OT_import_take as Import

    asked = []
    manager = SimpleNamespace(
        invoke_props_dialog=lambda operator: asked.append("options") or {"RUNNING_MODAL"},
        fileselect_add=lambda operator: asked.append("browser"),
    )
    context = SimpleNamespace(window_manager=manager)
    for dropped in (True, False):
        properties = SimpleNamespace(is_property_set=lambda name, dropped=dropped: dropped)
        stub = SimpleNamespace(properties=properties)
        assert Import.invoke(stub, context, TIMER) == {"RUNNING_MODAL"}
    assert asked == ["options", "browser"]
    properties = bpy.ops.head360.import_take.get_rna_type().properties
    assert properties["filepath"].is_skip_save  # else every later import looks like a drop
