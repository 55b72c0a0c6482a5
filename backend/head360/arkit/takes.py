"""Takes of Epic's Live Link Face app: read its CSV into seconds and weights, and write the same.

What the real files do, and this module therefore expects:

* the timecode counts 60 frames a second while a row comes every second one, and its frame field
  has a fraction: seconds are the only safe unit, a row count says nothing about time;
* the labels of the jaw and mouth left/right columns are exchanged (``JawRight`` stands before
  ``JawLeft`` and a smile to the left fills the column labelled ``MouthRight``);
* values pass 1 slightly, and the head angles are flat zero when the app's option is off.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360 import files
from head360.arkit.names import COUNT, INDEX, NAMES
from head360.arkit.performance import perform
from head360.errors import BadInput

Floats = NDArray[np.float32]
Sides = Literal["auto", "as_labelled", "swapped"]

LOWEST, HIGHEST = -0.1, 1.2  # beyond these a value is damage, not overshoot
_DAY = 86400.0
_PAIRS = (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"))
_HEAD = ("headyaw", "headpitch", "headroll")
# Shapes that rise on the side the mouth is pulled to (measured on real takes).
_PULLED_WITH = ("cheekSquint", "mouthDimple", "mouthUpperUp")


def _app_labels() -> list[str]:
    """The app's 52 labels in its column order: both reversed pairs as in the real files."""
    order = list(NAMES)
    for left, right in _PAIRS:
        order[INDEX[left]], order[INDEX[right]] = right, left
    return [name[0].upper() + name[1:] for name in order]


_ANGLES = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)  # fmt: skip
HEADER: tuple[str, ...] = ("Timecode", "BlendShapeCount", *_app_labels(), *_ANGLES)


@dataclass(frozen=True)
class Take:
    """One recorded performance.

    Attributes:
        name: what to call it, from the file's name.
        seconds: (R,) float64, strictly increasing, the first is 0.
        weights: (R, 52) float32 in [0, 1], in the order of ``arkit.NAMES``.
        head: (R, 3) float32 yaw, pitch, roll in radians; None when the file has none or flat ones.
        clamped: how many values lay outside [0, 1].
        notes: sentences about what was decided while reading, for the person who imports.
    """

    name: str
    seconds: NDArray[np.float64]
    weights: Floats
    head: Floats | None = None
    clamped: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def duration(self) -> float:
        """Seconds from the first row to the last."""
        return float(self.seconds[-1])

    def __len__(self) -> int:
        return len(self.seconds)

    def at(self, seconds: ArrayLike) -> Floats:
        """Linearly interpolated weights, held at both ends: () → (52,), (K,) → (K, 52)."""
        moments = np.asarray(seconds, dtype=np.float64)
        after = np.clip(np.searchsorted(self.seconds, moments), 1, max(len(self) - 1, 1))
        if len(self) == 1:
            return np.broadcast_to(self.weights[0], (*moments.shape, COUNT)).copy()
        before = after - 1
        span = self.seconds[after] - self.seconds[before]
        mix = np.clip((moments - self.seconds[before]) / span, 0.0, 1.0)[..., None]
        mixed = self.weights[before] * (1.0 - mix) + self.weights[after] * mix
        return mixed.astype(np.float32)


def _key(label: str) -> str:
    """``EyeBlinkLeft``, ``eye_blink_left`` and ``eyeBlink_L`` become one key."""
    label = label.strip().lower()
    if label.endswith("_l"):
        label = label[:-2] + "left"
    elif label.endswith("_r"):
        label = label[:-2] + "right"
    return label.replace("_", "")


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header cells and (row number in the file, cells) without blank lines."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"Cannot read the take {path} ({error.strerror}): choose an existing CSV file."
        ) from error
    if not raw.strip():
        raise BadInput(f"The take {path} is empty: export it again from Live Link Face.")
    try:
        text = raw.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path} is not a CSV text file: choose the .csv that Live Link Face wrote."
        ) from error
    if not rows:  # only commas
        raise BadInput(f"The take {path} is empty: export it again from Live Link Face.")
    return rows[0][1], rows[1:]


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Key of every column → its position; complains about what is missing."""
    columns: dict[str, int] = {}
    for position, label in enumerate(header):
        columns.setdefault(_key(label), position)
    missing = [name for name in NAMES if name.lower() not in columns]
    if "timecode" not in columns or len(missing) == COUNT:
        what = "a Timecode column" if "timecode" not in columns else "the ARKit columns"
        raise BadInput(
            f"{path} is not a Live Link Face take (row 1 lacks {what}): "
            "choose the .csv that the app wrote."
        )
    if missing:
        raise BadInput(
            f"The take {path} lacks the column {missing[0]} in row 1"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}: "
            "export it again with all 52 blendshapes."
        )
    return columns


def _cell(path: Path, number: int, row: list[str], label: str, position: int) -> float:
    """One finite number, or a sentence that names the row and the column."""
    if position >= len(row):
        raise BadInput(
            f"Row {number} of {path} ends before the column {label} "
            f"({len(row)} cells): repair or delete that row."
        )
    try:
        value = float(row[position])
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise BadInput(
            f"Row {number} of {path} has {row[position].strip() or 'nothing'!r} in the column "
            f"{label}, which is not a number: repair or delete that row."
        )
    return value


def _parse_timecode(path: Path, number: int, row: list[str], position: int) -> tuple[float, float]:
    """(seconds of the day without the frames, frames)."""
    text = row[position].strip() if position < len(row) else ""
    parts = text.replace(";", ":").split(":")
    try:
        hours, minutes, seconds = (int(part) for part in parts[:3])
        (frames,) = (float(part) for part in parts[3:])
    except ValueError as error:
        raise BadInput(
            f"Row {number} of {path} has {text!r} in the column Timecode: "
            "it must read HH:MM:SS:FF.fff."
        ) from error
    if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 60 and 0 <= frames < 240):
        raise BadInput(
            f"Row {number} of {path} has the impossible time {text!r} in the column Timecode: "
            "repair or delete that row."
        )
    return hours * 3600.0 + minutes * 60.0 + seconds, frames


def infer_base(highest_frame: float) -> int:
    """Frames a second that the timecode counts, from the highest frame number seen."""
    for limit, base in ((60, 120), (30, 60), (25, 30), (24, 25)):
        if highest_frame >= limit:
            return base
    return 24 if highest_frame >= 23 else 30


def _seconds(
    path: Path, numbers: list[int], whole: ArrayLike, frames: ArrayLike, base: int
) -> NDArray[np.float64]:
    """Seconds from the first row; midnight adds a day, standing or falling time is refused."""
    times = np.asarray(whole, dtype=np.float64) + np.asarray(frames, dtype=np.float64) / base
    times[1:] += np.cumsum(np.diff(times) < -_DAY / 2) * _DAY
    stuck = np.flatnonzero(np.diff(times) <= 0)
    if stuck.size:
        raise BadInput(
            f"Row {numbers[stuck[0] + 1]} of {path} does not come after the row before it in the "
            "column Timecode: sort the rows by time, or set the timecode base."
        )
    return times - times[0]


def _anatomy(weights: Floats) -> float | None:
    """How well mouth-left follows the left cheek (−1 … 1), or None where nothing is one-sided.

    A one-sided smile or sneer pulls the mouth towards that side.
    """
    pull = weights[:, INDEX["mouthLeft"]] - weights[:, INDEX["mouthRight"]]
    scores = []
    for shape in _PULLED_WITH:
        side = weights[:, INDEX[f"{shape}Left"]] - weights[:, INDEX[f"{shape}Right"]]
        if pull.std() > 0.03 and side.std() > 0.03:
            scores.append(float(np.corrcoef(pull, side)[0, 1]))
    return sum(scores) / len(scores) if scores else None


def _swap_sides(weights: Floats) -> None:
    for left, right in _PAIRS:
        pair = [INDEX[left], INDEX[right]]
        weights[:, pair] = weights[:, pair[::-1]]


def _decide_sides(sides: Sides, columns: dict[str, int], weights: Floats, notes: list[str]) -> None:
    """Exchange the jaw and mouth pairs in place where needed, and say so."""
    reversed_header = all(
        columns[right.lower()] + 1 == columns[left.lower()] for left, right in _PAIRS
    )
    if sides == "swapped" or (sides == "auto" and reversed_header):
        _swap_sides(weights)
        notes.append(
            "Left and right of the jaw and mouth directions were exchanged, because "
            + ("you asked for it." if sides == "swapped" else "the app labels them the wrong way.")
        )
    score = _anatomy(weights)
    if sides == "auto" and score is not None and score < -0.2:
        notes.append(
            "The mouth moves away from the side that smiles: "
            "check the result, and set the jaw and mouth sides by hand if it looks mirrored."
        )


def read_take(path: Path | str, *, sides: Sides = "auto", base: int | None = None) -> Take:
    """Read a Live Link Face CSV.

    Args:
        path: the file; columns in any order, with or without the nine angles.
        sides: whether the labels of the jaw and mouth directions are exchanged; "auto" decides by
            the header and checks the result against the anatomy.
        base: frames a second of the timecode; inferred when None.

    Raises:
        BadInput: unreadable, not a take, or a damaged row; the sentence names row and column.
    """
    path = Path(path)
    header, rows = _read_rows(path)
    columns = _columns(path, header)
    if not rows:
        raise BadInput(f"The take {path} has a header but no rows: record it again.")

    notes: list[str] = []
    numbers = [number for number, _ in rows]
    positions = [columns[name.lower()] for name in NAMES]
    head_positions = [columns[key] for key in _HEAD if key in columns]
    whole: list[float] = []
    frames: list[float] = []
    values: list[list[float]] = []
    head: list[list[float]] = []
    lost = 0
    for number, row in rows:
        time = _parse_timecode(path, number, row, columns["timecode"])
        whole.append(time[0])
        frames.append(time[1])
        count = columns.get("blendshapecount", len(row))
        if count < len(row) and row[count].strip() == "0":
            # The app lost the face: hold the last pose, zeros would snap to neutral.
            values.append(values[-1] if values else [0.0] * COUNT)
            head.append(head[-1] if head else [0.0] * len(head_positions))
            lost += 1
            continue
        values.append([_cell(path, number, row, header[at].strip(), at) for at in positions])
        head.append([_cell(path, number, row, header[at].strip(), at) for at in head_positions])

    weights = np.array(values, dtype=np.float32)
    wild = np.argwhere((weights < LOWEST) | (weights > HIGHEST))
    if wild.size:
        at, shape = wild[0]
        raise BadInput(
            f"Row {numbers[at]} of {path} has {weights[at, shape]:g} in the column "
            f"{header[positions[shape]].strip()}, outside 0 to 1: repair or delete that row."
        )
    if lost:
        notes.append(f"The face was lost in {lost} rows; the last pose is held there.")
    clamped = int(np.count_nonzero((weights < 0) | (weights > 1)))
    if clamped:
        notes.append(f"{clamped} values slightly outside 0 to 1 were clamped.")
    np.clip(weights, 0.0, 1.0, out=weights)
    _decide_sides(sides, columns, weights, notes)

    angles = np.array(head, dtype=np.float32)
    moving = angles.shape[1] == 3 and float(np.ptp(angles, axis=0).max()) > 1e-4
    if angles.shape[1] == 3 and not moving:
        notes.append("The take has no head rotation; the head stays still.")
    used_base = base or infer_base(max(frames))
    seconds = _seconds(path, numbers, whole, frames, used_base)
    return Take(path.stem, seconds, weights, angles if moving else None, clamped, notes)


def timecode(seconds: float, base: int) -> str:
    """``HH:MM:SS:FF.fff`` of a moment of the day."""
    thousandths = round((seconds % _DAY) * base * 1000)
    whole, rest = divmod(thousandths, base * 1000)
    frame, fraction = divmod(rest, 1000)
    hours, minutes = whole // 3600 % 24, whole // 60 % 60
    return f"{hours:02d}:{minutes:02d}:{whole % 60:02d}:{frame:02d}.{fraction:03d}"


def _eye_angles(weights: Floats) -> Floats:
    """(R, 6) yaw, pitch, roll of the left and the right eye in radians, from the look shapes.

    The slopes are those of the app: weight 1 is about 0.6 rad of yaw and 0.55 rad of pitch, with
    +yaw towards the subject's right and +pitch down.
    """
    angles = np.zeros((len(weights), 6), dtype=np.float32)
    for column, side, (plus, minus) in ((0, "Left", ("In", "Out")), (3, "Right", ("Out", "In"))):
        look = {to: weights[:, INDEX[f"eyeLook{to}{side}"]] for to in ("In", "Out", "Up", "Down")}
        angles[:, column] = (look[plus] - look[minus]) / 1.66
        angles[:, column + 1] = (look["Down"] - look["Up"]) / 1.8
    return angles


def write_take(
    path: Path | str,
    seconds: ArrayLike | None,
    weights: ArrayLike,
    fps: float = 30.0,
    base: int = 60,
    *,
    start: float = 43200.0,
) -> Path:
    """Write a take as the app writes it, its exchanged labels included.

    Args:
        path: the CSV to write, atomically.
        seconds: (R,) strictly increasing; None for rows that are 1 / ``fps`` apart.
        weights: (R, 52) in the order of ``arkit.NAMES``.
        base: frames a second of the timecode.
        start: time of day of second 0.
    """
    values = np.asarray(weights, dtype=np.float32)
    moments = np.asarray(
        np.arange(len(values)) / fps if seconds is None else seconds, dtype=np.float64
    )
    if values.shape != (len(moments), COUNT):
        raise BadInput(f"A take needs one row of {COUNT} weights for every moment.")
    angles = np.concatenate([np.zeros((len(values), 3), np.float32), _eye_angles(values)], axis=1)
    # The header's labels are reversed like the app's, while positions keep Apple's order: the
    # values stay where they are and only the label above them is wrong, as in the real files.
    lines = [",".join(HEADER)]
    for moment, row, angle in zip(moments, values, angles, strict=True):
        cells = [f"{value:.10f}" for value in (*row, *angle)]
        lines.append(",".join([timecode(start + moment, base), str(COUNT + 9), *cells]))
    return files.write_text(path, "\n".join(lines) + "\n")


def synthetic_take(seconds: float = 5.0, fps: float = 30.0) -> Take:
    """The project's own lively performance as a take: no recording, no licence to mind."""
    return Take("synthetic", *perform(seconds, fps))
