"""First pass over a recording: in which frames is the face, where, and how sharp.

Finding takes most of the time, so every frame goes into a journal and an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.arkit.takes import Take
from head360.datasets.journal import Journal
from head360.errors import BadInput
from head360.fitting.recording import Recording, read_frames, since, take_start

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_PATCH = 128  # pixels a side at which sharpness is judged
_GREY = np.array([0.299, 0.587, 0.114])


class SeenFace(Protocol):
    """What is asked of a face, see ``fitting.faces.Face``."""

    @property
    def box(self) -> NDArray[np.floating]:
        """(4,) pixels left, top, right, bottom."""

    @property
    def landmarks(self) -> NDArray[np.floating]:
        """(68, 2) pixels."""

    @property
    def dense(self) -> NDArray[np.floating] | None:
        """(468, 2) pixels, or None."""

    @property
    def deviation(self) -> NDArray[np.floating]:
        """(68,) pixels."""


class Finder(Protocol):
    """Finds faces, see ``fitting.faces.LandmarkFinder``."""

    name: str

    def find(self, pixels: Pixels) -> Sequence[SeenFace]:
        """The faces of an (H, W, 3) uint8 picture, the surest or largest first."""


class Found(msgspec.Struct):
    """One frame that was looked at; without landmarks where there is no face.

    Attributes:
        number: of the frame from 0. second: of the recording.
        box, landmarks, deviation, dense: of the face; pixels of the upright frame.
        sharpness: of the face, comparable within a recording.
    """

    number: int
    second: float
    box: list[float] = []
    landmarks: list[list[float]] = []
    deviation: list[float] = []
    dense: list[list[float]] = []
    sharpness: float = 0.0


class Clock(msgspec.Struct):
    """How a recording and its take fit together.

    Attributes:
        offset: second of the take at the recording's first frame.
        matched: "timecode", "option" or "start".
        video, take: timecode of the first frame and time of day of the first row, as text.
    """

    offset: float
    matched: str
    video: str = ""
    take: str = ""


def match_clocks(recording: Recording, path: Path, take: Take, offset: float | None) -> Clock:
    """Which second of the take the recording begins at.

    Args:
        recording, take: what shall fit together.
        path: of the take's file.
        offset: what the person says, None to ask the timecodes.

    Raises:
        BadInput: both have timecodes and do not overlap.
    """
    begun = take_start(path)
    words = (recording.timecode, _clock_face(begun) if begun is not None else "")
    if offset is not None:
        return Clock(offset, "option", *words)
    if recording.start is None or begun is None:
        return Clock(0.0, "start", *words)
    shift = since(recording.start, begun)
    if shift > take.duration or (recording.seconds and shift + recording.seconds < 0):
        raise BadInput(
            f"{recording.path} begins at {recording.timecode} and the take {take.name} at "
            f"{words[1]}, so they do not overlap: choose the recording of this take, or say with "
            "--offset which second of the take the video begins at."
        )
    return Clock(shift, "timecode", *words)


def _clock_face(second: float) -> str:
    minutes, rest = divmod(second, 60)
    return f"{int(minutes // 60):02d}:{int(minutes % 60):02d}:{rest:06.3f}"


def look_through(
    recording: Recording,
    clock: Clock,
    take: Take,
    finder: Finder,
    most: int,
    journal: Journal[Found],
    progress: Callable[[int, int, str], None],
) -> list[Found]:
    """Find the face in frames spread over what recording and take have in common.

    Args:
        recording, clock, take: what to look at.
        finder: of landmarks.
        most: how many frames at most.
        journal: of what was found; what is in it is not looked for again.
        progress: called with (frames done, frames expected, what).

    Raises:
        BadInput: nothing in common, or damaged.
    """
    known = {item.number: item for item in journal.read()}
    expected = _expected(recording, clock, take)
    step = max(1.0, expected / most)
    total = max(1, min(most, round(expected))) if expected else most
    found: list[Found] = []
    due, former = 0.0, None
    for position, (number, second, pixels) in enumerate(_covered(recording, clock, take)):
        if position < due or len(found) >= most:
            continue
        due += step
        item = known.get(number)
        if item is None:
            item = _look(finder, number, second, pixels, former)
            journal.append(item)
        former = item if item.landmarks else former
        found.append(item)
        progress(len(found), max(total, len(found)), "finding the face")
    if not found:
        raise BadInput(
            f"No frame of {recording.path} lies within the take {take.name} (offset "
            f"{clock.offset:.2f} s, take {take.duration:.2f} s): check --offset."
        )
    return found


def _expected(recording: Recording, clock: Clock, take: Take) -> float:
    """How many frames lie within the take, as far as the file's head tells."""
    length = recording.seconds or (recording.frames / recording.fps if recording.fps else 0.0)
    if not length or not recording.fps:
        return float(recording.frames)
    shared = min(length, take.duration - clock.offset) - max(0.0, -clock.offset)
    return max(0.0, shared) * recording.fps


def _covered(recording: Recording, clock: Clock, take: Take) -> Iterator[tuple[int, float, Pixels]]:
    for frame in read_frames(recording):
        moment = frame.second + clock.offset
        if moment > take.duration + 1e-6:
            return
        if moment >= -1e-6:
            yield frame.number, frame.second, frame.pixels


def _look(
    finder: Finder, number: int, second: float, pixels: Pixels, former: Found | None
) -> Found:
    faces = list(finder.find(pixels))
    if not faces:
        return Found(number, second)
    face = faces[0]
    if former is not None and len(faces) > 1:
        # Who was filmed in the frame before goes on being filmed.
        place = np.mean(former.landmarks, axis=0)
        face = min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(axis=0) - place)))
    dense = [] if face.dense is None else np.asarray(face.dense, np.float64).round(3).tolist()
    return Found(
        number, round(second, 6), np.asarray(face.box, np.float64).round(2).tolist(),
        np.asarray(face.landmarks, np.float64).round(3).tolist(),
        np.asarray(face.deviation, np.float64).round(3).tolist(), dense,
        sharpness(pixels, np.asarray(face.landmarks)),
    )  # fmt: skip


def sharpness(pixels: Pixels, landmarks: NDArray[np.floating]) -> float:
    """How much fine detail the face has against its contrast, at a size of its own."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    box = (*np.floor(low).astype(int).tolist(), *np.ceil(high).astype(int).tolist())
    patch = Image.fromarray(pixels).resize((_PATCH, _PATCH), Image.Resampling.BILINEAR, box=_within(
        box, pixels.shape[1], pixels.shape[0]
    ))  # fmt: skip
    grey = np.asarray(patch, dtype=np.float64) @ _GREY
    edges = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    return round(float(np.sqrt((edges**2).mean()) / max(float(grey.std()), 1.0)), 6)


def _within(box: tuple[int, ...], width: int, height: int) -> tuple[int, int, int, int]:
    left, top = min(max(box[0], 0), width - 2), min(max(box[1], 0), height - 2)
    return left, top, max(min(box[2], width), left + 2), max(min(box[3], height), top + 2)
