"""Weave several Live Link takes into one: a few rows of each in turn, at 30 frames a second.

The film behind the model ``starter-gaussian`` was performed to
``python scripts/mix_takes.py out.csv --every 4 --turn 12 rom3_eyes_brows.csv rom3_jaw_smile.csv
rom3_tongue_cheeks.csv``: a short film that still shows every part of the face.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def mix(takes: list[list[str]], every: int, turn: int) -> list[str]:
    """Lines of one CSV from the lines of several that have the same header."""
    if any(take[0] != takes[0][0] for take in takes):
        raise SystemExit("The takes have different columns.")
    rows = [take[1::every] for take in takes]
    woven: list[str] = []
    for first in range(0, max(map(len, rows)), turn):
        for take in rows:
            woven += take[first : first + turn]
    lines = [takes[0][0]]
    for number, row in enumerate(woven):
        second, frame = divmod(2 * number, 60)  # timecodes count sixtieths
        rest = row.partition(",")[2]
        lines.append(f"10:{second // 60:02d}:{second % 60:02d}:{frame:02d}.000,{rest}")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("takes", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=4, help="rows to step over")
    parser.add_argument("--turn", type=int, default=12, help="rows of one take in a row")
    chosen = parser.parse_args()
    takes = [path.read_text(encoding="utf-8").splitlines() for path in chosen.takes]
    chosen.out.write_text("\n".join(mix(takes, chosen.every, chosen.turn)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
