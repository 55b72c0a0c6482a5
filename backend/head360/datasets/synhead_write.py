"""Writing a SYNHEAD data set: pose by pose, resumable, every file whole or absent.

The studio and an artist's Blender write through the same four steps: :func:`prepare` the folder,
:func:`write_files` of every shot, :func:`write_pose`, and in the end :func:`finish`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.datasets import png, synhead
from head360.datasets.integrity import Places, digest, digest_file, make_ready
from head360.datasets.journal import Journal
from head360.datasets.labels import PALETTE
from head360.datasets.records import (
    spare_finished,
    spare_unfinished,
    stamp_unfinished,
    unstamp,
)
from head360.datasets.synhead import Manifest, PoseRecord, ShotRecord, Taken, Truth
from head360.errors import BadInput
from head360.files import atomic_path, writable_folder, write_bytes
from head360.geometry.meshfile import write_obj

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]


# --- what a kind of picture is as bytes -----------------------------------------------------------


def to_bytes8(values: Floats) -> Pixels:
    """[0, 1] → 0…255, rounded."""
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def encode_colour(rgba: Floats) -> bytes:
    """PNG of (S, S, 4) sRGB straight alpha in [0, 1]; what is fully transparent is black."""
    pixels = to_bytes8(rgba)
    pixels[pixels[..., 3] == 0] = 0
    return png.encode(pixels)


def encode_mask(alpha: Floats, hair: Floats) -> bytes:
    """PNG of the mask from (S, S) coverage by anything and by hair: R + G is the alpha exactly."""
    whole = to_bytes8(alpha)
    part = np.minimum(to_bytes8(hair), whole)
    return png.encode(np.stack([whole - part, part, np.zeros_like(part)], -1))


def encode_depth(depth: Floats) -> bytes:
    """PNG of (S, S) metres, +inf where nothing is; beyond 3.2767 m it saturates."""
    units = np.rint(np.where(np.isfinite(depth), depth, 0.0) * synhead.DEPTH_SCALE)
    units = np.where(np.isfinite(depth), np.clip(units, 1, 65535), 0)
    return png.encode(units.astype(np.uint16))


def encode_normals(normals: Floats) -> bytes:
    """PNG of (S, S, 3) unit vectors of head space, zero where nothing is."""
    something = (normals != 0).any(-1, keepdims=True)
    return png.encode(np.where(something, to_bytes8((normals + 1) / 2), 0).astype(np.uint8))


def encode_labels(labels: Pixels) -> bytes:
    """PNG of (S, S) classes with the palette of ``datasets.labels``."""
    return png.encode(labels, PALETTE)


# --- writing --------------------------------------------------------------------------------------


def prepare(root: Path | str, manifest: Manifest) -> Path:
    """Make the folder ready for ``manifest``: writable, no leftovers, nothing that is not planned.

    ``manifest.poses`` need no shots yet: every pose is expected to get every view.

    Raises:
        BadInput: not writable, it holds files of another data set or a finished one with another
            seed or size, or the names do not do.
    """
    problem = next(synhead.contradictions(manifest), "")
    if problem:
        raise BadInput(f"This data set cannot be written ({problem}): choose other names.")
    root = writable_folder(root)
    settings = {"seed": manifest.seed, "size": manifest.size}
    if manifest.seed is not None:  # an artist's set has none and may be photographed again
        spare_unfinished(root, **settings)
    make_ready(root, planned_places(manifest))
    spare_finished(root, **settings)
    stamp_unfinished(root, **settings)
    # Until the last pose is written the folder is not a data set.
    (root / synhead.MANIFEST).unlink(missing_ok=True)
    return root


def planned_places(manifest: Manifest) -> Places:
    """Where files of this data set may lie while it is written."""
    places = Places.of([synhead.MANIFEST, synhead.POSES, synhead.EXPRESSIONS])
    names = {view.index: f"{view.index:04d}.png" for view in manifest.views}
    rig = frozenset(name for view, name in names.items() if view < synhead.RIG)
    rest = frozenset(name for view, name in names.items() if view >= synhead.RIG)
    everything = rig | rest
    for pose in manifest.poses:
        for kind in manifest.kinds:
            for view, members in ((0, rig), (synhead.RIG, rest)):
                if kind == "image" and members:
                    place = synhead.shot_path(pose.subject, pose.expression, view, kind)
                    places.add(place.rpartition("/")[0], members)
            if kind != "image":
                place = synhead.shot_path(pose.subject, pose.expression, 0, kind)
                places.add(place.rpartition("/")[0], everything)
        for place in (*pose.files.values(), _journal_place(pose)):
            folder, _, name = place.rpartition("/")
            places.add(folder, {name})
    return places


def write_files(root: Path, pose: PoseRecord, view: int, files: Mapping[str, bytes]) -> ShotRecord:
    """Write the files of one view, given as encoded bytes by kind; returns their record.

    Raises:
        BadInput: an unknown kind, or the disk refuses.
    """
    places = {k: synhead.shot_path(pose.subject, pose.expression, view, k) for k in files}
    for kind, data in files.items():
        (root / places[kind]).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / places[kind], data)
    return ShotRecord(view, places, {kind: digest(data) for kind, data in files.items()})


def note_taken(root: Path, pose: PoseRecord, taken: Taken) -> None:
    """Remember a shot whose files are written, until :func:`write_pose` does for good."""
    _journal(root, pose).append(taken)


def kept_shots(root: Path, pose: PoseRecord, kinds: Sequence[str]) -> dict[int, Taken]:
    """Shots by view that a former run wrote under the same key and that are still whole."""
    kept: dict[int, Taken] = {}
    for taken in [*_of_truth(root, pose), *_journal(root, pose).read()]:
        record = taken.record
        places = {
            k: synhead.shot_path(pose.subject, pose.expression, record.view, k) for k in kinds
        }
        if record.files == places and all(
            digest_file(root / record.files[kind]) == record.sha256.get(kind) for kind in kinds
        ):
            kept[record.view] = taken
    return kept


def write_pose(
    root: Path,
    pose: PoseRecord,
    shots: Iterable[Taken],
    vertices: ArrayLike,
    faces: ArrayLike,
    uvs: ArrayLike | None = None,
    face_uvs: ArrayLike | None = None,
    lips: ArrayLike | None = None,
) -> PoseRecord:
    """Write mesh, lip landmarks and the truth file of a pose whose pictures are on disk.

    Args:
        root: of the data set.
        pose: what is known of the pose; its shots are filled in here.
        shots: every view.
        vertices: (N, 3) posed head, metres, head space.
        faces: (F, 3) of the mesh; ``uvs`` (U, 2) and ``face_uvs`` (F, 3) go with it.
        lips: (12, 3) outer-lip landmarks; needed where the pose has a file for them.

    Returns:
        The pose with its shots and the hashes of its files.
    """
    for place in pose.files.values():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    sha256: dict[str, str] = {}
    if "mesh" in pose.files:
        path = root / pose.files["mesh"]
        stem = f"{pose.subject}_{pose.expression}"
        write_obj(path, vertices, faces, uvs, face_uvs, name=stem)
        sha256["mesh"] = digest_file(path)
    if "lms" in pose.files:
        if lips is None:
            raise ValueError("a pose with a file for lip landmarks needs them")
        rows = (" ".join(f"{x:.7f}" for x in row) for row in np.asarray(lips, float).tolist())
        data = ("\n".join(rows) + "\n").encode("ascii")
        write_bytes(root / pose.files["lms"], data)
        sha256["lms"] = digest(data)
    ordered = sorted(shots, key=lambda taken: taken.record.view)
    pose = msgspec.structs.replace(pose, sha256=sha256, shots=[taken.record for taken in ordered])
    truth = Truth(pose)
    if any(taken.landmarks for taken in ordered):
        truth.landmarks = [taken.landmarks for taken in ordered]
    if any(taken.dense for taken in ordered):
        truth.dense = [taken.dense for taken in ordered]
        truth.visible = [taken.visible for taken in ordered]
    data = msgspec.json.encode(truth)
    write_bytes(root / pose.files["truth"], data)
    _journal(root, pose).forget()
    return with_truth(pose, data)


def finish(root: Path, manifest: Manifest) -> Path:
    """Write the label files and, last of all, the manifest; returns its path.

    The poses are read from their truth files one after the other, so memory does not grow with
    the pictures; ``manifest.poses`` only names them.

    Raises:
        BadInput: a pose has not been written.
    """
    (root / "images").mkdir(exist_ok=True)
    for place, column in ((synhead.POSES, 1), (synhead.EXPRESSIONS, 2)):
        with atomic_path(root / place) as temporary, open(temporary, "wb") as file:
            file.writelines(table_bytes(root, manifest, column))
    path = root / synhead.MANIFEST
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        head = msgspec.json.format(
            msgspec.json.encode(msgspec.structs.replace(manifest, poses=[])), indent=1
        )
        file.write(head[: head.rindex(b"[")] + b"[\n")
        for number, pose in enumerate(manifest.poses):
            file.write((b",\n" if number else b"") + msgspec.json.encode(_finished(root, pose)))
        file.write(b"\n]}\n")
    unstamp(root)
    return path


def table_bytes(root: Path | None, manifest: Manifest, column: int) -> Iterator[bytes]:
    """A label file in pieces. ``column``: 1 cameras, 2 weights.

    Args:
        root: where the truth files of the poses are read; None where the manifest has its shots.
    """
    poses = sorted(manifest.poses, key=lambda pose: f"{pose.subject}/{pose.expression}/")
    begin = b'{"labels":['
    for pose in poses:
        whole = pose if root is None else _finished(root, pose)
        for row in synhead.label_rows([whole], manifest.views):
            yield begin + msgspec.json.encode((row[0], row[column]))
            begin = b",\n"
    yield (begin if begin != b",\n" else b"") + b"]}"


def with_truth(pose: PoseRecord, data: bytes) -> PoseRecord:
    """The pose as the manifest has it: with the hash of its truth file's bytes."""
    return msgspec.structs.replace(pose, sha256=pose.sha256 | {"truth": digest(data)})


def _finished(root: Path, pose: PoseRecord) -> PoseRecord:
    path = root / pose.files["truth"]
    try:
        data = path.read_bytes()
        return with_truth(msgspec.json.decode(data, type=Truth).pose, data)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(
            f"{path} is missing or damaged ({error}): run the same command again; what is whole "
            "is kept."
        ) from error


def _of_truth(root: Path, pose: PoseRecord) -> list[Taken]:
    """The shots of a finished pose, none where its truth file is torn or of another key."""
    try:
        former = synhead.decode(root / pose.files["truth"], Truth)
    except BadInput:
        return []
    if former.pose.key != pose.key:
        return []
    count = len(former.pose.shots)
    landmarks, dense = former.landmarks or [[]] * count, former.dense or [[]] * count
    visible = former.visible or [""] * count
    if not len(landmarks) == len(dense) == len(visible) == count:
        return []
    return [Taken(*row) for row in zip(former.pose.shots, landmarks, dense, visible, strict=True)]


def _journal_place(pose: PoseRecord) -> str:
    return f"truth/{pose.subject}/.{pose.expression}.part"


def _journal(root: Path, pose: PoseRecord) -> Journal[Taken]:
    return Journal(root / _journal_place(pose), pose.key, Taken)
