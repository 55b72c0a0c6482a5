"""One worker process as the gateway sees it: start, give a task, notice its death, restart.

Never imports torch. The worker's own socket has its own keys and its own allow-list, so a client
of the backend cannot pose as a worker.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import time
from collections import deque
from typing import Any

import msgspec
import zmq

from head360 import protocol
from head360.protocol import Message, WireError
from head360.server import work
from head360.server.auth import Doorman, KeyPair

log = logging.getLogger(__name__)

RESTARTS = 5
RESTART_WINDOW = 600.0  # seconds
START_LIMIT = 300.0  # importing torch from a cold disk takes its time
KILL_LIMIT = 5.0  # seconds: a process that waits for its device or disk outlives being killed
_DOMAIN = "worker"


class Lane:
    """Supervises the worker.

    Attributes:
        state: ``starting``, ``ready``, ``busy`` or ``disabled`` (too many crashes; final).
        device, device_kind: as the worker reported them; empty before it was ready once.
        makes: likewise, see ``work.WorkerReady``.
        restarts: how often a worker was started after a crash.
        socket: ROUTER to register for POLLIN.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        doorman: Doorman,
        device: str,
        factory: str,
        diffusion: str = "",
        *,
        once: bool = False,
    ) -> None:
        """``once``: a worker that ends is not started again."""
        self.state = "starting"
        self.device = self.device_kind = ""
        self.makes: list[str] = []
        self.restarts = 0
        self._once = once
        self._wanted = device
        self._factory = factory
        self._diffusion = diffusion
        self._doorman = doorman
        self._server_keys, self._worker_keys = KeyPair.new(), KeyPair.new()
        self._crashes: deque[float] = deque()
        self._generations = itertools.count(1)
        self._tasks = itertools.count(1)
        self._task = ""
        self._limit = 0.0
        self._excused = False
        self._killed: float | None = None  # when
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.router_mandatory = 1
        self.socket.maxmsgsize = protocol.MAX_FRAME
        doorman.guard(self.socket, _DOMAIN, self._server_keys)
        doorman.allow(_DOMAIN, self._worker_keys.public)
        self.socket.bind("tcp://127.0.0.1:*")
        self._start()

    def _start(self) -> None:
        self.state = "starting"
        self._task = ""
        self._killed = None
        self._limit = time.monotonic() + START_LIMIT
        self._identity = f"worker-{next(self._generations)}"
        config = work.Config(
            endpoint=last_endpoint(self.socket),
            server_public=self._server_keys.public,
            public=self._worker_keys.public,
            secret=self._worker_keys.secret,
            identity=self._identity,
            device=self._wanted,
            factory=self._factory,
            diffusion=self._diffusion,
        )
        self._process = subprocess.Popen(
            # -P: a torch.py in the working folder is not torch. The flag is not inherited.
            [sys.executable, "-P", "-m", "head360.server.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died already: ``check`` reports it
            self._process.stdin.write(msgspec.json.encode(config) + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, task: Any, blobs: dict[str, Any], limit: float) -> bool:
        """Hand over a task (state must be ``ready``); False if the worker just went away.

        ``limit``: seconds after which the worker counts as hung and is killed.
        """
        self._task = f"t{next(self._tasks)}"
        frames = work.TASKS.pack(task, id=self._task, blobs=blobs)
        try:
            self.socket.send_multipart([self._identity.encode(), *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.warning("the worker cannot be reached: %s", error)
            self.kill()
            return False
        self.state = "busy"
        self._excused = False
        self._limit = time.monotonic() + limit
        return True

    def receive(self) -> Message | None:
        """The next answer to the current task (``re`` is "start" for the first message), or None.

        Answers of an earlier worker or task are dropped.
        """
        while True:
            try:
                identity, *frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            if bytes(identity.buffer) != self._identity.encode():
                continue
            try:
                message = work.RESULTS.unpack(frames)
            except WireError as error:
                log.error("the worker's answer cannot be read: %s", error)
                self.kill()
                return None
            if isinstance(message.body, work.WorkerReady):
                self.device, self.device_kind = message.body.device, message.body.device_kind
                self.makes = message.body.makes
                self.state = "ready"
                log.info("worker ready on %s", self.device)
            elif message.re == self._task and isinstance(message.body, (work.Advance, work.Stage)):
                pass  # the task goes on
            elif message.re == self._task:
                self.state = "ready"
                self._task = ""
            elif message.re != "start":
                continue
            return message

    def interrupt(self) -> None:
        """Ask the worker to leave its current task; tasks that report progress do."""
        if self.state == "busy":
            frames = work.TASKS.pack(work.StopTask(), id=f"s{next(self._tasks)}", blobs={})
            with contextlib.suppress(zmq.ZMQError):
                self.socket.send_multipart([self._identity.encode(), *frames], zmq.NOBLOCK)

    def kill_after(self, seconds: float) -> None:
        """Bring the current task's time limit forward (it was cancelled)."""
        self._limit = min(self._limit, time.monotonic() + seconds)
        self._excused = True  # being slow to stop is not a crash

    def kill(self) -> None:
        """End the worker process now; ``check`` will report it."""
        if self._killed is None:
            self._killed = time.monotonic()
        with contextlib.suppress(OSError):
            self._process.kill()

    def has_ended(self) -> bool:
        """Whether the process is gone; ``check`` deals with it."""
        return self.state != "disabled" and self._process.poll() is not None

    def check(self) -> str | None:
        """A sentence if the worker has ended since the last call (it is restarted if allowed).

        Never waits: one that was killed and does not go is given up after ``KILL_LIMIT``.
        """
        if self.state == "disabled":
            return None
        code = self._process.poll()
        if code is None:
            now = time.monotonic()
            if self._killed is None:
                if self.state in ("busy", "starting") and now > self._limit:
                    log.error("the worker does not answer: it is killed")
                    self.kill()
                return None
            if now - self._killed < KILL_LIMIT:
                return None
        how = "it hangs in the system" if code is None else _how(code)
        log.error("the worker stopped (%s)", how)
        if self._once:
            self.state = "disabled"
            return (
                f"The process that does this work stopped unexpectedly ({how}): try again, and if "
                "it happens again look at the backend's log."
            )
        now = time.monotonic()
        if not self._excused:
            self._crashes.append(now)
        while self._crashes and now - self._crashes[0] > RESTART_WINDOW:
            self._crashes.popleft()
        if len(self._crashes) > RESTARTS:
            self.state = "disabled"
            return (
                f"The render process stopped {len(self._crashes)} times in ten minutes ({how}): "
                "look at the backend's log, then restart the backend."
            )
        self.restarts += 1
        self._start()
        return f"The render process stopped unexpectedly ({how}) and is restarting: try again."

    def stop(self) -> None:
        """Close the worker's standard input, which ends it; kill it if it does not go.

        Waits up to 2 s for its end and as long again after killing it, but not for one that was
        given up, see :meth:`check`.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        while not self._has_gone():
            if self._killed is not None:
                log.error("the worker %d does not end: it is left behind", self.pid)
                break
            self.kill()
        self._doorman.forbid(_DOMAIN, self._worker_keys.public)

    def _has_gone(self) -> bool:
        if self._killed is not None and time.monotonic() - self._killed >= KILL_LIMIT:
            return self._process.poll() is not None
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            return False
        return True


def _how(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def last_endpoint(socket: zmq.Socket[Any]) -> str:
    """The address a socket was bound to, with the port that the system chose."""
    value = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(value, bytes)
    return value.decode().rstrip("\0")
