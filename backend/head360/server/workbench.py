"""Fits and edits, which take minutes: one at a time, each in a process of its own. No torch here.

The process ends with its job, so the renderer stays free beside it, memory comes back to the
device, and killing what does not stop costs nothing. A job works in a hidden folder inside the
user's models folder. Only a finished package leaves it, by a rename, so a cancelled, failed or
killed job leaves no model and no photograph.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from head360 import protocol
from head360.errors import Head360Error, ModelInvalid, TryAgain
from head360.files import writable_folder
from head360.protocol import Failure, Message, Stopped
from head360.server import work
from head360.server.heads_table import HeadsTable, user_models_dir
from head360.server.jobs import Job
from head360.server.lane import Lane
from head360.server.workplace import Workplace, sweep

log = logging.getLogger(__name__)

CANCEL_GRACE = 3.0  # seconds a cancelled job may take to end by itself; killing it costs nothing
TIME_LIMIT = 12 * 3600.0  # diffusion on a processor is that slow
MOST_WAITING = 8  # each may hold 66 MiB of photographs


class Workbench:
    """The queue of fits and edits and the one that is under way.

    Args:
        heads: where names of models are taken from.
        new_lane: starts a worker process.
        poller: gets the worker's socket while there is one.
        tell: sends a job's client something that does not end the job.
        finish: sends its terminal answer.
    """

    def __init__(
        self,
        heads: HeadsTable,
        new_lane: Callable[[], Lane],
        poller: zmq.Poller,
        tell: Callable[[Job, Any, dict[str, Any] | None], None],
        finish: Callable[[Job, Any], None],
    ) -> None:
        self.job: Job | None = None
        self._heads, self._new_lane, self._poller = heads, new_lane, poller
        self._tell, self._finish = tell, finish
        self._waiting: deque[Job] = deque()
        self._lane: Lane | None = None
        self._place: Workplace | None = None
        self._name = ""
        sweep(user_models_dir())

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            TryAgain: too many do already.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise TryAgain(
                f"{len(self._waiting)} fits and edits are waiting already: try again when one of "
                "them has ended."
            )
        self._waiting.append(job)

    def remove(self, job: Job) -> bool:
        """Take out a waiting job; False if it does not wait here."""
        if job not in self._waiting:
            return False
        self._waiting.remove(job)
        return True

    def interrupt(self, job: Job, reason: str) -> bool:
        """Stop ``job`` if it is under way; its answer comes when it has ended."""
        if job is not self.job:
            return False
        if job.stopping is None:
            job.stopping = reason
            if self._lane is not None:
                self._lane.interrupt()
                self._lane.kill_after(CANCEL_GRACE)
        return True

    def turn(self) -> None:
        """Look after the worker, then begin what waits. Never blocks for long."""
        lane = self._lane
        if lane is not None:
            while self._lane is not None and (message := lane.receive()) is not None:
                self._hear(message)
        if self._lane is not None and (sentence := self._lane.check()) is not None:
            while self._lane is not None and (message := self._lane.receive()) is not None:
                self._hear(message)  # its last words
            self._end(Failure("WORKER_LOST", sentence))
        job, lane = self.job, self._lane
        if job is not None and job.stopping is not None and lane and lane.state == "starting":
            self._end(Stopped(0, job.stopping))  # there is nothing to interrupt yet
        while self.job is None and self._waiting:
            self._begin(self._waiting.popleft())

    def stop(self) -> None:
        """The backend leaves: end the worker, leave nothing behind."""
        self._waiting.clear()
        self.job = None
        self._clear()

    # --- one job ------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        self.job = job
        try:
            root = writable_folder(user_models_dir())
            self._place = Workplace(root)
            self._name = self._free_name(job.body.name, root)
        except OSError as error:
            problem = ModelInvalid(
                f"Cannot work in {user_models_dir()} ({error.strerror}): free some space there."
            )
            self._end(protocol.failure(problem))
            return
        except Head360Error as error:
            self._end(protocol.failure(error))
            return
        self._lane = self._new_lane()
        self._poller.register(self._lane.socket, zmq.POLLIN)
        self._tell(job, protocol.Advance("starting", 0.0), None)

    def _free_name(self, wanted: str, root: Path) -> str:
        taken = {name.lower() for name in self._heads.models()}
        taken |= {path.name.lower() for path in root.iterdir()}
        names = itertools.chain([wanted], (f"{wanted} {number}" for number in itertools.count(2)))
        return next(name for name in names if name.lower() not in taken)

    def _hear(self, message: Message) -> None:
        job, body = self.job, message.body
        assert job is not None
        assert self._lane is not None
        if isinstance(body, work.WorkerReady):
            if job.stopping is not None:  # cancelled while the worker started
                self._end(Stopped(0, job.stopping))
                return
            task, blobs = self._task(job)
            job.blobs = {}  # the photographs are the worker's now
            self._lane.give(task, blobs, TIME_LIMIT)
        elif isinstance(body, work.Advance):
            self._tell(job, protocol.Advance(body.phase, body.fraction), None)
        elif isinstance(body, work.Stage):
            stage = protocol.StageReady(body.name, body.number, body.count, body.text)
            self._tell(job, stage, message.blobs)
        elif isinstance(body, work.Made):
            self._end(self._publish(body) if job.stopping is None else body)
        else:
            self._end(body)

    def _task(self, job: Job) -> tuple[Any, dict[str, Any]]:
        assert self._place is not None
        body, folder = job.body, str(self._place.folder)
        if isinstance(body, protocol.FitHead):
            assert job.model is not None
            return work.FitTask(
                path=str(job.model.path),
                folder=folder,
                name=self._name,
                photos=body.photos,
                consent=body.consent,
                style=body.style,
                face=body.face,
                steps=body.steps,
                seed=body.seed,
                planes=body.planes,
            ), job.blobs
        assert job.head is not None
        info = job.head.info
        return work.EditTask(
            head=work.HeadRef(job.head.path, info.subject, info.style),
            folder=folder,
            name=self._name,
            editor=body.editor,
            prompt=body.prompt,
            strength=body.strength,
            guidance=body.guidance,
            image_guidance=body.image_guidance,
            steps=body.steps,
            seed=body.seed,
        ), {}

    def _publish(self, made: work.Made) -> Any:
        """Install the package that the worker left; the answer for the client."""
        assert self._place is not None
        target = self._place.folder.parent / self._name
        try:
            if target.exists():  # a folder that is empty would be replaced without a word
                raise FileExistsError(None, "it exists by now")
            (self._place.folder / "head").rename(target)
        except OSError as error:
            return Failure(
                "MODEL_INVALID",
                f"The new model cannot be put to {target} ({error.strerror}): try again.",
            )
        return protocol.HeadMade(
            self._name, made.subject, made.style, made.seconds, made.styles, made.facts, made.notes
        )

    def _end(self, answer: Any) -> None:
        job, self.job = self.job, None
        try:
            self._clear()  # first: with the answer the client may look for what was left
        finally:
            if job is not None:
                self._finish(job, answer if job.stopping is None else Stopped(0, job.stopping))

    def _clear(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            self._poller.unregister(lane.socket)
            lane.kill()  # it keeps nothing that is worth waiting for
            lane.stop()
            lane.socket.close()
        place, self._place = self._place, None
        if place is not None:
            place.clear()
