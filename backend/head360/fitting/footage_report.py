"""What became of a recording: numbers in a JSON file, and a sheet of kept and rejected frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from head360.arkit.takes import Take
from head360.files import writable_folder, write_bytes
from head360.fitting.fingerprint import Named, digest_of
from head360.fitting.footage_find import Clock, Found
from head360.fitting.footage_solve import Footage, camera_of
from head360.fitting.recording import Recording
from head360.geometry.bilinear import BilinearModel
from head360.sheets import table

Pixels = NDArray[np.uint8]

_CELL = 224  # pixels a side
_COLUMNS = 6
_GREEN, _RED = (90, 255, 140), (255, 70, 60)
# The 68 as lines: first, one past the last, closed.
_LINES = (
    (0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
    (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True),
)  # fmt: skip
_TOLD_LAG, _SURE = 0.04, 0.5  # seconds; correlation from which a lag is believed


def write_report(
    folder: Path,
    recording: Recording,
    clock: Clock,
    take: Take,
    footage: Footage,
    cut: dict[str, int],
    finder: Named,
    parser: Named,
    seconds: float,
) -> dict[str, Any]:
    """Write ``report.json``; returns what is in it."""
    residuals = np.array([s.residual for s in footage.solved])
    lens = footage.fitted.views[0].camera.intrinsics
    diagonal = float(np.hypot(recording.width, recording.height))
    facts: dict[str, Any] = {
        "video": {
            "path": str(recording.path), "width": recording.width, "height": recording.height,
            "fps": round(recording.fps, 3), "seconds": round(recording.seconds, 3),
            "turned": recording.turned, "timecode": recording.timecode, "base": recording.base,
        },
        "take": {"name": take.name, "seconds": round(take.duration, 3), "notes": take.notes},
        "matched": {"by": clock.matched, "offset": round(clock.offset, 4),
                    "take_begins": clock.take, "lag": footage.lag,
                    "agreement": footage.agreement},
        "notes": _notes(clock, footage),
        "finder": finder.name,
        "parser": parser.name,
        "weights": {"finder": digest_of(finder), "parser": digest_of(parser)},
        "cut": cut,
        "person": {
            "fitted_on": [item.number for item in footage.photos],
            "residual_share": round(
                float(np.mean([v.residual_share for v in footage.fitted.views])), 4
            ),
            "fov_deg": round(float(2 * np.degrees(np.arctan(0.5 / lens[1, 1]))), 3),
            "lens_mm": round(float(lens[1, 1] * recording.height / diagonal * 43.27), 1),
        },
        "frames": {
            "kept": len(footage.solved),
            "rejected": dict(Counter(entry.reason for entry in footage.rejected)),
            "residual_share_median": round(float(np.median(residuals)), 4),
            "residual_share_worst": round(float(residuals.max()), 4),
        },
        "kept": [
            {"frame": s.found.number, "second": round(s.found.second, 4),
             "take_second": round(s.moment, 4), "residual_share": round(s.residual, 4),
             "smoothed_by": round(s.jump, 4)}
            for s in footage.solved
        ],
        "rejected": [
            {"frame": r.found.number, "second": round(r.found.second, 4), "reason": r.reason,
             "value": r.value}
            for r in footage.rejected
        ],
        "run_seconds": round(seconds, 1),
    }  # fmt: skip
    writable_folder(folder)
    write_bytes(folder / "report.json", msgspec.json.format(msgspec.json.encode(facts), indent=1))
    return facts


def _notes(clock: Clock, footage: Footage) -> list[str]:
    """Sentences for the person who reads the report."""
    notes = []
    if clock.matched == "start":
        missing = "The video has no timecode" if not clock.video else "The take has no timecode"
        notes.append(f"{missing}: it is taken to begin with the take (see --offset).")
    if footage.lag is None:
        notes.append("Mouth and lids move too little to tell whether video and take run together.")
    elif footage.agreement < _SURE:
        notes.append(
            f"Mouth and lids in the video follow the take poorly (correlation "
            f"{footage.agreement:.2f}): check that both belong together."
        )
    elif abs(footage.lag) > _TOLD_LAG:
        notes.append(
            f"The face in the video is {footage.lag:+.2f} s behind the take: try --offset "
            f"{clock.offset - footage.lag:.2f}."
        )
    return notes


# --- the sheet ------------------------------------------------------------------------------------


def chosen_rows(footage: Footage) -> list[tuple[str, list[Found]]]:
    """Which frames the sheet shows, row by row."""
    rows = [
        ("fitted on", _spread(footage.photos)),
        ("kept", _spread([s.found for s in footage.solved])),
    ]
    for reason in sorted({entry.reason for entry in footage.rejected}):
        frames = [entry.found for entry in footage.rejected if entry.reason == reason]
        rows.append((f"{reason} ({len(frames)})", _spread(frames)))
    return rows


def _spread(items: list[Any]) -> list[Any]:
    places = np.linspace(0, len(items) - 1, min(_COLUMNS, len(items))).round().astype(int)
    return [items[k] for k in places]


def sheet(
    pictures: Mapping[int, Pixels], recording: Recording, footage: Footage, model: BilinearModel
) -> Image.Image:
    """Kept frames under the mesh's lines (green), rejected ones with what was found (red)."""
    solved = {s.found.number: s for s in footage.solved}
    identity = model.identity(footage.fitted.shape)
    rows = []
    for label, frames in chosen_rows(footage):
        cells = []
        for item in frames:
            if item.number not in pictures:
                continue
            entry, drawn = solved.get(item.number), None
            if entry is not None:
                mesh = identity.pose(entry.weights)[model.topology.landmarks68]
                camera = camera_of(recording, entry.pose)
                drawn = camera.project(mesh, recording.width, recording.height)[0]
            cells.append(_cell(pictures[item.number], item, drawn))
        if cells:
            rows.append((label, cells))
    return table(rows)


def _cell(pixels: Pixels, item: Found, drawn: NDArray[np.floating] | None) -> Pixels:
    """One frame around its face; ``drawn`` (68, 2) is where the mesh has the landmarks."""
    height, width = pixels.shape[:2]
    middle, half = np.array([width / 2, height / 2]), min(width, height) / 2
    if item.landmarks:
        marks = np.array(item.landmarks)
        middle = marks.mean(axis=0)
        half = 0.95 * float(np.ptp(marks, axis=0).max())
    box = np.round([*(middle - half), *(middle + half)]).astype(int).tolist()
    large = 2 * _CELL  # drawn twice as large: smooth lines
    cell = Image.fromarray(pixels).crop(tuple(box)).resize((large, large), Image.Resampling.BICUBIC)
    scale = large / (box[2] - box[0])
    pen = ImageDraw.Draw(cell)
    if drawn is not None:
        seen = (drawn - box[:2]) * scale
        for first, last, closed in _LINES:
            line = [tuple(point) for point in seen[first:last].tolist()]
            pen.line(line + line[:1] if closed else line, _GREEN, 3, joint="curve")
    elif item.landmarks:
        for x, y in (np.array(item.landmarks) - box[:2]) * scale:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=_RED)
    return np.asarray(cell.resize((_CELL, _CELL), Image.Resampling.LANCZOS))
