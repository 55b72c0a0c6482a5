"""The one connection to a backend, and the work that waits for it.

Blender calls :func:`_tick` from a timer; it never waits and stops after a few milliseconds. In the
background timers do not fire, so :meth:`Session.run` pumps the same work itself. pyzmq is loaded
only when a backend is used: a broken wheel must not keep the extension from being enabled.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from concurrent.futures import Future
from enum import Enum
from pathlib import Path
from typing import Any

import bpy

from head360.errors import Cancelled, Head360Error, TryAgain

from . import album, preferences, properties
from .flows import Flow, Steps, in_thread

logger = logging.getLogger(__name__)
_console = logging.StreamHandler()  # Python's own last resort shows warnings only
_console.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))

_BUDGET = 0.004  # seconds of one tick
_ACTIVE, _IDLE = 1 / 60, 0.25  # seconds between ticks
_START_LIMIT = 300.0  # seconds, like the server's: torch from a cold disk takes its time


class State(Enum):
    """Of the connection, as the panel shows it."""

    STOPPED = "Stopped"
    STARTING = "Starting"
    READY = "Ready"
    CRASHED = "Stopped unexpectedly"


class Session:
    """Owns the client, the local backend process and the running flows.

    Attributes:
        state: of the connection.
        message: the last problem, for the panel; empty again when something works.
        last_error: what an operator reported last; scripts see only its text otherwise.
        client: ``head360.client.Client`` while connected, else None.
        backend: the process that this session started, else None.
        flows: work under way.
        models: what the backend has; the list in the window manager is a copy for drawing.
        log_path: of the last backend that was started here.
    """

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.message = ""
        self.last_error: BaseException | None = None
        self.client: Any = None
        self.backend: Any = None
        self.flows: list[Flow] = []
        self.models: list[Any] = []
        self.log_path: Path | None = None
        self._checked = 0.0

    @property
    def is_connected(self) -> bool:
        """There is a backend to ask. False after a crash, also before the timer noticed it."""
        return self.client is not None and self.client.alive

    @property
    def device(self) -> str:
        """What the backend computes on, for the panel."""
        return self.client.welcome.device if self.client is not None else ""

    @property
    def unresponsive(self) -> bool:
        """Connected, but silent for some seconds; it may recover."""
        return self.client is not None and self.client.state == "unresponsive"

    # --- starting and stopping ------------------------------------------------------------------

    def start_steps(self) -> Steps:
        """Flow: spawn the local backend, connect, list the models."""
        try:
            from head360.launcher import LocalBackend
        except ImportError as error:
            raise _broken_wheels(error) from error

        if self.is_connected:
            return
        python = preferences.backend_python()
        self._drop()
        settings = preferences.get()
        extra = shlex.split(os.environ.get("HEAD360_BACKEND_ARGS", ""))
        if settings.models_folder:
            extra += ["--models", bpy.path.abspath(settings.models_folder)]
        if preferences.diffusion_model():
            extra += ["--diffusion", preferences.diffusion_model()]
        self.state, self.message = State.STARTING, ""
        try:
            self.backend = LocalBackend.start(
                python,
                runtime_dir=preferences.runtime_folder(),
                extra_args=extra,
            )
            self.log_path = self.backend.log_path
            while not (seen := self.backend.poll()).ready:
                if (error := seen.error()) is not None:
                    raise _with_advice(error)
                if seen.seconds > _START_LIMIT:
                    raise TryAgain(
                        f"The backend is not ready after {_START_LIMIT:.0f} s: press Reveal Log "
                        "to see how far it came, and start it again."
                    )
                yield None
            yield from self._connect_steps(self.backend.connection_file)
        except BaseException:
            self._drop()
            self.state = State.STOPPED
            raise

    def attach_steps(self, file: Path | None) -> Steps:
        """Flow: connect to a backend that somebody else started."""
        try:
            from head360 import connection
        except ImportError as error:
            raise _broken_wheels(error) from error

        if file is None:
            folder = preferences.runtime_folder() or connection.default_runtime_dir()
            found = connection.find(folder)
            if not found:
                raise TryAgain("No running backend was found: press Start Backend.")
            file = found[0]
        self._drop()
        self.state, self.message = State.STARTING, ""
        try:
            yield from self._connect_steps(file)
        except BaseException:
            self._drop()
            self.state = State.STOPPED
            raise

    def _connect_steps(self, file: Path) -> Steps:
        def connect() -> Any:
            from head360.client import Client  # here: loading pyzmq takes a noticeable moment

            return Client.connect(file)

        connecting = in_thread(connect)
        try:
            self.client = yield connecting
        except ImportError as error:
            raise _broken_wheels(error) from error
        except BaseException:  # cancelled meanwhile: nobody would close what still comes
            connecting.add_done_callback(_close)
            raise
        self.state = State.READY
        yield from self.models_steps()
        if "edit" in self.client.features:
            try:
                properties.editors = yield self.client.submit_editors()
            except Cancelled:
                raise
            except Head360Error as error:  # pictures are made without them, too
                logger.warning("the editors cannot be listed: %s", error)

    def models_steps(self) -> Steps:
        """Flow: ask which models there are and fill the list."""
        infos = yield self.connected().submit_models(thumbnails=False)
        self.models = infos
        properties.fill_models(bpy.context.window_manager.head360, infos)
        return infos

    def connected(self) -> Any:
        """The client.

        Raises:
            TryAgain: there is no connection.
        """
        if not self.is_connected:
            raise TryAgain("No backend is running: press Start Backend in the Head360 tab.")
        return self.client

    def head_steps(self, model: str, subject: str | None, style: str | None) -> Steps:
        """Flow: make the head known to this backend. The same codes give the same id, at once."""
        return (yield self.connected().submit_create_head(model, subject, style))

    def stop(self, *, wait: bool = False) -> None:
        """Cancel all work, disconnect, and end the process that we started (nobody else's)."""
        for flow in self.flows:
            flow.cancel()
        self._drop(wait=wait)
        self.state, self.message = State.STOPPED, ""

    def _drop(self, *, wait: bool = False) -> None:
        client, backend, self.client, self.backend = self.client, self.backend, None, None
        properties.editors = {}
        if client is not None:
            if wait:
                client.close()
            else:
                in_thread(client.close)  # it joins its thread: up to a second
        if backend is not None:
            if wait:
                backend.stop(timeout=3.0)
            else:
                backend.stop_in_background()

    # --- work -------------------------------------------------------------------------------------

    def begin(self, title: str, steps: Steps) -> Flow:
        """Start a flow that the timer drives."""
        flow = Flow(title, steps)
        flow.advance()  # at once, so that what is wrong from the start is known at once
        if not flow.finished:
            self.flows.append(flow)
        ensure_timer()
        return flow

    def run(self, title: str, steps: Steps) -> Any:
        """Drive a flow to its end and return its result: for background Blender.

        Raises:
            Head360Error: the work failed, in words for the user.
        """
        flow = Flow(title, steps)
        self.flows.append(flow)
        try:
            while not flow.finished:
                if not flow.advance():
                    time.sleep(0.002)
                else:
                    time.sleep(0)
        except KeyboardInterrupt:
            flow.cancel()
            raise
        finally:
            if flow in self.flows:
                self.flows.remove(flow)
        if flow.error is not None:
            raise flow.error
        return flow.result

    def pump(self) -> bool:
        """One tick: advance every flow a little and look after the backend. True when busy.

        Who began a flow reports how it ended.
        """
        deadline = time.perf_counter() + _BUDGET
        for flow in list(self.flows):
            flow.advance()
            if flow.finished:
                self.flows.remove(flow)
            if time.perf_counter() > deadline:
                break
        self._watch()
        return bool(self.flows)

    def _watch(self) -> None:
        """Notice a backend that went away."""
        if self.state is not State.READY or time.monotonic() - self._checked < 0.5:
            return
        self._checked = time.monotonic()
        crashed = self.backend is not None and self.backend.poll().exit_code is not None
        if crashed or not self.client.alive:
            last = self.backend.log_tail(1) if self.backend is not None else []
            logger.warning("the backend went away: %s", last)
            self._drop()
            self.state = State.CRASHED
            self.message = "The backend stopped unexpectedly: start it again, or press Reveal Log."


def _with_advice(error: Head360Error) -> Head360Error:
    """The backend's own sentence as it is; what to do added to one that only says it stopped."""
    text = str(error)
    if text.startswith("The backend stopped"):
        text = f"{text.rstrip('.')}: check Backend Python in the preferences, or press Reveal Log."
    return type(error)(text)


def _close(connecting: Future[Any]) -> None:
    """Close the client that nobody waits for any more; runs on the thread that connected."""
    if connecting.exception() is None:
        connecting.result().close()


def _broken_wheels(error: ImportError) -> Head360Error:
    return Head360Error(
        f"The extension's own libraries cannot be loaded ({error}): "
        "reinstall the extension and restart Blender."
    )


session = Session()


def redraw() -> None:
    """Redraw the sidebars of all 3D views; only called when something has changed."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


_last_seen: list[Any] = []


def _tick() -> float:
    """Timer function; it must never raise, or Blender drops it for good."""
    try:
        busy = session.pump()
        seen = [
            session.state,
            session.message,
            session.unresponsive,
            # Its seconds are shown: what works for minutes at one phase is still seen to live.
            [(flow.phase, round(flow.fraction, 2), int(flow.seconds)) for flow in session.flows],
        ]
        if seen != _last_seen:
            _last_seen[:] = seen
            redraw()
    except Exception:
        logger.exception("the session's timer failed")
        return _IDLE
    return _ACTIVE if busy else _IDLE


def ensure_timer() -> None:
    """Register the timer, or register it again if a file load dropped it."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


@bpy.app.handlers.persistent
def _after_load(*_args: Any) -> None:
    # A new file: nothing that waits may write into it.
    for flow in session.flows:
        flow.cancel()
    properties.fill_models(bpy.context.window_manager.head360, session.models)
    ensure_timer()


def _autostart_steps() -> Steps:
    """Flow: start the backend; no operator reports the error, so the panel must."""
    try:
        yield from session.start_steps()
    except Cancelled:
        raise
    except Head360Error as error:
        session.message = str(error)
        raise


def _autostart() -> None:
    if preferences.get().autostart and session.state is State.STOPPED:
        session.begin("Start Backend", _autostart_steps())


def start() -> None:
    """Called by ``register``: no connection yet, only what keeps the session alive."""
    for name in preferences.LOGGERS:
        logging.getLogger(name).addHandler(_console)
    preferences.apply_log_level()
    ensure_timer()
    bpy.app.handlers.load_post.append(_after_load)
    if not bpy.app.background:
        bpy.app.timers.register(_autostart, first_interval=0.5)


def shut_down() -> None:
    """Called by ``unregister``: leave no thread, timer, handler or process behind."""
    session.stop(wait=True)
    session.flows.clear()
    album.close()
    for name in preferences.LOGGERS:
        logging.getLogger(name).removeHandler(_console)
    for function in (_tick, _autostart):
        if bpy.app.timers.is_registered(function):
            bpy.app.timers.unregister(function)
    if _after_load in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(_after_load)
