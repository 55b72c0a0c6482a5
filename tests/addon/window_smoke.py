"""The modal paths in a Blender with a window: install the zip, check a rig, capture, start a
backend, create, import, render, Esc.

Not collected by pytest. Run it with a display, the built zip and the backend's Python:

    blender --window-geometry 0 0 1280 800 --python tests/addon/window_smoke.py -- ZIP OUT

with BLENDER_USER_RESOURCES, HEAD360_BACKEND_PYTHON and HEAD360_BACKEND_ARGS set. OUT receives
``report.json``: ``{"ok": true, …}`` or the traceback, the longest time
between two ticks (a software rasteriser draws slowly) and the longest our own timer took.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

import bpy

ARCHIVE, OUT = sys.argv[-2], Path(sys.argv[-1])
MODULE = "bl_ext.user_default.head360"
bpy.context.preferences.view.show_splash = False
seen = {"ok": False, "longest_gap": 0.0, "longest_pump": 0.0, "progress": []}


def view():
    """Window, 3D view and its main region, as the context of what a user presses."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    area.spaces[0].show_region_ui = True
    return {"window": window, "area": area, "region": region}


def press(operator, **arguments):
    """Press a button: INVOKE in the 3D view."""
    with bpy.context.temp_override(**view()):
        return operator("INVOKE_DEFAULT", **arguments)


def until(condition, seconds=60.0):
    """Wait without blocking; yields to Blender."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited too long")
        yield 0.02


def capture(session):
    """Check Rig, Fix Names and Capture Training Set by hand: undo, Esc, going on; no backend."""
    sys.modules["blender_addon"] = sys.modules[MODULE]
    sys.path.insert(0, str(Path(__file__).parent))
    from capture_scene import differences, everything, ready

    scene = bpy.context.scene
    head = ready(scene, OUT)
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.head360_capture.views, scene.head360_capture.count = 4, 3
    area = view()["area"]
    yield 0.5  # the sidebar has to be drawn once before a tab can be chosen
    next(one for one in area.regions if one.type == "UI").active_panel_category = "Head360"
    head.data.shape_keys.key_blocks["jawOpen"].name = "Jaw_Open"
    bpy.ops.ed.undo_push(message="Scene")
    yield 0.5
    report = bpy.context.window_manager.head360_rig
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.check_rig("INVOKE_DEFAULT") == {"FINISHED"}
        assert [row.source for row in report.rows if row.use] == ["Jaw_Open"]
        assert bpy.ops.head360.fix_names("INVOKE_DEFAULT", True) == {"FINISHED"}
        assert "jawOpen" in scene.objects["Mia"].data.shape_keys.key_blocks
        bpy.ops.ed.undo()
        assert "Jaw_Open" in bpy.data.objects["Mia"].data.shape_keys.key_blocks
        bpy.ops.ed.redo()
        assert bpy.ops.head360.show_head_frame("INVOKE_DEFAULT", True) == {"FINISHED"}
        assert "Head Frame" in bpy.data.objects
        bpy.ops.ed.undo()
        assert "Head Frame" not in bpy.data.objects
    yield 0.5
    scene = bpy.context.scene  # undo has made it anew
    scene.head360_capture.seconds = 0.0
    before = everything()
    folder = OUT / "set"
    press(bpy.ops.head360.capture_training_set)
    yield from until(lambda: list(folder.rglob("*.png")))
    bpy.ops.head360.cancel_work()
    yield from until(lambda: not session.flows)
    assert 0 < len(list(folder.rglob("*.png"))) < 4 * 4 * 3
    yield 0.5
    assert press(bpy.ops.head360.capture_training_set) == {"RUNNING_MODAL"}
    yield from until(lambda: not session.flows)
    yield 0.5
    assert len(list(folder.rglob("*.png"))) == 4 * 4 * 3
    told = ("/reports", "/storage_type", "/all_ids")  # not the artist's; all_ids has all once more
    changed = [one for one in differences(before, everything()) if not any(t in one for t in told)]
    assert not changed, changed
    for item in list(bpy.data.objects):
        if item.type != "CAMERA":
            bpy.data.objects.remove(item)
    del sys.modules["blender_addon"]


def story():
    yield 1.0
    bpy.ops.extensions.package_install_files(
        filepath=ARCHIVE, repo="user_default", enable_on_install=True
    )
    session = sys.modules[f"{MODULE}.session"].session
    pump = session.pump

    def timed():
        start = time.perf_counter()
        busy = pump()
        seen["longest_pump"] = max(seen["longest_pump"], time.perf_counter() - start)
        return busy

    session.pump = timed
    yield 1.0
    yield from capture(session)
    # Installing is Blender's own work, and so are the artist's renders.
    seen["longest_gap"] = seen["longest_pump"] = 0.0
    assert press(bpy.ops.head360.start_backend) == {"RUNNING_MODAL"}
    assert session.state.value == "Starting"
    yield from until(lambda: session.client is not None and not session.flows)
    yield 0.5  # the operator's own timer notices
    area = view()["area"]
    panel = next(region for region in area.regions if region.type == "UI")
    panel.active_panel_category = "Head360"
    assert press(bpy.ops.head360.create_head) == {"RUNNING_MODAL"}
    scene = bpy.context.scene
    yield from until(lambda: any(item.head360.is_head for item in scene.objects))
    head = next(item for item in scene.objects if item.head360.is_head)
    bpy.context.view_layer.objects.active = head
    take = Path(sys.modules["head360"].__file__).parent / "data/takes/demo_take.csv"
    with bpy.context.temp_override(**view()):
        assert bpy.ops.head360.import_take(filepath=str(take)) == {"FINISHED"}
    scene.camera.location = (0.0, -1.2, 0.0)
    scene.camera.rotation_euler = (1.5707963, 0.0, 0.0)
    scene.render.resolution_x = scene.render.resolution_y = 256
    scene.frame_start, scene.frame_end = 1, 60
    scene.frame_set(10)
    frames = OUT / "frames"
    assert press(bpy.ops.head360.render_sequence, directory=str(frames)) == {"RUNNING_MODAL"}
    while session.flows:
        seen["progress"].append(round(session.flows[0].fraction, 3))
        yield 0.02
    yield from until(lambda: scene.camera.data.background_images)
    assert len(list(frames.glob("*.png"))) == 60
    assert scene.frame_current == 10
    assert bpy.ops.ed.undo.poll()

    scene.frame_end = 1000
    stopped = OUT / "stopped"
    assert press(bpy.ops.head360.render_sequence, directory=str(stopped)) == {"RUNNING_MODAL"}
    yield from until(lambda: list(stopped.glob("0*.png")))
    bpy.ops.head360.cancel_work()
    yield from until(lambda: not session.flows)
    assert scene.frame_current == 10
    assert 0 < len(list(stopped.glob("*.png"))) < 1000
    assert press(bpy.ops.head360.extract_surface) == {"RUNNING_MODAL"}
    yield from until(lambda: any("Surface" in item.name for item in scene.objects))
    child = session.backend._process
    yield 1.0
    bpy.ops.preferences.addon_disable(module=MODULE)
    assert child.poll() is not None
    seen["ok"] = True


steps = story()
last = [time.monotonic()]


def drive():
    now = time.monotonic()
    seen["longest_gap"] = max(seen["longest_gap"], now - last[0])
    last[0] = now
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
    (OUT / "report.json").write_text(json.dumps(seen))
    bpy.ops.wm.quit_blender()
    return None


bpy.app.timers.register(drive, first_interval=1.0)
