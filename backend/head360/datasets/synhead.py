"""The SYNHEAD layout: what lies where, the manifest, and the reader.

``images/`` is exactly what the release's loader expects: it walks every picture below, sorts the
paths and derives subject and mesh from the position alone (3744 = 52 × 72 a subject). Therefore
whatever that loader does not know lies outside::

    images/split_512/<subject>/<expression>/NNNN.png   RGBA, hair as the subject wears it
    images/dataset_pose.json                           {"labels": [[path, 25 floats], …]}
    images/total_dataset_exp.json                      {"labels": [[path, 52 floats], …]}, sorted
                                                       names; paths relative to images/
    mesh_lms/meshes/<subject>_<expression>.obj         posed head, metres, head space
    mesh_lms/lms/<subject>_<expression>.txt            12 outer-lip landmarks, same frame
    neutral/images/<subject>/NNNN.png                  the neutral pose; so too neutral/meshes, lms
    bald/<subject>/<expression>/NNNN.png               RGBA, the same picture without hair
    masks/<subject>/<expression>/NNNN.png              RGB: R visible head, G visible hair, B zero
    truth/<subject>/<expression>.json                  landmarks and hashes of one pose
    manifest.json                                      everything, in words a program can trust

``NNNN`` is the view's index in the rig of 72: 24·pitch + yaw, 0030 is frontal. The folder is called
``split_512`` for the loader's sake whatever the size of the pictures. All PNG are 8 bit, sRGB,
straight alpha; mask values are coverage × 255 and R + G is the alpha of the picture. The release's
loader needs the full grid of 52 expressions and 72 views; this reader takes any.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, NAMES
from head360.errors import BadInput
from head360.rendering.cameras import Camera

SCHEMA = 1
MANIFEST = "manifest.json"
POSES, EXPRESSIONS = "images/dataset_pose.json", "images/total_dataset_exp.json"
NEUTRAL = "neutral"
RELEASE_ORDER: tuple[str, ...] = tuple(sorted(NAMES))
LANDMARKS = 68
OUTER_LIP = slice(48, 60)  # of the 68 Multi-PIE landmarks

Pixels = NDArray[np.uint8]
T = TypeVar("T")


class Notice(msgspec.Struct, forbid_unknown_fields=True):
    """Licence of material that went into the pictures."""

    what: str
    licence: str
    holder: str


class SubjectRecord(msgspec.Struct):
    """One subject: ``shape`` are its identity coefficients, the rest names of its looks."""

    name: str
    seed: int
    shape: list[float]
    skin: str
    iris: str
    iris_gain: float
    brow: str
    brow_colour: tuple[int, int, int]
    style: str


class StyleRecord(msgspec.Struct):
    """One hair style that occurs in the data set."""

    name: str
    label: str


class ViewRecord(msgspec.Struct):
    """One camera: index in the rig of 72 and 25 floats (16 ``cam2world``, 9 ``intrinsics``)."""

    index: int
    camera: list[float]


class ShotRecord(msgspec.Struct):
    """The three pictures of one view: paths from the data set's root, SHA-256 of their bytes."""

    view: int
    image: str
    bald: str
    mask: str
    sha256: tuple[str, str, str]


class PoseRecord(msgspec.Struct):
    """One subject with one expression. ``weights`` in the order of ``arkit.NAMES``.

    ``key`` is a digest of everything the pictures depend on; a writer that comes to the same key
    keeps them.
    """

    subject: str
    style: str
    expression: str
    weights: list[float]
    key: str
    mesh: str
    lms: str
    truth: str
    shots: list[ShotRecord]


class Truth(msgspec.Struct):
    """Content of ``truth/…json``: the pose and (68, 2) landmarks in pixels of each shot."""

    pose: PoseRecord
    landmarks: list[list[tuple[float, float]]]


class Manifest(msgspec.Struct):
    """Content of ``manifest.json``."""

    schema: int
    kind: str
    generator: str
    seed: int
    size: int
    conventions: str
    notices: list[Notice]
    subjects: list[SubjectRecord]
    styles: list[StyleRecord]
    expressions: list[str]
    views: list[ViewRecord]
    poses: list[PoseRecord]


def shot_paths(subject: str, expression: str, view: int) -> tuple[str, str, str]:
    """Paths of image, bald twin and mask from the data set's root."""
    name = f"{view:04d}.png"
    folder = (
        f"neutral/images/{subject}"
        if expression == NEUTRAL
        else f"images/split_512/{subject}/{expression}"
    )
    place = f"{subject}/{expression}/{name}"
    return f"{folder}/{name}", f"bald/{place}", f"masks/{place}"


def mesh_paths(subject: str, expression: str) -> tuple[str, str]:
    """Paths of the mesh and of the lip landmarks from the data set's root."""
    root = NEUTRAL if expression == NEUTRAL else "mesh_lms"
    stem = f"{subject}_{expression}"
    return f"{root}/meshes/{stem}.obj", f"{root}/lms/{stem}.txt"


def truth_path(subject: str, expression: str) -> str:
    """Path of a pose's truth file from the data set's root."""
    return f"truth/{subject}/{expression}.json"


def decode(path: Path, kind: type[T]) -> T:
    """Read a JSON file of a known kind.

    Raises:
        BadInput: missing, unreadable, truncated or of another form; the sentence names the file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise BadInput(
            f"Cannot read {path} ({error.strerror}): choose a complete data set."
        ) from error
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"{path} is damaged or not of this kind ({error}): make the data set again."
        ) from error


def read_png(path: Path, size: int, channels: int) -> Pixels:
    """(size, size, channels) uint8.

    Raises:
        BadInput: missing, truncated, of another size or another number of channels.
    """
    try:
        return decode_png(path.read_bytes(), path, size, channels)
    except OSError as error:
        raise BadInput(
            f"Cannot read {path} ({error.strerror}): make the data set again."
        ) from error


def decode_png(data: bytes, path: Path, size: int, channels: int) -> Pixels:
    """Like :func:`read_png` for bytes already read; ``path`` is what the sentence names."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.size != (size, size):
                raise BadInput(
                    f"{path} measures {picture.width}×{picture.height}, the manifest says "
                    f"{size}×{size}: make the data set again."
                )
            pixels = np.asarray(picture)
    # Pillow reports a broken PNG as any of these, and as SyntaxError for a broken chunk.
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(
            f"{path} is truncated or not a PNG ({error}): delete it and run head360 synth again."
        ) from error
    if pixels.ndim != 3 or pixels.shape[2] != channels or pixels.dtype != np.uint8:
        raise BadInput(f"{path} has not {channels} channels of 8 bits: make the data set again.")
    return pixels


@dataclass(frozen=True)
class Shot:
    """One view of one pose, with its truth.

    Attributes:
        root: of the data set; the paths are relative to it.
        size: pixels per side.
        subject, style, expression: names; the expression is ``neutral`` or an ARKit name.
        weights: (52,) float32 in the order of ``arkit.NAMES``.
        view: index in the rig of 72.
        camera: of the picture, head space, metres.
        image, bald, mask, truth: paths.
        position: of the shot in its truth file.
    """

    root: Path
    size: int
    subject: str
    style: str
    expression: str
    weights: NDArray[np.float32]
    view: int
    camera: Camera
    image: str
    bald: str
    mask: str
    truth: str
    position: int

    def load_rgba(self) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, with hair."""
        return read_png(self.root / self.image, self.size, 4)

    def load_bald(self) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, the same without hair."""
        return read_png(self.root / self.bald, self.size, 4)

    def load_mask(self) -> Pixels:
        """(size, size, 3) uint8: coverage by visible head, by visible hair, zero."""
        return read_png(self.root / self.mask, self.size, 3)

    def load_landmarks(self) -> NDArray[np.float32]:
        """(68, 2) float32 pixels, Multi-PIE order, visible or not."""
        return _landmarks(self.root / self.truth)[self.position]


@functools.lru_cache(maxsize=64)
def _landmarks(path: Path) -> NDArray[np.float32]:
    return np.array(decode(path, Truth).landmarks, dtype=np.float32).reshape(-1, LANDMARKS, 2)


class SynheadDataset:
    """A data set that is read.

    Attributes:
        root: its folder.
        manifest: as on disk.
        subjects, styles: names in the manifest's order.
        shots: every view of every pose, pose by pose.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self.subjects = [subject.name for subject in manifest.subjects]
        self.styles = [style.name for style in manifest.styles]
        self.shots: list[Shot] = list(self._unfold())

    @classmethod
    def open(cls, folder: Path | str) -> SynheadDataset:
        """Read the manifest of a data set; pictures are read when asked for.

        Raises:
            BadInput: no manifest, damaged, or of another schema.
        """
        root = Path(folder)
        path = root / MANIFEST
        if not path.is_file():
            raise BadInput(
                f"{root} holds no {MANIFEST}: choose the folder that head360 synth wrote, or run "
                "it again if it was interrupted."
            )
        head = decode(path, dict[str, Any])
        if head.get("kind") != "synhead" or head.get("schema") != SCHEMA:
            raise BadInput(
                f"{path} describes {head.get('kind')!r}, schema {head.get('schema')!r}; this "
                f"version reads 'synhead', schema {SCHEMA}: make the data set again."
            )
        manifest = decode(path, Manifest)
        _validate(path, manifest)
        return cls(root, manifest)

    def groups(self, size: int, seed: int | None = None) -> Iterator[list[Shot]]:
        """Lists of up to ``size`` shots that share subject, style and expression.

        Each shot comes once. Without a seed the order is the manifest's; with one, poses and views
        are shuffled (the same seed gives the same order).
        """
        if size < 1:
            raise ValueError("a group has at least one shot")
        rng = None if seed is None else np.random.default_rng(seed)
        groups: list[list[Shot]] = []
        first = 0
        for pose in self.manifest.poses:
            shots = self.shots[first : first + len(pose.shots)]
            first += len(pose.shots)
            if rng is not None:
                shots = [shots[k] for k in rng.permutation(len(shots))]
            groups += [shots[k : k + size] for k in range(0, len(shots), size)]
        order = range(len(groups)) if rng is None else rng.permutation(len(groups))
        for k in order:
            yield groups[k]

    def _unfold(self) -> Iterator[Shot]:
        cameras = {v.index: Camera.from_flat25(v.camera) for v in self.manifest.views}
        for pose in self.manifest.poses:
            weights = np.array(pose.weights, dtype=np.float32)
            for position, shot in enumerate(pose.shots):
                yield Shot(
                    self.root, self.manifest.size, pose.subject, pose.style, pose.expression,
                    weights, shot.view, cameras[shot.view], shot.image, shot.bald, shot.mask,
                    pose.truth, position,
                )  # fmt: skip


def _validate(path: Path, manifest: Manifest) -> None:
    """What the types alone do not say; paths must stay inside the data set."""
    views = {view.index for view in manifest.views}
    subjects = {subject.name for subject in manifest.subjects}
    problem = ""
    if not 8 <= manifest.size <= 8192:
        problem = f"impossible size {manifest.size}"
    for view in manifest.views:
        if len(view.camera) != 25 or not np.isfinite(view.camera).all():
            problem = f"view {view.index} lacks its 25 finite numbers"
    for pose in manifest.poses:
        name = f"{pose.subject}/{pose.expression}"
        if len(pose.weights) != COUNT:
            problem = f"{name} has {len(pose.weights)} weights instead of {COUNT}"
        elif pose.subject not in subjects:
            problem = f"{name} is of an unknown subject"
        paths = [pose.mesh, pose.lms, pose.truth]
        for shot in pose.shots:
            paths += [shot.image, shot.bald, shot.mask]
            if shot.view not in views:
                problem = f"{name} has the unknown view {shot.view}"
        if any(place.startswith("/") or ".." in Path(place).parts for place in paths):
            problem = f"{name} has a path that leaves the data set"
    if problem:
        raise BadInput(f"{path} is damaged ({problem}): make the data set again.")
