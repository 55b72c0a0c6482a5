"""``--passes``: what beside the pictures a rendered take leaves in its folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360 import __version__
from head360.errors import BadInput

PASSES = ("rgba", "depth", "alpha")
DEPTH_SCALE = 10_000  # units of a depth picture per metre
_FARTHEST = 65_535


def parse_passes(text: str) -> tuple[str, ...]:
    """``rgba,depth`` → ("rgba", "depth").

    Raises:
        BadInput: an unknown pass, or one without the pictures themselves.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in PASSES]
    if unknown:
        raise BadInput(f"There is no pass {unknown[0]!r}: choose from {', '.join(PASSES)}.")
    if "rgba" not in names:
        raise BadInput("The passes go beside the pictures: write --passes rgba,depth,alpha.")
    return names


def depth_picture(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(H, W) metres along the view axis, +inf where nothing is → 1/10,000 m, 0 where nothing is."""
    near = np.where(np.isfinite(depth), depth, 0.0)
    return np.clip(np.rint(near * DEPTH_SCALE), 0, _FARTHEST).astype(np.uint16)


def write_passes(
    client: Any,
    head_id: str,
    frames: Sequence[Any],
    hashes: Mapping[int, str],
    size: tuple[int, int],
    writer: Any,
    passes: Sequence[str],
    *,
    resume: bool,
) -> dict[str, Any]:
    """Write ``depth/NNNN.png`` (16-bit grey) and ``alpha/NNNN.png`` (8-bit grey) beside pictures.

    Each folder has a listing of its own: whether a picture was kept tells nothing about what lies
    beside it, which may be of an earlier take or version.

    Args:
        frames: all of the sequence.
        hashes: of what each of them was rendered with, by number.
        size: width and height in pixels.
        writer: of the pictures, which are there.
        passes: which.
        resume: keep what an earlier run wrote of the same frames.
    """
    from PIL import Image

    from head360.client import SequenceWriter
    from head360.commands.local import ProgressLine
    from head360.datasets.png import encode

    report: dict[str, Any] = {}
    folders = {name: Path(writer.folder) / name for name in passes if name != "rgba"}
    for name, folder in folders.items():
        beside = SequenceWriter(folder, resume=resume)
        line = ProgressLine(name, len(frames))
        too_far = 0
        for done, frame in enumerate(frames, 1):
            colour = writer.path(frame.number).read_bytes() if name == "alpha" else b""
            if name == "alpha":
                made_with = hashlib.sha256(colour).hexdigest()[:16]
            else:  # pictures have the version in their note
                made_with = f"{hashes[frame.number]}/{DEPTH_SCALE}/{__version__}"
            if beside.is_done(frame.number, made_with):
                continue
            if name == "alpha":
                with Image.open(io.BytesIO(colour)) as picture:
                    pixels = np.asarray(picture.convert("RGBA").getchannel("A"))
            else:
                _, depth = client.render_frame(head_id, frame.blendshapes, frame.camera, *size)
                pixels = depth_picture(depth)
                too_far += int((pixels == _FARTHEST).any())
            beside.write(frame.number, encode(pixels), made_with)
            line.show(done)
        report[name] = str(folder)
        if name == "depth":
            report |= {"depth_scale": DEPTH_SCALE, "depth_too_far": too_far}
    return report
