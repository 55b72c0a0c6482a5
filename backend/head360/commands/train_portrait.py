"""``head360 train portrait``: the networks that read photographs, from the studio's labels."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_json, emit_json, say, train_portrait_parts
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.training.portrait_closer import CloserLesson
    from head360.training.portrait_landmarks import LandmarkLesson
    from head360.training.portraits import PortraitSpec


def register(kinds: Any) -> None:
    """Add ``portrait`` to the subparsers of ``train``."""
    parser = kinds.add_parser(
        "portrait",
        help="the networks that read photographs",
        description="Train the networks that read photographs on portraits of the studio. The run "
        "folder holds checkpoint.safetensors, log.jsonl, previews/, the portraits where they are "
        "drawn now, and the weights, written anew with every preview.",
    )
    subjects = parser.add_subparsers(dest="subject_of_training", required=True)
    landmarks = subjects.add_parser(
        "landmarks", help="finds faces and their 68 landmarks and 468 dense points"
    )
    add_common(landmarks, steps=4000)
    landmarks.set_defaults(run=run_landmarks)
    closer = subjects.add_parser(
        "closer", help="looks again at a face that is found: the same points, more exactly"
    )
    add_common(closer, steps=4000)
    closer.set_defaults(run=run_closer)
    train_portrait_parts.register(subjects)


def add_common(parser: argparse.ArgumentParser, steps: int) -> None:
    """The arguments that every network of this family takes."""
    parser.add_argument(
        "--data",
        default="synth",
        help="a folder of portraits, or synth:people=300,… to draw them in the studio; they are "
        "kept in the run folder (synth)",
    )
    parser.add_argument(
        "--held-out", type=Path, help="a folder of other people's portraits to measure progress on"
    )
    parser.add_argument("--out", required=True, type=Path, help="run folder")
    parser.add_argument("--steps", type=int, default=steps, help=f"optimisation steps ({steps})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures (1)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    add_json(parser)


def portraits(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """Folders of the training and the held-out portraits; drawn now where ``--data`` asks for it.

    Raises:
        BadInput: a number out of range, no such folder, or a run where none may be, or none where
            one must be.
    """
    import dataclasses

    from head360.commands.train import is_spec
    from head360.files import writable_folder
    from head360.training.portraits import HELD_OUT, PortraitSet, PortraitSpec

    if arguments.steps < 1:
        raise BadInput("--steps must be at least 1.")
    if arguments.seed < 0:
        raise BadInput("--seed must be 0 or more.")
    if not 0 <= arguments.workers <= 64:
        raise BadInput("--workers must be 0 to 64.")
    spec = PortraitSpec.parse(arguments.data) if is_spec(arguments.data) else None
    kept = arguments.out / "checkpoint.safetensors"
    if arguments.resume and not kept.is_file():
        raise BadInput(f"{arguments.out} holds no checkpoint: start without --resume.")
    if not arguments.resume and kept.is_file():
        raise BadInput(
            f"{arguments.out} already holds a run: add --resume to go on, or choose another --out."
        )
    if arguments.held_out is not None:
        PortraitSet.load(arguments.held_out)
    if spec is None:
        PortraitSet.load(arguments.data)
        return Path(arguments.data), arguments.held_out
    out = writable_folder(arguments.out)
    others = dataclasses.replace(
        spec, first=max(HELD_OUT, spec.first + spec.people), people=max(1, spec.people // 10)
    )
    for name, wanted in (("portraits", spec), ("portraits_held_out", others)):
        say(f"drawing {wanted.people * wanted.each} portraits of {wanted.people} people")
        _draw(wanted, out / name, max(1, arguments.workers))
    return out / "portraits", arguments.held_out or out / "portraits_held_out"


def _draw(wanted: PortraitSpec, folder: Path, workers: int) -> None:
    from head360.commands.local import ProgressLine
    from head360.training.portrait_studio import draw_portraits

    line = ProgressLine("person", wanted.people)
    draw_portraits(wanted, folder, workers, lambda done, _: line.show(done))


def run_landmarks(arguments: argparse.Namespace) -> int:
    """Train finder and landmarks; exit code 85 when stopped by a signal after a checkpoint."""
    from head360.training.portrait_landmarks import LandmarkLesson, Portions

    data, held_out = portraits(arguments)
    return _learn(
        arguments,
        LandmarkLesson(
            data, held_out, seed=arguments.seed, portions=Portions(workers=arguments.workers),
            recipe=recipe(arguments, data),
        ),
    )  # fmt: skip


def run_closer(arguments: argparse.Namespace) -> int:
    """Train the second look; exit code 85 when stopped by a signal after a checkpoint."""
    from head360.training.portrait_closer import CloserLesson, CloserPortions

    data, held_out = portraits(arguments)
    return _learn(
        arguments,
        CloserLesson(
            data, held_out, seed=arguments.seed, portions=CloserPortions(workers=arguments.workers),
            recipe=recipe(arguments, data),
        ),
    )  # fmt: skip


def _learn(arguments: argparse.Namespace, lesson: LandmarkLesson | CloserLesson) -> int:
    from head360.training.portrait_run import Run, RunSettings

    start = time.monotonic()
    try:
        settings = RunSettings(steps=arguments.steps, seed=arguments.seed)
        run = Run(lesson, settings, arguments.out)
        if arguments.resume:
            run.resume()
        weights = run.run()
    finally:
        lesson.close()
    return report(arguments, weights, run.step, start)


def recipe(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """What the weights file says about how it was made."""
    from dataclasses import asdict

    from head360 import __version__
    from head360.training.portraits import PortraitSet

    pictures = PortraitSet.load(data)
    return {
        "made_by": "head360 train portrait",
        "version": __version__,
        "pictures": len(pictures),
        "portraits": asdict(pictures.spec),
        "steps": arguments.steps,
        "seed": arguments.seed,
    }


def report(arguments: argparse.Namespace, weights: Path, steps: int, start: float) -> int:
    """Say where the weights are."""
    result = {
        "out": str(arguments.out),
        "weights": str(weights),
        "steps": steps,
        "seconds": round(time.monotonic() - start, 1),
    }
    if arguments.json:
        emit_json(result)
    else:
        say(f"trained: {weights} ({result['seconds']:.0f} s)")
    return 0
