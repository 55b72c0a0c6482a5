"""PNG without an image library: written, described and diagnosed with zlib and numpy alone.

Blender's Python has no Pillow, and a check that only wants to know whether a file is whole should
not decode it. Decoding (which needs sequential filters) is left to Pillow, see ``png_decode``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, _RGBA: 4}
_WORDS = {
    (_GREY, 8): "8-bit grey", (_GREY, 16): "16-bit grey", (_RGB, 8): "8-bit RGB",
    (_PALETTE, 8): "8-bit palette", (_RGBA, 8): "8-bit RGBA",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """Colour type and depth of a PNG, as in its header."""

    colour: int
    depth: int

    def __str__(self) -> str:
        return _WORDS.get((self.colour, self.depth), f"{self.depth}-bit type {self.colour}")


GREY8, GREY16 = Form(_GREY, 8), Form(_GREY, 16)
RGB8, RGBA8, PALETTE8 = Form(_RGB, 8), Form(_RGBA, 8), Form(_PALETTE, 8)


def encode(pixels: NDArray, palette: NDArray[np.uint8] | None = None) -> bytes:
    """PNG bytes; the same pixels give the same bytes with the same zlib.

    Args:
        pixels: (H, W) uint8 or uint16 grey, (H, W, 3) or (H, W, 4) uint8.
        palette: (P, 3) uint8; then (H, W) uint8 are indices into it.

    Raises:
        ValueError: another shape or type.
    """
    form = _form_of(pixels, palette)
    height, width = pixels.shape[:2]
    if form.depth == 16:
        pixels = pixels.astype(">u2").view(np.uint8)
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    if palette is None:
        rows = _filtered(rows, _CHANNELS[form.colour] * form.depth // 8)
        # Filtered rows are noise between runs of zeros: run lengths beat a search for repeats.
        packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    else:
        rows = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
        packer = zlib.compressobj(6)
    packed = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, form.depth, form.colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    if palette is not None:
        chunks.insert(1, (b"PLTE", palette.astype(np.uint8).tobytes()))
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def misfit(data: bytes, form: Form, size: tuple[int, int] | None = None) -> str:
    """What the header says against a PNG of this form, "" when nothing; begins with a verb."""
    if not data:
        return "is empty"
    if data[:8] != SIGNATURE or len(data) < 33:
        return "is not a PNG" if len(data) >= 33 else "is truncated"
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if size is not None and (width, height) != size:
        return f"measures {width}×{height} instead of {size[0]}×{size[1]}"
    if Form(colour, depth) != form:
        return f"is {Form(colour, depth)} instead of {form}"
    return ""


def damage(data: bytes) -> str:
    """Why these bytes are not a whole PNG, "" when every chunk is sound; begins with a verb."""
    if not data:
        return "is empty"
    if data[: min(8, len(data))] != SIGNATURE[: len(data)]:
        return "is not a PNG"
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name, end = data[position + 4 : position + 8], position + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"is damaged (checksum of its {name.decode('latin-1')} part)"
        if name == b"IEND":
            extra = len(data) - end - 4
            return f"has {extra} bytes too many behind its end" if extra else ""
        position = end + 4
    return f"is truncated after {len(data)} bytes"


def _form_of(pixels: NDArray, palette: NDArray[np.uint8] | None) -> Form:
    if palette is not None:
        if pixels.ndim != 2 or pixels.dtype != np.uint8 or int(pixels.max()) >= len(palette):
            raise ValueError("a palette picture is (H, W) uint8 below the palette's length")
        return PALETTE8
    if pixels.ndim == 2 and pixels.dtype == np.uint16:
        return GREY16
    forms = {0: GREY8, 3: RGB8, 4: RGBA8}
    channels = pixels.shape[2] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in forms:
        raise ValueError(f"no PNG form for {pixels.shape} {pixels.dtype}")
    return forms[channels]


def _filtered(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Each row after the cheapest of Sub, Up and Paeth by sum of magnitudes, its tag in front.

    Args:
        rows: (H, W·step) uint8.
        step: bytes per pixel.
    """
    left, up, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, step:] = rows[:, :-step]
    up[1:] = rows[:-1]
    corner[1:, step:] = rows[:-1, :-step]
    a, b, c = (x.astype(np.int16) for x in (left, up, corner))
    by_left, by_up, by_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where(
        (by_left <= by_up) & (by_left <= by_corner), left, np.where(by_up <= by_corner, up, corner)
    )
    candidates = [rows - left, rows - up, rows - paeth]
    costs = [np.abs(x.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for x in candidates]
    best = np.argmin(costs, axis=0)
    tags = np.array([1, 2, 4], dtype=np.uint8)[best]
    return np.concatenate([tags[:, None], np.choose(best[:, None], candidates)], axis=1)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
