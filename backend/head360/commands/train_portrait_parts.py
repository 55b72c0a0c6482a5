"""``head360 train portrait parsing`` and ``hairstyle``: what a photograph is made of."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_device, emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from head360.training.portrait_run import Lesson


def register(subjects: Any) -> None:
    """Add both to the subparsers of ``train portrait``."""
    from head360.commands.train_portrait import add_common

    parsing = subjects.add_parser(
        "parsing", help="tells hair, skin, eyes, … and background apart, by the studio's labels"
    )
    add_common(parsing, steps=2400)
    parsing.add_argument("--start", type=Path, help="weights to go on from")
    add_device(parsing)
    parsing.set_defaults(run=run_parsing)
    hairstyle = subjects.add_parser("hairstyle", help="tells the studio's hair styles apart")
    add_common(hairstyle, steps=1300)
    hairstyle.add_argument(
        "--network",
        choices=("small", "resnet50"),
        default="small",
        help="resnet50 is the paper's; meant for a GPU (small)",
    )
    hairstyle.add_argument(
        "--parsing-weights", type=Path, help="parser for the figures at the end (the shipped one)"
    )
    add_device(hairstyle)
    hairstyle.set_defaults(run=run_hairstyle)


def run_parsing(arguments: argparse.Namespace) -> int:
    """Train the parser; exit code 85 when stopped by a signal after a checkpoint."""
    from head360.commands.train_portrait import portraits, recipe
    from head360.fitting.parsing import parser
    from head360.networks.parsing_net import ParsingConfig
    from head360.server.worker import choose_device
    from head360.training.portrait_figures import portrait_figures
    from head360.training.portrait_parsing import ParsingLesson, ParsingSettings
    from head360.training.portraits import PortraitSet

    if arguments.start is not None and not arguments.start.is_file():
        raise BadInput(f"There are no weights {arguments.start} to start from.")
    device = choose_device(arguments.device)[0]
    data, held_out = portraits(arguments)
    # Who goes on from weights has learned the coarse things.
    coarse = 0 if arguments.start else arguments.steps // 2
    settings = ParsingSettings(seed=arguments.seed, coarse=coarse)
    lesson = ParsingLesson(
        PortraitSet.load(data), None if held_out is None else PortraitSet.load(held_out),
        ParsingConfig(near=192), settings, device, recipe(arguments, data), arguments.start,
    )  # fmt: skip
    weights, facts = _train(arguments, lesson, 3e-3)
    if held_out is not None:
        own = parser(weights, device)
        facts["held_out"] = portrait_figures(
            held_out, lambda pixels, at: own.parse(pixels, _Face(at))
        )
    return _report(arguments, weights, facts)


def run_hairstyle(arguments: argparse.Namespace) -> int:
    """Train the classifier; exit code 85 when stopped by a signal after a checkpoint."""
    from head360.commands.train_portrait import portraits, recipe
    from head360.fitting.hairstyle import style_ranker
    from head360.fitting.parsing import parser
    from head360.networks.hairstyle_net import StyleConfig
    from head360.server.worker import choose_device
    from head360.training.portrait_figures import portrait_figures
    from head360.training.portrait_hairstyle import StyleLesson, StyleSettings, style_names
    from head360.training.portraits import PortraitSet

    device = choose_device(arguments.device)[0]
    # Opened before an hour of training, not after it.
    own = parser(arguments.parsing_weights, device)
    folder, held_out = portraits(arguments)
    data = PortraitSet.load(folder)
    lesson = StyleLesson(
        data, None if held_out is None else PortraitSet.load(held_out),
        StyleConfig(style_names(data), arguments.network), StyleSettings(seed=arguments.seed),
        device, recipe(arguments, folder),
    )  # fmt: skip
    weights, facts = _train(arguments, lesson, 2e-3)
    if held_out is not None:
        ranker = style_ranker(weights, device)
        facts["held_out"] = portrait_figures(
            held_out,
            lambda pixels, at: own.parse(pixels, _Face(at)),
            lambda pixels, parsing, at: ranker.rank(pixels, parsing, _Face(at)),
        )
    return _report(arguments, weights, facts)


@dataclass(frozen=True)
class _Face:
    """Landmarks alone: where the face is."""

    landmarks: NDArray[np.float32]


def _train(
    arguments: argparse.Namespace, lesson: Lesson, rate: float
) -> tuple[Path, dict[str, Any]]:
    from head360.training.portrait_run import Run, RunSettings

    start = time.monotonic()
    settings = RunSettings(
        steps=arguments.steps,
        rate=rate,
        warmup=50,
        seed=arguments.seed,
        memory=0.99,
        report_seconds=600.0,
    )
    run = Run(lesson, settings, arguments.out)
    if arguments.resume:
        run.resume()
    weights = run.run()
    return weights, {"steps": run.step, "seconds": round(time.monotonic() - start, 1)}


def _report(arguments: argparse.Namespace, weights: Path, facts: dict[str, Any]) -> int:
    result = {"out": str(arguments.out), "weights": str(weights), **facts}
    if arguments.json:
        emit_json(result)
        return 0
    say(f"trained: {weights} ({facts['seconds']:.0f} s)")
    figures = facts.get("held_out", {})
    named = {"miou": "mean overlap", "top1": "top-1", "top3": "top-3"}
    text = ", ".join(f"{said} {figures[key]:.1%}" for key, said in named.items() if key in figures)
    if text:
        say(f"held-out people: {text}")
    return 0
