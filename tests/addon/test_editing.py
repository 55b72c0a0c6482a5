"""Edit by Text: a real backend process, with fakes for the work itself."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest
from addon_window import ESC, TIMER, stand_in


def test_an_edit_and_the_way_back(backend, models, head, snapshot):
    from blender_addon import album, looks

    before = snapshot()
    result = bpy.ops.head360.edit_head(editor="filter:aged", strength=0.5)
    assert result == {"FINISHED"}
    settings = head.head360
    assert (settings.model, settings.edited) == ("fake aged", "AFTER")
    assert (settings.other.model, settings.other.subject, settings.other.style) == (
        "fake", "Ada", "short"
    )  # fmt: skip
    assert snapshot() == before  # nothing but the look of the head changed
    for look in (looks.look_of(settings), looks.look_of(settings.other)):
        assert look.picture in album._names
    for model, side in (("fake", "BEFORE"), ("fake aged", "AFTER")):
        assert bpy.ops.head360.toggle_edit() == {"FINISHED"}
        assert (settings.model, settings.edited) == (model, side)
    assert bpy.ops.head360.toggle_edit() == {"FINISHED"}
    # Another edit starts from what is shown.
    assert bpy.ops.head360.edit_head(editor="filter:aged") == {"FINISHED"}
    assert (settings.model, settings.other.model) == ("fake aged 2", "fake")
    assert "HEAD360_OT_toggle_edit" in dir(bpy.types)


def test_edits_that_cannot_be(backend, head, snapshot):
    before = snapshot()
    look = head.head360.model
    for arguments, match in (
        ({"editor": "filter:blue"}, "no editor"),
        ({"editor": "diffusers"}, "what to change"),
        ({"editor": "diffusers", "prompt": "older"}, "no diffusion model"),
    ):
        with pytest.raises(RuntimeError, match=match):
            bpy.ops.head360.edit_head(**arguments)
    with pytest.raises(RuntimeError, match="never edited"):
        bpy.ops.head360.toggle_edit()
    assert snapshot() == before
    assert head.head360.model == look


def test_esc_stops_an_edit(backend, models, head, window):
    from blender_addon import album
    from blender_addon.operators.editing import PREVIEW, HEAD360_OT_edit_head

    context, drive = window
    context.active_object = head
    operator = stand_in(
        HEAD360_OT_edit_head, prompt="", editor="filter:slow", strength=0.0, steps_wanted=0
    )
    assert operator.invoke(context, TIMER) == {"RUNNING_MODAL"}
    drive(operator, until=lambda: PREVIEW in album._names)
    operator.modal(context, ESC)
    assert drive(operator) == {"CANCELLED"}
    assert (head.head360.model, head.head360.edited) == ("fake", "NO")
    assert not models.is_dir() or list(models.iterdir()) == []


def test_a_head_that_changed_meanwhile_is_left_alone(backend, head):
    from blender_addon import looks

    from head360.errors import BadInput

    look = looks.look_of(head.head360)
    assert looks.head_named(head.name, look) is head
    head.head360.style = "long"
    for name in (head.name, "gone"):
        with pytest.raises(BadInput, match="changed meanwhile"):
            looks.head_named(name, look)


def test_rendered_frames_say_what_they_are(backend, head, tmp_path, monkeypatch):
    from blender_addon import preferences

    from head360 import provenance

    bpy.context.scene.frame_end = 1
    assert bpy.ops.head360.render_sequence(directory=str(tmp_path)) == {"FINISHED"}
    note = provenance.read((tmp_path / "0001.png").read_bytes())
    assert (note["model"], note["subject"], note["note"]) == ("fake", "Ada", provenance.NOTE)
    settings = SimpleNamespace(**{**preferences._DEFAULTS, "provenance": False})
    monkeypatch.setattr(preferences, "get", lambda: settings)
    assert bpy.ops.head360.render_sequence(directory=str(tmp_path)) == {"FINISHED"}
    assert provenance.read((tmp_path / "0001.png").read_bytes()) is None
