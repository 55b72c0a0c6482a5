"""``head360 fit IMAGE…``: a head from photographs of one person, every stage kept as a picture."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_device, add_json, emit_json, say

if TYPE_CHECKING:
    from head360.fitting.stages import FitSettings


def register(subparsers: Any) -> None:
    """Add ``fit`` to the command line."""
    parser = subparsers.add_parser(
        "fit",
        help="make a head from a photograph",
        description="Makes a head package from one or more photographs of one person, the first "
        "from the front. DIR gets head/ (the package), sheet.png, stages/ and fit.json. Only fit "
        "people who have agreed to it.",
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, WebP …")
    parser.add_argument("--model", default="starter", help="base to start from (default: starter)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", help="of the head (default: the first photograph's file name)")
    parser.add_argument(
        "--style",
        default="",
        help='hair style of the base, or "bald" (default: the one that looks most alike)',
    )
    parser.add_argument(
        "--face", type=int, metavar="N", help="which face of the first photograph, counted from 1"
    )
    parser.add_argument(
        "--landmarks",
        default="auto",
        metavar="NAME",
        help="landmark finder: auto, own, mediapipe (default: auto)",
    )
    for what in ("landmarks", "parsing", "style"):
        parser.add_argument(
            f"--{what}-weights", type=Path, metavar="FILE", help=f"other weights for the {what} net"
        )
    parser.add_argument("--steps", type=int, help="of the inversion (default: 240)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--invert-planes", action="store_true", help="optimise the features of the hair as well"
    )
    parser.add_argument(
        "--delight",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="how much of the photograph's light is taken out, 0 to 1 (default: 1)",
    )
    add_device(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def settings_of(arguments: argparse.Namespace, device: str) -> FitSettings:
    """The settings that the arguments ask for.

    Raises:
        BadInput: a number out of range.
    """
    from head360.fitting.stages import FitSettings

    style: str | None = arguments.style
    if style is not None and style.lower() in ("bald", "none"):
        style = None
    settings = FitSettings(
        style=style, face=arguments.face, seed=arguments.seed, landmarks=arguments.landmarks,
        landmarks_weights=arguments.landmarks_weights, parsing_weights=arguments.parsing_weights,
        style_weights=arguments.style_weights, invert_planes=arguments.invert_planes,
        delight=arguments.delight, name=arguments.name, device=device,
    )  # fmt: skip
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    return settings.checked()


def run(arguments: argparse.Namespace) -> int:
    """Fit and report."""
    from head360 import heads
    from head360.commands.local import ProgressLine
    from head360.errors import ModelInvalid
    from head360.fitting.pipeline import fit
    from head360.heads.hexplane import HexPlaneHead
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device

    device = choose_device(arguments.device)[0]
    settings = settings_of(arguments, device)
    base = heads.load(resolve(arguments.model).path, device)
    if not isinstance(base, HexPlaneHead):
        raise ModelInvalid(
            f"{base.name} is made of Gaussians and cannot be a base: choose a hex-plane head such "
            "as starter."
        )
    line = ProgressLine("per cent", 100)

    result = fit(
        arguments.images, base, settings, arguments.out,
        on_progress=lambda share, phase: line.show(round(100 * share)),
    )  # fmt: skip
    for note in result.notes:
        say(f"note: {note}")
    if arguments.json:
        emit_json(result.facts())
    else:
        say(f"{result.head_path}: written in {result.seconds:.0f} s, see {result.sheet}")
    return 0
