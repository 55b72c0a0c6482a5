"""``head360 train hexplane``; see ``train_gaussian`` and ``train_stages`` for the others."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from head360.commands import (
    add_device,
    add_json,
    emit_json,
    say,
    train_extend,
    train_gaussian,
    train_portrait,
    train_stages,
)
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.training.shots import Shots, SynthSpec


@dataclass(frozen=True)
class Ablation:
    """What one row of the paper's tables changes.

    Attributes:
        config, settings: fields of ``HexPlaneConfig`` and ``TrainSettings``.
        twins: whether bald twins are among the pictures.
    """

    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    twins: bool = True


ABLATIONS = {
    "tri-plane": Ablation({"views": "tri"}),
    "nerf": Ablation({"views": "none", "guided": False}),
    "added-planes": Ablation({"merge": "add"}),
    "unguided": Ablation({"guided": False}),
    "no-detachment": Ablation(settings={"hair_loss": 0.0}, twins=False),
}


def register(subparsers: Any) -> None:
    """Add ``train`` to the command line."""
    parser = subparsers.add_parser("train", help="train a head")
    kinds = parser.add_subparsers(dest="kind", required=True)
    hexplane = kinds.add_parser(
        "hexplane",
        help="hex-plane head from pictures",
        description="Train a hex-plane head. The run folder holds checkpoint.safetensors, "
        "log.jsonl, previews/, the studio's pictures/ and, at the end, the model package head/.",
    )
    hexplane.add_argument(
        "--data",
        help="a SYNHEAD folder (head360 synth), or synth:subjects=8,styles=8,groups=2400,… to "
        "draw the pictures from the studio; they are kept in the run folder. live=1 draws them "
        "while training instead, look=1 as the first heads saw them",
    )
    hexplane.add_argument("--preset", help="tiny, tiny-codes, small or paper (default: tiny)")
    hexplane.add_argument("--out", required=True, type=Path, help="run folder")
    hexplane.add_argument(
        "--steps", type=int, help="optimisation steps (default: 9000; of --extend 600 a style)"
    )
    hexplane.add_argument("--seed", type=int, default=0)
    hexplane.add_argument(
        "--objective",
        choices=("photometric", "adversarial"),
        help="adversarial adds the paper's discriminator; meant for a GPU (photometric)",
    )
    hexplane.add_argument(
        "--ablation", choices=tuple(ABLATIONS), help="a row of the paper's Tables 3 and 4"
    )
    hexplane.add_argument("--workers", type=int, default=2, help="processes that take pictures")
    hexplane.add_argument(
        "--resume", action="store_true", help="go on from the run folder's checkpoint"
    )
    hexplane.add_argument(
        "--start", help="a trained head of the same preset whose networks the run begins with"
    )
    hexplane.add_argument("--name", help="name of the model (default: the run folder's)")
    train_extend.add_extend(hexplane)
    add_device(hexplane)
    add_json(hexplane)
    hexplane.set_defaults(run=run_hexplane)
    train_stages.register(kinds)
    train_gaussian.register(kinds)
    train_portrait.register(kinds)


def run_hexplane(arguments: argparse.Namespace) -> int:
    """Train; exit code 85 when stopped by a signal after a checkpoint."""
    from head360 import heads
    from head360.evaluation import evaluate
    from head360.files import writable_folder
    from head360.heads.hexplane import HexPlaneHead
    from head360.networks.hexplane import PRESETS
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device
    from head360.synthesis.looks import LATEST_LOOK
    from head360.training import checkpoint
    from head360.training.hexplane import Trainer, TrainSettings, settings_facts
    from head360.training.inherit import inherit
    from head360.training.live import LiveStream, hull_spec
    from head360.training.parallel import Ranks
    from head360.training.shots import SynthSpec, load_folder

    # All that can be wrong is looked at before the studio takes pictures for an hour.
    if arguments.extend is not None:
        return train_extend.run_extend(arguments)
    if arguments.styles is not None:
        raise BadInput("--styles goes with --extend MODEL: name styles with --data synth:wear=A+B.")
    if arguments.data is None:
        raise BadInput("Say what to learn from: add --data DIR or --data synth:….")
    arguments.preset = arguments.preset or "tiny"
    arguments.objective = arguments.objective or "photometric"
    if arguments.preset not in PRESETS:
        raise BadInput(
            f"There is no preset {arguments.preset!r}: choose from {', '.join(PRESETS)}."
        )
    ablation = ABLATIONS.get(arguments.ablation or "", Ablation())
    config = dataclasses.replace(PRESETS[arguments.preset], **ablation.config)
    settings = TrainSettings(
        seed=arguments.seed, objective=arguments.objective, **ablation.settings
    )
    if arguments.seed < 0:
        raise BadInput("--seed must be 0 or more.")
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise BadInput("--steps must be at least 1.")
        settings = dataclasses.replace(settings, steps=arguments.steps)
    spec = SynthSpec.parse(arguments.data) if is_spec(arguments.data) else None
    if spec is not None and not ablation.twins:
        spec = dataclasses.replace(spec, bald=0.0)
    kept = arguments.out / "checkpoint.safetensors"
    if arguments.resume:
        if not kept.is_file():
            raise BadInput(f"{arguments.out} holds no checkpoint: start without --resume.")
        checkpoint.check(kept, settings_facts(config, settings))
    elif kept.is_file():
        raise BadInput(
            f"{arguments.out} already holds a run: add --resume to go on, or choose another --out."
        )
    base = heads.load(resolve(arguments.start).path) if arguments.start else None
    if base is not None and not isinstance(base, HexPlaneHead):
        raise BadInput(f"--start {arguments.start} is no hex-plane head: choose another.")
    ranks = Ranks.join(choose_device(arguments.device)[0])
    device = ranks.device
    if spec is None and not Path(arguments.data).is_dir():
        raise BadInput(
            f"There is no folder {arguments.data}: give one that head360 synth wrote, or synth:…."
        )
    out = writable_folder(arguments.out)
    recipe = {
        "data": arguments.data,
        "preset": arguments.preset,
        "seed": arguments.seed,
        "objective": arguments.objective,
        "ablation": arguments.ablation,
        "processes": ranks.world,
        "start": arguments.start,
    }
    held_out = stream = None
    if spec is not None:
        recipe["look"] = spec.look
        kept_spec = hull_spec(spec, spec.styles) if spec.live else spec
        if not ranks.leads:
            ranks.wait()  # the leader takes the pictures, the others read them
        shots = photograph(kept_spec, out / "pictures", arguments.workers)
        held_out = photograph(held_out_spec(spec, 32), out / "pictures_held_out", arguments.workers)
        if ranks.leads:
            ranks.wait()
        if spec.live:
            stream = LiveStream(spec, arguments.workers, ranks.rank, ranks.world)
    else:
        recipe["look"] = LATEST_LOOK.version
        shots = load_folder(Path(arguments.data))
    try:
        trainer = Trainer(
            shots, config, settings, out, device, held_out, arguments.name, recipe, stream, ranks
        )
        if arguments.resume:
            trainer.resume()
        elif base is not None:
            inherit(trainer.net, shots, base)
        trainer.run()
    finally:
        if stream is not None:
            stream.close()
        ranks.leave()
    if not ranks.leads:
        return 0
    result: dict[str, Any] = {
        "out": str(out),
        "model": str(out / "head"),
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
    }
    if held_out is not None:
        # The saved head, not the network in memory: its weights are rounded.
        saved = heads.load(out / "head", device)
        result["held_out"] = evaluate(saved, held_out, out / "held_out.png")
    if arguments.json:
        emit_json(result)
    else:
        say(f"trained: {result['model']} ({trainer.step} steps, {trainer.seconds:.0f} s)")
    return 0


def is_spec(data: str) -> bool:
    """Whether ``--data`` asks for the studio; a folder called ``synth`` is a folder."""
    return data.startswith("synth:") or (data == "synth" and not Path(data).is_dir())


def photograph(
    spec: SynthSpec,
    folder: Path,
    workers: int,
    people: tuple[str, ...] = (),
    shapes: dict[str, NDArray[np.float32]] | None = None,
) -> Shots:
    """The pictures of ``spec``: those kept in ``folder``, else taken now and kept there.

    ``people`` and ``shapes``: as in ``training.shoot.shoot``; ``shapes`` may hold more people.
    """
    from head360.commands.local import ProgressLine
    from head360.training.shoot import shoot
    from head360.training.shots import Shots

    wanted = None if shapes is None else {name: shapes[name] for name in people}
    shots = Shots.load(folder, spec)
    if shots is not None and wanted is not None:
        same = shots.subjects == people
        if not same or not np.array_equal(shots.shapes, np.stack(list(wanted.values()))):
            shots = None
    if shots is None:
        say(f"photographing {spec.groups * spec.views} pictures in the studio")
        line = ProgressLine("moment", spec.groups)
        shots = shoot(
            spec, workers, wanted, folder=folder, progress=lambda done, _: line.show(done),
            people=people,
        )  # fmt: skip
    return shots


def held_out_spec(spec: SynthSpec, groups: int) -> SynthSpec:
    """The held-out twin of a training set: same people, other moments and other cameras."""
    return dataclasses.replace(
        spec, groups=groups, views=1, seed=spec.seed + 7919, held_out=True, live=0
    )
