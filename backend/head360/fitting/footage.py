"""A real recording becomes a monocular data set: the .mov of a phone and the take beside it.

First pass: the face is found in every frame. Then the person is fitted on some frames at once and
the camera solved in all. Second pass: frames are cut, matted and written. The set holds its own
files only, so what was rejected and why is told in a folder beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import head360
from head360.arkit import NAMES
from head360.arkit.takes import Take, read_take
from head360.datasets import monocular, monocular_write, png
from head360.datasets.journal import Journal
from head360.datasets.monocular import FrameTruth, MonocularManifest, TakeRecord
from head360.datasets.monocular_write import Filmed
from head360.datasets.records import Notice, StyleRecord, SubjectRecord
from head360.errors import BadInput
from head360.files import sole_writer, write_bytes
from head360.fitting.fingerprint import digest_of
from head360.fitting.footage_cut import Cut, square_around
from head360.fitting.footage_find import Finder, Found, look_through, match_clocks
from head360.fitting.footage_report import chosen_rows, sheet, write_report
from head360.fitting.footage_solve import Footage, Solved, camera_of, solve
from head360.fitting.recording import Recording, open_recording, read_frames
from head360.geometry.bilinear import BilinearModel
from head360.synthesis.film_plan import AXES, take_notice

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

VERSION = 1  # raise it when the same recording gives another data set
_JPEG_QUALITY = 95
_FOUND = "found.journal"
CONVENTIONS = (
    "The head is the fixed frame, +Y up, +Z out of the face, +X to the subject's left, origin "
    "between the ears; its shape, the lens and the camera of every frame were solved from facial "
    "landmarks, with the expressions of the take. Pictures are sRGB as recorded, with their own "
    "background. Mattes are the whole person's, numbered img_id + 1. exp_ori are ARKit weights in "
    "the order of `expressions`. Landmarks in pixels from the top-left corner, centres at +0.5."
)


class ParsedPicture(Protocol):
    """What is asked of a parsed picture, see ``fitting.parsing.Parsing``."""

    @property
    def labels(self) -> Pixels:
        """(H, W) classes of ``datasets.labels``."""

    @property
    def matte(self) -> NDArray[np.float32]:
        """(H, W) coverage by the person."""


class FrameParser(Protocol):
    """Takes pictures apart, see ``fitting.parsing.Parser``."""

    name: str

    def parse(self, pixels: Pixels, face: Any) -> ParsedPicture:
        """Parse (H, W, 3) uint8 around a face with ``landmarks`` (68, 2)."""


@dataclass(frozen=True)
class FootageSettings:
    """What shall be made of a recording.

    Attributes:
        photos: frames that the person is fitted on.
        max_frames: that are looked at, spread evenly.
        size: pixels a side.
        offset: second of the take at the video's first frame; None asks the timecodes.
        fov_deg: field of view over the height of the upright video, where it is known.
        test_share: of the frames, at the end.
    """

    photos: int = 12
    max_frames: int = 1000
    size: int = 512
    offset: float | None = None
    fov_deg: float | None = None
    test_share: float = monocular.TEST_SHARE

    def checked(self) -> FootageSettings:
        """The same, if it can be done.

        Raises:
            BadInput: a value out of range.
        """
        for name, value, low, high in (
            ("photos", self.photos, 1, 64),
            ("max-frames", self.max_frames, 10, 100_000),
            ("size", self.size, 64, 2048),
            ("fov", self.fov_deg if self.fov_deg is not None else 50.0, 5, 120),
        ):
            if not low <= value <= high:
                raise BadInput(f"--{name} {value:g} is out of range: choose {low} to {high}.")
        return self


@dataclass(frozen=True)
class FootageResult:
    """What a run did: ``facts`` is the report as it was written."""

    manifest: Path
    report: Path
    sheet: Path
    kept: int
    rejected: dict[str, int]
    seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Marked:
    """A face as a parser takes it."""

    landmarks: Array


def report_folder(out: Path) -> Path:
    """Where the report of a data set lies: beside it."""
    out = out.resolve()  # "." has no name
    return out.with_name(out.name + "-report")


def make_footage(
    video: Path,
    take_path: Path,
    out: Path,
    finder: Finder,
    parser: FrameParser,
    settings: FootageSettings,
    progress: Callable[[int, int, str], None] | None = None,
) -> FootageResult:
    """Make a monocular data set of a recording; an interrupted run goes on where it was.

    Args:
        video: the recording.
        take_path: CSV of Live Link Face, recorded with it.
        out: folder of the data set.
        finder: of landmarks.
        parser: of mattes and labels.
        settings: what shall be made.
        progress: called with (done, in all, what is done).

    Raises:
        BadInput: unreadable, nothing in common, too few usable frames, the folder another's.
        TryAgain: another process writes the same folder.
    """
    started = time.monotonic()
    settings = settings.checked()
    report = progress or (lambda done, total, what: None)
    take = read_take(take_path)
    recording = open_recording(video)
    clock = match_clocks(recording, take_path, take, settings.offset)
    model = BilinearModel.builtin()
    key = _key(video, take_path, finder, parser, settings)
    with sole_writer(out):
        root = monocular_write.prepare(out, key, range(_frame_limit(recording)))
        journal = Journal(root / monocular_write.JOURNALS / _FOUND, key, Found)
        found = look_through(recording, clock, take, finder, settings.max_frames, journal, report)
        footage = solve(
            recording, clock, take, found, model, settings.photos, settings.fov_deg, report
        )
        cut = square_around(recording, footage.solved, model, settings.size)
        filmed, pictures = _write_frames(root, key, recording, take, footage, cut, parser, report)
        cameras = [
            cut.camera(camera_of(recording, s.pose), recording.width, recording.height)
            for s in footage.solved
        ]
        _forget_others(root, {s.found.number for s in footage.solved}, found)
        manifest = monocular_write.finish(
            root, _manifest(recording, take, take_path, footage, settings, key),
            [filmed[s.found.number] for s in footage.solved], cameras,
            [s.weights.tolist() for s in footage.solved],
        )  # fmt: skip
    folder = report_folder(out)
    counts = dict(Counter(entry.reason for entry in footage.rejected))
    seconds = time.monotonic() - started
    facts = write_report(
        folder, recording, clock, take, footage, dataclasses.asdict(cut), finder, parser, seconds
    )  # fmt: skip
    picture = sheet(pictures, recording, footage, model)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(folder / "frames.png", buffer.getvalue())
    return FootageResult(
        manifest, folder / "report.json", folder / "frames.png", len(footage.solved), counts,
        seconds, facts,
    )  # fmt: skip


def _write_frames(
    root: Path,
    key: str,
    recording: Recording,
    take: Take,
    footage: Footage,
    cut: Cut,
    parser: FrameParser,
    report: Callable[[int, int, str], None],
) -> tuple[dict[int, Filmed], dict[int, Pixels]]:
    """Second pass: files of every solved frame, and whole pictures for the sheet."""
    wanted = {s.found.number: s for s in footage.solved}
    kept = monocular_write.kept_frames(root, key)
    filmed = {number: item for number, item in kept.items() if number in wanted}
    journal = monocular_write.journal(root, key, 0)
    journal.read()
    shown = {item.number for _, row in chosen_rows(footage) for item in row}
    pictures: dict[int, Pixels] = {}
    last = max([*wanted, *shown])
    for frame in read_frames(recording):
        if frame.number in shown:
            pictures[frame.number] = frame.pixels
        solved = wanted.get(frame.number)
        if solved is not None and frame.number not in filmed:
            filmed[frame.number] = _write(root, cut, solved, frame.pixels, take, parser)
            journal.append(filmed[frame.number])
            report(len(filmed), len(wanted), "cutting and matting")
        if frame.number >= last:
            break
    return filmed, pictures


def _write(
    root: Path, cut: Cut, solved: Solved, pixels: Pixels, take: Take, parser: FrameParser
) -> Filmed:
    picture = cut.picture(pixels)
    landmarks = cut.points(solved.found.landmarks)
    parsed = parser.parse(picture, _Marked(landmarks))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    matte = np.rint(np.clip(parsed.matte, 0, 1) * 255).astype(np.uint8)
    number = solved.found.number
    record = monocular_write.write_files(root, number, {
        "image": buffer.getvalue(),
        "matte": png.encode(matte),
        "parsing": png.encode(monocular.parsing_picture(parsed.labels)),
    })  # fmt: skip
    row = int(np.abs(take.seconds - solved.moment).argmin())
    turn = np.zeros(3) if take.head is None else take.head[row]
    yaw, pitch, roll = (round(float(angle), 6) for angle in turn)
    truth = FrameTruth(
        number, row + 1, round(solved.moment, 6), (yaw, pitch, roll), _rounded(landmarks),
        _rounded(cut.points(solved.found.dense)) if solved.found.dense else [],
    )  # fmt: skip
    return Filmed(record, truth)


def _rounded(points: Array) -> list[tuple[float, float]]:
    return [(round(float(x), 3), round(float(y), 3)) for x, y in points]


def _forget_others(root: Path, kept: set[int], found: Sequence[Found]) -> None:
    """Delete files of frames that an earlier run with other settings kept."""
    for item in found:
        if item.number not in kept:
            for kind in ("image", "matte", "parsing"):
                (root / monocular.frame_path(kind, item.number)).unlink(missing_ok=True)


def _frame_limit(recording: Recording) -> int:
    """More than the highest frame number that can occur."""
    guessed = max(recording.frames, int(recording.seconds * max(recording.fps, 60.0)))
    return 2 * guessed + 10_000


def _manifest(
    recording: Recording,
    take: Take,
    path: Path,
    footage: Footage,
    settings: FootageSettings,
    key: str,
) -> MonocularManifest:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", recording.path.stem).strip("-._")[:48] or "person"
    count = len(footage.solved)
    seconds = np.array([s.found.second for s in footage.solved])
    notice = Notice(
        f"recording: {recording.path.name}", "not stated: ask whoever recorded it", "not named"
    )
    shape = [float(value) for value in footage.fitted.shape]
    return MonocularManifest(
        schema=monocular.SCHEMA,
        kind=monocular.KIND,
        generator=f"head360 {head360.__version__} from-video {VERSION}",
        seed=None,
        consent="A recording of a real person: use it only for what that person has agreed to.",
        key=key,
        width=settings.size,
        height=settings.size,
        fps=round(1 / float(np.median(np.diff(seconds))), 4),
        units="metres",
        axes=AXES,
        conventions=CONVENTIONS,
        expressions=list(NAMES),
        subject=SubjectRecord(name, name, "as-recorded", None, shape),
        style=StyleRecord("as-recorded", "As recorded"),
        light="as recorded",
        take=TakeRecord(
            take.name, hashlib.sha256(path.read_bytes()).hexdigest(),
            "sampled at the frames' seconds", take_notice(path),
        ),
        camera_motion="solved from landmarks, smoothed",
        parsing={
            "head": monocular.HEAD_COLOUR,
            "neck and shoulders": monocular.BODY_COLOUR,
            "backdrop": monocular.BACK_COLOUR,
        },
        test_from=count - min(round(settings.test_share * count), count - 1),
        notices=[notice, take_notice(path)],
        sha256={},
        frames=[],
    )  # fmt: skip


def _key(
    video: Path, take: Path, finder: Finder, parser: FrameParser, settings: FootageSettings
) -> str:
    """A digest of all that the data set depends on."""
    digest = hashlib.sha256()
    facts = [
        VERSION, monocular.SCHEMA, finder.name, digest_of(finder), parser.name, digest_of(parser),
        dataclasses.asdict(settings),
    ]  # fmt: skip
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for path in (video, take):
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise BadInput(
            f"Cannot read {path} ({error.strerror}): choose an existing file."
        ) from error
