"""``head360 render``: a take becomes numbered pictures."""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from head360.commands import (
    add_device,
    add_json,
    add_person,
    emit_json,
    parse_frames,
    parse_size,
    say,
)
from head360.commands.passes import parse_passes, write_passes
from head360.commands.retarget import add_retarget, retargeted, sentence
from head360.errors import BadInput
from head360.rendering.cameras import Camera, orbit

SHEET_TILES = 24
SHEET_COLUMNS = 6
_BACKDROP = (224, 226, 230, 255)


def register(commands: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = commands.add_parser("render", help="render a take to numbered PNG pictures")
    parser.add_argument("model", metavar="MODEL", help="name or path of a model")
    parser.add_argument("--take", type=Path, required=True, metavar="CSV", help="a Live Link take")
    parser.add_argument("--frames", required=True, help="rows of the take from 1, such as 1-240")
    parser.add_argument("--fps", type=float, help="count --frames in scene frames at this rate")
    parser.add_argument("--camera", default="front", help="front, orbit, or a JSON file")
    parser.add_argument("--size", default="512", help="512 or 1920x1080")
    add_person(parser)
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--resume", action="store_true", help="keep frames that are finished")
    parser.add_argument(
        "--passes",
        default="rgba",
        metavar="A,B",
        help="rgba, depth, alpha: also write depth/NNNN.png (16-bit grey, 1/10,000 m along the "
        "view axis, 0 is nothing) and alpha/NNNN.png (default: rgba)",
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet")
    parser.add_argument(
        "--no-provenance",
        action="store_true",
        help="leave the note out of the pictures that they are synthetic, and of which model",
    )
    add_retarget(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def weights_of(take: Any, numbers: list[int], fps: float | None) -> np.ndarray:
    """(F, 52) float32 weights: rows of the take, or its moments at ``(number − 1) / fps``.

    Raises:
        BadInput: a number outside the take, or a rate that is not positive.
    """
    if fps is not None:
        if not 0 < fps <= 1000:
            raise BadInput(f"--fps {fps} is not a frame rate: write it like 24.")
        if numbers[0] < 1:
            raise BadInput("Scene frames count from 1.")
        return np.stack([take.at((number - 1) / fps) for number in numbers])
    rows = len(take.seconds)
    if numbers[0] < 1 or numbers[-1] > rows:
        raise BadInput(
            f"The take has {rows} rows, counted from 1: choose frames between 1 and {rows}, or "
            "give --fps to count scene frames."
        )
    return take.weights[np.array(numbers) - 1]


def cameras_of(text: str, count: int, aspect: float) -> list[Camera]:
    """One camera a frame: ``front``, ``orbit`` (one turn over the range), or a JSON file.

    Raises:
        BadInput: the file cannot be read, or holds no usable cameras.
    """
    if text == "front":
        return [orbit(0, 0, aspect=aspect)] * count
    if text == "orbit":
        return [orbit(360.0 * index / count, 0, aspect=aspect) for index in range(count)]
    cameras = read_cameras(Path(text))
    if len(cameras) == 1:
        return cameras * count
    if len(cameras) < count:
        raise BadInput(
            f"{text} has {len(cameras)} cameras for {count} frames: give one, or one a frame."
        )
    return cameras[:count]


def read_cameras(path: Path) -> list[Camera]:
    """Cameras of a JSON file: an object with ``cam2world`` (4×4, rigid, metres, OpenCV axes) and
    ``intrinsics`` (3×3, normalised by width and height), or a list of such objects.

    Raises:
        BadInput: unreadable, or not that.
    """
    from head360.protocol import check_cameras

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"Cannot read the camera file {path} ({error.strerror}): give front, orbit or a JSON "
            "file."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The camera file {path} is not JSON: {error}.") from error
    cameras = []
    for item in content if isinstance(content, list) else [content]:
        try:
            cam2world = np.array(item["cam2world"], dtype=np.float64).reshape(4, 4)
            intrinsics = np.array(item["intrinsics"], dtype=np.float64).reshape(3, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{path} needs cam2world (4×4) and intrinsics (3×3) for every camera."
            ) from error
        camera = Camera(cam2world, intrinsics)
        check_cameras(camera.flat25())
        cameras.append(camera)
    if not cameras:
        raise BadInput(f"The camera file {path} has no cameras.")
    return cameras


def write_sheet(pictures: list[Path], target: Path) -> None:
    """A contact sheet of up to ``SHEET_TILES`` pictures, spread over the range, on light grey.

    Raises:
        BadInput: the target cannot be written, or has no picture suffix.
    """
    from PIL import Image

    from head360 import files

    chosen = [
        pictures[index]
        for index in np.linspace(0, len(pictures) - 1, min(SHEET_TILES, len(pictures))).astype(int)
    ]
    tiles = []
    for path in chosen:
        with Image.open(path) as picture:
            tile = picture.convert("RGBA")
        tile.thumbnail((256, 256), Image.Resampling.LANCZOS)
        tiles.append(tile)
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(SHEET_COLUMNS, len(tiles))
    sheet = Image.new("RGBA", (columns * width, -(-len(tiles) // columns) * height), _BACKDROP)
    for index, tile in enumerate(tiles):
        sheet.alpha_composite(tile, (index % columns * width, index // columns * height))
    suffix = target.suffix.lower()
    buffer = io.BytesIO()
    sheet.convert("RGB").save(buffer, _sheet_format(target), **_SAVE.get(suffix, {}))
    files.writable_folder(target.parent)
    files.write_bytes(target, buffer.getvalue())


_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SAVE: dict[str, dict[str, Any]] = {".jpg": {"quality": 92}, ".jpeg": {"quality": 92}}


def _sheet_format(target: Path) -> str:
    kind = _FORMATS.get(target.suffix.lower())
    if kind is None:
        raise BadInput(f"{target} is not a picture's name: end it with .png or .jpg.")
    return kind


def _run(arguments: argparse.Namespace) -> int:
    from head360 import provenance
    from head360.arkit.takes import read_take
    from head360.client import SequenceFrame, SequenceWriter, parameters_hash
    from head360.commands.local import open_head
    from head360.files import writable_folder
    from head360.server.heads_table import resolve

    # All that the user can get wrong is looked at before a backend is started.
    numbers = parse_frames(arguments.frames)
    width, height = parse_size(arguments.size)
    take = read_take(arguments.take)
    weights = weights_of(take, numbers, arguments.fps)
    cameras = cameras_of(arguments.camera, len(numbers), width / height)
    passes = parse_passes(arguments.passes)
    found = resolve(arguments.model)  # a wrong name must not leave an empty folder behind
    weights, carried = retargeted(arguments, take, weights, found.path)
    if arguments.sheet is not None:
        _sheet_format(arguments.sheet)
        writable_folder(arguments.sheet.parent)
    frames = [
        SequenceFrame(number, weights[index], cameras[index])
        for index, number in enumerate(numbers)
    ]
    with open_head(arguments) as (client, head, model):
        # Not before: without --resume it empties the listing of an earlier run.
        note = provenance.facts(model.info.name, head.subject, head.style, model.info.made_by)
        writer = SequenceWriter(
            arguments.out,
            resume=arguments.resume,
            note=None if arguments.no_provenance else note,
        )
        hashes = {
            frame.number: parameters_hash(head.head_id, frame, width, height) for frame in frames
        }
        todo = [frame for frame in frames if not writer.is_done(frame.number, hashes[frame.number])]
        start = time.perf_counter()
        _render(client, head.head_id, todo, width, height, writer, hashes)
        seconds = time.perf_counter() - start
        beside = write_passes(
            client, head.head_id, frames, hashes, (width, height), writer, passes,
            resume=arguments.resume,
        )  # fmt: skip
        device = client.welcome.device
    pictures = [writer.path(number) for number in numbers]
    if arguments.sheet is not None:
        write_sheet(pictures, arguments.sheet)
    report = {
        "frames": len(numbers),
        "rendered": len(todo),
        "kept": len(numbers) - len(todo),
        "seconds": round(seconds, 3),
        "seconds_per_frame": round(seconds / len(todo), 4) if todo else None,
        "out": str(arguments.out),
        "files": [path.name for path in pictures],
        "clamped": int(take.clamped),
        "device": device,
        "model": model.info.name,
        "subject": head.subject,
        "style": head.style,
        "sheet": None if arguments.sheet is None else str(arguments.sheet),
        **({"retarget": carried} if carried is not None else {}),
        **({"passes": beside} if beside else {}),
    }
    if arguments.json:
        emit_json(report)
    else:
        if carried is not None:
            say(sentence(carried))
        say(f"{len(todo)} rendered, {report['kept']} kept in {arguments.out} ({seconds:.1f} s)")
    return 0


def _render(
    client: Any,
    head_id: str,
    todo: list[Any],
    width: int,
    height: int,
    writer: Any,
    hashes: dict[int, str],
) -> None:
    from head360.client import FrameDone
    from head360.commands.local import ProgressLine

    line = ProgressLine("frame", len(todo))
    limit = client.welcome.limits.sequence_frames
    for first in range(0, len(todo), limit):
        job = client.render_sequence(head_id, todo[first : first + limit], width, height)

        def on_event(event: Any, first: int = first) -> None:
            if isinstance(event, FrameDone):
                writer.write(event.number, event.png, hashes[event.number])
                line.show(first + event.step)

        try:
            job.wait(on_event)
        finally:
            job.cancel()  # Ctrl-C or a full disk; without effect on a finished job
