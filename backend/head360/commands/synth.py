"""``head360 synth``: training pictures of synthetic heads, and a look at who and what there is.

What ``--json`` prints: with ``--layout synhead`` out, manifest, shots, taken, kept, subjects,
sitters, expressions, views, held_out, size, kinds, estimated_bytes, seconds; with ``--layout
monocular`` out, manifest, take, frames, taken, kept, size, estimated_bytes, seconds; ``sheet`` and
``pack`` where asked for; with ``--list-styles`` styles (name, label, category), with
``--list-lights`` lights (names).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_json, emit_json, parse_frames, say
from head360.commands.progress import Progress
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.synthesis.plan import CaptureSpec

_SYNHEAD_ONLY = ("subjects", "expressions", "views", "wear", "held_out", "passes", "styles")
_MONOCULAR_ONLY = ("take", "frames", "camera_motion", "subject", "style", "image_format")


def register(subparsers: Any) -> None:
    """Add ``synth`` to the command line."""
    parser = subparsers.add_parser(
        "synth",
        help="draw training pictures of synthetic heads",
        description="Draws textured, haired, posed heads: from the 72 views of the SYNHEAD layout, "
        "or filmed by a moving camera while they perform a take (monocular). Masks, bald twins, "
        "depth, normals, albedo, labels, landmarks and several lights come with them. An "
        "interrupted run continues.",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--layout", choices=("synhead", "monocular"), default="synhead")
    parser.add_argument("--size", type=int, default=512, metavar="S", help="pixels a side (512)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other faces (0)")
    parser.add_argument(
        "--lights",
        metavar="A,B",
        help="light set-ups beside the soft one: names, all or none (all; of a film: just one)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--assets", type=Path, metavar="PATH", help="raw assets or a pack (default: looked for)"
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also draw a contact sheet")
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="pack skins and hair into one file"
    )
    parser.add_argument("--list-styles", action="store_true", help="name the hair styles and leave")
    parser.add_argument("--list-lights", action="store_true", help="name the lights and leave")
    _add_synhead(parser.add_argument_group("the SYNHEAD layout"))
    _add_monocular(parser.add_argument_group("the monocular layout"))
    add_json(parser)
    parser.set_defaults(run=run)


def _add_synhead(group: Any) -> None:
    group.add_argument("--subjects", type=int, metavar="N", help="how many people (8)")
    group.add_argument("--expressions", type=int, metavar="N", help="beside neutral, up to 52 (8)")
    group.add_argument("--views", type=int, metavar="N", help="1 to 72; 72 is the whole rig (72)")
    group.add_argument(
        "--held-out", type=int, metavar="N", help="more cameras, outside the rig, for judging (8)"
    )
    group.add_argument("--styles", metavar="A,B", help="hair styles to hand out (all)")
    group.add_argument(
        "--wear", metavar="own|all|N", help="styles a person: its own, all, or a number (own)"
    )
    group.add_argument(
        "--passes", metavar="A,B", help="albedo, depth, normals, labels; all or none (all)"
    )


def _add_monocular(group: Any) -> None:
    group.add_argument(
        "--take", type=Path, metavar="CSV", help="Live Link Face take (the first of the assets)"
    )
    group.add_argument("--frames", metavar="A-B", help="rows of the take, from 1 (all)")
    group.add_argument(
        "--camera-motion", metavar="M", help="orbit, around, handheld or still (orbit)"
    )
    group.add_argument("--subject", metavar="NAME", help="who performs (felix)")
    group.add_argument("--style", metavar="NAME", help="hair style, or none (the subject's own)")
    group.add_argument(
        "--image-format", choices=("jpg", "png"), help="jpg as the release reads it, or png (jpg)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the parsed arguments ask; returns the exit code."""
    if arguments.list_styles or arguments.list_lights:
        return _list(arguments)
    if arguments.out is None and arguments.sheet is None and arguments.pack is None:
        raise BadInput(
            "Say where the pictures go: add --out DIR, --sheet FILE or --pack FILE, or several."
        )
    _keep_out(arguments)
    workers = arguments.workers
    if workers is not None and not 1 <= workers <= 256:
        raise BadInput(f"--workers {workers} is out of range: choose 1 to 256.")
    workers = workers or _cores()
    monocular = arguments.layout == "monocular"
    _refuse(arguments, _SYNHEAD_ONLY if monocular else _MONOCULAR_ONLY)
    result: dict[str, Any] = {}
    if monocular:
        if arguments.sheet is not None or arguments.pack is not None:
            raise BadInput("--sheet and --pack do not go with --layout monocular: leave it out.")
        result = _film(arguments, workers)
    else:
        spec = _spec(arguments)
        if arguments.pack is not None:
            result["pack"] = _pack(spec, arguments.pack)
        if arguments.sheet is not None:
            result["sheet"] = str(_draw_sheet(spec, arguments.sheet))
        if arguments.out is not None:
            result |= _capture(spec, arguments.out, workers)
    if arguments.json:
        emit_json(result)
    return 0


def _keep_out(arguments: argparse.Namespace) -> None:
    """A sheet or a pack inside the data set would be a stranger there, found after long work."""
    for option in ("sheet", "pack"):
        target = getattr(arguments, option)
        if target is None or arguments.out is None:
            continue
        if arguments.out.resolve() in target.resolve().parents:
            raise BadInput(
                f"--{option} {target} lies inside --out, and a data set holds its own files only: "
                "choose another folder for it."
            )


def _list(arguments: argparse.Namespace) -> int:
    from head360.synthesis.hair import STYLES
    from head360.synthesis.lights import LIGHTS

    result: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.list_styles:
        result["styles"] = [
            {"name": s.name, "label": s.label, "category": s.category} for s in STYLES
        ]
        width = max(len(style.name) for style in STYLES) + 2
        lines += [f"{s.name:{width}}{s.label}\n" for s in STYLES]
    if arguments.list_lights:
        result["lights"] = list(LIGHTS)
        lines += [f"{name}\n" for name in LIGHTS]
    if arguments.json:
        emit_json(result)
    else:
        sys.stdout.write("".join(lines))
    return 0


def _refuse(arguments: argparse.Namespace, options: Iterable[str]) -> None:
    """Options of the other layout would be ignored: say so instead."""
    for name in options:
        if getattr(arguments, name) is not None:
            option = "--" + name.replace("_", "-")
            raise BadInput(
                f"{option} does not belong to --layout {arguments.layout}: leave it out."
            )


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _words(text: str | None, everything: tuple[str, ...]) -> tuple[str, ...]:
    """``a,b`` → (a, b); all and None → everything; none → ()."""
    if text is None or text == "all":
        return everything
    if text == "none":
        return ()
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _spec(arguments: argparse.Namespace) -> CaptureSpec:
    from head360.datasets.synhead import PASSES
    from head360.synthesis.lights import LIGHTS
    from head360.synthesis.plan import CaptureSpec

    styles = _words(arguments.styles, ())
    if arguments.styles not in (None, "all") and not styles:
        raise BadInput(
            f"--styles {arguments.styles} names no hair style: every picture has its bald twin "
            "anyway; see --list-styles."
        )
    return CaptureSpec(
        **_given(
            arguments, "subjects", "expressions", "views", "held_out", "wear", "size", "seed",
            "assets",
        ),
        styles=styles,
        passes=_words(arguments.passes, PASSES),
        lights=_words(arguments.lights, tuple(LIGHTS)),
    ).checked()  # fmt: skip


def _capture(spec: CaptureSpec, out: Path, workers: int) -> dict[str, Any]:
    from head360.synthesis.capture import capture

    estimate = 0

    def announce(rest: int) -> None:
        nonlocal estimate
        estimate = rest
        _announce(rest, out)

    with Progress("shots") as bar:
        captured = capture(spec, out, workers, bar.update, announce)
    say(
        f"{captured.taken} shots taken, {captured.kept} kept, in {captured.seconds:.0f} s: "
        f"{captured.manifest}"
    )
    return {
        "out": str(out),
        "manifest": str(captured.manifest),
        "shots": captured.taken + captured.kept,
        "taken": captured.taken,
        "kept": captured.kept,
        "subjects": spec.subjects,
        "sitters": len(spec.sitters()),
        "expressions": spec.expressions + 1,
        "views": spec.views,
        "held_out": spec.held_out,
        "size": spec.size,
        "kinds": spec.kinds(),
        "estimated_bytes": estimate,
        "seconds": round(captured.seconds, 3),
    }


def _film(arguments: argparse.Namespace, workers: int) -> dict[str, Any]:
    from head360.synthesis.film import film
    from head360.synthesis.film_plan import FilmSpec
    from head360.synthesis.lights import DEFAULT_LIGHT

    if arguments.out is None:
        raise BadInput("Say where the film goes: add --out DIR.")
    lights = _words(arguments.lights, (DEFAULT_LIGHT,))
    if len(lights) != 1:
        raise BadInput("A film has one light: write --lights with one name.")
    given = _given(arguments, "take", "subject", "style", "size", "seed", "image_format", "assets")
    if arguments.camera_motion is not None:
        given["motion"] = arguments.camera_motion
    if arguments.frames is not None:
        given["rows"] = tuple(parse_frames(arguments.frames))
    spec = FilmSpec(**given, light=lights[0]).checked()
    estimate = 0

    def announce(rest: int) -> None:
        nonlocal estimate
        estimate = rest
        _announce(rest, arguments.out)

    with Progress("frames") as bar:
        filmed = film(spec, arguments.out, workers, bar.update, announce)
    say(
        f"{filmed.taken} frames filmed, {filmed.kept} kept, in {filmed.seconds:.0f} s: "
        f"{filmed.manifest}"
    )
    return {
        "out": str(arguments.out),
        "manifest": str(filmed.manifest),
        "take": filmed.take,
        "frames": filmed.taken + filmed.kept,
        "taken": filmed.taken,
        "kept": filmed.kept,
        "size": spec.size,
        "estimated_bytes": estimate,
        "seconds": round(filmed.seconds, 3),
    }


def _announce(rest: int, out: Path) -> None:
    from head360.synthesis.plan import words

    say(f"About {words(rest)} will be written to {out}. Ctrl-C stops; the same command goes on.")


def _pack(spec: CaptureSpec, target: Path) -> dict[str, Any]:
    from head360.synthesis.pack import write_pack

    packed = write_pack(target, spec.chosen_cast(), spec.chosen_styles(), spec.assets)
    say(f"Pack: {target}")
    return packed


def _draw_sheet(spec: CaptureSpec, target: Path) -> Path:
    from head360.files import atomic_path, writable_folder
    from head360.geometry.bilinear import BilinearModel
    from head360.synthesis.sheet import contact_sheet
    from head360.synthesis.studio import Studio
    from head360.synthesis.wardrobe import open_wardrobe

    writable_folder(target.parent)
    studio = Studio(BilinearModel.builtin(), open_wardrobe(spec.assets), spec.chosen_cast())
    with Progress("cells") as bar:
        sheet = contact_sheet(
            studio, [style.name for style in spec.chosen_styles()], progress=bar.update
        )
    with atomic_path(target) as temporary:
        sheet.save(temporary, "PNG")
    say(f"Contact sheet: {target}")
    return target


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
