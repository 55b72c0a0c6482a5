"""What a window gives to operators, for tests in a Blender that has none."""

from __future__ import annotations

from types import SimpleNamespace

TIMER = SimpleNamespace(type="TIMER", value="NOTHING")
ESC = SimpleNamespace(type="ESC", value="PRESS")


def stand_in(cls, **values):
    """Behaves like an operator ``cls`` with these properties, which only Blender can make."""
    from blender_addon.operators.base import FlowOperator

    class Operator(FlowOperator):
        bl_idname, bl_label = cls.bl_idname, cls.bl_label
        _asked = False  # no dialog was open

        def __init__(self):
            self.reports = []
            vars(self).update(values)

        def report(self, kind, text):
            self.reports.append((kind, text))

    for name in ("execute", "ended", "steps", "finish", "paths", "_fit", "_edit", "_ask_again"):
        if name in vars(cls):
            setattr(Operator, name, vars(cls)[name])
    return Operator()
