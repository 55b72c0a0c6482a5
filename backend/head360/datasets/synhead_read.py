"""Reading a SYNHEAD data set: shots with their pictures, points and cameras."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.datasets import synhead
from head360.datasets.records import DENSE, LANDMARKS, decode
from head360.datasets.synhead import Manifest, Truth
from head360.errors import BadInput
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """One view of one pose, with its truth.

    Attributes:
        root: of the data set; the paths are relative to it.
        size: pixels per side.
        subject, person, style, expression: names; the expression is ``neutral``, an ARKit name or
            one that an artist gave.
        weights: (52,) float32 in the order of ``arkit.NAMES``.
        view: index in the rig of 72; from 72 on a held-out camera.
        held_out: whether the view is meant for judging, not for learning.
        camera: of the picture, head space, metres.
        files: path by kind, see ``datasets.synhead``.
        truth: path of the pose's truth file.
        position: of the shot in its truth file.
        depth_scale: units of the depth picture per metre.
    """

    root: Path
    size: int
    subject: str
    person: str
    style: str
    expression: str
    weights: Floats
    view: int
    held_out: bool
    camera: Camera
    files: dict[str, str]
    truth: str
    position: int
    depth_scale: int

    def load(self, kind: str) -> NDArray:
        """The pixels of one kind as stored: (size, size[, 3 or 4]) uint8, depth uint16.

        Raises:
            BadInput: this data set has no such pictures, or the file is missing or damaged.
        """
        from head360.datasets import png_decode  # Pillow: Blender reads manifests without it

        if kind not in self.files:
            raise BadInput(
                f"{self.root} has no {kind!r} pictures, only {', '.join(self.files)}: "
                "make the data set with them."
            )
        path = self.root / self.files[kind]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(
                f"Cannot read {path} ({error.strerror}): make the data set again; what is whole "
                "is kept."
            ) from error
        return png_decode.decode(data, path, synhead.form_of(kind), (self.size, self.size))

    def load_rgba(self) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, with hair, in the default light."""
        return self.load("image")

    def load_bald(self) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, the same without hair."""
        return self.load("bald")

    def load_mask(self) -> Pixels:
        """(size, size, 3) uint8: coverage by visible head, by visible hair, zero."""
        return self.load("mask")

    def load_albedo(self) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, unlit."""
        return self.load("albedo")

    def load_light(self, name: str, bald: bool = False) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha, in the light ``name``."""
        return self.load(f"light:{name}:bald" if bald else f"light:{name}")

    def load_depth(self) -> Floats:
        """(size, size) float32 metres, planar z at the pixel's centre, +inf where nothing is."""
        stored = self.load("depth")
        metres = stored.astype(np.float32) / np.float32(self.depth_scale)
        metres[stored == 0] = np.inf
        return metres

    def load_normals(self) -> Floats:
        """(size, size, 3) float32 unit vectors of head space, zero where nothing is."""
        stored = self.load("normals")
        normals = stored.astype(np.float32) / 127.5 - 1
        normals /= np.linalg.norm(normals, axis=2, keepdims=True).clip(1e-6)
        normals[(stored == 0).all(2)] = 0
        return normals

    def load_labels(self) -> Pixels:
        """(size, size) uint8 classes, see ``datasets.labels``."""
        return self.load("labels")

    def load_landmarks(self) -> Floats:
        """(68, 2) float32 pixels, Multi-PIE order, visible or not.

        Raises:
            BadInput: the data set has none, or its truth file is missing or damaged.
        """
        return self._points(_truth(self.root / self.truth).landmarks, LANDMARKS, "68 landmarks")

    def load_dense(self) -> Floats:
        """(468, 2) float32 pixels in the order of MediaPipe's face mesh; raises as above."""
        return self._points(_truth(self.root / self.truth).dense, DENSE, "dense landmarks")

    def load_visible(self) -> NDArray[np.bool_]:
        """(68 + 468,) which landmarks head, hair and frame do not hide; raises as above."""
        flags = _truth(self.root / self.truth).visible
        text = flags[self.position] if self.position < len(flags) else ""
        if len(text) != LANDMARKS + DENSE:
            raise BadInput(f"{self.root} does not say which landmarks are visible.")
        return np.array([letter == "1" for letter in text])

    def _points(self, table: list, count: int, what: str) -> Floats:
        points = table[self.position] if self.position < len(table) else []
        if len(points) != count:
            raise BadInput(f"{self.root} has no {what}: make the data set with them.")
        return np.array(points, dtype=np.float32)


def _truth(path: Path) -> Truth:
    # A data set that is written again while somebody reads it must not be read as it was.
    return _decoded(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=8)
def _decoded(path: Path, _written: int) -> Truth:
    return decode(path, Truth)


class SynheadDataset:
    """A data set that is read.

    Attributes:
        root: its folder.
        manifest: as on disk.
        subjects, styles: names in the manifest's order.
        shots: every view of every pose that is not held out, pose by pose.
        held_out: the views outside the rig, for judging.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self.subjects = [subject.name for subject in manifest.subjects]
        self.styles = [style.name for style in manifest.styles]
        everything = list(self._unfold())
        self.shots: list[Shot] = [shot for shot in everything if not shot.held_out]
        self.held_out: list[Shot] = [shot for shot in everything if shot.held_out]

    @classmethod
    def open(cls, folder: Path | str) -> SynheadDataset:
        """Read the manifest of a data set; pictures are read when asked for.

        Raises:
            BadInput: no manifest, damaged, or of another schema.
        """
        root = Path(folder)
        return cls(root, synhead.read_manifest(root))

    def groups(self, size: int, seed: int | None = None) -> Iterator[list[Shot]]:
        """Lists of up to ``size`` shots that share subject, style and expression.

        Each shot comes once, held-out ones never. Without a seed the order is the manifest's; with
        one, poses and views are shuffled (the same seed gives the same order).
        """
        if size < 1:
            raise ValueError("a group has at least one shot")
        rng = None if seed is None else np.random.default_rng(seed)
        by_pose: dict[tuple[str, str], list[Shot]] = {}
        for shot in self.shots:
            by_pose.setdefault((shot.subject, shot.expression), []).append(shot)
        groups: list[list[Shot]] = []
        for shots in by_pose.values():
            if rng is not None:
                shots = [shots[k] for k in rng.permutation(len(shots))]
            groups += [shots[k : k + size] for k in range(0, len(shots), size)]
        order = range(len(groups)) if rng is None else rng.permutation(len(groups))
        for k in order:
            yield groups[k]

    def _unfold(self) -> Iterator[Shot]:
        views = {v.index: (Camera.from_flat25(v.camera), v.held_out) for v in self.manifest.views}
        people = {subject.name: subject.person for subject in self.manifest.subjects}
        for pose in self.manifest.poses:
            weights = np.array(pose.weights, dtype=np.float32)
            for position, shot in enumerate(pose.shots):
                camera, held_out = views[shot.view]
                yield Shot(
                    self.root, self.manifest.size, pose.subject, people[pose.subject], pose.style,
                    pose.expression, weights, shot.view, held_out, camera, shot.files,
                    pose.files["truth"], position, self.manifest.depth_scale,
                )  # fmt: skip
