"""Starting, attaching, losing and installing the backend; a real process serves the fake head."""

from __future__ import annotations

import os
import signal
import time

import bpy
import pytest


def test_stop_ends_the_process_and_nothing_else(backend):
    child = backend.backend._process
    assert bpy.ops.head360.stop_backend() == {"FINISHED"}
    assert child.poll() is not None
    assert backend.client is None
    with pytest.raises(RuntimeError, match="No backend is running"):
        bpy.ops.head360.stop_backend()


def test_attach(backend, addon):
    """A second session finds the backend that the first one started, and does not stop it."""
    from blender_addon.session import Session

    other = Session()
    other.run("Attach", other.attach_steps(None))
    assert other.device == backend.device
    other.stop(wait=True)
    assert backend.backend.poll().ready


def test_attach_operator(backend):
    from blender_addon.session import Session

    with pytest.raises(RuntimeError, match="Stop the backend first"):
        bpy.ops.head360.attach_backend()
    backend.stop(wait=True)
    other = Session()
    other.run("Start Backend", other.start_steps())
    try:
        folder = str(other.backend.connection_file.parent)
        assert bpy.ops.head360.attach_backend(filepath=folder) == {"FINISHED"}
        assert backend.is_connected
        assert backend.backend is None
    finally:
        backend.stop(wait=True)
        other.stop(wait=True)


def test_out_of_reach(addon, bpy_scene, backend_environment, monkeypatch, tmp_path):
    from blender_addon.session import Session

    monkeypatch.setenv("HEAD360_RUNTIME_DIR", str(tmp_path / "none"))
    from head360.errors import Head360Error

    other = Session()
    with pytest.raises(Head360Error, match="Start Backend"):
        other.run("Attach", other.attach_steps(None))
    with pytest.raises(Head360Error, match="is running"):
        other.run("Attach", other.attach_steps(tmp_path / "connection-x.json"))
    for python, words in (
        ("", "Install Backend"),
        (str(tmp_path / "nothing"), "does not exist"),
        ("/bin/false", "check Backend Python"),
    ):
        monkeypatch.setenv("HEAD360_BACKEND_PYTHON", python)
        with pytest.raises(Head360Error, match=words):
            other.run("Start Backend", other.start_steps())
        assert other.client is None
        assert other.backend is None


def test_reveal_log(backend):
    assert bpy.ops.head360.reveal_log() == {"FINISHED"}
    assert "backend.log" in bpy.data.texts["Head360 Log"].as_string()


def test_install_needs_online_access(addon):
    from blender_addon.session import session

    session.stop(wait=True)
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="Preferences > System"):
        bpy.ops.head360.install_backend()


def test_install_waits_for_a_stopped_backend(backend):
    with pytest.raises(RuntimeError, match="Stop the backend first"):
        bpy.ops.head360.install_backend()


def test_a_crash_is_survived_without_a_timer(backend):
    os.kill(backend.backend.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while backend.client.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="Start the backend first"):
        bpy.ops.head360.create_head()
    assert bpy.ops.head360.start_backend() == {"FINISHED"}
