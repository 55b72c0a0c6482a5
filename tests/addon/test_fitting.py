"""Fit from Photo: a real backend process, with fakes for the work itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from addon_window import ESC, stand_in


def asked_class(cls, asked):
    """``cls`` whose reasons for being grey are kept."""
    return type(cls.__name__, (), {"bl_label": cls.bl_label, **vars(asked)})


def test_a_photograph_becomes_a_head(backend, models, photo, bpy_scene):
    from blender_addon import album, looks, properties
    from blender_addon.operators.outcome import outcome

    bpy_scene.cursor.location = (1.0, 2.0, 3.0)
    assert bpy.ops.head360.fit_photo(filepath=photo(), consent=True) == {"FINISHED"}
    head = bpy.context.view_layer.objects.active
    settings = head.head360
    assert tuple(head.location) == (1.0, 2.0, 3.0)
    assert (settings.model, settings.subject, settings.style) == ("Mia at home", "Ada", "short")
    assert [(e.name, round(e.probability, 2)) for e in settings.ranked] == [
        ("short", 0.0), ("long", 0.6), ("", 0.3), ("curly", 0.1)
    ]  # fmt: skip
    assert [tuple(stage) for stage in properties.stages] == [
        (name, "1 photographs", number, 4)
        for number, name in enumerate(("detect", "shape", "hair", "head"), 1)
    ]
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
    assert properties.stages[0] == ("detect", "2 photographs", 1, 4)
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
    from blender_addon.operators.fitting import HEAD360_OT_fit_photo
    from blender_addon.operators.outcome import outcome

    context, drive = window
    before = snapshot()
    operator = stand_in(
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
    from blender_addon.operators.fitting import HEAD360_OT_fit_photo
    from blender_addon.operators.hair import HEAD360_OT_set_hair

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


def test_pictures_are_dropped_on_the_3d_view_only(backend, monkeypatch):
    from blender_addon.operators import fitting
    from blender_addon.operators.fitting import HEAD360_FH_photo

    assert ".jpg" in HEAD360_FH_photo.bl_file_extensions.split(";")
    view = SimpleNamespace(area=SimpleNamespace(type="VIEW_3D"), mode="OBJECT")
    assert HEAD360_FH_photo.poll_drop(view)
    for area in (None, SimpleNamespace(type="IMAGE_EDITOR")):
        assert not HEAD360_FH_photo.poll_drop(SimpleNamespace(area=area, mode="OBJECT"))
    # Offered but grey, with the reason: else Blender makes an empty of the photograph at once.
    reasons = []
    asked = asked_class(HEAD360_FH_photo, SimpleNamespace(poll_message_set=reasons.append))
    poll = fitting.HEAD360_OT_fit_photo.poll.__func__
    for busy, mode in ((True, "OBJECT"), (False, "EDIT_MESH")):
        flows = [SimpleNamespace(title=fitting.TITLE)] if busy else []
        monkeypatch.setattr(backend, "flows", flows)
        context = SimpleNamespace(area=view.area, mode=mode)
        assert HEAD360_FH_photo.poll_drop(context)
        assert not poll(asked, context)
    assert [reason.split(":")[0] for reason in reasons] == [
        "A head is being fitted", "Leave Edit Mode first"
    ]  # fmt: skip
    monkeypatch.setattr(backend, "client", None)
    assert not HEAD360_FH_photo.poll_drop(view)
    operator = bpy.ops.head360.fit_photo.get_rna_type().properties
    for name in ("filepath", "directory", "files", "consent"):
        assert operator[name].is_skip_save, name  # else every later fit looks like a drop


def test_what_was_refused_can_be_looked_at_and_names_our_buttons(backend, models, photo):
    from blender_addon import album, properties
    from blender_addon.operators.outcome import outcome

    with pytest.raises(RuntimeError, match="say which one with Face N"):
        bpy.ops.head360.fit_photo(filepath=photo(b"crowd"), consent=True)
    # The sentence says that the picture shows which face has which number.
    assert [stage.name for stage in properties.stages] == ["detect"]
    assert "stage:detect" in album._names
    assert outcome.text == ""


def test_a_forgotten_tick_brings_the_dialog_back_as_it_was(backend, photo, window, monkeypatch):
    from blender_addon.operators import fitting

    context, _ = window
    path, asked = photo(), []
    given = {
        "filepath": path, "directory": "", "head_name": "Mia", "model": "", "style": "__bald__",
        "face": 2, "planes": True, "steps_wanted": 7, "seed": 3,
    }  # fmt: skip
    operator = stand_in(fitting.HEAD360_OT_fit_photo, files=[], consent=False, _asked=True, **given)
    ops = SimpleNamespace(head360=SimpleNamespace(fit_photo=lambda *a, **k: asked.append((a, k))))
    monkeypatch.setattr(fitting.bpy, "ops", ops)
    backend.message = ""
    assert operator.execute(context) == {"CANCELLED"}
    assert asked == [(("INVOKE_DEFAULT",), {**given, "files": [], "again": True})]
    assert operator.reports == []
    assert backend.message == ""


def test_the_hair_of_a_fitted_head_is_adjusted(backend, models, photo):
    from blender_addon.operators import hair

    bpy.ops.head360.fit_photo(filepath=photo(), consent=True)
    head = bpy.context.view_layer.objects.active
    items = hair._ranked_items(None, bpy.context)
    # What the photograph suggests first; what this model does not have is left out.
    assert [item[:2] for item in items] == [
        ("short", "short  nearest"), ("long", "long  60%"), ("__bald__", "Bald  30%")
    ]  # fmt: skip
    assert bpy.ops.head360.set_hair(style="long") == {"FINISHED"}
    assert (head.head360.style, head.head360.is_bald) == ("long", False)
    assert bpy.ops.head360.set_hair(style="__bald__") == {"FINISHED"}
    assert head.head360.is_bald
