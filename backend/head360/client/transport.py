"""The one thread that owns every ZeroMQ object of a client.

Other threads append commands to a deque and wake the thread through a socket pair; answers reach
them through ``Job``. The thread notices a dead backend by the closed connection at once, by
unanswered pings after ``DEAD_AFTER`` seconds.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from head360 import protocol
from head360.client.jobs import Cancelled, Done, Failed, FrameDone, Job, Progress, StageDone
from head360.connection import Connection
from head360.errors import Head360Error, TryAgain

log = logging.getLogger(__name__)

PING_AFTER = 1.0  # seconds of silence before a ping
SLOW_AFTER = 3.0  # then the state says "unresponsive"
DEAD_AFTER = 8.0  # then every pending job fails
_GONE = "The backend stopped or the connection to it was cut: start it again."
_REFUSED = "The backend does not accept this connection: its keys have changed, connect again."
_CLOSED = "The connection to the backend was closed."
# Monitor events that mean "wrong keys" rather than "not there yet".
_HANDSHAKE_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Transport:
    """Sends requests and routes answers to their jobs.

    Attributes:
        state: ``connecting``, ``connected``, ``unresponsive`` (silent for some seconds, may
            recover), ``lost`` (final; make a new client) or ``closed``.
    """

    def __init__(self, connection: Connection) -> None:
        self.state = "connecting"
        self.reason = ""
        self._connection = connection
        self._commands: deque[tuple[Job[Any] | None, list[Any]]] = deque()
        self._jobs: dict[str, Job[Any]] = {}
        self._outbox: deque[list[Any]] = deque()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="head360-io", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Any] | None, frames: list[Any]) -> None:
        """Queue a packed request; its answers go to ``job``. Never blocks, any thread."""
        with self._lock:
            if self.state not in ("lost", "closed") and not self._closing.is_set():
                self._commands.append((job, frames))
                self._wake()
                return
        if job is not None:
            job._push(Failed(TryAgain(self.reason or _CLOSED)))

    def close(self) -> None:
        """Stop the thread and fail what is pending; returns within about a second."""
        self._closing.set()
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full buffer: the thread is awake anyway
            self._wake_out.send(b"x")

    # Everything below runs on the I/O thread alone.

    def _run(self) -> None:
        context = zmq.Context()
        try:
            self._loop(context)
        except Exception:
            log.exception("the client's I/O thread stopped")
            self._end("lost", "The connection to the backend failed unexpectedly: connect again.")
        finally:
            self._end("closed", _CLOSED)
            context.destroy(linger=0)  # term() would hang on any open socket
            self._wake_in.close()
            self._wake_out.close()

    def _loop(self, context: zmq.Context[Any]) -> None:
        connection = self._connection
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.immediate = 1  # no stale requests into a restarted server
        dealer.maxmsgsize = protocol.MAX_FRAME
        dealer.rcvhwm = dealer.sndhwm = 64
        dealer.curve_serverkey = connection.server_public.encode()
        dealer.curve_publickey = connection.client_public.encode()
        dealer.curve_secretkey = connection.client_secret.encode()
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _HANDSHAKE_FAILURES
        )
        dealer.connect(connection.endpoint)
        poller = zmq.Poller()
        poller.register(monitor, zmq.POLLIN)
        poller.register(self._wake_in.fileno(), zmq.POLLIN)
        self._heard = self._pinged = time.monotonic()
        while not self._closing.is_set() and self.state != "lost":
            poller.register(dealer, zmq.POLLIN | (zmq.POLLOUT if self._outbox else 0))
            ready = dict(poller.poll(250))
            if self._wake_in.fileno() in ready:
                with contextlib.suppress(OSError):
                    self._wake_in.recv(4096)
            if dealer in ready:
                self._receive(dealer)
            if monitor in ready:
                self._monitor(monitor)
            while self._commands:
                job, frames = self._commands.popleft()
                if job is not None:
                    self._jobs[job.id] = job
                self._outbox.append(frames)
            self._liveness()
            self._flush(dealer)

    def _flush(self, dealer: zmq.Socket[Any]) -> None:
        while self._outbox:
            try:
                dealer.send_multipart(self._outbox[0], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._outbox.popleft()

    def _monitor(self, monitor: zmq.Socket[Any]) -> None:
        while monitor.poll(0):
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.state = "connected"
                self._heard = time.monotonic()
            elif event & _HANDSHAKE_FAILURES:
                self._end("lost", _REFUSED)
            elif event == zmq.EVENT_DISCONNECTED:
                # There is no session to resume in this version: a cut connection is final.
                self._end("lost", _GONE if self.state != "connecting" else _REFUSED)

    def _liveness(self) -> None:
        now = time.monotonic()
        if self.state in ("connected", "unresponsive"):
            silent = now - self._heard
            if silent > DEAD_AFTER:
                self._end("lost", f"The backend has not answered for {silent:.0f} s: restart it.")
            elif silent > SLOW_AFTER:
                self.state = "unresponsive"
            # Also while busy: the server forgets clients that never say anything.
            if now - self._pinged > PING_AFTER:
                self._pinged = now
                self._outbox.append(protocol.REQUESTS.pack(protocol.Ping(), id="ping"))
        for job in [j for j in self._jobs.values() if j.deadline and now > j.deadline]:
            del self._jobs[job.id]
            job._push(Failed(TryAgain("The backend did not answer in time: try again.")))
            if self.state == "connected":
                self._outbox.append(
                    protocol.REQUESTS.pack(protocol.CancelJob(job.id), id=f"{job.id}.stop")
                )

    def _receive(self, dealer: zmq.Socket[Any]) -> None:
        for _ in range(32):  # then look at the other sockets again
            try:
                frames = dealer.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._heard = time.monotonic()
            if self.state == "unresponsive":
                self.state = "connected"
            try:
                message = protocol.ANSWERS.unpack(frames)
            except protocol.WireError as error:
                peek = protocol.peek_header(frames[0]) if frames else None
                job = self._jobs.pop(peek.re, None) if peek else None
                if job is not None:
                    job._push(Failed(error))
                log.warning("an answer was not understood: %s", error)
                continue
            self._route(message)

    def _route(self, message: protocol.Message) -> None:
        job = self._jobs.get(message.re)
        if job is None:
            return
        body = message.body
        if isinstance(body, protocol.Advance):
            job._push(Progress(body.phase, body.fraction))
            return
        if isinstance(body, protocol.StageReady):
            picture = message.blobs.get("picture")
            if picture is not None and (picture.ndim != 3 or picture.shape[2] != 3):
                picture = None
            job._push(StageDone(body.name, body.number, body.count, body.text, picture))
            return
        if isinstance(body, protocol.SequenceFrameReady):
            png = message.blobs["png"].tobytes() if "png" in message.blobs else b""
            job._push(FrameDone(body.number, png, body.seconds, body.step, body.of))
            return
        del self._jobs[message.re]
        if isinstance(body, protocol.Failure):
            job._push(Failed(protocol.exception(body)))
        elif isinstance(body, protocol.Stopped):
            job._push(Cancelled(body.reached, body.reason))
        else:
            job._push(_decoded(job.decode, message))

    def _end(self, state: str, reason: str) -> None:
        """Enter a final state (the first one counts) and fail everything that is pending."""
        with self._lock:
            if self.state not in ("lost", "closed"):
                self.state, self.reason = state, reason
            pending = [job for job, _ in self._commands if job is not None]
            self._commands.clear()
        self._outbox.clear()
        for job in [*self._jobs.values(), *pending]:
            job._push(Failed(TryAgain(self.reason)))
        self._jobs.clear()


def _decoded(decode: Callable[[Any], Any] | None, message: protocol.Message) -> Done | Failed:
    if decode is None:
        return Done(message.body)
    try:
        return Done(decode(message))
    except Head360Error as error:
        return Failed(error)
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        log.warning("an answer does not have the expected content: %r", error)
        return Failed(protocol.WireError("The backend sent an answer that does not fit."))
