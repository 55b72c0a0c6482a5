"""``head360 train hexplane --extend MODEL --styles A+B``: more hair styles for a trained head."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.heads.hexplane import HexPlaneHead
    from head360.training.shots import SynthSpec

PEOPLE, GROUPS, STEPS = 8, 120, 600  # who sits at most; moments and steps for each style
_JUDGED = 24  # held-out pictures of people whom the new styles have not met
# Settled by the model that is extended.
_MODELS_OWN = ("preset", "start", "ablation", "objective")


def add_extend(parser: argparse.ArgumentParser) -> None:
    """``--extend`` and ``--styles``."""
    parser.add_argument(
        "--extend",
        metavar="MODEL",
        help="add hair styles to a trained head and change nothing else; needs --styles. --data "
        "synth:subjects=8,groups=240,… says how it is photographed",
    )
    parser.add_argument(
        "--styles", metavar="A+B", help="of --extend: names (head360 synth --list-styles)"
    )


def run_extend(arguments: argparse.Namespace) -> int:
    """Learn the styles; exit code 85 when stopped by a signal after a checkpoint."""
    from head360 import heads
    from head360.commands.train import held_out_spec, photograph
    from head360.evaluation import evaluate
    from head360.files import writable_folder
    from head360.heads.hexplane import HexPlaneHead
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device
    from head360.training import checkpoint
    from head360.training.hexplane import TrainSettings
    from head360.training.hexplane_extend import StyleTrainer, check_styles, fingerprint, sitters

    for option in _MODELS_OWN:
        if getattr(arguments, option) is not None:
            raise BadInput(f"--extend keeps the model's own networks: leave --{option} out.")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise BadInput("--extend learns in one process: start it without torchrun.")
    model = resolve(arguments.extend)
    device = choose_device(arguments.device)[0]
    base = heads.load(model.path, device)
    if not isinstance(base, HexPlaneHead):
        raise BadInput(f"--extend {arguments.extend} is no hex-plane head: choose another.")
    styles = tuple(filter(None, re.split(r"[+,\s]+", arguments.styles or "")))
    check_styles(base, styles)
    spec = _spec(arguments, base, styles)
    people, judges = sitters(base, spec.subjects)
    spec = dataclasses.replace(spec, subjects=len(people))
    steps = STEPS * len(styles) if arguments.steps is None else arguments.steps
    if steps < 1:
        raise BadInput("--steps must be at least 1.")
    if arguments.seed < 0:
        raise BadInput("--seed must be 0 or more.")
    # Frozen networks cannot make up for planes that leave a bright rim around the hair.
    settings = TrainSettings(steps=steps, seed=arguments.seed, white=0.2, preview_seconds=240.0)
    out: Path = arguments.out
    kept = out / "checkpoint.safetensors"
    if arguments.resume:
        if not kept.is_file():
            raise BadInput(f"{out} holds no checkpoint: start without --resume.")
        checkpoint.check(kept, {"base model": fingerprint(base), "styles": styles})
    elif kept.is_file():
        raise BadInput(
            f"{out} already holds a run: add --resume to go on, or choose another --out."
        )
    out = writable_folder(out)
    shapes = {name: base.codes(name, None).shape for name in base.subjects}
    shots = photograph(spec, out / "pictures", arguments.workers, people, shapes)
    held_out = photograph(
        held_out_spec(spec, 2 * len(people)), out / "pictures_held_out", arguments.workers, people,
        shapes,
    )  # fmt: skip
    recipe = {
        "command": f"train hexplane --extend {base.name} --styles {spec.wear}",
        "data": _written(spec),
        "look": spec.look,
        "seed": arguments.seed,
    }
    trainer = StyleTrainer(
        base, model.path, shots, settings, out, device, held_out, arguments.name, recipe
    )
    if arguments.resume:
        trainer.resume()
    trainer.run()
    # The saved head on people whom the new styles have not met: its weights are rounded.
    judged = dataclasses.replace(
        held_out_spec(spec, _JUDGED), subjects=len(judges), seed=spec.seed + 2 * 7919
    )
    pictures = photograph(judged, out / "pictures_judged", arguments.workers, judges, shapes)
    saved = heads.load(out / "head", device)
    result: dict[str, Any] = {
        "out": str(out),
        "model": str(out / "head"),
        "styles": list(styles),
        "begun_as": trainer.begun_as,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "held_out": evaluate(saved, pictures, out / "held_out.png"),
    }
    if arguments.json:
        emit_json(result)
    else:
        say(
            f"{base.name} wears {', '.join(styles)}: {result['model']} ({trainer.step} steps, "
            f"{trainer.seconds:.0f} s, {result['held_out']['psnr']} dB on other people)"
        )
    return 0


def _spec(arguments: argparse.Namespace, base: HexPlaneHead, styles: tuple[str, ...]) -> SynthSpec:
    """How the styles are photographed: as the base was, unless ``--data`` says otherwise.

    Raises:
        BadInput: ``--data`` is a folder, names styles or asks for pictures while training.
    """
    from head360.commands.train import is_spec
    from head360.evaluation import look_of
    from head360.training.shots import SynthSpec

    text = arguments.data or "synth"
    if not is_spec(text):
        raise BadInput("--extend draws its pictures from the studio: use --data synth:… or none.")
    asked = SynthSpec.parse(text)
    if asked.wear or asked.live:
        raise BadInput("--extend takes its styles from --styles and keeps its pictures.")
    # What is named counts, the rest is what an extension needs.
    named = {item.partition("=")[0] for item in text.partition(":")[2].split(",")}
    usual: dict[str, Any] = {
        "subjects": PEOPLE,
        "groups": GROUPS * len(styles),
        "samples": 2,
        "bald": 0.0,
        "look": look_of(base),
        "size": 2 * base.net.config.raw_size,
    }
    return dataclasses.replace(
        asked,
        styles=len(styles),
        wear="+".join(styles),
        **{key: value for key, value in usual.items() if key not in named},
    ).checked()


def _written(spec: SynthSpec) -> str:
    """``spec`` as ``--data`` takes it, without what has its default."""
    from head360.training.shots import SynthSpec

    values = dataclasses.asdict(spec)
    usual = dataclasses.asdict(SynthSpec())
    return "synth:" + ",".join(
        f"{key}={value}" for key, value in values.items() if value != usual[key]
    )
