"""Weave several Live Link takes into one: a few rows of each in turn, at 30 frames a second.

The film behind the model ``starter-gaussian`` was performed to
``python scripts/mix_takes.py out.csv --every 4 --turn 12 rom3_eyes_brows.csv rom3_jaw_smile.csv
rom3_tongue_cheeks.csv``: a short film that still shows every part of the face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from head360.errors import Head360Error
from head360.files import write_text
from head360.training.gaussian_film import weave


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("takes", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=4, help="rows to step over")
    parser.add_argument("--turn", type=int, default=12, help="rows of one take in a row")
    chosen = parser.parse_args()
    takes = [path.read_text(encoding="utf-8").splitlines() for path in chosen.takes]
    try:
        write_text(chosen.out, "\n".join(weave(takes, chosen.every, chosen.turn)) + "\n")
    except Head360Error as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
