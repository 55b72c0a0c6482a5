"""What gateway and worker say to each other: one task at a time, one answer per task."""

from __future__ import annotations

import msgspec

from head360 import protocol
from head360.protocol import Codec, Failure


class HeadRef(msgspec.Struct, frozen=True):
    """A head by where its model lies; the worker keeps no state that a restart would lose."""

    path: str
    subject: str | None
    style: str | None


class EditorsTask(msgspec.Struct, tag="editors"):
    """Answered by ``protocol.Editors``."""


class LoadTask(msgspec.Struct, tag="load"):
    head: HeadRef


class MeshTask(msgspec.Struct, tag="mesh"):
    head: HeadRef


class FrameTask(msgspec.Struct, tag="frame"):
    """Blobs ``blendshapes`` f32 (52,), ``camera`` f64 (25,). ``png``: answer an encoded picture."""

    head: HeadRef
    width: int
    height: int
    png: bool = False


class SurfaceTask(msgspec.Struct, tag="surface"):
    """Blob ``blendshapes`` f32 (52,)."""

    head: HeadRef
    resolution: int
    texture: int = 0


class FitTask(msgspec.Struct, tag="fit"):
    """Blobs ``photo.0`` … u8. The finished package goes to ``folder``/head, named ``name``.

    Attributes:
        path: the model that is fitted. The rest as in ``protocol.FitHead``.
    """

    path: str
    folder: str
    name: str
    photos: list[str]
    consent: str
    style: str | None
    face: int | None
    steps: int | None
    seed: int
    planes: bool


class EditTask(msgspec.Struct, tag="edit"):
    """The finished package goes to ``folder``/head, named ``name``; see ``protocol.EditHead``."""

    head: HeadRef
    folder: str
    name: str
    editor: str
    prompt: str
    strength: float | None
    guidance: float | None
    image_guidance: float | None
    steps: int | None
    seed: int


class StopTask(msgspec.Struct, tag="stop"):
    """Nobody waits for the running task any more; it has no answer of its own."""


class WorkerReady(msgspec.Struct, tag="ready"):
    """``makes``: which of ``protocol.MAKING`` this worker can do."""

    device: str
    device_kind: str
    makes: list[str] = []


class Loaded(msgspec.Struct, tag="loaded"):
    subject: str
    style: str | None
    kind: str


class TaskDone(msgspec.Struct, tag="done"):
    seconds: float
    part_names: list[str] = []
    removed: int = 0


class Advance(msgspec.Struct, tag="advance"):
    """How far the running task is; its answer still comes."""

    phase: str
    fraction: float


class Stage(msgspec.Struct, tag="stage"):
    """See ``protocol.StageReady``; the task goes on."""

    name: str
    number: int
    count: int
    text: str = ""


class Made(msgspec.Struct, tag="made"):
    """The package lies in the task's folder, whole; see ``protocol.HeadMade``."""

    subject: str
    style: str | None
    seconds: float
    styles: list[tuple[str, float]] = []
    facts: dict[str, float] = {}
    notes: list[str] = []


class Config(msgspec.Struct):
    """First line on the worker's standard input; its end of file means that the gateway is gone."""

    endpoint: str
    server_public: str
    public: str
    secret: str
    identity: str
    device: str
    factory: str = ""
    diffusion: str = ""


Task = EditorsTask | LoadTask | MeshTask | FrameTask | SurfaceTask | FitTask | EditTask | StopTask
TASKS = Codec(Task, protocol.MAX_REQUEST_BYTES)
RESULTS = Codec(
    WorkerReady | protocol.Editors | Loaded | TaskDone | Advance | Stage | Made | Failure,
    protocol.MAX_ANSWER_BYTES,
)
