"""The extension comes and goes cleanly, and follows Blender's naming rules."""

from __future__ import annotations

import logging
import re

import bpy
import pytest


def _classes():
    import blender_addon

    return blender_addon._CLASSES


def test_register_five_times(addon):
    for _ in range(5):
        addon.unregister()
        assert not hasattr(bpy.types.Scene, "head360")
        assert not hasattr(bpy.types, "HEAD360_OT_create_head")
        assert not logging.getLogger("head360").handlers
        addon.register()
        assert len(logging.getLogger("head360").handlers) == 1
    assert hasattr(bpy.types.Object, "head360")


def test_unregister_survives_half_a_registration(addon, monkeypatch):
    from blender_addon import session

    addon.unregister()
    monkeypatch.setattr(session, "start", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        addon.register()
    assert not hasattr(bpy.types.Scene, "head360")
    monkeypatch.undo()
    addon.register()


def test_class_names():
    for cls in _classes():
        assert re.fullmatch(r"HEAD360_(OT|PT|UL|PG|AP|FH)_[a-z0-9_]+", cls.__name__), cls


@pytest.mark.parametrize("cls", [c for c in _classes() if issubclass(c, bpy.types.Operator)])
def test_operator_texts(cls):
    assert cls.bl_idname == "head360." + cls.__name__.removeprefix("HEAD360_OT_")
    titled = cls.bl_label.title().replace("Glb", "GLB")
    for small in (" From ", " By "):  # Blender writes them small, too
        titled = titled.replace(small, small.lower())
    assert cls.bl_label == titled
    assert cls.bl_description
    assert not cls.bl_description.endswith(".")


def test_every_property_is_explained(addon):
    for cls in _classes():
        if not issubclass(cls, (bpy.types.Operator, bpy.types.PropertyGroup)):
            continue
        registered = getattr(bpy.types, cls.__name__, cls)
        for item in registered.bl_rna.properties:
            if item.identifier in cls.__annotations__ and item.type != "COLLECTION":
                hidden = item.is_hidden or item.identifier == "filter_glob"
                assert item.description or hidden, (cls, item.identifier)
                assert not item.description.endswith("."), (cls, item.identifier)


class Layout:
    """Stands in for UILayout: takes every call, checks operators and properties, remembers text."""

    def __init__(self, said=None):
        self.said = [] if said is None else said
        self.use_property_split = self.alert = False

    def __getattr__(self, name):
        if name not in bpy.types.UILayout.bl_rna.functions:
            raise AttributeError(name)

        def call(*args, **kwargs):
            if name == "prop":
                getattr(args[0], args[1])
            if name == "operator":
                known = args[0].replace("head360.", "HEAD360_OT_").replace("wm.", "WM_OT_")
                assert hasattr(bpy.types, known), args
            self.said.append(kwargs.get("text", ""))
            if name == "panel":
                return Layout(self.said), Layout(self.said)
            return Layout(self.said)

        return call


def _draw_all():
    said = []
    for cls in _classes():
        if issubclass(cls, bpy.types.Panel) and getattr(cls, "poll", lambda _c: True)(bpy.context):
            stand_in = type(cls.__name__, (), {"layout": Layout(said)})()
            cls.draw(stand_in, bpy.context)
    return said


def test_panels_draw_without_and_with_a_head(bpy_scene, request):
    assert "jawOpen" not in _draw_all()
    request.getfixturevalue("head")
    assert "jawOpen" in _draw_all()


def test_panels_draw_while_connected_and_troubled(backend, monkeypatch):
    monkeypatch.setattr(backend, "message", "A long sentence that says what to do. " * 4)
    said = _draw_all()
    assert any("CPU" in text for text in said)
    bpy.context.window_manager.head360.model_index = 0
    assert bpy.context.window_manager.head360.models[0].name == "fake"


def test_models_survive_loading_a_file(backend):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert "fake" in [item.name for item in bpy.context.window_manager.head360.models]


def test_preferences_draw(addon):
    from blender_addon import preferences

    stand_in = type("Preferences", (), {"layout": Layout()})()
    for name in preferences._DEFAULTS:
        assert name in preferences.HEAD360_AP_preferences.__annotations__
        setattr(stand_in, name, "")
    preferences.HEAD360_AP_preferences.draw(stand_in, bpy.context)
