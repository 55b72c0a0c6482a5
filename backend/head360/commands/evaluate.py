"""``head360 evaluate MODEL``: held-out views, figures and a picture table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from head360.commands import (
    add_device,
    add_json,
    emit_json,
    evaluate_fitting,
    evaluate_gaussian,
    evaluate_generated,
    say,
)

_SEED = 20261  # of held-out views: figures in the documentation are for it


def register(subparsers: Any) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a head on held-out views",
        description="Without --data the studio photographs held-out views of the model's own "
        "subjects and styles; this needs the raw assets.",
    )
    parser.add_argument("model", nargs="?", help="name or path of a model")
    parser.add_argument(
        "--data",
        type=Path,
        help="a SYNHEAD folder of the same subjects; of a Gaussian head its video's folder "
        "(default: its own film, made again)",
    )
    parser.add_argument(
        "--test", type=float, help="of a video: frames, or share below 1, at its end (as it says)"
    )
    parser.add_argument(
        "--images", type=int, default=96, help="how many pictures without --data (default: 96)"
    )
    parser.add_argument("--size", type=int, default=256, help="pixels per side (default: 256)")
    parser.add_argument(
        "--seed", type=int, metavar="S",
        help="of the held-out views (20261); of how people are photographed for --fitting (0)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--lpips",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="weights of LPIPS: torchvision's AlexNet or VGG-16 and the authors' linear layers",
    )
    parser.add_argument(
        "--identity", type=Path, metavar="FILE", help="a TorchScript face recogniser"
    )
    evaluate_gaussian.add_ablation(parser)
    evaluate_fitting.add_fitting(parser)
    evaluate_generated.add_generated(parser)
    parser.add_argument("--sheet", type=Path, help="write truth, prediction and error here")
    add_device(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and report."""
    from head360 import heads
    from head360.commands.local import ProgressLine
    from head360.errors import BadInput
    from head360.evaluation import Judges, evaluate, look_of
    from head360.files import writable_folder
    from head360.heads.gaussian import GaussianHead
    from head360.networks.perceptual import load_identity, load_lpips
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device
    from head360.training.shoot import shoot
    from head360.training.shots import SynthSpec, load_folder

    if arguments.images < 1 or not 32 <= arguments.size <= 2048 or arguments.size % 2:
        raise BadInput("Use at least 1 image and an even --size between 32 and 2048.")
    if arguments.fitting:
        return evaluate_fitting.run_fitting(arguments)
    if arguments.seed is None:
        arguments.seed = _SEED
    if arguments.ablation == "gaussian":
        return evaluate_gaussian.run_ablation(arguments)
    if arguments.model is None:
        raise BadInput("Say which model: head360 evaluate MODEL (`head360 models` lists all).")
    device = choose_device(arguments.device)[0]
    head = heads.load(resolve(arguments.model).path, device)
    if arguments.generated is not None:
        head.random_codes(0)  # a kind without new heads says so before anything is made
    if isinstance(head, GaussianHead):
        return evaluate_gaussian.run_avatar(arguments, head)
    judges = Judges(
        load_lpips(arguments.lpips, device) if arguments.lpips else None,
        load_identity(arguments.identity, device) if arguments.identity else None,
        device,
    )
    if arguments.sheet is not None:
        writable_folder(arguments.sheet.parent)
    if arguments.generated is not None:
        return evaluate_generated.run_generated(arguments, head, judges)
    if arguments.data is not None:
        shots = load_folder(arguments.data, arguments.size, views=1)
    else:
        spec = SynthSpec(
            subjects=len(head.subjects), styles=len(head.styles), groups=arguments.images, views=1,
            size=arguments.size, seed=arguments.seed, look=look_of(head), held_out=True,
        )  # fmt: skip
        say(f"photographing {arguments.images} held-out views")
        shapes = {name: head.codes(name).shape for name in head.subjects}
        line = ProgressLine("view", arguments.images)
        shots = shoot(
            spec, arguments.workers, shapes, head.styles, progress=lambda done, _: line.show(done)
        )
    line = ProgressLine("picture", len(shots))
    result = {
        "model": head.name,
        **evaluate(head, shots, arguments.sheet, lambda done, _: line.show(done), judges),
    }
    if arguments.json:
        emit_json(result)
    else:
        for key, value in result.items():
            say(f"{key:>16}: {value}")
    return 0
