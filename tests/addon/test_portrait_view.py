"""How Fit from Photo and Edit by Text show what goes on: pictures, progress, the view itself."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from types import SimpleNamespace

import bpy
import numpy as np


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


def test_a_new_head_is_framed_only_where_nobody_would_notice_it(head, monkeypatch):
    from blender_addon.operators import base
    from mathutils import Matrix

    framed = []
    view3d = SimpleNamespace(view_selected=lambda: framed.append(1))
    monkeypatch.setattr(base.bpy, "ops", SimpleNamespace(view3d=view3d))
    region = SimpleNamespace(type="WINDOW", width=800, height=600)

    def look(distance, aside=0.0, perspective="PERSP"):
        view = Matrix.Translation((aside, 0.0, -distance)) @ Matrix.Rotation(-1.5708, 4, "X")
        lens = Matrix(((2, 0, 0, 0), (0, 2, 0, 0), (0, 0, -1, -0.02), (0, 0, -1, 0)))
        looking = SimpleNamespace(perspective_matrix=lens @ view, view_perspective=perspective)
        space = SimpleNamespace(region_3d=looking)
        area = SimpleNamespace(
            type="VIEW_3D", regions=[region], spaces=SimpleNamespace(active=space)
        )
        override = contextlib.nullcontext
        framed.clear()
        base.frame_lost(
            SimpleNamespace(
                area=area,
                view_layer=bpy.context.view_layer,
                temp_override=lambda **_: override(),
            ),
            head,
        )
        return bool(framed)

    assert not look(1.0)
    assert look(10.0)  # a speck
    assert look(1.0, aside=5.0)  # beside the window
    assert look(-1.0)  # behind the eye
    assert not look(10.0, perspective="CAMERA")  # the artist's shot stays as it is


def test_the_tab_with_the_progress_opens_as_soon_as_it_can(addon):
    from blender_addon.operators import base

    class Sidebar:
        type, drawn, tab = "UI", False, "UNSUPPORTED"

        @property
        def active_panel_category(self):
            return self.tab

        @active_panel_category.setter
        def active_panel_category(self, tab):
            if not self.drawn:
                raise AttributeError("read-only")
            self.tab = tab

    sidebar, space = Sidebar(), SimpleNamespace(show_region_ui=False)
    spaces = SimpleNamespace(active=space)
    area = SimpleNamespace(
        type="VIEW_3D", regions=[sidebar], spaces=spaces, tag_redraw=lambda: None
    )
    context = SimpleNamespace(area=area)
    assert not base.show_tab(context)
    assert space.show_region_ui
    sidebar.drawn = True
    assert base.show_tab(context)
    assert sidebar.tab == "Head360"
    assert base.show_tab(SimpleNamespace(area=None))


def test_progress_does_not_repeat_what_stands_below_the_picture(addon, monkeypatch):
    from blender_addon import portrait_panels, properties

    def doing(phase, number):
        stages = [properties.Stage("shape", "met within 3 px", number, 8)]
        monkeypatch.setattr(properties, "stages", stages)
        return portrait_panels._doing(SimpleNamespace(phase=phase))

    assert doing("met within 3 px", 3) == "Working on stage 4 of 8"
    assert doing("trying on hair", 3) == "Trying on hair"
    assert doing("met within 3 px", 8) == "Met within 3 px"
    assert doing("", 3) == "Starting"


def test_hair_that_the_model_lacks_is_said_to_be_lacking(addon):
    from blender_addon.operators.outcome import hair_note

    styles = [("mullet", 0.7), ("braid", 0.2)]
    assert hair_note(styles, ["braid"]) == ["The hair looks like mullet 70%, braid 20%."]
    assert "has none of these" in hair_note(styles, ["short"])[0]
    assert hair_note([("bald", 1.0)], []) == ["The hair looks like bald 100%."]
    assert hair_note([], ["short"]) == []


def test_a_path_without_spaces_is_broken_into_lines(addon, monkeypatch):
    from blender_addon import wrapping

    measured = SimpleNamespace(
        size=lambda font, points: None, dimensions=lambda font, text: (7.0 * len(text), 12.0)
    )
    monkeypatch.setattr(wrapping, "blf", measured)
    style = SimpleNamespace(widget=SimpleNamespace(points=11))
    narrow = SimpleNamespace(
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0), ui_styles=[style]),
        region=SimpleNamespace(width=210),
    )
    path = "/home/somebody/.local/share/head360/models/a-head-with-a-long-name"
    lines = wrapping.wrapped(narrow, f"Put it into {path} again.")
    assert lines[0] == "Put it into"
    assert "".join(lines).replace(" ", "") == f"Putitinto{path}again."
    assert max(len(line) for line in lines) == 120 // 7
