"""``head360 synth``: training pictures of synthetic heads, and a look at who and what there is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from head360.commands import add_json, emit_json, say
from head360.errors import BadInput

_LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal


def register(subparsers: Any) -> None:
    """Add ``synth`` to the command line."""
    parser = subparsers.add_parser(
        "synth",
        help="draw training pictures of synthetic heads",
        description="Draws textured, haired, posed heads from the views of the SYNHEAD layout, "
        "with alpha, masks, bald twins and landmarks. An interrupted run continues.",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--layout", choices=("synhead",), default="synhead")
    parser.add_argument("--subjects", type=int, default=8, metavar="N", help="default 8")
    parser.add_argument(
        "--expressions", type=int, default=8, metavar="N", help="beside neutral, up to 52 (8)"
    )
    parser.add_argument(
        "--views", type=int, default=24, metavar="N", help="1 to 72; 72 is the whole rig (24)"
    )
    parser.add_argument("--size", type=int, default=256, metavar="S", help="pixels a side (256)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other faces (0)")
    parser.add_argument(
        "--styles", default="", metavar="A,B", help="hair styles to hand out (default: all)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also draw a contact sheet")
    parser.add_argument("--list-styles", action="store_true", help="name the hair styles and leave")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what the parsed arguments ask; returns the exit code."""
    from head360.synthesis.hair import STYLES

    if arguments.list_styles:
        if arguments.json:
            emit_json({"styles": [{"name": s.name, "label": s.label} for s in STYLES]})
        else:
            sys.stdout.write("".join(f"{s.name:12} {s.label}\n" for s in STYLES))
        return 0
    if arguments.out is None and arguments.sheet is None:
        raise BadInput("Say where the pictures go: add --out DIR, --sheet FILE or both.")

    from head360.synthesis.capture import CaptureSpec

    spec = CaptureSpec(
        subjects=arguments.subjects,
        expressions=arguments.expressions,
        views=arguments.views,
        size=arguments.size,
        seed=arguments.seed,
        styles=tuple(word.strip() for word in arguments.styles.split(",") if word.strip()),
    ).checked()
    workers = arguments.workers
    if workers is not None and not 1 <= workers <= 256:
        raise BadInput(f"--workers {workers} is out of range: choose 1 to 256.")
    result: dict[str, Any] = {}
    if arguments.sheet is not None:
        result["sheet"] = str(_draw_sheet(spec, arguments.sheet))
    if arguments.out is not None:
        result |= _capture(spec, arguments.out, workers or _cores())
    if arguments.json:
        emit_json(result)
    return 0


def _capture(spec: Any, out: Path, workers: int) -> dict[str, Any]:
    from head360.synthesis.capture import capture

    with _Bar("shots") as bar:
        captured = capture(spec, out, workers, bar.update)
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
        "expressions": spec.expressions + 1,
        "views": spec.views,
        "size": spec.size,
        "seconds": round(captured.seconds, 3),
    }


def _draw_sheet(spec: Any, target: Path) -> Path:
    from head360.files import atomic_path, writable_folder
    from head360.geometry.bilinear import BilinearModel
    from head360.synthesis.sheet import contact_sheet
    from head360.synthesis.studio import Studio
    from head360.synthesis.wardrobe import open_wardrobe

    writable_folder(target.parent)
    studio = Studio(BilinearModel.builtin(), open_wardrobe(), spec.chosen_cast())
    with _Bar("cells") as bar:
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


class _Bar:
    """A bar on a terminal, a line now and then elsewhere; always on standard error."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._bar: Any = None
        self._last = 0.0
        self.update: Callable[[int, int, str], None] = self._line
        if sys.stderr.isatty():
            self.update = self._draw

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _draw(self, done: int, total: int, what: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=self.unit, file=sys.stderr)
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update(done - self._bar.n)

    def _line(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY or done == total:
            self._last = now
            say(f"{done}/{total} {self.unit}, {what}")
