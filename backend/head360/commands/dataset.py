"""``head360 dataset check DIR``: is a data set whole?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from head360.commands import add_json, emit_json, say


def register(subparsers: Any) -> None:
    """Add ``dataset`` to the command line."""
    parser = subparsers.add_parser("dataset", help="look after data sets")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="compare a data set with its manifest",
        description="Reads every file of a SYNHEAD data set and says what is missing, stray, cut "
        "or changed. Exit code 0 when sound, 2 otherwise.",
    )
    check.add_argument("folder", type=Path, metavar="DIR")
    add_json(check)
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Check and report every complaint; returns the exit code."""
    from head360.datasets.synhead_check import check

    complaints = check(arguments.folder)
    if arguments.json:
        emit_json(
            {"folder": str(arguments.folder), "sound": not complaints, "problems": complaints}
        )
    for complaint in complaints:
        say(complaint)
    if not complaints and not arguments.json:
        say(f"{arguments.folder} is sound.")
    return 2 if complaints else 0
