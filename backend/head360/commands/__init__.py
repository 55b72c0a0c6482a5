"""The commands of ``head360``: one file a group, each with ``register(subparsers)``.

A group's function takes the parsed arguments and returns the exit code. What several groups share
lives here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from head360.errors import BadInput

MAX_FRAMES = 1_000_000


def emit_json(value: Any) -> None:
    """Write the command's one JSON object to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line of progress or result for people; standard output stays free for ``--json``."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def parse_frames(text: str) -> list[int]:
    """``"1-8,20"`` → ``[1, …, 8, 20]``: sorted, without repetitions.

    Raises:
        BadInput: not such a text, or a range that runs backwards or is absurdly long.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:-\s*(\d{1,7})\s*)?", part)
        if match is None:
            raise BadInput(f'"{text}" is not a range of frames: write it like 1-240 or 1-8,20.')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise BadInput(f"The range {part.strip()} runs backwards: write {last}-{first}.")
        numbers.update(range(first, last + 1))
        if len(numbers) > MAX_FRAMES:
            raise BadInput(f"More than {MAX_FRAMES} frames: choose a shorter range.")
    return sorted(numbers)


def parse_size(text: str) -> tuple[int, int]:
    """``"512"`` → (512, 512), ``"1920x1080"`` → (1920, 1080).

    Raises:
        BadInput: not such a text, or not between 1 and 65536.
    """
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    sides = (int(match[1]), int(match[2] or match[1])) if match is not None else (0, 0)
    if not 1 <= min(sides) <= max(sides) <= 65536:
        raise BadInput(f'"{text}" is not a size: write it like 512 or 1920x1080.')
    return sides


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="print exactly one JSON object on standard output"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "mps", "cpu"),
        default="auto",
        help="where to compute (default: the best there is)",
    )


def add_person(parser: argparse.ArgumentParser) -> None:
    """``--subject`` and ``--style``."""
    parser.add_argument("--subject", help="name of the person (default: the model's first)")
    parser.add_argument(
        "--style",
        default="",
        help='hair style (default: the subject\'s own; "none" for a bald head)',
    )


def style_of(arguments: argparse.Namespace) -> str | None:
    """The ``style`` argument of ``Head.codes``: None for bald, "" for the subject's own."""
    style: str = arguments.style
    return None if style.lower() in ("none", "bald") else style
