"""``head360 evaluate MODEL --generated N``: heads drawn from seeds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from head360.commands import emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.evaluation import Judges
    from head360.heads.base import Codes, Head
    from head360.training.shots import Shots


def add_generated(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to ``evaluate``."""
    parser.add_argument(
        "--generated",
        type=int,
        metavar="N",
        help="measure N heads drawn from --seed and up instead of the model's own: whether they "
        "look alike from all sides; with the raw assets also faces with a truth (docs/training.md)",
    )
    parser.add_argument(
        "--fid",
        metavar="FILE",
        help="with --generated: a TorchScript network of picture features, for the FID",
    )


def run_generated(arguments: argparse.Namespace, head: Head, judges: Judges) -> int:
    """Draw, measure and report."""
    from pathlib import Path

    from head360.commands.local import ProgressLine
    from head360.evaluation_generated import evaluate_generated, load_features

    if arguments.data is not None:
        raise BadInput(
            "--data has pictures of the model's own subjects, and nobody has any of heads that are "
            "drawn: leave out --data or --generated."
        )
    count = arguments.generated
    most = len(head.subjects)
    if not 1 <= count <= most:
        raise BadInput(
            f"--generated {count} is out of range: choose 1 to {most}, the number of skins that "
            f"{head.name} knows."
        )
    features = None
    if arguments.fid is not None:
        features = load_features(Path(arguments.fid), judges.device)
    drawn = [head.random_codes(arguments.seed + k) for k in range(count)]
    twins = _twins(arguments, head, drawn)
    line: ProgressLine | None = None

    def show(done: int, total: int) -> None:
        nonlocal line
        line = line or ProgressLine("step", total)
        line.show(done)

    result = {
        "model": head.name,
        "seed": arguments.seed,
        **evaluate_generated(
            head, drawn, twins, arguments.size, arguments.sheet, judges, features, show
        ),
    }
    if arguments.json:
        emit_json(result)
    else:
        for key, value in result.items():
            say(f"{key:>16}: {value}")
    return 0


def _twins(arguments: argparse.Namespace, head: Head, drawn: list[Codes]) -> Shots | None:
    """The studio's pictures of its cast with drawn shapes.

    None where there is no studio, or it does not know the model's subjects and styles.

    Raises:
        BadInput: a number out of range, or the pictures cannot be taken.
    """
    from head360.commands.local import ProgressLine
    from head360.evaluation import look_of
    from head360.evaluation_generated import twin_shapes
    from head360.geometry.assets import find_wardrobe
    from head360.training.shoot import shoot, who_and_what
    from head360.training.shots import SynthSpec

    spec = SynthSpec(
        subjects=len(drawn), styles=len(head.styles), groups=arguments.images, views=1,
        size=arguments.size, seed=arguments.seed, look=look_of(head), held_out=True,
    ).checked()  # fmt: skip
    shapes = twin_shapes(head, drawn)
    try:
        find_wardrobe()
        who_and_what(spec, shapes, head.styles)
    except BadInput as error:
        say(f"without a truth: {error}")
        return None
    line = ProgressLine("view", arguments.images)
    return shoot(
        spec, arguments.workers, shapes, head.styles, progress=lambda done, _: line.show(done)
    )
