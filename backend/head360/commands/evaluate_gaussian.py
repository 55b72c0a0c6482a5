"""``head360 evaluate`` of Gaussian avatars: on their film's held-out tail, and the ablations."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.heads.gaussian import GaussianHead

_MOST = 96  # frames of a film that is made again


def add_ablation(parser: argparse.ArgumentParser) -> None:
    """``--ablation`` and what belongs to it."""
    group = parser.add_argument_group("ablation of a method instead of a model")
    group.add_argument(
        "--ablation",
        choices=("gaussian",),
        help="train short runs of GaussianHead, each with one part left out or changed, on a film "
        "(--data DIR or synth:subject=felix,style=short02,size=128,frames=120; default: that one)",
    )
    group.add_argument("--steps", type=int, help="training steps of every row")
    group.add_argument("--rows", metavar="A,B", help="some rows alone, by name (default: all)")
    group.add_argument(
        "--out", type=Path, metavar="DIR", help="runs, table.png, ablation.json; goes on there"
    )


def run_avatar(arguments: argparse.Namespace, head: GaussianHead) -> int:
    """Evaluate an avatar on ``--data``, or on its own film made again."""
    from head360.files import writable_folder

    if arguments.sheet is not None:
        writable_folder(arguments.sheet.parent)
    if arguments.data is not None:
        result = _on_folder(arguments, head)
    else:
        result = _on_own_film(arguments, head)
    if arguments.json:
        emit_json(result)
    else:
        for key, value in result.items():
            say(f"{key:>16}: {value}")
    return 0


def _on_folder(arguments: argparse.Namespace, head: GaussianHead) -> dict[str, Any]:
    import numpy as np

    from head360.datasets.monocular_read import MonocularDataset

    data = MonocularDataset.open(arguments.data)
    try:
        _, held_out = data.split(arguments.test)
    except ValueError as error:
        raise BadInput(f"--test {arguments.test}: {error}.") from error
    facts = head.manifest.get("training", {})
    known = data.manifest is not None and facts.get("data_key") == data.manifest.key
    performance = None
    if head.expression.arkit:
        performance = np.stack([frame.blendshapes for frame in data.frames])
    return _measured(arguments, head, held_out, known, performance)


def _on_own_film(arguments: argparse.Namespace, head: GaussianHead) -> dict[str, Any]:
    """The held-out tail of the avatar's film, as the studio makes it again."""
    from head360.commands.local import ProgressLine
    from head360.training.gaussian_film import Recipe, film_again

    recipe = Recipe.from_facts(head.manifest.get("film"))
    if recipe is None:
        raise BadInput(
            f"{head.name} is measured on the video it was made from "
            f"({head.manifest.get('training_data', 'unknown')}): add --data FOLDER."
        )
    say(f"filming the held-out tail of {head.name}'s film again")
    line: ProgressLine | None = None

    def show(done: int, total: int, _: str) -> None:
        nonlocal line
        line = line or ProgressLine("filmed", total)
        line.show(done)

    with tempfile.TemporaryDirectory(prefix="head360-") as folder:
        film = film_again(
            recipe, Path(folder), min(arguments.images, _MOST), arguments.workers, show
        )
        if not film.same:
            say("The studio draws other pictures than it did then: figures differ for that, too.")
        result = _measured(arguments, head, film.frames, film.same, film.performance)
    return {**result, "filmed_again": True, "take": film.take}


def _measured(
    arguments: argparse.Namespace, head: GaussianHead, frames: Any, known: bool, performance: Any
) -> dict[str, Any]:
    from head360.commands.local import ProgressLine
    from head360.evaluation_monocular import evaluate_reenactment, evaluate_video
    from head360.networks.perceptual import load_lpips

    line = ProgressLine("frame", len(frames))
    lpips = load_lpips(arguments.lpips, head.device) if arguments.lpips else None
    figures = evaluate_video(head, frames, arguments.sheet, lambda done, _: line.show(done), lpips)
    result = {"model": head.name, "kind": head.kind, "trained_on_this": known, **figures}
    if performance is not None:
        result["reenactment"] = evaluate_reenactment(head, frames, performance, arguments.seed)
    return result


def run_ablation(arguments: argparse.Namespace) -> int:
    """``--ablation gaussian``: train and measure every row."""
    from head360.commands.local import ProgressLine
    from head360.datasets.monocular_read import MonocularDataset
    from head360.evaluation_ablation import STEPS, ablate, film_for
    from head360.files import writable_folder
    from head360.networks.perceptual import load_lpips
    from head360.server.worker import choose_device

    if arguments.out is None:
        raise BadInput("Say where the rows go: add --out DIR.")
    steps = STEPS if arguments.steps is None else arguments.steps
    if steps < 1:
        raise BadInput("--steps must be at least 1.")
    writable_folder(arguments.out)
    source = "synth:" if arguments.data is None else str(arguments.data)
    device = choose_device(arguments.device)[0]
    lpips = load_lpips(arguments.lpips, device) if arguments.lpips else None
    if source.startswith("synth:") or (source == "synth" and not Path(source).is_dir()):
        line = ProgressLine("filmed %", 100)
        folder = film_for(
            source, arguments.out, arguments.workers,
            lambda done, total, _: line.show(100 * done // total),
        )  # fmt: skip
    else:
        folder = Path(source)

    def tell(label: str, number: int, count: int, kept: bool) -> None:
        say(f"row {number}/{count}: {label}" + (" (kept)" if kept else ""))

    names = [name for name in (arguments.rows or "").split(",") if name]
    report = ablate(
        MonocularDataset.open(folder), arguments.out, names, steps, device=device, lpips=lpips,
        on_row=tell,
    )  # fmt: skip
    report |= {"out": str(arguments.out), "table": str(arguments.out / "table.png")}
    if arguments.json:
        emit_json(report)
    else:
        for row in report["rows"]:
            around = row["cropped"]
            say(
                f"{row['label']:<24} L1 {around['l1']:.4f}  MSE {around['mse']:.5f}  "
                f"PSNR {around['psnr']:.2f}  SSIM {around['ssim']:.3f}"
            )
    return 0
