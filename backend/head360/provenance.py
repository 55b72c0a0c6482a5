"""A note inside a PNG that says what it shows: a synthetic picture, and of which model.

Needs nothing but the standard library: pictures are tagged inside Blender, too.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from head360 import __version__

KEYWORD = "head360"
NOTE = "synthetic image of a neural head"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and the IHDR chunk that every PNG begins with


def facts(model: str, subject: str = "", style: str | None = "", made_by: str = "") -> dict:
    """What a picture's note says. ``style`` None: bald; ``made_by``: as in the model's manifest."""
    told = {
        "software": "Head360 Studio",
        "version": __version__,
        "model": model,
        "subject": subject,
        "style": "bald" if style is None else style,
        "made_by": made_by,
        "note": NOTE,
    }
    return {key: value for key, value in told.items() if value}


def tag(png: bytes, note: dict[str, Any]) -> bytes:
    """The same picture with ``note`` as an iTXt chunk before its pixels, in place of an older one.

    Raises:
        ValueError: these bytes are not a PNG.
    """
    if png[:8] != _SIGNATURE or len(png) < _HEADER_END:
        raise ValueError("not a PNG")
    text = json.dumps(note, ensure_ascii=False, sort_keys=True).encode()
    # Keyword, not compressed, no language, no translated keyword.
    data = b"iTXt" + KEYWORD.encode() + b"\0\0\0\0\0" + text
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    rest = b"".join(png[start:end] for start, end, kind in _chunks(png) if not kind)
    return png[:_HEADER_END] + chunk + rest


def read(png: bytes) -> dict[str, Any] | None:
    """The note of a picture, or None where there is none that can be read."""
    if png[:8] != _SIGNATURE:
        return None
    for start, end, ours in _chunks(png):
        if ours:
            try:
                note = json.loads(png[start + 8 + len(KEYWORD) + 5 : end - 4])
            except (ValueError, RecursionError):
                return None
            return note if isinstance(note, dict) else None
    return None


def _chunks(png: bytes) -> list[tuple[int, int, bool]]:
    """(start, end, whether it is our note) of every chunk after the header."""
    found, position = [], _HEADER_END
    ours = b"iTXt" + KEYWORD.encode() + b"\0"
    while position + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        end = position + 12 + length
        found.append((position, end, png[position + 4 : position + 4 + len(ours)] == ours))
        position = end
    return found
