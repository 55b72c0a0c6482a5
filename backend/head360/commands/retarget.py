"""``--retarget``: a take that somebody else performed, as the numbers of an avatar."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from head360.errors import BadInput


def add_retarget(parser: argparse.ArgumentParser) -> None:
    """``--retarget`` and what belongs to it."""
    group = parser.add_argument_group("a take performed by somebody else")
    group.add_argument(
        "--retarget",
        action="store_true",
        help="carry over what differs from the performer's neutral face, within the range that the "
        "avatar was trained on",
    )
    group.add_argument(
        "--neutral",
        metavar="ROW|auto",
        help="row of the take, from 1, with the performer's neutral face (default: auto, the "
        "calmest; implies --retarget)",
    )
    group.add_argument(
        "--driver-range",
        type=Path,
        metavar="CSV",
        help="a take in which the performer goes as far as they can (default: the take itself; "
        "implies --retarget)",
    )


def retargeted(
    arguments: argparse.Namespace, take: Any, weights: np.ndarray, model: Path
) -> tuple[np.ndarray, dict[str, Any] | None]:
    """(F, 52) weights for the avatar and a report, or the same and None where it is not wanted.

    Raises:
        BadInput: no such row, or the take of the range cannot be read.
    """
    from head360.arkit.takes import read_take
    from head360.heads.gaussian_retarget import Range, gains_of, neutral_row, retarget
    from head360.heads.package import read_manifest

    wanted = arguments.retarget or arguments.neutral is not None
    if not wanted and arguments.driver_range is None:
        return weights, None
    text = "auto" if arguments.neutral is None else arguments.neutral
    if text == "auto":
        row = neutral_row(take.weights) + 1
    elif text.isdigit() and 1 <= int(text) <= len(take.weights):
        row = int(text)
    else:
        raise BadInput(
            f"--neutral {text} is no row of the take: give 1 to {len(take.weights)}, or auto."
        )
    target = Range.of(read_manifest(model))
    furthest = take if arguments.driver_range is None else read_take(arguments.driver_range)
    neutral = take.weights[row - 1]
    moved = retarget(weights, neutral, target, gains_of(furthest.weights, neutral, target))
    return moved.weights, {
        "neutral": row,
        "clamped": moved.clamped,
        "clamped_frames": moved.frames,
        "clamped_most": list(moved.most),
        "gains": [round(float(moved.gains.min()), 3), round(float(moved.gains.max()), 3)],
    }


def sentence(report: dict[str, Any]) -> str:
    """The report for people."""
    most = f" (mostly {', '.join(report['clamped_most'])})" if report["clamped_most"] else ""
    return (
        f"Retargeted from the neutral face in row {report['neutral']}: {report['clamped']} weights "
        f"in {report['clamped_frames']} frames were kept inside the trained range{most}."
    )
