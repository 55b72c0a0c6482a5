"""``head360 train detach``, ``refine`` and ``generator``: stages after a head is trained."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_device, add_json, emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.heads.hexplane import HexPlaneHead


def register(kinds: Any) -> None:
    """Add the stages to the subparsers of ``train``."""
    refine = kinds.add_parser(
        "refine",
        help="a refine net for a trained head",
        description="Trains a RefineNet on the pictures of a frozen head. The run folder holds "
        "checkpoint.safetensors, log.jsonl and, at the end, the model package head/.",
    )
    refine.add_argument("--model", required=True, help="name or path of a trained hex-plane head")
    refine.add_argument(
        "--data", help="a SYNHEAD folder or synth:… (default: what the model was trained on)"
    )
    refine.add_argument("--steps", type=int, help="optimisation steps, a picture each (2000)")
    refine.add_argument("--width", type=int, default=16, help="channels of the stem (16)")
    refine.add_argument("--downs", type=int, default=3, help="halvings (3)")
    refine.add_argument("--blocks", type=int, default=4, help="residual blocks (4)")
    refine.add_argument("--workers", type=int, default=2, help="processes that take pictures")
    refine.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    _add_common(refine)
    refine.set_defaults(run=run_refine)

    detach = kinds.add_parser(
        "detach",
        help="the paper's second stage: hair apart from a frozen head",
        description="Continues a hex-plane head with the head frozen: only hair planes and hair "
        "decoder learn, from pictures with hair and their bald twins. The default training has "
        "the twins from the start and needs no such stage.",
    )
    detach.add_argument("--model", required=True, help="a head trained with no-detachment")
    detach.add_argument("--data", help="synth:… (default: what the model was trained on)")
    detach.add_argument("--steps", type=int, help="optimisation steps (2000)")
    detach.add_argument("--workers", type=int, default=2, help="processes that take pictures")
    detach.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    _add_common(detach)
    detach.set_defaults(run=run_detach)

    generator = kinds.add_parser(
        "generator",
        help="a generator for a trained head's textures and hair",
        description="Fits StyleGAN2 generators to the freely learned textures and hair planes of "
        "a head, so that codes can be blended and drawn. Its pictures stay what they were.",
    )
    generator.add_argument("--model", required=True, help="a trained hex-plane head")
    generator.add_argument("--steps", type=int, help="optimisation steps per generator (1500)")
    generator.add_argument(
        "--only", choices=("texture", "hair"), help="leave the other planes free"
    )
    _add_common(generator)
    generator.set_defaults(run=run_generator)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="run folder")
    parser.add_argument("--seed", type=int, default=0)
    add_device(parser)
    add_json(parser)


def _head(arguments: argparse.Namespace) -> HexPlaneHead:
    from head360 import heads
    from head360.heads.hexplane import HexPlaneHead
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device

    if arguments.seed < 0:
        raise BadInput("--seed must be 0 or more.")
    if arguments.steps is not None and arguments.steps < 1:
        raise BadInput("--steps must be at least 1.")
    head = heads.load(resolve(arguments.model).path, choose_device(arguments.device)[0])
    if not isinstance(head, HexPlaneHead):
        raise BadInput(f"{head.name} is no hex-plane head: this stage is for those only.")
    return head


def _own_data(head: HexPlaneHead) -> str:
    """What a head was trained on, in the styles that were added since too; "" where unknown."""
    from head360.commands.train import is_spec

    data = str(head.manifest.get("training_data", ""))
    if not head.manifest.get("extensions") or not is_spec(data):
        return data
    kept = [
        item
        for item in data.partition(":")[2].split(",")
        if item and item.partition("=")[0] not in ("wear", "styles")
    ]
    return "synth:" + ",".join([*kept, "wear=" + "+".join(head.styles)])


def run_refine(arguments: argparse.Namespace) -> int:
    """Train a refine net; exit code 85 when stopped by a signal after a checkpoint."""
    from head360.commands.train import is_spec, photograph
    from head360.files import writable_folder
    from head360.networks.refine import RefineConfig
    from head360.training.refine import RefineSettings, RefineTrainer
    from head360.training.shots import SynthSpec, load_folder

    for name, value, low, high in (
        ("width", arguments.width, 4, 128), ("downs", arguments.downs, 1, 5),
        ("blocks", arguments.blocks, 1, 16),
    ):  # fmt: skip
        if not low <= value <= high:
            raise BadInput(f"--{name} {value} is out of range: choose {low} to {high}.")
    head = _head(arguments)
    if head.refine is not None:
        raise BadInput(f"{head.name} has a refine net already: choose the model it was made from.")
    data = arguments.data or _own_data(head)
    if not data:
        raise BadInput(f"{head.name} does not say what it was trained on: add --data.")
    _demand_run(arguments)
    out = writable_folder(arguments.out)
    if is_spec(data):
        spec = dataclasses.replace(SynthSpec.parse(data), live=0)
        shots = photograph(spec, out / "pictures", arguments.workers)
    elif Path(data).is_dir():
        shots = load_folder(Path(data))
    else:
        raise BadInput(f"There is no folder {data}: add --data with a folder or synth:….")
    # Windows no larger than the pictures, and whole after every halving.
    step, size = 2**arguments.downs, shots.rgba.shape[-2]
    crop = min(RefineSettings.crop, size) // step * step
    if crop < step:
        raise BadInput(f"Pictures of {size}² are too small for {arguments.downs} halvings.")
    settings = RefineSettings(seed=arguments.seed, crop=crop)
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    config = RefineConfig(arguments.width, arguments.downs, arguments.blocks)
    start = time.monotonic()
    trainer = RefineTrainer(head, shots, config, settings, out)
    if arguments.resume:
        trainer.resume()
    trainer.run()
    return _report(arguments, {"steps": trainer.step}, start)


def run_detach(arguments: argparse.Namespace) -> int:
    """Train hair planes and hair decoder of a frozen head."""
    from head360.commands.train import is_spec, photograph
    from head360.files import writable_folder
    from head360.training.hexplane import Trainer
    from head360.training.settings import TrainSettings
    from head360.training.shots import SynthSpec

    head = _head(arguments)
    data = arguments.data or _own_data(head)
    if not is_spec(data):
        raise BadInput("This stage needs bald twins of every picture: add --data synth:….")
    spec = dataclasses.replace(SynthSpec.parse(data), live=0)
    if spec.bald == 0.0:
        spec = dataclasses.replace(spec, bald=SynthSpec().bald)
    _demand_run(arguments)
    out = writable_folder(arguments.out)
    shots = photograph(spec, out / "pictures", arguments.workers)
    if shots.subjects != head.subjects or shots.styles != head.styles:
        raise BadInput(
            f"{head.name} knows other subjects or hair styles than {data}: give the data that it "
            "was trained on."
        )
    settings = TrainSettings(steps=arguments.steps or 2000, seed=arguments.seed, trainable="hair")
    recipe = {"data": data, "stage": "detach", "from": head.name}
    trainer = Trainer(
        shots, head.net.config, settings, out, head.device, name=head.name, recipe=recipe,
        start=head.net,
    )  # fmt: skip
    start = time.monotonic()
    if arguments.resume:
        trainer.resume()
    trainer.run()
    return _report(arguments, {"steps": trainer.step}, start)


def _demand_run(arguments: argparse.Namespace) -> None:
    """A run is there when it is to be resumed, and none when it is not.

    Raises:
        BadInput: the other way round.
    """
    if not arguments.resume and (arguments.out / "checkpoint.safetensors").is_file():
        raise BadInput(
            f"{arguments.out} already holds a run: add --resume to go on, or choose another --out."
        )
    if arguments.resume and not (arguments.out / "checkpoint.safetensors").is_file():
        raise BadInput(f"{arguments.out} holds no checkpoint: start without --resume.")


def run_generator(arguments: argparse.Namespace) -> int:
    """Distil generators and save the head with them."""
    from head360.commands.local import ProgressLine
    from head360.files import writable_folder
    from head360.networks.banks import CodeConfig
    from head360.training.distil import DistilSettings, distil_head

    head = _head(arguments)
    out = writable_folder(arguments.out)
    settings = DistilSettings(seed=arguments.seed)
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    config = head.net.config
    # Residuals as large as the planes: the trained heads keep every texel.
    textures = CodeConfig(residual=config.texture_size)
    hair = CodeConfig(base=1024, most=64, residual=1 << (config.hair_size - 1).bit_length())
    line: ProgressLine | None = None

    def show(done: int, total: int, explained: float) -> None:
        nonlocal line
        if line is None or done == 1:
            line = ProgressLine("step", total)
        line.show(done)
        if done == total:
            say(f"explains {explained:.0%} of the variance")

    start = time.monotonic()
    net, facts = distil_head(
        head.net, None if arguments.only == "hair" else textures,
        None if arguments.only == "texture" else hair, settings, show,
    )  # fmt: skip
    head.exchange(net)
    head.manifest["generator"] = {"settings": dataclasses.asdict(settings), "explained": facts}
    head.save(out / "head")
    return _report(arguments, {"explained": facts}, start)


def _report(arguments: argparse.Namespace, facts: dict[str, Any], start: float) -> int:
    result = {
        "out": str(arguments.out),
        "model": str(arguments.out / "head"),
        **facts,
        "seconds": round(time.monotonic() - start, 1),
    }
    if arguments.json:
        emit_json(result)
    else:
        say(f"trained: {result['model']} ({result['seconds']:.0f} s)")
    return 0
