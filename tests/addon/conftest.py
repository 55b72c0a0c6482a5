"""Tests that run inside Blender (the bpy module): registration, scenes, and a real backend."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
HAS_BPY = importlib.util.find_spec("bpy") is not None
# Without bpy there is nothing to test here; `make test` runs this folder in .venv-blender.
collect_ignore_glob = [] if HAS_BPY else ["test_*.py"]

if HAS_BPY:
    # Before bpy is imported, or it reads and writes the user's own Blender settings.
    _RESOURCES = tempfile.mkdtemp(prefix="head360-blender-")
    os.environ["BLENDER_USER_RESOURCES"] = _RESOURCES
    # A development machine may have these set; the tests decide for themselves.
    for _name in ("HEAD360_BACKEND_PYTHON", "HEAD360_BACKEND_ARGS", "HEAD360_RUNTIME_DIR"):
        os.environ.pop(_name, None)
    sys.path[:0] = [str(REPOSITORY), str(HERE)]

_exit_code = 0


def pytest_report_header() -> str:
    return "" if HAS_BPY else "tests/addon: left out, this Python has no bpy (use .venv-blender)"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus):
    global _exit_code
    _exit_code = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    # Some bpy modules hang or crash in their exit handlers: leave without them.
    if "bpy" in sys.modules:
        shutil.rmtree(_RESOURCES, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_code)


@pytest.fixture(scope="session")
def addon():
    """The extension, registered for the whole run."""
    import blender_addon

    blender_addon.register()
    yield blender_addon
    blender_addon.unregister()


@pytest.fixture
def bpy_scene(addon):
    """An empty scene with a camera; returns it."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0.0, -1.2, 0.0), (1.5707963, 0.0, 0.0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = 96, 64
    return scene


@pytest.fixture
def head(bpy_scene):
    """A head object of the fake model, made without a backend, active."""
    import bpy
    from addon_fake_head import FakeHead
    from blender_addon import rig

    fake = FakeHead()
    made = rig.build_head(
        fake.mesh(fake.codes()), name="Ada", model="fake", subject="Ada", style="short"
    )
    bpy_scene.collection.objects.link(made)
    bpy.context.view_layer.objects.active = made
    bpy.context.view_layer.update()
    return made


@pytest.fixture(scope="session")
def backend_environment(tmp_path_factory):
    """Environment of a session whose backend serves the fake head: a real process, no torch."""
    python = REPOSITORY / ".venv" / "bin" / "python"
    if not python.is_file():
        pytest.skip("the backend's environment .venv is not there (run `make setup`)")
    folder = tmp_path_factory.mktemp("backend")
    wrapper = folder / "python"
    # What is fitted or edited goes to a folder of our own.
    data = folder / "data"
    wrapper.write_text(
        f'#!/bin/sh\nXDG_DATA_HOME="{data}" PYTHONPATH="{HERE}" exec "{python}" "$@"\n'
    )
    wrapper.chmod(0o755)
    from addon_fake_head import write_model

    model = write_model(folder / "models")
    return {
        "HEAD360_BACKEND_PYTHON": str(wrapper),
        "HEAD360_RUNTIME_DIR": str(folder / "run"),
        "HEAD360_TEST_DATA": str(data),
        "HEAD360_BACKEND_ARGS": f"--models {model.parent} --head-factory addon_fake_head:load",
    }


@pytest.fixture
def backend(addon, bpy_scene, backend_environment, monkeypatch):
    """The extension's session, connected to a backend with the fake head (kept between tests)."""
    import bpy
    from blender_addon.session import session

    for name, value in backend_environment.items():
        monkeypatch.setenv(name, value)
    if session.client is None or not session.client.alive:
        session.stop(wait=True)
        assert bpy.ops.head360.start_backend() == {"FINISHED"}
    return session


@pytest.fixture
def snapshot():
    """A function that counts everything a failed operator might have left in the scene."""
    import bpy

    def take():
        counts = {
            name: len(getattr(bpy.data, name))
            for name in ("objects", "meshes", "materials", "actions", "images", "shape_keys")
        }
        scene = bpy.context.scene
        keys = [
            (key.name, [block.value for block in key.key_blocks], bool(key.animation_data))
            for key in bpy.data.shape_keys
        ]
        where = (scene.frame_current, scene.frame_start, scene.frame_end)
        return counts, keys, where, [len(c.background_images) for c in bpy.data.cameras]

    return take


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
    folder = Path(os.environ.get("HEAD360_TEST_DATA", "/nowhere")) / "head360" / "models"
    yield folder
    if folder.is_dir():
        shutil.rmtree(folder)


@pytest.fixture
def window(monkeypatch):
    """Operators behave as in a window; returns (context, a function that drives one to its end)."""
    import bpy
    from addon_window import TIMER
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
        end = time.monotonic() + 30
        while (result := operator.modal(context, TIMER)) == {"PASS_THROUGH"} and not until():
            assert time.monotonic() < end
            session.pump()
            time.sleep(0.005)
        return result

    yield context, drive
    session.flows.clear()
