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


class StopTask(msgspec.Struct, tag="stop"):
    """Nobody waits for the running task any more; it has no answer of its own."""


class WorkerReady(msgspec.Struct, tag="ready"):
    device: str
    device_kind: str


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


class Config(msgspec.Struct):
    """First line on the worker's standard input; its end of file means that the gateway is gone."""

    endpoint: str
    server_public: str
    public: str
    secret: str
    identity: str
    device: str
    factory: str = ""


Task = LoadTask | MeshTask | FrameTask | SurfaceTask | StopTask
TASKS = Codec(Task, protocol.MAX_REQUEST_BYTES)
RESULTS = Codec(WorkerReady | Loaded | TaskDone | Advance | Failure, protocol.MAX_ANSWER_BYTES)
