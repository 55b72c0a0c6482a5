"""The wire between client and server: messages, framing, checks before anything is allocated.

One message is ``[header JSON][frame]…``. The header is a msgspec tagged union plus a table of the
binary blobs that follow; a blob longer than ``CHUNK`` is spread over several frames, so that
encryption of one piece overlaps the transfer of the next. Numbers that matter (blend weights,
cameras, pixels) travel as little-endian row-major blobs, never as JSON lists.

Nothing here imports torch: the module runs inside Blender, in the gateway and in the worker.
"""

from __future__ import annotations

import math
import re as regex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360 import errors
from head360.errors import BadInput, Head360Error

MAJOR = 1
MINOR = 0

CHUNK = 1 << 20  # bytes of one binary frame
MAX_FRAME = CHUNK + 4096  # for ZMQ_MAXMSGSIZE, which also counts what encryption adds
MAX_HEADER = 256 * 1024
MAX_BLOBS = 64
MAX_REQUEST_BYTES = 64 << 20  # binary part of a request
MAX_ANSWER_BYTES = 1 << 30  # binary part of an answer: an extracted surface at 512^3
BLENDSHAPES = 52

DTYPES: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("u1"),
    "i32": np.dtype("<i4"),
    "f32": np.dtype("<f4"),
    "f64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_BLOB_NAME = regex.compile(r"[a-z0-9_.-]{1,64}")


class WireError(Head360Error):
    """A message that breaks the protocol; ``code`` says how (BAD_REQUEST, VERSION, …)."""

    def __init__(self, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.code = code  # shadows the class attribute: one class serves several wire codes


class Limits(msgspec.Struct, frozen=True):
    """What one server accepts; sent in ``Welcome`` so that a client can check first."""

    width: int = 4096
    height: int = 4096
    sequence_frames: int = 20_000
    resolution: int = 512
    in_flight: int = 64
    window: int = 16  # finished frames of a sequence that may wait unacknowledged


# --- requests ---------------------------------------------------------------------------------


class Hello(msgspec.Struct, tag="hello"):
    client: str = ""


class Ping(msgspec.Struct, tag="ping"):
    pass


class GetStatus(msgspec.Struct, tag="status"):
    pass


class ListModels(msgspec.Struct, tag="models.list"):
    thumbnails: bool = True


class CreateHead(msgspec.Struct, tag="head.create"):
    """``subject`` None: the first one. ``style`` "": the subject's own hair, None: bald."""

    model: str
    subject: str | None = None
    style: str | None = ""


class GetMesh(msgspec.Struct, tag="head.mesh"):
    head: str


class RenderFrame(msgspec.Struct, tag="render.frame"):
    """Blobs: ``blendshapes`` f32 (52,), ``camera`` f64 (25,) = cam2world 16 + intrinsics 9.

    ``view``: requests of one client with the same non-empty view replace each other while they
    wait (the older one is answered ``Stopped``), so a viewport always gets its newest state.
    """

    head: str
    width: int
    height: int
    view: str = ""


class RenderSequence(msgspec.Struct, tag="render.sequence"):
    """Blobs: ``numbers`` i32 (F,), ``blendshapes`` f32 (F, 52), ``cameras`` f64 (F, 25)."""

    head: str
    width: int
    height: int


class ExtractSurface(msgspec.Struct, tag="surface.extract"):
    """Blob: ``blendshapes`` f32 (52,). ``resolution``: grid cells along one edge of the box."""

    head: str
    resolution: int


class CancelJob(msgspec.Struct, tag="job.cancel"):
    job: str


class Acknowledge(msgspec.Struct, tag="job.ack"):
    """The client took ``frames`` finished frames of a sequence; the only message with no answer."""

    job: str
    frames: int


class Shutdown(msgspec.Struct, tag="shutdown"):
    pass


# --- answers ----------------------------------------------------------------------------------


class Welcome(msgspec.Struct, tag="welcome"):
    """``device_kind`` is cuda, mps or cpu; ``models`` are names for ``CreateHead``."""

    server: str
    major: int
    minor: int
    boot_id: str
    device: str
    device_kind: str
    limits: Limits
    models: list[str]
    pid: int = 0


class Pong(msgspec.Struct, tag="pong"):
    pass


class Status(msgspec.Struct, tag="status.answer"):
    """``worker``: starting, ready, busy or disabled. ``queued``: waiting jobs of all clients."""

    boot_id: str
    worker: str
    queued: int
    running: str
    heads: int
    clients: int
    uptime_s: float
    restarts: int


class ModelInfo(msgspec.Struct):
    """One model package as its manifest describes it."""

    name: str
    kind: str = ""
    subjects: list[str] = []
    styles: list[str] = []
    licence: str = ""
    preset: str = ""
    note: str = ""


class Models(msgspec.Struct, tag="models"):
    """Blob ``thumbnail.<index>``: PNG bytes of ``models[index]`` where the package has one."""

    models: list[ModelInfo]


class HeadInfo(msgspec.Struct, tag="head"):
    """A head on the server. Its id is a hash of model, subject and style: stable over restarts."""

    head_id: str
    model: str
    subject: str
    style: str | None
    kind: str = ""


class MeshReady(msgspec.Struct, tag="mesh"):
    """Blobs of ``heads.base.HeadMesh``: vertices, faces, uvs, face_uvs, deltas, parts."""

    part_names: list[str]


class FrameReady(msgspec.Struct, tag="frame"):
    """Blobs: ``rgba`` u8 (H, W, 4) sRGB straight alpha, ``depth`` f32 (H, W) metres, +inf empty."""

    seconds: float = 0.0


class SequenceFrameReady(msgspec.Struct, tag="sequence.frame"):
    """Not terminal. Blob ``png``: u8 (N,), an RGBA PNG. ``step`` of ``of`` frames are finished."""

    number: int
    step: int
    of: int
    seconds: float = 0.0


class Advance(msgspec.Struct, tag="progress"):
    """Not terminal. ``fraction`` in [0, 1]."""

    phase: str
    fraction: float


class SequenceReady(msgspec.Struct, tag="sequence.done"):
    frames: int
    seconds: float


class SurfaceReady(msgspec.Struct, tag="surface"):
    """Blobs of ``heads.base.Surface``: vertices, faces, colours, normals."""

    seconds: float = 0.0


class CancelAnswer(msgspec.Struct, tag="cancel.answer"):
    state: Literal["cancelling", "not_found"]


class ShutdownAnswer(msgspec.Struct, tag="shutdown.answer"):
    pass


class Stopped(msgspec.Struct, tag="cancelled"):
    """Terminal: the job ended because somebody asked for it. ``reached``: finished frames."""

    reached: int = 0
    reason: str = ""


class Failure(msgspec.Struct, tag="error"):
    """Terminal: ``message`` is for the person at the screen, ``code`` for the program."""

    code: str
    message: str


Request = (
    Hello | Ping | GetStatus | ListModels | CreateHead | GetMesh | RenderFrame | RenderSequence
    | ExtractSurface | CancelJob | Acknowledge | Shutdown
)  # fmt: skip
Answer = (
    Welcome | Pong | Status | Models | HeadInfo | MeshReady | FrameReady | SequenceFrameReady
    | Advance | SequenceReady | SurfaceReady | CancelAnswer | ShutdownAnswer | Stopped | Failure
)  # fmt: skip
NOT_TERMINAL = (SequenceFrameReady, Advance)


# --- framing ----------------------------------------------------------------------------------


class Blob(msgspec.Struct, forbid_unknown_fields=True):
    """One row of the blob table."""

    name: str
    dtype: str
    shape: list[int]


class _Peek(msgspec.Struct):
    """What every version and every unknown message still has."""

    v: int
    id: str = ""
    re: str = ""


@dataclass(frozen=True)
class Message:
    """A decoded message. ``blobs`` are read-only arrays of exactly the announced shape."""

    id: str
    re: str
    body: Any
    blobs: dict[str, NDArray[Any]]
    ttl: float | None = None
    minor: int = 0


class Codec:
    """Packs and unpacks messages whose body is one union of structs.

    Args:
        union: the accepted bodies.
        max_bytes: cap on the sum of all blobs of one message.
    """

    def __init__(self, union: Any, max_bytes: int) -> None:
        header = msgspec.defstruct(
            "Header",
            [
                ("v", int),
                ("id", str),
                ("body", union),
                ("re", str, ""),
                ("minor", int, 0),
                ("ttl_ms", int | None, None),
                ("blobs", list[Blob], msgspec.field(default_factory=list)),
            ],
        )
        self._header: Any = header
        self._decoder = msgspec.json.Decoder(header)
        self.max_bytes = max_bytes
        self.max_frames = 1 + MAX_BLOBS + math.ceil(max_bytes / CHUNK)

    def pack(
        self,
        body: Any,
        *,
        id: str,
        re: str = "",
        blobs: Mapping[str, NDArray[Any] | bytes] | None = None,
        ttl: float | None = None,
    ) -> list[bytes | memoryview]:
        """Frames of one message; the arrays must not change until they are sent.

        Raises:
            WireError: an array of a type that is not on the wire, or too much data.
        """
        table: list[Blob] = []
        frames: list[bytes | memoryview] = [b""]
        total = 0
        for name, value in (blobs or {}).items():
            array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
            kind = _NAMES.get(array.dtype.newbyteorder("<"))
            if kind is None or array.dtype.byteorder == ">":
                raise WireError(f"arrays of type {array.dtype} do not travel", "INTERNAL")
            table.append(Blob(name, kind, list(array.shape)))
            flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            total += len(flat)
            frames.extend(flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))
        if total > self.max_bytes:
            raise WireError(f"a message of {total >> 20} MiB is over the limit", "LIMIT")
        ttl_ms = None if ttl is None else max(1, int(ttl * 1000))
        header = self._header(
            v=MAJOR, id=id, body=body, re=re, minor=MINOR, ttl_ms=ttl_ms, blobs=table
        )
        frames[0] = msgspec.json.encode(header)
        return frames

    def unpack(self, frames: Sequence[Any]) -> Message:
        """Check and decode the frames of one message (bytes or ``zmq.Frame``).

        Every check happens on the header and on real frame lengths, before a byte is allocated.

        Raises:
            WireError: anything that is not a valid message; ``code`` is BAD_REQUEST, VERSION,
                UNSUPPORTED (unknown body) or LIMIT.
        """
        if not frames or len(frames) > self.max_frames:
            raise WireError("the message has an impossible number of frames", "LIMIT")
        if not 0 < len(frames[0]) <= MAX_HEADER:
            raise WireError("the message header is empty or too long", "LIMIT")
        head = self._decode(bytes(_view(frames[0])))
        if not 0 < len(head.id) <= 64 or len(head.re) > 64:
            raise WireError("the message has no usable id")
        if head.ttl_ms is not None and not 0 < head.ttl_ms <= 7 * 86_400_000:
            raise WireError("the time limit of the message is out of range")
        sizes = _blob_sizes(head.blobs, self.max_bytes)
        expected = [min(CHUNK, size - start) for size in sizes for start in range(0, size, CHUNK)]
        if [len(frame) for frame in frames[1:]] != expected:
            raise WireError("the binary frames do not fit the header")
        blobs: dict[str, NDArray[Any]] = {}
        position = 1
        for blob, size in zip(head.blobs, sizes, strict=True):
            count = math.ceil(size / CHUNK)
            pieces = [_view(frame) for frame in frames[position : position + count]]
            position += count
            if len(pieces) == 1:
                array = np.frombuffer(pieces[0], DTYPES[blob.dtype])
            else:
                raw = np.empty(size, np.uint8)
                for index, piece in enumerate(pieces):
                    raw[index * CHUNK : index * CHUNK + len(piece)] = np.frombuffer(piece, np.uint8)
                array = raw.view(DTYPES[blob.dtype])
            array = array.reshape(blob.shape)
            array.flags.writeable = False
            blobs[blob.name] = array
        ttl = None if head.ttl_ms is None else head.ttl_ms / 1000
        return Message(head.id, head.re, head.body, blobs, ttl, head.minor)

    def _decode(self, raw: bytes) -> Any:
        peek = peek_header(raw)
        if peek is not None and peek.v != MAJOR:
            raise WireError(
                f"The two sides speak different protocols ({peek.v} and {MAJOR}): update the "
                "extension and the backend to the same version.",
                "VERSION",
            )
        try:
            return self._decoder.decode(raw)
        # Bad UTF-8 and deep nesting leave msgspec by exceptions outside its own hierarchy.
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            code = "UNSUPPORTED" if "$.body.type" in str(error) else "BAD_REQUEST"
            raise WireError(
                f"the message cannot be understood ({str(error)[:200]})", code
            ) from None


def peek_header(frame: Any) -> _Peek | None:
    """Version and ids of a header, even when its body is unknown or wrong; None if unreadable."""
    try:
        return _PEEK.decode(bytes(_view(frame))) if len(frame) <= MAX_HEADER else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


_PEEK = msgspec.json.Decoder(_Peek)


def _view(frame: Any) -> Any:
    return frame.buffer if hasattr(frame, "buffer") else frame


def _blob_sizes(table: list[Blob], max_bytes: int) -> list[int]:
    if len(table) > MAX_BLOBS:
        raise WireError("the message has too many binary parts", "LIMIT")
    if len({blob.name for blob in table}) != len(table):
        raise WireError("two binary parts have the same name")
    sizes = []
    for blob in table:
        if not _BLOB_NAME.fullmatch(blob.name) or blob.dtype not in DTYPES:
            raise WireError("a binary part has an unknown name or type")
        if len(blob.shape) > 6 or any(not 0 <= length < 1 << 31 for length in blob.shape):
            raise WireError("a binary part has an impossible shape")
        sizes.append(math.prod(blob.shape) * DTYPES[blob.dtype].itemsize)
    if sum(sizes) > max_bytes:
        raise WireError(f"the message is over {max_bytes >> 20} MiB", "LIMIT")
    return sizes


REQUESTS = Codec(Request, MAX_REQUEST_BYTES)
ANSWERS = Codec(Answer, MAX_ANSWER_BYTES)

# --- errors -----------------------------------------------------------------------------------

# Wire codes beyond those of head360.errors, and what the person at the other end sees them as.
_CODES: dict[str, type[Head360Error]] = {
    **errors.BY_CODE,
    "BAD_REQUEST": BadInput,
    "UNSUPPORTED": BadInput,
    "VERSION": BadInput,
    "LIMIT": BadInput,
    "NOT_FOUND": BadInput,
    "CONFLICT": BadInput,
    "DEADLINE": errors.TryAgain,
    "WORKER_LOST": errors.TryAgain,
    "NUMERIC": errors.ModelInvalid,
}


def failure(error: Head360Error) -> Failure:
    """The wire form of an expected error."""
    return Failure(error.code, str(error)[:2000])


def exception(answer: Failure) -> Head360Error:
    """The exception a client raises for ``answer``; unknown codes become ``Head360Error``."""
    return _CODES.get(answer.code, Head360Error)(answer.message)


# --- checks on what requests carry ------------------------------------------------------------


def check_request(message: Message, limits: Limits) -> None:
    """Raise WireError (LIMIT) or BadInput when a request's values or blobs cannot be used."""
    body = message.body
    wanted = _SHAPES.get(type(body), {})
    if set(message.blobs) != set(wanted):
        raise WireError("the message does not carry the arrays it needs")
    if isinstance(body, (RenderFrame, RenderSequence)) and not (
        0 < body.width <= limits.width and 0 < body.height <= limits.height
    ):
        raise WireError(
            f"The picture is {body.width} × {body.height}: the backend renders from 1 × 1 up to "
            f"{limits.width} × {limits.height} pixels.",
            "LIMIT",
        )
    if isinstance(body, ExtractSurface) and not 8 <= body.resolution <= limits.resolution:
        raise WireError(
            f"The surface resolution {body.resolution} is outside 8–{limits.resolution}.", "LIMIT"
        )
    frames = message.blobs["numbers"].size if isinstance(body, RenderSequence) else 1
    if not 0 < frames <= limits.sequence_frames:
        raise WireError(
            f"The sequence has {frames} frames: the backend takes 1–{limits.sequence_frames}.",
            "LIMIT",
        )
    for name, (dtype, tail, per_frame) in wanted.items():
        array = message.blobs[name]
        if array.dtype != DTYPES[dtype] or array.shape != ((frames, *tail) if per_frame else tail):
            raise WireError(f"the array {name} has the wrong type or shape")
        if name == "blendshapes":
            check_blendshapes(array)
        elif name in ("camera", "cameras"):
            check_cameras(array)


# name -> (dtype, shape, whether a leading frame axis is expected)
_SHAPES: dict[type, dict[str, tuple[str, tuple[int, ...], bool]]] = {
    RenderFrame: {
        "blendshapes": ("f32", (BLENDSHAPES,), False),
        "camera": ("f64", (25,), False),
    },
    RenderSequence: {
        "numbers": ("i32", (), True),
        "blendshapes": ("f32", (BLENDSHAPES,), True),
        "cameras": ("f64", (25,), True),
    },
    ExtractSurface: {"blendshapes": ("f32", (BLENDSHAPES,), False)},
}


def check_blendshapes(weights: NDArray[Any]) -> None:
    """(…, 52) weights must be finite and lie in [0, 1] (a rounding error of 1e-3 is forgiven)."""
    if not np.isfinite(weights).all() or weights.min() < -1e-3 or weights.max() > 1.001:
        raise BadInput("Blendshape weights must be finite numbers from 0 to 1.")


def check_cameras(labels: NDArray[Any]) -> None:
    """(…, 25) labels: a rigid ``cam2world`` in metres and usable normalised intrinsics."""
    flat = labels.reshape(-1, 25)
    if not np.isfinite(flat).all() or np.abs(flat).max() > 1e6:
        raise BadInput("The camera contains numbers that are not finite.")
    pose = flat[:, :16].reshape(-1, 4, 4)
    rotation = pose[:, :3, :3]
    gram = rotation.transpose(0, 2, 1) @ rotation
    if (
        np.abs(gram - np.eye(3)).max() > 1e-3
        or (np.linalg.det(rotation) < 0).any()
        or np.abs(pose[:, 3] - (0.0, 0.0, 0.0, 1.0)).max() > 1e-6
    ):
        raise BadInput("The camera matrix is not rigid: remove scale and shear from the camera.")
    inner = flat[:, 16:].reshape(-1, 3, 3)
    if (inner[:, (0, 1), (0, 1)] < 1e-3).any() or (inner[:, 2] != (0.0, 0.0, 1.0)).any():
        raise BadInput("The camera's intrinsics are not those of a perspective camera.")
