"""``head360 dataset``: is a data set whole? And one made of a recording, see ``from_video``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from head360.commands import add_json, emit_json, from_video, say

_TOLD = 40  # problems that people read; --json has them all


def register(subparsers: Any) -> None:
    """Add ``dataset`` to the command line."""
    parser = subparsers.add_parser("dataset", help="look after data sets")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="compare a data set with its manifest",
        description="Reads every file of a data set, SYNHEAD or monocular, and says what is "
        "missing, renamed, exchanged, cut, changed or does not belong there. Exit code 0 when "
        "sound, 2 otherwise. --json prints folder, sound and problems.",
    )
    check.add_argument("folder", type=Path, metavar="DIR")
    add_json(check)
    check.set_defaults(run=run_check)
    from_video.register(actions)


def run_check(arguments: argparse.Namespace) -> int:
    """Check and report every complaint; returns the exit code."""
    from head360.commands.progress import Progress
    from head360.datasets.check import check

    with Progress("files") as bar:
        problems = check(arguments.folder, bar.update)
    if arguments.json:
        emit_json({"folder": str(arguments.folder), "sound": not problems, "problems": problems})
    for problem in problems[:_TOLD]:
        say(problem)
    if len(problems) > _TOLD:
        say(f"… and {len(problems) - _TOLD} more: --json lists them all.")
    if not problems and not arguments.json:
        say(f"{arguments.folder} is sound.")
    return 2 if problems else 0
