"""Frames on the wire ⇄ a checked message; nothing is allocated before it is known to fit."""

from __future__ import annotations

import math
import re as regex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.protocol.failures import WireError
from head360.protocol.messages import Answer, Request

MAJOR = 1
MINOR = 1

CHUNK = 1 << 20  # bytes of one binary frame
MAX_FRAME = CHUNK + 4096  # for ZMQ_MAXMSGSIZE, which also counts what encryption adds
MAX_HEADER = 256 * 1024
MAX_BLOBS = 64
MAX_REQUEST_BYTES = 64 << 20  # binary part of a request
MAX_ANSWER_BYTES = 1 << 30  # binary part of an answer: an extracted surface at 512^3

DTYPES: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("u1"),
    "i32": np.dtype("<i4"),
    "f32": np.dtype("<f4"),
    "f64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_BLOB_NAME = regex.compile(r"[a-z0-9_.-]{1,64}")


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
        if len(frames[0]) > MAX_HEADER or len(table) > MAX_BLOBS:
            raise WireError("a message header is over the limit", "LIMIT")
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
