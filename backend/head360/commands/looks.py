"""``head360 hair``, ``interpolate`` and ``draw``: other hair, heads between heads, new heads."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head360.arkit import INDEX
from head360.commands import add_device, add_json, emit_json, say, style_of
from head360.commands.extract import parse_blend
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.heads.base import Codes, Head

VIEWS = {"front": (0.0, 5.0), "left": (60.0, 5.0), "side": (100.0, 0.0), "back": (180.0, 10.0),
         "right": (-60.0, 5.0)}  # fmt: skip
_SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.25, "cheekSquintLeft": 0.5,
          "cheekSquintRight": 0.5}  # fmt: skip
_SEED = re.compile(r"seed:(\d{1,10})")


def register(commands: Any) -> None:
    """Add the commands to ``argparse`` subparsers."""
    hair = commands.add_parser("hair", help="change, recolour or remove a head's hair")
    hair.add_argument("model", metavar="HEAD", help="name or path of a model")
    hair.add_argument("--subject", help="name of the person (default: the model's first)")
    hair.add_argument("--style", default="", help="another hair style of the model")
    hair.add_argument("--remove", action="store_true", help="no hair")
    hair.add_argument("--colour", metavar="C", help="a name such as auburn, or #rrggbb")
    hair.add_argument(
        "--package", action="store_true", help="also write a model that has this hair from now on"
    )
    _add_common(hair)
    hair.set_defaults(run=_hair)

    between = commands.add_parser(
        "interpolate",
        help="heads between two heads, code by code",
        description="A and B are subjects of the model, with a hair style if wanted "
        "(felix, felix/bob01, felix/none), or heads drawn from a seed (seed:7).",
    )
    between.add_argument("first", metavar="A")
    between.add_argument("second", metavar="B")
    between.add_argument("--model", default="starter", help="name or path of a model (starter)")
    between.add_argument("--steps", type=int, default=7, metavar="N", help="pictures a row (7)")
    _add_common(between)
    between.set_defaults(run=_interpolate)

    draw = commands.add_parser("draw", help="heads that nobody has seen, from seeds")
    draw.add_argument("model", metavar="MODEL", help="name or path of a model")
    draw.add_argument("--count", type=int, default=12, metavar="N", help="how many (12)")
    draw.add_argument("--seed", type=int, default=0, metavar="S", help="of the first (0)")
    _add_common(draw)
    draw.set_defaults(run=_draw)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=256, metavar="S", help="pixels a side (256)")
    parser.add_argument(
        "--blend", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="blendshape weights, such as jawOpen=0.7 (default: neutral)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    add_device(parser)
    add_json(parser)


def parse_colour(text: str) -> tuple[float, float, float]:
    """``auburn`` or ``#a0522d`` → sRGB in [0, 1].

    Raises:
        BadInput: neither a known name nor six hexadecimal digits.
    """
    from head360.synthesis.hair import COLOURS

    if text.lower() in COLOURS:
        red, green, blue = COLOURS[text.lower()]
    elif re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
    else:
        names = ", ".join(COLOURS)
        raise BadInput(f"{text!r} is no hair colour: use #rrggbb or one of {names}.")
    return red / 255, green / 255, blue / 255


def _load(arguments: argparse.Namespace, name: str) -> Head:
    from head360 import heads
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device

    if not 32 <= arguments.size <= 2048:
        raise BadInput(f"--size {arguments.size} is out of range: choose 32 to 2048.")
    return heads.load(resolve(name).path, choose_device(arguments.device)[0])


def _picture(
    head: Head, codes: Codes, weights: np.ndarray, view: tuple[float, float], size: int
) -> np.ndarray:
    from head360.rendering.cameras import orbit

    return head.render(head.pose(codes, weights), orbit(*view), size, size).rgba


def _save_sheet(path: Path, rows: list[tuple[str, list]], columns: list[str]) -> None:
    from head360.files import atomic_path
    from head360.sheets import table

    with atomic_path(path) as temporary:
        table(rows, columns).save(temporary, "PNG")


def _finish(arguments: argparse.Namespace, report: dict[str, Any], start: float) -> int:
    report["seconds"] = round(time.perf_counter() - start, 3)
    if arguments.json:
        emit_json(report)
    else:
        say(f"{report['sheet']}: written")
    return 0


# --- hair -----------------------------------------------------------------------------------------


def _hair(arguments: argparse.Namespace) -> int:
    from head360.files import writable_folder, write_bytes
    from head360.heads.codes import recoloured
    from head360.heads.package import png_bytes
    from head360.sheets import over

    start = time.perf_counter()
    if not (arguments.style or arguments.remove or arguments.colour):
        raise BadInput("Say what to do with the hair: add --style S, --colour C or --remove.")
    if arguments.remove and (arguments.style or arguments.colour):
        raise BadInput("Hair that is removed has neither style nor colour: use --remove alone.")
    colour = parse_colour(arguments.colour) if arguments.colour else None
    weights = parse_blend(arguments.blend)
    head = _load(arguments, arguments.model)
    before = head.codes(arguments.subject)
    style = None if arguments.remove else style_of(arguments)
    after = recoloured(head.codes(arguments.subject, style), colour)
    out = writable_folder(arguments.out)
    rows: list[tuple[str, list]] = []
    for label, codes in (("before", before), ("after", after)):
        pictures = []
        for name, view in VIEWS.items():
            rgba = _picture(head, codes, weights, view, arguments.size)
            pictures.append(over(rgba))
            write_bytes(out / f"{label}_{name}.png", png_bytes((rgba * 255 + 0.5).astype(np.uint8)))
        rows.append((label, pictures))
    _save_sheet(out / "sheet.png", rows, list(VIEWS))
    report: dict[str, Any] = {
        "out": str(out),
        "sheet": str(out / "sheet.png"),
        "subject": after.subject,
        "style": after.style,
        "colour": None if colour is None else [round(channel, 4) for channel in colour],
    }
    if arguments.package:
        report["package"] = str(_save_with(head, after, out / "head"))
    return _finish(arguments, report, start)


def _save_with(head: Head, codes: Codes, target: Path) -> Path:
    from head360.heads.hexplane import HexPlaneHead

    if not isinstance(head, HexPlaneHead):
        raise BadInput(f"{head.name} has no hair of its own to keep: choose a hex-plane head.")
    head.adopt(codes)
    head.save(target)
    return target


# --- interpolation --------------------------------------------------------------------------------


def parse_head(head: Head, text: str) -> Codes:
    """``felix``, ``felix/bob01``, ``felix/none`` or ``seed:7`` → codes.

    Raises:
        BadInput: no such subject, style or seed.
    """
    match = _SEED.fullmatch(text)
    if match is not None:
        return head.random_codes(int(match[1]))
    subject, slash, style = text.partition("/")
    if not slash:
        return head.codes(subject)
    return head.codes(subject, None if style.lower() in ("none", "bald") else style)


def _interpolate(arguments: argparse.Namespace) -> int:
    from head360.files import atomic_path, writable_folder
    from head360.heads.codes import interpolate
    from head360.sheets import over

    start = time.perf_counter()
    if not 2 <= arguments.steps <= 64:
        raise BadInput(f"--steps {arguments.steps} is out of range: choose 2 to 64.")
    weights = parse_blend(arguments.blend)
    smile = weights.copy()
    for name, value in _SMILE.items():
        smile[INDEX[name]] = max(smile[INDEX[name]], value)
    head = _load(arguments, arguments.model)
    first, second = (parse_head(head, text) for text in (arguments.first, arguments.second))
    out = writable_folder(arguments.out)
    amounts = np.linspace(0.0, 1.0, arguments.steps).tolist()
    moves: dict[str, tuple[str, ...]] = {
        "texture t": ("texture",), "shape s": ("shape",), "hair h": ("hair",),
        "expression b": (), "all": ("texture", "shape", "hair"),
    }  # fmt: skip
    rows: list[tuple[str, list]] = []
    for label, keys in moves.items():
        pictures = []
        for amount in amounts:
            codes = interpolate(first, second, **dict.fromkeys(keys, amount))
            smiles = amount if label in ("expression b", "all") else 0.0
            pose = weights + smiles * (smile - weights)
            rgba = _picture(head, codes, pose.astype(np.float32), (15.0, 5.0), arguments.size)
            pictures.append(over(rgba))
        rows.append((label, pictures))
    _save_sheet(out / "sheet.png", rows, [f"{amount:.2f}" for amount in amounts])
    there_and_back = rows[-1][1] + rows[-1][1][-2:0:-1]
    from PIL import Image

    frames = [Image.fromarray(picture) for picture in there_and_back]
    with atomic_path(out / "interpolation.webp") as temporary:
        frames[0].save(
            temporary, "WEBP", save_all=True, append_images=frames[1:], duration=120, loop=0
        )
    report = {
        "out": str(out),
        "sheet": str(out / "sheet.png"),
        "animation": str(out / "interpolation.webp"),
        "steps": arguments.steps,
        "rows": list(moves),
    }
    return _finish(arguments, report, start)


# --- new heads ------------------------------------------------------------------------------------


def _draw(arguments: argparse.Namespace) -> int:
    from head360.files import writable_folder, write_bytes
    from head360.heads.package import png_bytes
    from head360.sheets import over

    start = time.perf_counter()
    if not 1 <= arguments.count <= 400:
        raise BadInput(f"--count {arguments.count} is out of range: choose 1 to 400.")
    weights = parse_blend(arguments.blend)
    head = _load(arguments, arguments.model)
    head.random_codes(arguments.seed)  # a kind without new heads says so before files appear
    out = writable_folder(arguments.out)
    columns = min(6, arguments.count)
    rows: list[tuple[str, list]] = []
    drawn = []
    for number in range(arguments.count):
        seed = arguments.seed + number
        codes = head.random_codes(seed)
        rgba = _picture(head, codes, weights, (15.0, 5.0), arguments.size)
        write_bytes(out / f"seed_{seed:06d}.png", png_bytes((rgba * 255 + 0.5).astype(np.uint8)))
        if number % columns == 0:
            rows.append((f"seed {seed}", []))
        rows[-1][1].append(over(rgba))
        drawn.append({"seed": seed, "style": codes.style})
    _save_sheet(out / "sheet.png", rows, [])
    report = {"out": str(out), "sheet": str(out / "sheet.png"), "heads": drawn}
    return _finish(arguments, report, start)
