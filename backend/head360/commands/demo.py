"""``head360 demo``: the main job, end to end, by the extension's own operators in a Blender."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360 import files
from head360.arkit.names import INDEX
from head360.arkit.takes import Take, read_take
from head360.errors import BY_CODE, BadInput, Head360Error, TryAgain

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPT = CHECKOUT / "blender_addon" / "demo_script.py"
BUNDLED_TAKE = Path(__file__).resolve().parents[1] / "data" / "takes" / "demo_take.csv"
FPS = 12  # animation on twos: two seconds of acting fit into 24 frames
LISTING = "frames.jsonl"  # what the sequence writer leaves beside its frames
_BACKDROP = ((236, 238, 241), (176, 184, 194))  # top and bottom of the pictures' background


def register(subparsers: Any) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        "demo", help="create, animate, render and export a head in a headless Blender"
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=256, help="pixels along each edge")
    parser.add_argument("--model", default="starter", help="name of an installed model")
    parser.add_argument("--take", type=Path, help="a Live Link Face CSV; default: a good one")
    parser.add_argument("--blender", help="a Python with the bpy module, or a Blender")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def find_blender(given: str | None) -> Path:
    """The Python with bpy, or the Blender, that runs the demo.

    Raises:
        BadInput: there is none, or the given one does not exist.
    """
    named = given or os.environ.get("HEAD360_BLENDER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise BadInput(f"There is no Blender at {named}: correct --blender or HEAD360_BLENDER.")
        return Path(found)
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    beside = CHECKOUT.joinpath(".venv-blender", *inside)
    if beside.is_file():
        return beside
    on_path = shutil.which("blender")
    if on_path:
        return Path(on_path)
    raise BadInput(
        "No Blender was found: run `make setup` in the checkout (it installs the bpy module into "
        ".venv-blender), or name a Blender with --blender."
    )


def candidate_takes(given: Path | None) -> list[Path]:
    """The given take, else the real ones from the assets, else the bundled synthetic one."""
    if given is not None:
        return [given.resolve()]
    assets = Path(os.environ.get("HEAD360_ASSETS", CHECKOUT.parent / "shared" / "assets"))
    return sorted((assets / "arkit_takes").glob("*.csv")) or [BUNDLED_TAKE]


def best_part(take: Take, length: float) -> tuple[float, float]:
    """(score, second) of the part of ``length`` seconds with much acting and open eyes."""
    steps = np.linspace(0.0, length, 24)

    def score(start: float) -> float:
        part: NDArray[np.float32] = take.at(start + steps)
        blink = part[:, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]].mean()
        # The eyes' own 14 shapes come first in the order; gaze alone is no expression.
        return float(np.ptp(part[:, 14:], axis=0).sum() - 25.0 * blink)

    starts = np.arange(0.0, max(take.duration - length, 0.0) + 1e-9, 0.1)
    return max((score(start), float(start)) for start in starts)


def _command(blender: Path, arguments: list[str]) -> list[str]:
    """How ``blender`` runs the script: a Python directly, a Blender in the background."""
    if blender.name.lower().startswith("python"):
        return [str(blender), str(SCRIPT), *arguments]
    flags = ["--background", "--factory-startup", "--python-exit-code", "1"]
    return [str(blender), *flags, "--python", str(SCRIPT), "--", *arguments]


def _in_blender(blender: Path, job: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run the script and return its report.

    Raises:
        Head360Error: with the sentence the script left, or the last line Blender wrote; what
            else Blender wrote is then in ``blender.log`` beside the results.
    """
    kept = Path(job["out"]) / "blender.log"
    kept.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="head360-demo-") as scratch:
        report = Path(scratch) / "report.json"
        log = Path(scratch) / "blender.log"
        runtime = Path(scratch) / "run"
        environment = {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(Path(scratch) / "blender"),
            "HEAD360_BACKEND_PYTHON": os.environ.get("HEAD360_BACKEND_PYTHON") or sys.executable,
            "HEAD360_RUNTIME_DIR": str(runtime),
        }
        arguments = [json.dumps({**job, "report": str(report)})]
        try:
            with open(log, "wb") as output:
                done = subprocess.run(
                    _command(blender, arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    timeout=timeout,
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            files.write_bytes(kept, log.read_bytes())
            raise TryAgain(
                f"The demo did not finish within {timeout:.0f} s: give it more with --timeout, or "
                f"see {kept}."
            ) from error
        except OSError as error:
            raise BadInput(f"Cannot run {blender} ({error.strerror}): check --blender.") from error
        text = log.read_text(encoding="utf-8", errors="replace")
        logger.debug("%s", text)
        if report.is_file():
            result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
            if "error" not in result:
                return result
            raise BY_CODE.get(result.get("code", ""), Head360Error)(result["error"])
        files.write_bytes(kept, log.read_bytes())
        last = [line for line in text.splitlines() if line.strip()][-1:]
        raise Head360Error(
            f"Blender ended with code {done.returncode} ({''.join(last)[:300]}): see {kept}."
        )


def _backdrop(size: tuple[int, int]) -> Any:
    from PIL import Image

    top, bottom = (np.array(colour, dtype=np.float64) for colour in _BACKDROP)
    ramp = np.linspace(0.0, 1.0, size[1])[:, None]
    column = (top * (1 - ramp) + bottom * ramp)[:, None, :]
    return Image.fromarray(np.broadcast_to(column, (size[1], size[0], 3)).round().astype(np.uint8))


def pictures(frames: list[Path], out: Path) -> dict[str, str]:
    """``sheet.png`` and ``head.webp`` in ``out``, over a soft backdrop.

    Raises:
        BadInput: a frame cannot be read, or the folder cannot be written.
    """
    from PIL import Image

    shown = []
    for path in frames:
        try:
            with Image.open(path) as picture:
                front = picture.convert("RGBA")
        except OSError as error:
            raise BadInput(f"Cannot read the frame {path}: render it again.") from error
        back = _backdrop(front.size)
        back.paste(front, (0, 0), front)
        shown.append(back)
    width, height = shown[0].size
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), _BACKDROP[0])
    for index, picture in enumerate(shown):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    with files.atomic_path(out / "sheet.png") as temporary:
        sheet.save(temporary, "PNG", optimize=True)
    with files.atomic_path(out / "head.webp") as temporary:
        shown[0].save(
            temporary,
            "WEBP",
            save_all=True,
            append_images=shown[1:],
            duration=round(1000 / FPS),
            loop=0,
            quality=88,
        )
    return {"sheet": str(out / "sheet.png"), "animation": str(out / "head.webp")}


def _sweep(folder: Path) -> None:
    """Remove the frames of an earlier demo: it may have had more of them."""
    if (folder / LISTING).is_file():
        for stale in folder.glob("[0-9][0-9][0-9][0-9].png"):
            stale.unlink(missing_ok=True)


def run(args: argparse.Namespace) -> int:
    """The command; returns the exit code."""
    started = time.monotonic()
    if not 1 <= args.frames <= 1000 or not 16 <= args.size <= 4096:
        raise BadInput("Choose 1 to 1000 frames of 16 to 4096 pixels.")
    if not SCRIPT.is_file():
        raise BadInput("The demo needs a checkout of the project: clone it and run `make demo`.")
    blender = find_blender(args.blender)
    length = (args.frames - 1) / FPS
    (_, first_second), take_path = max(
        (best_part(read_take(path), length), path) for path in candidate_takes(args.take)
    )
    out = files.writable_folder(args.out).resolve()
    _sweep(out / "frames")
    job = {
        "out": str(out),
        "frames": args.frames,
        "size": args.size,
        "fps": FPS,
        "model": args.model,
        "take": str(take_path),
        "first_second": first_second,
        "length": length,
    }
    logger.info("Blender: %s; take: %s", blender, take_path.name)
    result = _in_blender(blender, job, args.timeout)
    result.update(pictures([Path(path) for path in result["frames"]], out))
    result["seconds"] = round(time.monotonic() - started, 1)
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    sys.stdout.write(
        f"{len(result['frames'])} frames   {out / 'frames'}\n"
        f"contact sheet  {result['sheet']}\n"
        f"animation      {result['animation']}\n"
        f"mesh           {result['mesh']} ({result['vertices']} vertices)\n"
        f"Blender file   {result['blend']}\n"
        f"Blender {result['blender']}, {result['device']}, {result['seconds']} s\n"
    )
    return 0
