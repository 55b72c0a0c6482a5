"""Fit from Photo and Edit by Text: a real backend process, with fakes for the work itself."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

TIMER = SimpleNamespace(type="TIMER", value="NOTHING")
ESC = SimpleNamespace(type="ESC", value="PRESS")


@pytest.fixture
def photo(tmp_path):
    """A function that writes a 'photograph' with these bytes."""

    def write(content=b"a face", name="Mia at home.jpg"):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def models():
    """The folder where the backend puts what it makes; emptied afterwards."""
    import shutil

    folder = Path(os.environ.get("HEAD360_TEST_DATA", "/nowhere")) / "head360" / "models"
    yield folder
    if folder.is_dir():
        shutil.rmtree(folder)


@pytest.fixture
def window(monkeypatch):
    """Operators behave as in a window; returns (context, a function that drives one to its end)."""
    from blender_addon.operators import base
    from blender_addon.session import session

    monkeypatch.setattr(base, "is_background", lambda: False)
    manager = SimpleNamespace(
        head360=bpy.context.window_manager.head360,
        head360_making=bpy.context.window_manager.head360_making,
        event_timer_add=lambda seconds, window: "timer",
        event_timer_remove=lambda timer: None,
        modal_handler_add=lambda operator: None,
    )
    context = SimpleNamespace(
        window_manager=manager,
        window=None,
        area=None,
        scene=bpy.context.scene,
        mode="OBJECT",
        active_object=bpy.context.active_object,
        collection=bpy.context.collection,
        selected_objects=[],
        view_layer=bpy.context.view_layer,
    )

    def drive(operator, until=lambda: False):
        import time

        end = time.monotonic() + 30
        while (result := operator.modal(context, TIMER)) == {"PASS_THROUGH"} and not until():
            assert time.monotonic() < end
            session.pump()
            time.sleep(0.005)
        return result

    yield context, drive
    session.flows.clear()


def _stand_in(cls, **values):
    """Behaves like an operator ``cls`` with these properties, which only Blender can make."""
    from blender_addon.operators.base import FlowOperator

    class Operator(FlowOperator):
        bl_idname, bl_label = cls.bl_idname, cls.bl_label

        def __init__(self):
            self.reports = []
            vars(self).update(values)

        def report(self, kind, text):
            self.reports.append((kind, text))

    for name in ("execute", "ended", "steps", "finish", "paths", "_fit", "_edit"):
        if name in vars(cls):
            setattr(Operator, name, vars(cls)[name])
    return Operator()


def test_a_photograph_becomes_a_head(backend, models, photo, bpy_scene):
    from blender_addon import album, looks, properties
    from blender_addon.operators.fitting import outcome

    bpy_scene.cursor.location = (1.0, 2.0, 3.0)
    assert bpy.ops.head360.fit_photo(filepath=photo(), consent=True) == {"FINISHED"}
    head = bpy.context.view_layer.objects.active
    settings = head.head360
    assert tuple(head.location) == (1.0, 2.0, 3.0)
    assert (settings.model, settings.subject, settings.style) == ("Mia at home", "Ada", "short")
    assert [(e.name, round(e.probability, 2)) for e in settings.ranked] == [
        ("short", 0.0), ("long", 0.6), ("", 0.3), ("curly", 0.1)
    ]  # fmt: skip
    assert [name for name, _ in properties.stages] == ["detect", "shape", "hair", "head"]
    assert bpy.context.window_manager.head360_making.stage == "head"
    assert looks.look_of(settings).picture in album._names
    assert "1.2 px" in outcome.text
    assert "24.5 dB" in outcome.text
    assert outcome.notes == [
        "The hair looks like long 60%, bald 30%, curly 10%.", "The light comes from the left."
    ]  # fmt: skip
    listed = bpy.context.window_manager.head360
    assert listed.models[listed.model_index].name == "Mia at home"
    assert listed.models["Mia at home"].made_by == "head360 fit"
    assert (models / "Mia at home" / "manifest.json").is_file()
    # The fitted model is none to fit again: the base is still the one that came along.
    assert bpy.ops.head360.fit_photo(filepath=photo(), consent=True) == {"FINISHED"}
    assert bpy.context.view_layer.objects.active.head360.model == "Mia at home 2"


def test_several_photographs_of_a_folder(backend, models, photo):
    from blender_addon import properties

    first, second = photo(name="front.png"), photo(name="side.webp")
    result = bpy.ops.head360.fit_photo(
        directory=str(Path(first).parent),
        files=[{"name": Path(path).name} for path in (first, second)],
        head_name="Two: Sides",
        consent=True,
    )
    assert result == {"FINISHED"}
    assert properties.stages[0] == ("detect", "2 photographs")
    assert bpy.context.view_layer.objects.active.head360.model == "Two_ Sides"


def test_what_is_wrong_leaves_the_scene_alone(backend, models, photo, snapshot, tmp_path):
    before = snapshot()
    big = tmp_path / "big.png"
    with open(big, "wb") as handle:
        handle.truncate(33 << 20)
    for arguments, match in (
        ({"filepath": photo()}, "tick"),
        ({"filepath": photo(b"nobody", "who.jpg"), "consent": True}, "no face in who.jpg"),
        ({"filepath": photo(name="notes.txt"), "consent": True}, "not a photograph"),
        ({"filepath": str(tmp_path / "none.jpg"), "consent": True}, "cannot be read"),
        ({"filepath": str(big), "consent": True}, "33 MiB"),
        ({"filepath": photo(b"", "void.jpg"), "consent": True}, "is empty"),
        ({"filepath": photo(), "consent": True, "model": "gone"}, "no model"),
    ):
        with pytest.raises(RuntimeError, match=match):
            bpy.ops.head360.fit_photo(**arguments)
        assert snapshot() == before
        assert match in backend.message or backend.message.endswith(".")
    assert not models.is_dir() or list(models.iterdir()) == []


def test_esc_stops_a_fit_and_leaves_nothing(backend, models, photo, snapshot, window):
    from blender_addon import properties
    from blender_addon.operators.fitting import HEAD360_OT_fit_photo, outcome

    context, drive = window
    before = snapshot()
    operator = _stand_in(
        HEAD360_OT_fit_photo, filepath=photo(b"slow"), directory="", files=[], head_name="",
        model="", face=0, style="__auto__", steps_wanted=0, seed=0, planes=False, consent=True,
    )  # fmt: skip
    assert operator.execute(context) == {"RUNNING_MODAL"}
    assert not bpy.ops.head360.fit_photo.poll()  # one at a time
    drive(operator, until=lambda: len(properties.stages) == 4)
    drive(operator, until=lambda: backend.flows and backend.flows[0].phase.startswith("opt"))
    assert operator.modal(context, ESC) == {"RUNNING_MODAL"}
    assert drive(operator) == {"CANCELLED"}
    assert operator.reports == [({"WARNING"}, "Fit from Photo: stopped.")]
    assert "Stopped" in outcome.text
    assert properties.stages == []
    assert snapshot() == before
    assert backend.message == ""
    assert list(models.iterdir()) == []
    assert bpy.ops.head360.fit_photo.poll()


def test_a_fitted_head_appears_in_one_step_that_undo_takes_back(addon):
    from blender_addon.operators.editing import HEAD360_OT_edit_head
    from blender_addon.operators.fitting import HEAD360_OT_fit_photo, HEAD360_OT_set_hair

    for cls in (HEAD360_OT_fit_photo, HEAD360_OT_set_hair, HEAD360_OT_edit_head):
        assert cls.bl_options == {"UNDO"}


def test_buttons_of_an_older_backend_are_grey_with_a_reason(backend, monkeypatch, head):
    from blender_addon.operators import editing, fitting

    reasons = []
    old = SimpleNamespace(alive=True, state="connected", features=frozenset({"frames"}))
    monkeypatch.setattr(backend, "client", old)
    for cls in (
        fitting.HEAD360_OT_choose_photos,
        fitting.HEAD360_OT_fit_photo,
        editing.HEAD360_OT_edit_head,
    ):
        asked = SimpleNamespace(poll_message_set=reasons.append)
        assert not cls.poll.__func__(asked_class(cls, asked), bpy.context)
    assert len(reasons) == 3
    assert all("older than the extension" in reason for reason in reasons)


def asked_class(cls, asked):
    """``cls`` whose reasons for being grey are kept."""
    return type(cls.__name__, (), {"bl_label": cls.bl_label, **vars(asked)})


def test_pictures_are_dropped_on_the_3d_view_only(backend, monkeypatch):
    from blender_addon.operators.fitting import HEAD360_FH_photo

    assert ".jpg" in HEAD360_FH_photo.bl_file_extensions.split(";")
    view = SimpleNamespace(area=SimpleNamespace(type="VIEW_3D"), mode="OBJECT")
    assert HEAD360_FH_photo.poll_drop(view)
    for area in (None, SimpleNamespace(type="IMAGE_EDITOR")):
        assert not HEAD360_FH_photo.poll_drop(SimpleNamespace(area=area, mode="OBJECT"))
    assert not HEAD360_FH_photo.poll_drop(SimpleNamespace(area=view.area, mode="EDIT_MESH"))
    operator = bpy.ops.head360.fit_photo.get_rna_type().properties
    for name in ("filepath", "directory", "files", "consent"):
        assert operator[name].is_skip_save, name  # else every later fit looks like a drop


def test_the_hair_of_a_fitted_head_is_adjusted(backend, models, photo):
    from blender_addon.operators import fitting

    bpy.ops.head360.fit_photo(filepath=photo(), consent=True)
    head = bpy.context.view_layer.objects.active
    items = fitting._ranked_items(None, bpy.context)
    # What the photograph suggests first; what this model does not have is left out.
    assert [item[:2] for item in items] == [
        ("short", "short  nearest"), ("long", "long  60%"), ("__bald__", "Bald  30%")
    ]  # fmt: skip
    assert bpy.ops.head360.set_hair(style="long") == {"FINISHED"}
    assert (head.head360.style, head.head360.is_bald) == ("long", False)
    assert bpy.ops.head360.set_hair(style="__bald__") == {"FINISHED"}
    assert head.head360.is_bald


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
    operator = _stand_in(
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


def test_stages_arrive_in_the_flow_and_frames_still_wait_for_the_disk(addon):
    from blender_addon.flows import Flow

    from head360 import client as wire

    parts, written = [], Future()
    events = [
        wire.StageDone("shape", 1, 2, "", np.zeros((2, 2, 3), np.uint8)),
        wire.FrameDone(7, b"png", 0.1, 1, 2),
        wire.Done("result"),
    ]
    job = SimpleNamespace(poll=lambda: [events.pop(0)] if events else [], cancel=lambda: None)

    def take(event):
        parts.append(event)
        return written if isinstance(event, wire.FrameDone) else None

    def steps():
        return (yield job, take)

    flow = Flow("Work", steps())
    for _ in range(6):
        flow.advance()
    assert [type(part) for part in parts] == [wire.StageDone, wire.FrameDone]
    assert not flow.finished
    written.set_result(None)
    flow.advance()
    assert flow.result == "result"


def test_the_album_keeps_pictures_upright_and_forgets_the_oldest(addon):
    from blender_addon import album

    album.close()
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, :, 0], pixels[0, :, 3] = 255, 255  # red above, nothing below
    album.put("a:1", pixels)
    preview = album._collection[album._names["a:1"]]
    shown = np.array(preview.image_pixels_float[:]).reshape(2, 3, 4)
    assert tuple(preview.image_size) == (3, 2)
    assert shown[1, 0].tolist() == [1.0, 0.0, 0.0, 1.0]  # Blender's first row is the lowest
    assert shown[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0]
    for index in range(album._MOST):
        album.put(f"b:{index}", pixels)
    assert "a:1" not in album._names
    assert len(album._names) == album._MOST
    album.put("b:1", pixels)
    assert len(album._names) == album._MOST
    album.forget("b:")
    assert album.icon("b:1") == 0
    album.close()


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
