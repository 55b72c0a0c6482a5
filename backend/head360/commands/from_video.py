"""``head360 dataset from-video``: a monocular data set of a real recording and its take.

What ``--json`` prints: out, manifest, report, sheet, frames (kept), rejected (by reason), matched
("timecode", "option" or "start"), offset, lag, fov_deg, residual_share, notes, seconds.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from head360.commands import add_device, add_json, emit_json, say
from head360.commands.progress import Progress


def register(actions: Any) -> None:
    """Add ``from-video`` to ``head360 dataset``."""
    parser = actions.add_parser(
        "from-video",
        help="make a monocular data set of a recording and its take",
        description="Makes a data set for GaussianHead of the video that a phone recorded beside "
        "a Live Link Face take: frames are matched by timecode, the face is fitted on several "
        "frames at once, and the camera is solved in every frame. Frames without a face, blurred "
        "ones and those that do not fit are left out; DIR-report says which and why. An "
        "interrupted run continues.",
    )
    parser.add_argument("video", type=Path, metavar="VIDEO", help="the .mov beside the take")
    parser.add_argument("--take", type=Path, required=True, metavar="CSV", help="Live Link Face")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the data set")
    parser.add_argument(
        "--photos", type=int, default=12, metavar="N", help="frames to fit the person on (12)"
    )
    parser.add_argument(
        "--max-frames", type=int, default=1000, metavar="N", help="frames to look at (1000)"
    )
    parser.add_argument("--size", type=int, default=512, metavar="S", help="pixels a side (512)")
    parser.add_argument(
        "--offset", type=float, metavar="SECONDS",
        help="second of the take at the video's first frame (default: by timecode)",
    )  # fmt: skip
    parser.add_argument(
        "--fov", type=float, metavar="DEG",
        help="field of view over the height of the upright video (default: it is solved)",
    )  # fmt: skip
    parser.add_argument(
        "--landmarks", default="auto", metavar="NAME", help="landmark finder: auto, own, mediapipe"
    )
    parser.add_argument("--landmarks-weights", type=Path, metavar="FILE", help="of another network")
    parser.add_argument("--parsing-weights", type=Path, metavar="FILE", help="of another network")
    add_device(parser)
    add_json(parser)
    parser.set_defaults(run=run)


class _Stages:
    """A bar for every stage: each counts frames of its own."""

    def __init__(self) -> None:
        self._all = ExitStack()
        self._bar: Progress | None = None
        self._what = ""

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def update(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` frames of the stage ``what``."""
        if self._bar is None or what != self._what:
            self._all.close()
            self._bar, self._what = self._all.enter_context(Progress("frames")), what
        self._bar.update(done, total, what)


def run(arguments: argparse.Namespace) -> int:
    """Do what the parsed arguments ask; returns the exit code."""
    from head360.fitting.faces import landmark_finder
    from head360.fitting.footage import FootageSettings, make_footage
    from head360.fitting.parsing import parser as open_parser
    from head360.server.worker import choose_device

    settings = FootageSettings(
        arguments.photos, arguments.max_frames, arguments.size, arguments.offset, arguments.fov
    ).checked()
    device = choose_device(arguments.device)[0]
    finder = landmark_finder(arguments.landmarks, arguments.landmarks_weights, device)
    parser = open_parser(arguments.parsing_weights, device)
    with _Stages() as stages:
        made = make_footage(
            arguments.video, arguments.take, arguments.out, finder, parser, settings, stages.update
        )
    facts = made.facts
    for note in facts["notes"]:
        say(note)
    left = sum(made.rejected.values())
    say(
        f"{made.kept} frames kept, {left} left out ({made.report}), in {made.seconds:.0f} s: "
        f"{made.manifest}"
    )
    if arguments.json:
        emit_json({
            "out": str(arguments.out),
            "manifest": str(made.manifest),
            "report": str(made.report),
            "sheet": str(made.sheet),
            "frames": made.kept,
            "rejected": made.rejected,
            "matched": facts["matched"]["by"],
            "offset": facts["matched"]["offset"],
            "lag": facts["matched"]["lag"],
            "fov_deg": facts["person"]["fov_deg"],
            "residual_share": facts["frames"]["residual_share_median"],
            "notes": facts["notes"],
            "seconds": round(made.seconds, 1),
        })  # fmt: skip
    return 0
