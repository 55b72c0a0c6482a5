"""Fit from Photo and Edit by Text in a Blender with a window, as a hand does them: a photograph is
dropped on the 3D view (XDND), the mouse presses the dialog's buttons, Esc stops.

Not collected by pytest. Run it under X11 with the built zip, one or more photographs of one person
and the backend's Python; the sidebar needs the height:

    blender --factory-startup --window-geometry 0 0 1280 1400 \
        --python tests/addon/portrait_window_smoke.py -- ZIP OUT PHOTO [PHOTO …]

with BLENDER_USER_RESOURCES, HEAD360_BACKEND_PYTHON and HEAD360_BACKEND_ARGS set, and on the path
``xdotool``, ImageMagick's ``import`` and a ``python3`` that has python-xlib. STEPS in the
environment shortens the second fit and the edit (default 40). OUT receives a picture of every
moment, to be looked at, and ``report.json``: ``{"ok": true, …}`` or the traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import bpy

ARCHIVE, OUT, *PHOTOS = sys.argv[sys.argv.index("--") + 1 :]
OUT = Path(OUT)
HERE = Path(__file__).resolve().parent
MODULE = "bl_ext.user_default.head360"
STEPS = int(os.environ.get("STEPS", "40"))
LIMIT = 900.0  # seconds a fit may take on a busy machine
DROP = (500, 500)
# From the drop to the entry of the menu, from there to the tick and the button of the dialog.
ENTRY, TICK, FIT = (-100, -7), (-310, 142), (-51, 198)
COLLECTIONS = (
    "objects", "meshes", "materials", "images", "actions", "shape_keys", "collections", "textures",
)  # fmt: skip
bpy.context.preferences.view.show_splash = False
seen: dict = {"ok": False, "stages": [], "phases": []}


def view():
    """Window, 3D view and its main region, as the context of what a user presses."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": window, "area": area, "region": region}


def scene():
    """Names of everything that a fit could have left, and what is selected."""
    held = {name: sorted(one.name for one in getattr(bpy.data, name)) for name in COLLECTIONS}
    chosen = sorted(one.name for one in bpy.context.view_layer.objects if one.select_get())
    active = bpy.context.view_layer.objects.active
    return held, chosen, active.name if active else None


def until(condition, seconds=60.0):
    """Wait without blocking; yields to Blender."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited too long")
        yield 0.05


def ended(process, seconds=120.0):
    """Wait for a process; Blender has to go on meanwhile, for that is what it talks to."""
    yield from until(lambda: process.poll() is not None, seconds)
    assert process.returncode == 0, process.args


def xdotool(*words):
    yield from ended(subprocess.Popen(["xdotool", *map(str, words)]))


def picture(name, pause=1.5):
    """Keep what the screen shows, once Blender has drawn it and its panels have slid into place."""
    yield pause
    OUT.mkdir(parents=True, exist_ok=True)
    yield from ended(subprocess.Popen(["import", "-window", "root", str(OUT / f"{name}.png")]))


def click(x, y):
    """Point, wait for the highlight, press, let go."""
    yield from xdotool("mousemove", "--sync", x - 3, y)
    yield 0.3
    yield from xdotool("mousemove", "--sync", x, y)
    yield 0.5
    yield from xdotool("mousedown", 1)
    yield 0.2
    yield from xdotool("mouseup", 1)
    yield 0.5


def drop(*photos):
    """Drop files on the 3D view. Another process does it: Blender has to answer."""
    words = ["python3", str(HERE / "xdnd_drop.py"), *map(str, DROP), *photos]
    source = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    yield from ended(source)
    assert json.loads(source.stdout.read()) == {"accepted": True, "finished": True}
    yield 2.0


def dialog_of_drop(name):
    """Drop the photographs and choose Fit from Photo in the menu; returns where that was."""
    yield from drop(*PHOTOS)
    yield from picture(f"{name}_menu")
    entry = (DROP[0] + ENTRY[0], DROP[1] + ENTRY[1])
    yield from click(*entry)
    yield from picture(f"{name}_dialog")
    return entry


def fit_running(session):
    return any(flow.title == "Fit from Photo" for flow in session.flows)


def watch(session, properties, name, enough=lambda: False):
    """Follow a fit to its end or till ``enough``, with a picture of every stage."""
    end = time.monotonic() + LIMIT
    known = 0
    while fit_running(session) and not enough():
        assert time.monotonic() < end
        phase = session.flows[0].phase
        if phase not in seen["phases"]:
            seen["phases"].append(phase)
        if len(properties.stages) > known:
            known = len(properties.stages)
            seen["stages"].append(properties.stages[-1][:])
            yield from picture(f"{name}_stage{known}")
        yield 0.1


def stopped(session, properties, fitting):
    """A fit by drop, the tick forgotten once, another drop meanwhile, and Esc: nothing is left."""
    before = scene()
    entry = yield from dialog_of_drop("1")
    yield from click(entry[0] + FIT[0], entry[1] + FIT[1])  # without the tick
    yield from picture("1_again")
    assert not session.flows
    assert session.message == ""
    yield from xdotool("key", "Escape")
    yield 1.0
    entry = yield from dialog_of_drop("2")
    yield from click(entry[0] + TICK[0], entry[1] + TICK[1])
    for _ in range(3):  # a slow rasteriser loses clicks
        if not fit_running(session):
            yield from click(entry[0] + FIT[0], entry[1] + FIT[1])
            yield 1.0
    assert fit_running(session)
    yield from until(lambda: tab() == "Head360")  # the sidebar was closed
    yield from picture("2_begun")
    yield from watch(session, properties, "2", lambda: len(properties.stages) >= 3)
    yield from drop(*PHOTOS)
    yield from picture("2_drop_meanwhile")  # the entry is grey; the photograph is no empty yet
    assert scene() == before
    yield from xdotool("key", "Escape")  # of the menu
    yield 1.0
    assert fit_running(session)
    yield from xdotool("key", "Escape")  # of the fit
    yield from until(lambda: not session.flows)
    yield from picture("3_stopped")
    assert "Stopped" in fitting.outcome.text
    assert properties.stages == []
    assert scene() == before


def tab():
    """The open tab of the sidebar."""
    area = view()["area"]
    region = next(one for one in area.regions if one.type == "UI")
    return region.active_panel_category


def finished(session, properties, fitting):
    """A fit to its end: a head that is seen, and other hair."""
    with bpy.context.temp_override(**view()):
        result = bpy.ops.head360.fit_photo(
            files=[{"name": Path(path).name} for path in PHOTOS],
            directory=str(Path(PHOTOS[0]).parent),
            consent=True,
            steps_wanted=STEPS,
        )
    assert result == {"RUNNING_MODAL"}
    yield from watch(session, properties, "4")
    yield from until(lambda: bpy.context.active_object is not None)
    yield from picture("5_fitted", 10.0)
    head = bpy.context.active_object
    assert head.head360.is_head, session.message
    assert fitting.outcome.icon == "CHECKMARK"
    space = view()["area"].spaces.active
    assert space.region_3d.view_distance < 3.0  # it is framed: it stands inside Blender's cube
    menu = sys.modules[f"{MODULE}.operators.hair"]._ranked_items(None, bpy.context)
    seen["hair"] = [item[1] for item in menu]
    worn = head.head360.style
    other = next(name for name, *_ in menu if name not in (worn, properties.BALD))
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.set_hair("INVOKE_DEFAULT", style=other) == {"RUNNING_MODAL"}
    yield from until(lambda: bpy.context.active_object.head360.style == other, LIMIT)
    yield from picture("6_other_hair")


def edited(session, editing):
    """An edit, both sides of it, and undo."""
    making = bpy.context.window_manager.head360_making
    making.editor, making.steps = "filter:aged", STEPS
    before = bpy.context.active_object.head360.model
    yield from picture("7_wish")
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.edit_head("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    album = sys.modules[f"{MODULE}.album"]
    yield from until(lambda: album.icon(editing.PREVIEW) or not session.flows, LIMIT)
    yield from picture("7_editing")
    yield from until(lambda: not session.flows, LIMIT)
    yield 0.5
    settings = bpy.context.active_object.head360
    assert settings.edited == "AFTER", session.message
    assert settings.model != before
    yield from picture("8_after", 10.0)
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.toggle_edit("INVOKE_DEFAULT", True) == {"FINISHED"}
    assert bpy.context.active_object.head360.model == before
    yield from picture("8_before")
    with bpy.context.temp_override(**view()):
        bpy.ops.ed.undo()  # of the toggle
        bpy.ops.ed.undo()  # of the edit
    yield 0.5
    assert bpy.context.active_object.head360.model == before
    assert bpy.context.active_object.head360.edited == "NO"
    yield from picture("9_undone")


def open_from_the_start(panel):
    """Blender has no call that opens a panel: register it anew, before it is drawn."""
    bpy.utils.unregister_class(panel)
    panel.bl_options = set()
    bpy.utils.register_class(panel)


def story():
    yield 1.0
    bpy.ops.extensions.package_install_files(
        filepath=ARCHIVE, repo="user_default", enable_on_install=True
    )
    session = sys.modules[f"{MODULE}.session"].session
    properties = sys.modules[f"{MODULE}.properties"]
    fitting = sys.modules[f"{MODULE}.operators.fitting"]
    editing = sys.modules[f"{MODULE}.operators.editing"]
    open_from_the_start(bpy.types.HEAD360_PT_edit)
    yield 1.0
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.start_backend("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    yield from until(lambda: session.client is not None and not session.flows, 300.0)
    yield 0.5
    yield from stopped(session, properties, fitting)
    yield from finished(session, properties, fitting)
    yield from edited(session, editing)
    child = session.backend._process
    bpy.ops.preferences.addon_disable(module=MODULE)
    assert child.poll() is not None
    seen["ok"] = True


steps = story()


def drive():
    try:
        pause = next(steps)
    except StopIteration:
        pause = None
    except Exception:  # noqa: BLE001 - it goes into the report
        seen["error"] = traceback.format_exc()
        pause = None
    if pause is not None:
        return pause
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "report.json").write_text(json.dumps(seen, default=list))
    bpy.ops.wm.quit_blender()
    return None


bpy.app.timers.register(drive, first_interval=1.0)
