"""A filmed performance: upright frames with their seconds, and what time of day it was.

Seconds come from the frames' own time stamps: phones film at a varying rate. The time of day comes
from the timecode track, whose base (frames a second that it counts) only the file's own table
tells: a film of 30 frames a second may count 60.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.arkit import takes
from head360.errors import BadInput

Pixels = NDArray[np.uint8]

_DAY = 86400.0
_MOST_MOOV = 64 << 20  # bytes of a table of contents that is still read
_SIDES = (0, 90, 180, 270)


@dataclass(frozen=True)
class Recording:
    """What a file says about itself.

    Attributes:
        path: of the file.
        width, height: pixels, upright.
        seconds: length as announced; 0 where the file does not say.
        frames: how many are announced; 0 where the file does not say.
        fps: average rate; 0 where the file does not say.
        turned: degrees counter-clockwise that make the frames upright.
        start: time of day of the first frame in seconds, None without a timecode.
        timecode: as text; "" where there is none. base: frames a second that it counts.
    """

    path: Path
    width: int
    height: int
    seconds: float
    frames: int
    fps: float
    turned: int
    start: float | None
    timecode: str
    base: float


@dataclass(frozen=True)
class Frame:
    """One picture: ``number`` from 0, ``second`` since the first, (H, W, 3) uint8 sRGB upright."""

    number: int
    second: float
    pixels: Pixels


def open_recording(path: Path) -> Recording:
    """Look at a video file.

    Raises:
        BadInput: missing, damaged, or without a picture.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 0)
        first = _first(path, container)
        turned = round(first.rotation) % 360
        if turned not in _SIDES:
            raise BadInput(
                f"{path} is turned by {turned}°: export it again upright, or turned by a quarter."
            )
        width, height = first.width, first.height
        if turned in (90, 270):
            width, height = height, width
        text = ""
        for table in (stream.metadata, *(s.metadata for s in container.streams)):
            text = text or table.get("timecode", "")
        text = text or container.metadata.get("timecode", "")
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        frames = int(stream.frames)
    base = timecode_base(path)
    start = None
    if text:
        base = base or _guess_base(text, fps)
        start = time_of_day(text, base)
        if start is None:
            text = ""
    return Recording(
        path, width, height, seconds, frames, fps, turned, start, text, float(base or 0)
    )


def read_frames(recording: Recording) -> Iterator[Frame]:
    """Yield every frame in order of time.

    Raises:
        BadInput: the file is damaged before its first frame was read.
    """
    from av.error import FFmpegError

    number, first = 0, None
    with _opened(recording.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for picture in container.decode(stream):
                if picture.pts is None or picture.time_base is None:
                    continue
                time = float(picture.pts * picture.time_base)
                first = time if first is None else first
                pixels = picture.to_ndarray(format="rgb24")
                yield Frame(number, time - first, np.rot90(pixels, recording.turned // 90).copy())
                number += 1
        except FFmpegError as error:
            # A recording that was cut off is good up to there.
            if not number:
                raise BadInput(
                    f"Cannot decode {recording.path} ({error}): export it again."
                ) from error


def _opened(path: Path) -> Any:
    import av
    from av.error import FFmpegError

    try:
        container = av.open(str(path))
    except (OSError, FFmpegError) as error:
        raise BadInput(
            f"Cannot open the video {path} ({error.strerror or error}): choose the .mov that was "
            "recorded with the take."
        ) from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path} has no picture: choose the .mov that was recorded with the take.")
    return container


def _first(path: Path, container: Any) -> Any:
    from av.error import FFmpegError

    try:
        return next(container.decode(video=0))
    except (StopIteration, FFmpegError) as error:
        raise BadInput(f"{path} has no readable frame: export it again.") from error


# --- timecode -------------------------------------------------------------------------------------


def timecode_base(path: Path) -> int:
    """Frames a second that a QuickTime timecode track counts; 0 without one."""
    data = _contents(path)
    place = data.find(b"tmcd")
    while place >= 4:
        # A sample description: size, "tmcd", six zeros, data reference, then 17 bytes that matter.
        if place + 33 <= len(data) and data[place + 4 : place + 10] == bytes(6):
            _flags, scale, duration, base = struct.unpack_from(">IIIB", data, place + 16)
            if base and duration and 0.5 < scale / duration / base < 1.5:
                return int(base)
        place = data.find(b"tmcd", place + 4)
    return 0


def _contents(path: Path) -> bytes:
    """The "moov" box of a QuickTime or MP4 file; nothing for other files."""
    try:
        with open(path, "rb") as file:
            while len(head := file.read(8)) == 8:
                size, kind = struct.unpack(">I4s", head)
                skip = 8
                if size == 1:
                    (size,) = struct.unpack(">Q", file.read(8))
                    skip = 16
                if kind == b"moov":
                    return file.read(min(size - skip, _MOST_MOOV) if size else _MOST_MOOV)
                if size < skip:
                    break
                file.seek(size - skip, 1)
    except (OSError, struct.error, ValueError):
        pass  # then nothing is known of the base
    return b""


def time_of_day(text: str, base: float) -> float | None:
    """``HH:MM:SS:FF`` as seconds since midnight; None where it is no timecode.

    Phones stamp the clock's time on the first frame, so hours and minutes are real ones at any
    rate, with and without dropped numbers.
    """
    parts = text.strip().replace(";", ":").replace(".", ":").split(":")
    try:
        hours, minutes, seconds, frames = (int(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds + frames / base


def _guess_base(text: str, fps: float) -> int:
    frames = int("0" + text.replace(";", ":").rpartition(":")[2])
    base = round(fps) if fps else takes.infer_base(frames)
    return base if frames < base else takes.infer_base(frames)


def take_start(path: Path, base: int | None = None) -> float | None:
    """Time of day of a take's first row in seconds; None where no row can be read.

    Args:
        path: CSV of Live Link Face.
        base: frames a second of its timecode; inferred when None.
    """
    texts = []
    try:
        lines = path.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        return None
    header = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    if "timecode" not in header:
        return None
    column = header.index("timecode")
    for line in lines[1:]:
        cells = line.split(",")
        if len(cells) > column and cells[column].count(":") + cells[column].count(";") == 3:
            texts.append(cells[column].strip().replace(";", ":"))
    try:
        frames = [float(text.rpartition(":")[2]) for text in texts]
        hours, minutes, seconds = (int(part) for part in texts[0].split(":")[:3])
    except (ValueError, IndexError):
        return None
    used = base or takes.infer_base(max(frames))
    return hours * 3600.0 + minutes * 60.0 + seconds + frames[0] / used


def since(start: float, origin: float) -> float:
    """Seconds from one time of day to another, at most half a day either way."""
    return (start - origin + _DAY / 2) % _DAY - _DAY / 2
