"""Writing a SYNHEAD data set: pose by pose, resumable, every file whole or absent."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.datasets import synhead
from head360.datasets.synhead import Manifest, Pixels, PoseRecord, ShotRecord, Truth
from head360.datasets.synhead_check import FOLDERS, label_tables, planned_files, stray_files
from head360.errors import BadInput
from head360.files import writable_folder, write_bytes
from head360.geometry.meshfile import write_obj
from head360.geometry.topology import Topology

COMPRESSION = 4  # of PNG; higher costs time and gains little on noisy skin


@dataclass(frozen=True)
class Picture:
    """What one view yields.

    Attributes:
        rgba: (S, S, 4) float32 sRGB in [0, 1], straight alpha, with hair.
        bald: (S, S, 4) float32 the same without hair.
        hair: (S, S) float32 coverage by visible hair.
        landmarks: (68, 2) float32 pixels.
    """

    rgba: NDArray[np.float32]
    bald: NDArray[np.float32]
    hair: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def to_bytes8(values: NDArray[np.floating]) -> Pixels:
    """[0, 1] → 0…255, rounded."""
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def encode_png(pixels: Pixels) -> bytes:
    """PNG bytes of (H, W, 3 or 4) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def prepare(root: Path | str, manifest: Manifest) -> Path:
    """Make the folder ready for ``manifest``: writable, no leftovers, nothing that is not planned.

    Raises:
        BadInput: not writable, or it holds files of another data set.
    """
    root = writable_folder(root)
    for folder in FOLDERS:
        # What a killed writer left; see head360.files.
        for leftover in (root / folder).rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
    strays = stray_files(root, planned_files(manifest))
    if strays:
        raise BadInput(
            f"{root} already holds {strays[0]}, which is not part of this data set "
            f"({len(strays)} such files): choose an empty folder or the settings it was made with."
        )
    # Until the last pose is written the folder is not a data set.
    (root / synhead.MANIFEST).unlink(missing_ok=True)
    return root


def kept_shots(root: Path, pose: PoseRecord) -> dict[int, tuple[ShotRecord, list]]:
    """Shots of ``pose`` that a former run wrote with the same key and that are still whole."""
    path = root / pose.truth
    if not path.is_file():
        return {}
    try:
        former = synhead.decode(path, Truth)
    except BadInput:
        return {}  # a torn truth file means: take the pictures again
    if former.pose.key != pose.key or len(former.landmarks) != len(former.pose.shots):
        return {}
    kept = {}
    for shot, landmarks in zip(former.pose.shots, former.landmarks, strict=True):
        places = (shot.image, shot.bald, shot.mask)
        if all(_digest(root / p) == d for p, d in zip(places, shot.sha256, strict=True)):
            kept[shot.view] = (shot, landmarks)
    return kept


def write_shot(root: Path, pose: PoseRecord, view: int, picture: Picture) -> ShotRecord:
    """Write the three pictures of one view; returns their record."""
    places = synhead.shot_paths(pose.subject, pose.expression, view)
    rgba = to_bytes8(picture.rgba)
    hair = np.minimum(to_bytes8(picture.hair), rgba[..., 3])
    mask = np.stack([rgba[..., 3] - hair, hair, np.zeros_like(hair)], -1)
    digests = []
    for place, pixels in zip(places, (rgba, to_bytes8(picture.bald), mask), strict=True):
        data = encode_png(pixels)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / place, data)
        digests.append(hashlib.sha256(data).hexdigest())
    return ShotRecord(view, *places, sha256=(digests[0], digests[1], digests[2]))


def write_pose(
    root: Path,
    pose: PoseRecord,
    shots: Iterable[tuple[ShotRecord, list]],
    vertices: NDArray[np.float32],
    topology: Topology,
) -> PoseRecord:
    """Write mesh, lip landmarks and the truth file of a pose whose pictures are on disk.

    Args:
        pose: what is known of the pose; its shots are filled in here.
        shots: record and (68, 2) landmarks of every view.
        vertices: (N, 3) float32 posed head, metres, head space.
        topology: of the mesh.

    Returns:
        The pose with its shots.
    """
    for place in (pose.mesh, pose.lms, pose.truth):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    write_obj(
        root / pose.mesh, vertices, topology.faces, topology.uvs, topology.face_uvs,
        name=f"{pose.subject}_{pose.expression}",
    )  # fmt: skip
    lips = vertices[topology.landmarks68[synhead.OUTER_LIP]].astype(float)
    rows = (" ".join(f"{x:.7f}" for x in row) for row in lips.tolist())
    write_bytes(root / pose.lms, ("\n".join(rows) + "\n").encode("ascii"))
    ordered = sorted(shots, key=lambda item: item[0].view)
    pose = msgspec.structs.replace(pose, shots=[shot for shot, _ in ordered])
    truth = Truth(pose, [landmarks for _, landmarks in ordered])
    write_bytes(root / pose.truth, msgspec.json.encode(truth))
    return pose


def finish(root: Path, manifest: Manifest) -> Path:
    """Write the label files and, last of all, the manifest; returns its path."""
    (root / "images").mkdir(exist_ok=True)
    for place, labels in zip(
        (synhead.POSES, synhead.EXPRESSIONS), label_tables(manifest), strict=True
    ):
        write_bytes(root / place, msgspec.json.encode({"labels": labels}))
    return write_bytes(
        root / synhead.MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
