"""``head360 edit``: a new look for a head, by a filter or by a sentence."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head360.commands import add_device, add_json, add_person, emit_json, say, style_of
from head360.commands.progress import Progress, duration
from head360.errors import BadInput, Cancelled

if TYPE_CHECKING:
    from head360.editing.run import EditProgress

_SILENCE = 10.0  # seconds between two lines while views are taken


def register(commands: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = commands.add_parser(
        "edit",
        help="give a head another look, by a filter or by a sentence",
        description="Views of the head are edited, and its texture and hair are learned anew from "
        "them; mesh, networks and animation stay. Writes DIR/head, a model, and DIR/sheet.png.",
    )
    parser.add_argument("model", metavar="HEAD", nargs="?", help="name or path of a model")
    add_person(parser)
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the wish, for diffusers:…")
    parser.add_argument(
        "--editor", metavar="E",
        help="filter:NAME, or diffusers:FOLDER_OR_HUB_ID with an InstructPix2Pix model",
    )  # fmt: skip
    parser.add_argument("--list-editors", action="store_true", help="show the filters and stop")
    parser.add_argument("--strength", type=float, default=1.0, help="of a filter, 0 to 1 (1)")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="of learning")
    parser.add_argument("--guidance", type=float, default=7.5, help="weight of the prompt (7.5)")
    parser.add_argument(
        "--image-guidance", type=float, default=1.5, help="weight of the original picture (1.5)"
    )
    parser.add_argument(
        "--diffusion-steps", type=int, default=20, metavar="N", help="of one edit of a view (20)"
    )
    parser.add_argument(
        "--every", type=int, default=10, metavar="N", help="steps between two such edits (10)"
    )
    parser.add_argument("--views", type=int, default=42, metavar="N", help="around the head (42)")
    parser.add_argument("--size", type=int, default=256, metavar="S", help="pixels a side (256)")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--keep-hair", action="store_true", help="the hair stays as it is")
    parser.add_argument(
        "--lpips", type=Path, nargs="+", default=[], metavar="FILE",
        help="weights of a perceptual distance that is learned by too",
    )  # fmt: skip
    parser.add_argument("--download", action="store_true", help="a hub id may be fetched")
    parser.add_argument("--name", default="", help="of the new model")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted edit")
    parser.add_argument("--out", type=Path, metavar="DIR")
    add_device(parser)
    add_json(parser)
    parser.set_defaults(run=_edit)


def _edit(arguments: argparse.Namespace) -> int:
    from head360.editing.editors import list_editors, open_editor

    if arguments.list_editors:
        return _list(list_editors(), arguments.json)
    for value, name in ((arguments.model, "HEAD"), (arguments.out, "--out DIR")):
        if value is None:
            raise BadInput(f"Say which head and where to: {name} is missing (head360 edit --help).")
    if not arguments.editor:
        wish = " --prompt is for diffusers:FOLDER;" if arguments.prompt else ""
        raise BadInput(
            f"Say what edits the head:{wish} add --editor filter:NAME (see --list-editors) or "
            "--editor diffusers:FOLDER --prompt TEXT."
        )

    from head360 import heads
    from head360.editing.run import edit
    from head360.editing.settings import EditSettings
    from head360.server.heads_table import resolve
    from head360.server.worker import choose_device

    settings = EditSettings(
        prompt=arguments.prompt, steps=arguments.steps, views=arguments.views, size=arguments.size,
        seed=arguments.seed, interval=arguments.every, hair=not arguments.keep_hair,
        name=arguments.name, resume=arguments.resume,
    )  # fmt: skip
    model = resolve(arguments.model)
    if model.path.resolve() == (arguments.out / "head").resolve():
        raise BadInput(f"{model.path} would be replaced by its own edit: choose another --out.")
    device = choose_device(arguments.device)[0]
    editor = open_editor(
        arguments.editor, strength=arguments.strength, guidance=arguments.guidance,
        image_guidance=arguments.image_guidance, diffusion_steps=arguments.diffusion_steps,
        download=arguments.download, device=device, report=say,
    )  # fmt: skip
    settings.checked(once=editor.once)
    head = heads.load(model.path, device)
    codes = head.codes(arguments.subject, style_of(arguments))
    with _stoppable() as stop, Progress("steps") as bar:
        said = -_SILENCE

        def show(progress: EditProgress) -> None:
            nonlocal said
            if progress.step:
                bar.update(progress.step, progress.steps, progress.text)
            elif time.monotonic() - said > _SILENCE:  # no step yet: nothing to measure speed by
                said = time.monotonic()
                say(progress.text)

        try:
            result = edit(
                head, codes, editor, settings, arguments.out, show, stop=stop.is_set,
                lpips=arguments.lpips, model_name=model.info.name,
            )  # fmt: skip
        except Cancelled as error:
            # Nothing was saved: as if the signal had ended any other command.
            error.exit_code = 128 + stop.signal
            raise
    report: dict[str, Any] = {
        "out": str(arguments.out),
        "head": str(result.head_path),
        "sheet": str(result.sheet_path),
        "name": result.name,
        "subject": result.subject,
        "editor": editor.name,
        "prompt": settings.prompt,
        "steps": result.steps,
        "seconds": result.seconds,
    }
    for key in ("distance_before", "distance_after", "held_out_before", "held_out_after"):
        value = getattr(result, key)
        report[key] = None if value is None else round(value, 5)
    if arguments.json:
        emit_json(report)
    else:
        say(
            f"{result.head_path}: {result.name}, difference from the edited pictures "
            f"{result.distance_before:.3f} → {result.distance_after:.3f}, "
            f"{duration(result.seconds)}; look at {result.sheet_path}"
        )
    return 0


def _list(editors: dict[str, str], as_json: bool) -> int:
    if as_json:
        emit_json({"editors": [{"name": name, "text": text} for name, text in editors.items()]})
        return 0
    width = max(len(name) for name in editors)
    lines = [f"{name:{width}}  {text}\n" for name, text in editors.items()]
    lines.append("diffusers:FOLDER_OR_HUB_ID  an InstructPix2Pix model, with --prompt\n")
    sys.stdout.write("".join(lines))
    return 0


class _Stop(threading.Event):
    """Set by a signal, whose number it keeps."""

    signal = int(signal.SIGINT)

    def __call__(self, number: int, _: object) -> None:
        self.signal = number
        self.set()


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    """What SIGTERM and Ctrl-C set, so that the work ends with a checkpoint."""
    event = _Stop()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, event)
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
