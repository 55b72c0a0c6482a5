"""``head360 evaluate --fitting``: how well heads are made from photographs."""

from __future__ import annotations

import argparse
import dataclasses

from head360.commands import emit_json, say


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``--fitting``; ``--out`` and ``--steps`` are the ablation's too, ``--seed``
    and ``--sheet`` are those of all evaluations."""
    group = parser.add_argument_group("fitting instead of a model's own views")
    group.add_argument(
        "--fitting",
        action="store_true",
        help="fit studio people whom the model never saw, each from one picture, and compare",
    )
    group.add_argument("--model", dest="base", metavar="NAME", help="base of the fits (starter)")
    group.add_argument("--subjects", type=int, default=6, help="people to fit (default: 6)")
    group.add_argument(
        "--truth",
        choices=("nothing", "landmarks", "parsing", "style", "shape"),
        default="nothing",
        help="take the stages up to this one from the studio, to tell errors apart",
    )
    group.add_argument("--landmarks", default="auto", metavar="NAME", help="landmark finder (auto)")


def run_fitting(arguments: argparse.Namespace) -> int:
    """Measure and report."""
    from head360 import heads
    from head360.commands.local import ProgressLine
    from head360.errors import ModelInvalid
    from head360.evaluation_fitting import evaluate_fitting
    from head360.files import writable_folder
    from head360.fitting.stages import FitSettings
    from head360.heads.hexplane import HexPlaneHead
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device

    device = choose_device(arguments.device)[0]
    name = arguments.base or arguments.model or "starter"
    base = heads.load(resolve(name).path, device)
    if not isinstance(base, HexPlaneHead):
        raise ModelInvalid(f"{base.name} cannot be a base: choose a hex-plane head.")
    seed = 0 if arguments.seed is None else arguments.seed
    settings = FitSettings(landmarks=arguments.landmarks, seed=seed, device=device)
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    settings = settings.checked()
    if arguments.sheet is not None:
        writable_folder(arguments.sheet.parent)
    line = ProgressLine("person", arguments.subjects)
    result = {
        "model": base.name,
        **evaluate_fitting(
            base, settings, arguments.out, arguments.subjects, arguments.truth,
            seed=seed, progress=lambda done, _: line.show(done), sheet=arguments.sheet,
        ),
    }  # fmt: skip
    if arguments.json:
        emit_json(result)
    else:
        for key, value in result.items():
            say(f"{key:>18}: {value}")
    return 0
