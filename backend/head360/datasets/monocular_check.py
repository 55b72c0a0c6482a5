"""Is a monocular data set whole? Every missing, stray or damaged file in a sentence of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from head360.datasets import monocular, png
from head360.datasets.integrity import (
    AGAIN,
    Expected,
    Inspect,
    Progress,
    digest_file,
    examine,
)
from head360.datasets.monocular import MonocularManifest, TruthFile
from head360.datasets.monocular_read import MonocularDataset
from head360.datasets.records import DENSE, LANDMARKS, MANIFEST, decode
from head360.errors import BadInput

# Folders of the released layout, for sets without a manifest; what else there is, is not judged.
_RELEASED = ("ori_imgs", "mask", "parsing")


def check(folder: Path | str, progress: Progress | None = None) -> list[str]:
    """Sentences about everything wrong with a data set; empty when it is whole.

    Without a manifest only what ``transforms.json`` names can be judged: presence, size, wholeness.

    Raises:
        BadInput: there is nothing to read, so nothing else can be said.
    """
    root = Path(folder)
    if not (root / MANIFEST).is_file():
        return _check_released(root, progress)
    manifest = monocular.read_manifest(root)
    problems = list(_files_of(root, manifest))
    expected = list(_expected(manifest))
    problems += examine(root, expected, (MANIFEST,), progress)
    if not any(monocular.TRANSFORMS in p or monocular.TRUTH in p for p in problems):
        problems += list(_agreement(root, manifest))
    return problems


def _expected(manifest: MonocularManifest) -> Iterator[Expected]:
    size = (manifest.width, manifest.height)
    inspect = {
        "matte": partial(png.misfit, form=png.GREY8, size=size),
        "parsing": partial(png.misfit, form=png.RGB8, size=size),
    }
    for frame in manifest.frames:
        for kind, place in frame.files.items():
            look: Inspect = inspect.get(kind, partial(png.misfit, form=png.RGB8, size=size))
            explain: Inspect = png.damage
            if kind == "image" and not place.endswith(".png"):
                look = explain = partial(jpeg_problem, size=size)
            yield Expected(place, frame.sha256.get(kind, ""), look, explain)
    for place in (monocular.TRANSFORMS, monocular.TRUTH):
        yield Expected(place, manifest.sha256.get(place, ""), None, _json_problem)


def _files_of(root: Path, manifest: MonocularManifest) -> Iterator[str]:
    """Whether frames have the files of their number and all the same kinds."""
    kinds = set(manifest.frames[0].files) if manifest.frames else set()
    for frame in manifest.frames:
        if set(frame.files) != kinds or set(frame.sha256) != kinds:
            yield f"{root / MANIFEST} names other kinds of files for frame {frame.img_id}: {AGAIN}."
        for kind, place in frame.files.items():
            ending = place.rpartition(".")[2]
            if place != monocular.frame_path(kind, frame.img_id, ending):
                where = f"looks for the {kind} of frame {frame.img_id} in {place}"
                yield f"{root / MANIFEST} {where}: {AGAIN}."


def _agreement(root: Path, manifest: MonocularManifest) -> Iterator[str]:
    """What hashes do not say: the tables speak of the same frames, and are usable."""
    try:
        data = MonocularDataset.open(root)
        truths = decode(root / monocular.TRUTH, TruthFile).frames
    except BadInput as error:
        yield str(error)
        return
    ids = [frame.img_id for frame in manifest.frames]
    if [truth.img_id for truth in truths] != ids:
        yield f"{root / monocular.TRUTH} speaks of other frames than the manifest: {AGAIN}."
    if (data.width, data.height) != (manifest.width, manifest.height):
        yield f"{root / monocular.TRANSFORMS} has another size than the manifest: {AGAIN}."
    for truth in truths:
        if len(truth.landmarks) not in (0, LANDMARKS) or len(truth.dense) not in (0, DENSE):
            yield f"{root / monocular.TRUTH} lacks landmarks of frame {truth.img_id}: {AGAIN}."


def _json_problem(data: bytes) -> str:
    if not data:
        return "is empty"
    return "was edited or is truncated" if data.rstrip().endswith(b"}") else "is truncated"


def jpeg_problem(data: bytes, size: tuple[int, int]) -> str:
    """What a walk over a JPEG's segments says against it, "" when nothing; begins with a verb."""
    if not data:
        return "is empty"
    if data[:2] != b"\xff\xd8":
        return "is not a JPEG"
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, (length,) = data[position + 1], struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if position + 9 > len(data):
                break
            height, width = struct.unpack_from(">HH", data, position + 5)
            if (width, height) != size:
                return f"measures {width}×{height} instead of {size[0]}×{size[1]}"
        if marker == 0xDA:  # picture data up to the end mark
            return "" if data.endswith(b"\xff\xd9") else f"is truncated after {len(data)} bytes"
        position += 2 + length
    return f"is truncated after {len(data)} bytes"


def _check_released(root: Path, progress: Progress | None) -> list[str]:
    """A folder of the released layout: what its transforms.json names is there and readable."""
    data = MonocularDataset.open(root)
    size = (data.width, data.height)
    expected: list[Expected] = []
    for frame in data.frames:
        files = dict(frame.files)
        if any("matte" in other.files for other in data.frames):
            files["matte"] = monocular.frame_path("matte", frame.img_id)
        for place in files.values():
            problem = partial(_picture_problem, size=size, jpeg=not place.endswith(".png"))
            # There are no hashes: a file is expected to be what it is.
            expected.append(Expected(place, digest_file(root / place), problem))
    return examine(root, expected, (), progress, judged=_RELEASED)


def _picture_problem(data: bytes, size: tuple[int, int], jpeg: bool) -> str:
    if jpeg:
        return jpeg_problem(data, size)
    if data[:8] == png.SIGNATURE and len(data) >= 33:
        width, height = struct.unpack(">II", data[16:24])
        if (width, height) != size:
            return f"measures {width}×{height} instead of {size[0]}×{size[1]}"
    return png.damage(data)
