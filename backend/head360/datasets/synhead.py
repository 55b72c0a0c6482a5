"""The SYNHEAD layout: what lies where, and the manifest. The reader is ``synhead_read``.

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
    held_out/images/<subject>/<expression>/NNNN.png    views 72 and up: cameras outside the rig
    bald/<subject>/<expression>/NNNN.png               RGBA, the same picture without hair
    masks/<subject>/<expression>/NNNN.png              RGB: R visible head, G visible hair, B zero
    passes/albedo/<subject>/<expression>/NNNN.png      RGBA, unlit
    passes/depth/…/NNNN.png                            16-bit grey: metres × 20000, 0 is nothing
    passes/normals/…/NNNN.png                          RGB: (n + 1) / 2 in head space, black outside
    passes/labels/…/NNNN.png                           palette: classes of ``datasets.labels``
    lights/<light>/images/…, lights/<light>/bald/…     the picture and its twin in another light
    truth/<subject>/<expression>.json                  landmarks and hashes of one pose
    manifest.json                                      everything, in words a program can trust

``NNNN`` is the view: 24·pitch + yaw in the rig of 72, 0030 is frontal; from 72 on the held-out
cameras of the manifest. The folder is called ``split_512`` for the loader's sake whatever the size
of the pictures. All PNG are sRGB with straight alpha; mask values are coverage × 255 and R + G is
the alpha of the picture. Which kinds of files a data set has, its manifest declares. The release's
loader needs the full grid of 52 expressions and 72 views; this project's reader takes any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from head360.arkit import COUNT, INDEX, NAMES
from head360.datasets import png
from head360.datasets.records import (
    DENSE,
    LANDMARKS,
    MANIFEST,
    Head,
    Notice,
    StyleRecord,
    SubjectRecord,
    decode,
    inside,
    safe_name,
)
from head360.errors import BadInput

__all__ = [
    "DENSE", "EXPRESSIONS", "KIND", "LANDMARKS", "MANIFEST", "NEUTRAL", "POSES", "SCHEMA",
    "LightRecord", "Manifest", "Notice", "PoseRecord", "ShotRecord", "StyleRecord",
    "SubjectRecord", "Taken", "Truth", "ViewRecord",
]  # fmt: skip

SCHEMA = 2
KIND = "synhead"
POSES, EXPRESSIONS = "images/dataset_pose.json", "images/total_dataset_exp.json"
NEUTRAL = "neutral"
RELEASE_ORDER: tuple[str, ...] = tuple(sorted(NAMES))
RIG = 72  # views from here on are held out
OUTER_LIP = slice(48, 60)  # of the 68 Multi-PIE landmarks
DEPTH_SCALE = 20000  # units of the depth picture per metre
BASE: tuple[str, ...] = ("image", "bald", "mask")
PASSES: tuple[str, ...] = ("albedo", "depth", "normals", "labels")
Landmarks = Literal["none", "68", "68+468"]

_FORMS = {
    "mask": png.RGB8, "depth": png.GREY16, "normals": png.RGB8, "labels": png.PALETTE8,
}  # fmt: skip


class LightRecord(msgspec.Struct):
    """A light set-up; ``default`` is that of "image" and "bald"."""

    name: str
    default: bool = False


class ViewRecord(msgspec.Struct):
    """One camera: index and 25 floats (16 ``cam2world``, 9 ``intrinsics``)."""

    index: int
    camera: list[float]
    held_out: bool = False


class ShotRecord(msgspec.Struct):
    """The files of one view by kind: paths from the data set's root, SHA-256 of their bytes."""

    view: int
    files: dict[str, str]
    sha256: dict[str, str]


class PoseRecord(msgspec.Struct):
    """One sitter with one expression.

    Attributes:
        subject, style, expression: names.
        weights: 52, in the order of ``arkit.NAMES``.
        key: a digest of everything the pictures depend on; a writer that comes to the same key
            keeps them.
        files: "mesh" (OBJ), "lms" (lip landmarks; absent without landmarks) and "truth".
        sha256: of the same; that of "truth" only in the manifest, not in the truth file itself.
        shots: every view.
    """

    subject: str
    style: str
    expression: str
    weights: list[float]
    key: str
    files: dict[str, str]
    sha256: dict[str, str] = {}
    shots: list[ShotRecord] = []


class Taken(msgspec.Struct):
    """A shot that is on disk, with what is not a picture.

    Attributes:
        record: its files.
        landmarks: (68, 2) pixels; empty where the data set has none.
        dense: (468, 2) pixels; may be empty.
        visible: a "1" or "0" for each of both; may be empty.
    """

    record: ShotRecord
    landmarks: list[tuple[float, float]] = []
    dense: list[tuple[float, float]] = []
    visible: str = ""


class Truth(msgspec.Struct):
    """Content of ``truth/…json``: the pose, and the points of each of its shots in order."""

    pose: PoseRecord
    landmarks: list[list[tuple[float, float]]] = []
    dense: list[list[tuple[float, float]]] = []
    visible: list[str] = []


class Manifest(msgspec.Struct):
    """Content of ``manifest.json``. ``poses`` is the last field: it is written as a stream.

    Attributes:
        schema, kind: :data:`SCHEMA` and :data:`KIND`.
        generator, seed: what made the data set; no seed where nothing was drawn by chance.
        consent: whose likeness it is and who agreed to its use.
        size: pixels per side.
        conventions: in words.
        landmarks: which points every truth file has.
        kinds: of the files that every shot has, exactly.
        lights: set-ups, the default first.
        labels: names of the label values; empty without label pictures.
        depth_scale: units per metre of the depth pictures.
        notices: licences.
        subjects, styles, expressions, views, poses: what there is.
    """

    schema: int
    kind: str
    generator: str
    seed: int | None
    consent: str
    size: int
    conventions: str
    landmarks: Landmarks
    kinds: list[str]
    lights: list[LightRecord]
    labels: list[str]
    depth_scale: int
    notices: list[Notice]
    subjects: list[SubjectRecord]
    styles: list[StyleRecord]
    expressions: list[str]
    views: list[ViewRecord]
    poses: list[PoseRecord]


# --- what lies where ------------------------------------------------------------------------------


def light_kinds(light: str, bald: bool = True) -> tuple[str, ...]:
    """Kinds of files that one more light brings."""
    return (f"light:{light}", f"light:{light}:bald") if bald else (f"light:{light}",)


def form_of(kind: str) -> png.Form:
    """What a PNG of this kind is."""
    return _FORMS.get(kind, png.RGBA8)


def shot_path(subject: str, expression: str, view: int, kind: str) -> str:
    """Path of one file of a shot from the data set's root.

    Raises:
        BadInput: no such kind.
    """
    place = f"{subject}/{expression}/{view:04d}.png"
    if kind == "image":
        if view >= RIG:
            return f"held_out/images/{place}"
        if expression == NEUTRAL:
            return f"neutral/images/{subject}/{view:04d}.png"
        return f"images/split_512/{place}"
    if kind == "bald":
        return f"bald/{place}"
    if kind == "mask":
        return f"masks/{place}"
    if kind in PASSES:
        return f"passes/{kind}/{place}"
    match kind.split(":"):
        case ["light", name] if safe_name(name):
            return f"lights/{name}/images/{place}"
        case ["light", name, "bald"] if safe_name(name):
            return f"lights/{name}/bald/{place}"
    raise BadInput(f"There is no kind of picture called {kind!r}: use {', '.join(BASE + PASSES)}.")


def pose_files(subject: str, expression: str, landmarks: Landmarks = "68+468") -> dict[str, str]:
    """Paths of mesh, lip landmarks (if there are landmarks) and truth from the root."""
    root = NEUTRAL if expression == NEUTRAL else "mesh_lms"
    stem = f"{subject}_{expression}"
    files = {"mesh": f"{root}/meshes/{stem}.obj"}
    if landmarks != "none":
        files["lms"] = f"{root}/lms/{stem}.txt"
    return files | {"truth": f"truth/{subject}/{expression}.json"}


def label_rows(
    poses: Iterable[PoseRecord], views: Sequence[ViewRecord]
) -> Iterator[tuple[str, list[float], list[float]]]:
    """The rows of both label files, sorted: path from ``images/``, 25 camera floats, 52 weights.

    The weights are in the release's order (sorted names). Neither the neutral nor held-out views
    are in its grid.
    """
    cameras = {view.index: view.camera for view in views}
    order = [INDEX[name] for name in RELEASE_ORDER]
    grid = [pose for pose in poses if pose.expression != NEUTRAL and len(pose.weights) == COUNT]
    for pose in sorted(grid, key=lambda pose: f"{pose.subject}/{pose.expression}/"):
        weights = [pose.weights[k] for k in order]
        for shot in sorted(pose.shots, key=lambda shot: shot.view):
            if shot.view < RIG:
                path = shot.files["image"].removeprefix("images/")
                yield path, cameras[shot.view], weights


# --- opening --------------------------------------------------------------------------------------


def read_manifest(root: Path) -> Manifest:
    """The manifest of a data set, believable in itself.

    Raises:
        BadInput: missing, damaged, of another kind or schema, or it contradicts itself.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise BadInput(
            f"{root} holds no {MANIFEST}: choose the folder that head360 synth wrote, or run "
            "it again if it was interrupted."
        )
    head = decode(path, Head)
    if head.kind != KIND or head.schema != SCHEMA:
        raise BadInput(
            f"{path} describes {head.kind!r}, schema {head.schema!r}; this version reads "
            f"{KIND!r}, schema {SCHEMA}: make the data set again."
        )
    manifest = decode(path, Manifest)
    problem = next(contradictions(manifest), "")
    if problem:
        raise BadInput(f"{path} is damaged ({problem}): make the data set again.")
    return manifest


def contradictions(manifest: Manifest) -> Iterator[str]:
    """What the types alone do not say against a manifest; begins in lower case."""
    if not 8 <= manifest.size <= 8192:
        yield f"impossible size {manifest.size}"
    for view in manifest.views:
        if len(view.camera) != 25 or not np.isfinite(view.camera).all():
            yield f"view {view.index} lacks its 25 finite numbers"
        if not 0 <= view.index <= 9999:
            yield f"view {view.index} has an impossible number"
        if view.held_out != (view.index >= RIG):
            yield f"view {view.index} is held out, or is not, against the number it has"
    numbers = [view.index for view in manifest.views]
    if len(set(numbers)) != len(numbers):
        yield "a view is there twice"
    names = [subject.name for subject in manifest.subjects]
    for name in [*names, *manifest.expressions]:
        if not safe_name(name):
            yield f"the name {name!r} cannot be a folder"
    yield from order_problems(names)
    yield from _pose_contradictions(manifest, set(names))


def _pose_contradictions(manifest: Manifest, subjects: set[str]) -> Iterator[str]:
    views = {view.index for view in manifest.views}
    expressions = set(manifest.expressions)
    styles = {style.name for style in manifest.styles}
    seen: set[tuple[str, str]] = set()
    for pose in manifest.poses:
        name = f"{pose.subject}/{pose.expression}"
        if (pose.subject, pose.expression) in seen:
            yield f"{name} is there twice"
        seen.add((pose.subject, pose.expression))
        if len(pose.weights) != COUNT:
            yield f"{name} has {len(pose.weights)} weights instead of {COUNT}"
        elif not np.isfinite(pose.weights).all():
            yield f"{name} has weights that are no numbers"
        if pose.subject not in subjects:
            yield f"{name} is of an unknown subject"
        if pose.expression not in expressions:
            yield f"{name} is an unknown expression"
        if pose.style not in styles:
            yield f"{name} wears the unknown style {pose.style!r}"
        if "truth" not in pose.files:
            yield f"{name} names no truth file"
        shown = [shot.view for shot in pose.shots]
        for view in set(shown) - views:
            yield f"{name} has the unknown view {view}"
        if len(set(shown)) != len(shown):
            yield f"{name} has a view twice"
        for files in (pose.files, *(shot.files for shot in pose.shots)):
            if not all(inside(place) for place in files.values()):
                yield f"{name} has a path that leaves the data set"


def order_problems(subjects: Sequence[str]) -> Iterator[str]:
    """Pairs of names that the release's loader would sort one way as folders, another as meshes."""
    folders = sorted(f"{name}/" for name in subjects)
    meshes = sorted(f"{name}_" for name in subjects)
    for folder, mesh in zip(folders, meshes, strict=True):
        if folder[:-1] != mesh[:-1]:
            yield f"the names {folder[:-1]} and {mesh[:-1]} sort differently with / and with _"
            return
