"""Writing a monocular data set: frame by frame, resumable, every file whole or absent.

The studio and an artist's Blender write through the same steps: :func:`prepare`,
:func:`write_files` of every frame, and in the end :func:`finish`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from head360.datasets import monocular
from head360.datasets.integrity import Places, digest, digest_file, make_ready
from head360.datasets.journal import Journal
from head360.datasets.monocular import (
    FrameRecord,
    FrameTruth,
    MonocularManifest,
    Transforms,
    TransformsFrame,
    TruthFile,
)
from head360.datasets.records import MANIFEST, inside, spare_finished
from head360.errors import BadInput
from head360.files import writable_folder, write_bytes
from head360.rendering.cameras import Camera, camera_to_opengl

JOURNALS = ".frames"  # folder of what is finished while a run is under way


class Filmed(msgspec.Struct):
    """A frame that is on disk, with what is true of it."""

    record: FrameRecord
    truth: FrameTruth


def prepare(root: Path | str, key: str, ids: Sequence[int], image_format: str = "jpg") -> Path:
    """Make the folder ready: writable, no leftovers, nothing that is not planned.

    Args:
        root: of the data set; created if needed.
        key: of the data set; an artist's finished one with another key is one no longer.
        ids: numbers of the frames that will be written.
        image_format: "jpg" or "png".

    Raises:
        BadInput: not writable, or it holds files of another data set or a finished one of the
            studio with another key.
    """
    root = writable_folder(root)
    planned = {MANIFEST, monocular.TRANSFORMS, monocular.TRUTH}
    for img_id in ids:
        for kind in ("matte", "parsing"):
            planned.add(monocular.frame_path(kind, img_id))
        # A picture in the other format would be a second truth: it counts as a stranger.
        planned.add(monocular.frame_path("image", img_id, image_format))
    make_ready(root, Places.of(planned), own=(JOURNALS,))
    spare_finished(root, key=key)
    try:
        former = monocular.read_manifest(root).key
    except BadInput:
        former = ""
    if former != key:
        (root / MANIFEST).unlink(missing_ok=True)
    return root


def journal(root: Path, key: str, part: int) -> Journal[Filmed]:
    """What one job of a run has finished."""
    return Journal(root / JOURNALS / f"{part:06d}.part", key, Filmed)


def write_files(
    root: Path, img_id: int, files: Mapping[str, bytes], image_format: str = "jpg"
) -> FrameRecord:
    """Write the files of one frame, given as encoded bytes by kind; returns their record.

    Raises:
        BadInput: the disk refuses.
    """
    places = {kind: monocular.frame_path(kind, img_id, image_format) for kind in files}
    for kind, data in files.items():
        (root / places[kind]).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / places[kind], data)
    return FrameRecord(img_id, places, {kind: digest(data) for kind, data in files.items()})


def kept_frames(root: Path, key: str) -> dict[int, Filmed]:
    """Frames by number that a former run wrote under the same key and that are still whole."""
    filmed: list[Filmed] = []
    try:
        manifest = monocular.read_manifest(root)
        truths = monocular.decode(root / monocular.TRUTH, TruthFile).frames
        if manifest.key == key and len(truths) == len(manifest.frames):
            filmed += [Filmed(*pair) for pair in zip(manifest.frames, truths, strict=True)]
    except BadInput:
        pass  # no finished data set: the journals tell
    for path in sorted((root / JOURNALS).glob("*.part")):
        filmed += Journal(path, key, Filmed).read()
    return {
        item.record.img_id: item
        for item in filmed
        if item.record.sha256
        and all(
            inside(place) and digest_file(root / place) == item.record.sha256.get(kind)
            for kind, place in item.record.files.items()
        )
    }


def finish(
    root: Path,
    manifest: MonocularManifest,
    filmed: Sequence[Filmed],
    cameras: Sequence[Camera],
    expressions: Sequence[Sequence[float]],
) -> Path:
    """Write ``transforms.json``, ``truth.json`` and, last of all, the manifest; returns its path.

    Args:
        root: of the data set.
        manifest: frames and hashes are filled in here.
        filmed: every frame, in order of time.
        cameras: of the same frames, all with the same intrinsics.
        expressions: (frames, E) of the same.

    Raises:
        ValueError: the lists differ in length, or the lens changes between frames.
    """
    width, height = manifest.width, manifest.height
    lens = camera_to_opengl(cameras[0], width, height)[1]
    frames = []
    for item, camera, expression in zip(filmed, cameras, expressions, strict=True):
        matrix, other = camera_to_opengl(camera, width, height)
        if np.abs(other - lens).max() > 1e-6:
            raise ValueError("a monocular data set has one lens")
        numbers = [round(float(value), 6) for value in expression]
        frames.append(TransformsFrame(item.record.img_id, numbers, matrix.tolist()))
    transforms = Transforms(
        height, width, float(lens[0, 0]), float(lens[1, 1]), float(lens[0, 2]), float(lens[1, 2]),
        frames,
    )  # fmt: skip
    sha256 = {}
    truth = TruthFile([item.truth for item in filmed])
    for place, content in ((monocular.TRANSFORMS, transforms), (monocular.TRUTH, truth)):
        data = msgspec.json.encode(content)
        write_bytes(root / place, data)
        sha256[place] = digest(data)
    records = [item.record for item in filmed]
    manifest = msgspec.structs.replace(manifest, sha256=sha256, frames=records)
    path = write_bytes(
        root / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    )
    # The data set is whole by now: what a file manager put there as well must not fail it.
    shutil.rmtree(root / JOURNALS, ignore_errors=True)
    return path
