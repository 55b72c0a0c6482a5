"""``head360 train gaussian``: a personal avatar from one video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_device, add_json, emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.datasets.monocular_read import MonocularDataset

_LICENCE = "GPL-3.0-or-later"


def register(kinds: Any) -> None:
    """Add ``gaussian`` to the subparsers of ``train``."""
    parser = kinds.add_parser(
        "gaussian",
        help="Gaussian avatar from one video",
        description="Train a Gaussian head on a monocular data set. The run folder holds "
        "checkpoint.safetensors, log.jsonl, previews/ (truth above, prediction below, of the "
        "held-out tail) and, at the end, the model package head/.",
    )
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        help="a monocular folder (head360 synth --layout monocular)",
    )
    parser.add_argument(
        "--preset", default="tiny", help="tiny, corrected, paper or released (default: tiny)"
    )
    parser.add_argument(
        "--rig",
        default="mesh",
        choices=("mesh", "free"),
        help="Gaussians carried by the parametric mesh, or moved by a network (default: mesh)",
    )
    parser.add_argument("--out", required=True, type=Path, help="run folder")
    parser.add_argument("--steps", type=int, help="optimisation steps (default: the preset's)")
    parser.add_argument(
        "--test",
        type=float,
        help="frames, or share below 1, that are held out at the end (default: as the data set "
        "says, else 0.05)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--name", help="name of the model (default: the run folder's)")
    add_device(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; exit code 85 when stopped by a signal after a checkpoint."""
    import dataclasses

    from head360 import heads
    from head360.datasets.monocular_read import MonocularDataset
    from head360.evaluation_monocular import evaluate_video
    from head360.heads.gaussian import GaussianHead
    from head360.server.worker import choose_device
    from head360.training import checkpoint
    from head360.training.footage import Footage
    from head360.training.gaussian import CHECKPOINT, GaussianTrainer
    from head360.training.gaussian_settings import GaussianSettings

    if arguments.seed < 0:
        raise BadInput("--seed must be 0 or more.")
    if arguments.test is not None and arguments.test < 0:
        raise BadInput("--test must be 0 or more.")
    settings = GaussianSettings.preset(
        arguments.preset, arguments.rig, arguments.steps, arguments.seed
    )
    settings = dataclasses.replace(settings, test=arguments.test)
    kept = arguments.out / CHECKPOINT
    if arguments.resume:
        if not kept.is_file():
            raise BadInput(f"{arguments.out} holds no checkpoint: start without --resume.")
        checkpoint.check(kept, settings.facts())
    elif kept.is_file():
        raise BadInput(
            f"{arguments.out} already holds a run: add --resume to go on, or choose another --out."
        )
    device = choose_device(arguments.device)[0]
    data = MonocularDataset.open(arguments.data)
    for sentence in data.assumptions:
        say(sentence)
    footage = Footage(data, arguments.rig == "mesh", arguments.test)
    trainer = GaussianTrainer(footage, settings, arguments.out, sitter_of(data, arguments), device)
    if arguments.resume:
        trainer.resume()
    trainer.run()
    result: dict[str, Any] = {
        "out": str(arguments.out),
        "model": str(arguments.out / "head"),
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "gaussians": trainer.net.count,
    }
    if footage.held_out:
        # The saved head, not the network in memory: its weights are rounded.
        saved = heads.load(arguments.out / "head", device)
        assert isinstance(saved, GaussianHead)
        sheet = arguments.out / "held_out.png"
        result["held_out"] = evaluate_video(saved, footage.held_out, sheet)
    if arguments.json:
        emit_json(result)
    else:
        say(f"trained: {result['model']} ({trainer.step} steps, {trainer.seconds:.0f} s)")
    return 0


def sitter_of(data: MonocularDataset, arguments: argparse.Namespace) -> Any:
    """Names and facts for the package of a head that is trained on ``data``."""
    from head360.training.gaussian import Sitter
    from head360.training.gaussian_film import Recipe

    manifest = data.manifest
    notices = [] if manifest is None else [
        f"{notice.what}: {notice.licence}, {notice.holder}." for notice in manifest.notices
    ]  # fmt: skip
    facts = {
        "licence": _LICENCE,
        "notices": notices,
        "consent": "" if manifest is None else manifest.consent,
        "preset": arguments.preset,
        "training_data": _described(data),
        "training": {
            "data": _described(data),
            "data_key": "" if manifest is None else manifest.key,
            "preset": arguments.preset,
            "rig": arguments.rig,
            "seed": arguments.seed,
        },
    }
    recipe = None
    if manifest is not None:
        recipe = Recipe.of(manifest, len(data.split(arguments.test)[1]))
    if recipe is not None:
        facts["film"] = recipe.facts()
    subject = "subject" if manifest is None else manifest.subject.name
    return Sitter(arguments.name or arguments.out.resolve().name, subject, facts)


def _described(data: MonocularDataset) -> str:
    """What was filmed, in words; never a path of this machine."""
    text = f"monocular, {len(data.frames)} frames of {data.width}×{data.height}"
    manifest = data.manifest
    if manifest is None:
        return text
    take = "" if manifest.take is None else f", take {manifest.take.name}"
    return f"{text}, {manifest.subject.name} with {manifest.style.name}{take}"
