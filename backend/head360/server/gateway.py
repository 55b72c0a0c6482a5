"""The process clients talk to: keys, limits, queue and job table. Never imports torch.

It stays answerable while the worker holds the interpreter lock, hangs in a driver or dies. One
thread, one loop; every request gets exactly one terminal answer.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import zmq

import head360
from head360 import connection, protocol
from head360.errors import BadInput, Head360Error, TryAgain
from head360.protocol import Failure, Limits, Message, Stopped, WireError
from head360.server import work
from head360.server.auth import Doorman, KeyPair
from head360.server.heads_table import HeadsTable
from head360.server.jobs import Client, Job, Queue
from head360.server.lane import Lane, last_endpoint
from head360.server.surroundings import Options, cap_log, check_bind, watch_parent
from head360.server.workbench import Workbench

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
FORGET_AFTER = 120.0  # seconds without a word (clients ping every second)
CANCEL_GRACE = 10.0  # a cancelled task that has not ended by then costs the worker its life
TASK_LIMIT = 900.0  # one frame on a slow CPU; beyond this the worker counts as hung
SURFACE_LIMIT = 3600.0
_DOMAIN = "clients"


class Gateway:
    """The server. ``run`` blocks until it is asked to leave."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._limits = Limits()
        self._heads = HeadsTable(options.models)
        self._queue = Queue(self._limits.window)
        self._running: Job | None = None
        self._clients: dict[bytes, Client] = {}
        self._started = self._active = time.monotonic()
        self._stop_reason = ""

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT, ``Shutdown``, the parent's end or the idle time-out.

        Raises:
            BadInput: address or runtime folder cannot be used.
            NoDevice: the device does not exist. TryAgain: the worker does not start at all.
        """
        options = self._options
        folder = connection.prepare_runtime_dir(options.runtime_dir)
        endpoint = check_bind(options.bind)
        connection.sweep(folder)
        self._install_signals()
        watch_parent(options, self.stop)
        context: zmq.Context[Any] = zmq.Context()
        lane: Lane | None = None
        bench: Workbench | None = None
        file: Path | None = None
        try:
            doorman = Doorman(context)
            server_keys, client_keys = KeyPair.new(), KeyPair.new()
            self._front = self._bind(context, doorman, endpoint, server_keys, client_keys)
            self._lane = lane = self._new_lane(context, doorman)
            self._poller = zmq.Poller()
            for socket in (doorman.socket, self._front, lane.socket):
                self._poller.register(socket, zmq.POLLIN)
            self._doorman = doorman
            self._workbench = bench = Workbench(
                self._heads,
                lambda: self._new_lane(context, doorman, once=True),
                self._poller,
                tell=lambda job, body, blobs: self._send(job.client, body, job.id, blobs),
                finish=self._finish,
            )
            while not self._stop_reason and not lane.device:
                self._turn()
            if not self._stop_reason:
                file = connection.write(
                    folder,
                    connection.Connection(
                        endpoint=last_endpoint(self._front),
                        server_public=server_keys.public,
                        client_public=client_keys.public,
                        client_secret=client_keys.secret,
                        pid=os.getpid(),
                        boot_id=options.boot_id,
                        version=head360.__version__,
                    ),
                )
                log.info("ready: %s", file)
            while not self._stop_reason:
                self._turn()
            log.info("leaving: %s", self._stop_reason)
            self._cancel_everything()
        finally:
            if file is not None:
                file.unlink(missing_ok=True)
            if bench is not None:
                bench.stop()
            if lane is not None:
                lane.stop()
            context.destroy(linger=500)

    def stop(self, reason: str) -> None:
        """Ask the loop to end; callable from any thread and from signal handlers."""
        self._stop_reason = self._stop_reason or reason

    # --- set-up -------------------------------------------------------------------------------

    def _new_lane(self, context: zmq.Context[Any], doorman: Doorman, once: bool = False) -> Lane:
        options = self._options
        return Lane(context, doorman, options.device, options.factory, options.diffusion, once=once)

    def _bind(
        self,
        context: zmq.Context[Any],
        doorman: Doorman,
        endpoint: str,
        server_keys: KeyPair,
        client_keys: KeyPair,
    ) -> zmq.Socket[Any]:
        front = context.socket(zmq.ROUTER)
        front.linger = 500
        front.router_mandatory = 1  # an error instead of silent loss
        front.maxmsgsize = protocol.MAX_FRAME
        front.sndhwm = front.rcvhwm = 64
        front.setsockopt(zmq.TCP_KEEPALIVE, 1)
        doorman.guard(front, _DOMAIN, server_keys)
        doorman.allow(_DOMAIN, client_keys.public)
        try:
            front.bind(endpoint)
        except zmq.ZMQError as error:
            raise BadInput(f"Cannot listen on {endpoint} ({error}): choose another port.") from None
        return front

    def _install_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None:
                signal.signal(number, lambda number, _: self.stop(signal.Signals(number).name))

    # --- the loop -----------------------------------------------------------------------------

    def _turn(self) -> None:
        waiting = any(client.outbox for client in self._clients.values())
        ready = dict(self._poller.poll(20 if waiting else 200))
        if self._doorman.socket in ready:
            self._doorman.answer()
        if self._lane.socket in ready:
            while (message := self._lane.receive()) is not None:
                self._from_worker(message)
        if self._front in ready:
            for _ in range(64):
                try:
                    routing, *frames = self._front.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                self._from_client(bytes(routing.buffer), frames)
        if self._lane.has_ended():  # its last words first
            while (message := self._lane.receive()) is not None:
                self._from_worker(message)
        ended = self._lane.check()
        if ended is not None:
            self._worker_ended(ended)
        self._workbench.turn()
        for client in [client for client in self._clients.values() if client.outbox]:
            self._drain(client)
        for job in self._queue.expired():
            self._finish(job, Failure("DEADLINE", "The backend was too busy in time: try again."))
        self._housekeeping()
        self._pump()

    def _housekeeping(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if now - client.heard > FORGET_AFTER:
                self._drop(client)
        if self._clients or self._running or len(self._queue) or self._workbench.job:
            self._active = now
        idle = self._options.idle_exit
        if idle is not None and now - self._active > idle:
            self.stop(f"nobody was here for {idle:.0f} s")
        cap_log()

    def _pump(self) -> None:
        """Give the worker its next task."""
        while self._running is None and self._lane.state == "ready":
            job = self._queue.take()
            if job is None:
                return
            task, blobs, limit = self._task(job)
            self._running = job
            if not self._lane.give(task, blobs, limit):
                return  # ``check`` will report the dead worker and fail the job

    def _task(self, job: Job) -> tuple[Any, dict[str, Any], float]:
        body = job.body
        left = TASK_LIMIT if job.deadline is None else job.deadline - time.monotonic() + 10.0
        if isinstance(body, protocol.CreateHead):
            assert job.model is not None
            ref = work.HeadRef(str(job.model.path), body.subject, body.style)
            return work.LoadTask(ref), {}, left
        if isinstance(body, protocol.ListEditors):
            return work.EditorsTask(), {}, left
        assert job.head is not None
        ref = work.HeadRef(job.head.path, job.head.info.subject, job.head.info.style)
        if isinstance(body, protocol.GetMesh):
            return work.MeshTask(ref), {}, left
        if isinstance(body, protocol.RenderFrame):
            return work.FrameTask(ref, body.width, body.height), job.blobs, left
        if isinstance(body, protocol.ExtractSurface):
            self._send(job.client, protocol.Advance("extracting", 0.0), job.id)
            return work.SurfaceTask(ref, body.resolution, body.texture), job.blobs, SURFACE_LIMIT
        frame = {
            "blendshapes": job.blobs["blendshapes"][job.next],
            "camera": job.blobs["cameras"][job.next],
        }
        return work.FrameTask(ref, body.width, body.height, png=True), frame, TASK_LIMIT

    # --- from the worker ----------------------------------------------------------------------

    def _from_worker(self, message: Message) -> None:
        body = message.body
        if message.re == "start":
            if isinstance(body, Failure) and not self._lane.device:
                raise protocol.exception(body)
            return
        if isinstance(body, work.Advance):
            if self._running is not None:
                advance = protocol.Advance(body.phase, body.fraction)
                self._send(self._running.client, advance, self._running.id)
            return
        job, self._running = self._running, None
        if job is None:
            return
        if isinstance(body, Failure):
            self._finish(job, body if job.stopping is None else Stopped(job.next, job.stopping))
            return
        job.seconds += getattr(body, "seconds", 0.0)
        if isinstance(job.body, protocol.RenderSequence):
            self._frame_done(job, message)
        elif job.stopping is not None:
            self._finish(job, Stopped(0, job.stopping))
        elif isinstance(body, work.Loaded):
            assert job.model is not None
            self._finish(job, self._heads.add(job.model, body.subject, body.style, body.kind))
        elif isinstance(body, protocol.Editors):
            self._finish(job, body)
        elif isinstance(job.body, protocol.GetMesh):
            self._finish(job, protocol.MeshReady(body.part_names), message.blobs)
        elif isinstance(job.body, protocol.RenderFrame):
            self._finish(job, protocol.FrameReady(body.seconds), message.blobs)
        else:
            self._finish(job, protocol.SurfaceReady(body.seconds, body.removed), message.blobs)

    def _frame_done(self, job: Job, message: Message) -> None:
        """One frame of a sequence: pass it on, then end, stop or queue the job again."""
        number = int(job.blobs["numbers"][job.next])
        job.next += 1
        ready = protocol.SequenceFrameReady(number, job.next, job.frames, message.body.seconds)
        self._send(job.client, ready, job.id, message.blobs)
        if job.client.routing not in self._clients:
            return  # it vanished just now
        if job.next == job.frames:
            self._finish(job, protocol.SequenceReady(job.frames, job.seconds))
        elif job.stopping is not None:
            self._finish(job, Stopped(job.next, job.stopping))
        else:
            self._queue.add(job)

    def _worker_ended(self, sentence: str) -> None:
        if not self._lane.device:
            raise TryAgain(f"{sentence} It has never been ready: look at the lines above.")
        job, self._running = self._running, None
        if job is not None and job.stopping is not None:
            self._finish(job, Stopped(job.next, job.stopping))
        elif job is not None:
            self._finish(job, Failure("WORKER_LOST", sentence))
        if self._lane.state == "disabled":
            for waiting in self._queue:
                self._queue.remove(waiting)
                self._finish(waiting, Failure("WORKER_LOST", sentence))

    # --- from clients -------------------------------------------------------------------------

    def _from_client(self, routing: bytes, frames: list[Any]) -> None:
        client = self._clients.get(routing)
        if client is None:
            if len(self._clients) >= MAX_CLIENTS:
                log.warning("too many clients: a message was dropped")
                return
            client = self._clients[routing] = Client(routing, time.monotonic())
        client.heard = time.monotonic()
        try:
            message = protocol.REQUESTS.unpack(frames)
        except WireError as error:
            peek = protocol.peek_header(frames[0]) if frames else None
            if peek is not None and 0 < len(peek.id) <= 64:
                self._send(client, protocol.failure(error), peek.id)
            return
        try:
            answer, blobs = self._handle(client, message)
        except Head360Error as error:
            answer, blobs = protocol.failure(error), None
        if answer is not None:
            self._send(client, answer, message.id, blobs)

    def _handle(self, client: Client, message: Message) -> tuple[Any, dict[str, Any] | None]:
        """The immediate answer to a request, or None when a job was queued (or for ``ack``)."""
        body = message.body
        if isinstance(body, protocol.Ping):
            return protocol.Pong(), None
        if isinstance(body, protocol.Acknowledge):
            job = client.jobs.get(body.job)
            if job is not None:
                job.acknowledged = min(job.acknowledged + max(0, body.frames), job.next)
            return None, None
        protocol.check_request(message, self._limits)
        if isinstance(body, protocol.Hello):
            return self._welcome(), None
        if isinstance(body, protocol.GetStatus):
            return self._status(), None
        if isinstance(body, protocol.ListModels):
            return self._models(body.thumbnails)
        if isinstance(body, protocol.CancelJob):
            return protocol.CancelAnswer(self._cancel(client, body.job)), None
        if isinstance(body, protocol.Shutdown):
            self.stop("a client asked for it")
            return protocol.ShutdownAnswer(), None
        self._accept(client, message)
        return None, None

    def _accept(self, client: Client, message: Message) -> None:
        body = message.body
        if self._lane.state == "disabled":
            raise WireError("The render process is disabled: restart the backend.", "WORKER_LOST")
        if message.id in client.jobs:
            raise WireError("a job with this id is already under way", "CONFLICT")
        if len(client.jobs) >= self._limits.in_flight:
            raise TryAgain(f"{len(client.jobs)} requests are waiting already: try again later.")
        deadline = None if message.ttl is None else time.monotonic() + message.ttl
        job = Job(client, message.id, body, message.blobs, deadline=deadline)
        if isinstance(body, protocol.FitHead | protocol.EditHead):
            self._check_ability(body)
        if isinstance(body, protocol.CreateHead | protocol.FitHead):
            job.model = self._heads.model(body.model)
        elif not isinstance(body, protocol.ListEditors):
            job.head = self._heads.get(body.head)
            if job.head is None:
                raise WireError(
                    "The backend does not know this head any more: create it again.", "NOT_FOUND"
                )
        if isinstance(body, protocol.FitHead | protocol.EditHead):
            self._workbench.add(job)
            client.jobs[job.id] = job
            return
        client.jobs[job.id] = job
        replaced = self._queue.add(job)
        if replaced is not None:
            self._finish(replaced, Stopped(0, "replaced by a newer view"))

    def _check_ability(self, body: protocol.FitHead | protocol.EditHead) -> None:
        ability = "fit" if isinstance(body, protocol.FitHead) else "edit"
        if ability not in self._lane.makes:
            raise WireError(
                f"This backend cannot {ability} heads: install its backend extra again.",
                "UNSUPPORTED",
            )

    def _welcome(self) -> protocol.Welcome:
        return protocol.Welcome(
            server=head360.__version__,
            major=protocol.MAJOR,
            minor=protocol.MINOR,
            boot_id=self._options.boot_id,
            device=self._lane.device,
            device_kind=self._lane.device_kind,
            limits=self._limits,
            models=list(self._heads.models()),
            pid=os.getpid(),
            features=[*protocol.FEATURES, *self._lane.makes],
        )

    def _status(self) -> protocol.Status:
        return protocol.Status(
            boot_id=self._options.boot_id,
            worker=self._lane.state,
            queued=len(self._queue) + len(self._workbench),
            running=self._running.id if self._running else "",
            making=self._workbench.job.id if self._workbench.job else "",
            heads=len(self._heads),
            clients=len(self._clients),
            uptime_s=round(time.monotonic() - self._started, 1),
            restarts=self._lane.restarts,
        )

    def _models(self, thumbnails: bool) -> tuple[protocol.Models, dict[str, Any]]:
        models = list(self._heads.models().values())[: protocol.MAX_BLOBS]
        blobs: dict[str, Any] = {}
        for index, model in enumerate(models):
            picture = model.thumbnail() if thumbnails else None
            if picture is not None:
                blobs[f"thumbnail.{index}"] = picture
        return protocol.Models([model.info for model in models]), blobs

    def _cancel(self, client: Client, job_id: str) -> Any:
        """A waiting job ends at once; the running one at its next frame, or by force later."""
        job = client.jobs.get(job_id)  # only its own client can name a job
        if job is None:
            return "not_found"
        if self._queue.remove(job) or self._workbench.remove(job):
            self._finish(job, Stopped(job.next, "cancelled"))
        elif self._workbench.interrupt(job, "cancelled"):
            pass
        elif job.stopping is None:
            job.stopping = "cancelled"
            self._lane.interrupt()
            self._lane.kill_after(CANCEL_GRACE)
        return "cancelling"

    def _cancel_everything(self) -> None:
        for client in list(self._clients.values()):
            for job in list(client.jobs.values()):
                self._finish(job, Stopped(job.next, "the backend is leaving"))

    # --- sending ------------------------------------------------------------------------------

    def _finish(self, job: Job, body: Any, blobs: dict[str, Any] | None = None) -> None:
        """The one terminal answer of a job."""
        if job.client.jobs.pop(job.id, None) is not None:
            self._send(job.client, body, job.id, blobs)

    def _send(
        self, client: Client, body: Any, re: str, blobs: dict[str, Any] | None = None
    ) -> None:
        if client.routing not in self._clients:
            return
        try:
            frames = protocol.ANSWERS.pack(body, id=f"a-{re}"[:64], re=re, blobs=blobs)
        except WireError as error:
            frames = protocol.ANSWERS.pack(protocol.failure(error), id=f"a-{re}"[:64], re=re)
        client.outbox.append([client.routing, *frames])
        self._drain(client)

    def _drain(self, client: Client) -> None:
        while client.outbox:
            try:
                self._front.send_multipart(client.outbox[0], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            except zmq.ZMQError as error:  # EHOSTUNREACH: it has gone
                log.info("a client has gone (%s)", error)
                self._drop(client)
                return
            client.outbox.popleft()

    def _drop(self, client: Client) -> None:
        """Forget a client; its waiting jobs vanish, a running one is stopped."""
        self._clients.pop(client.routing, None)
        client.outbox.clear()
        for job in client.jobs.values():
            if self._queue.remove(job) or self._workbench.remove(job):
                continue
            if job is self._running:
                job.stopping = "its client has gone"
            self._workbench.interrupt(job, "its client has gone")
        client.jobs.clear()
