"""Is a SYNHEAD data set whole? Every missing, stray or damaged file in a sentence of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from head360.datasets import png, synhead
from head360.datasets.integrity import AGAIN, Expected, Inspect, Progress, examine
from head360.datasets.records import DENSE, LANDMARKS, decode
from head360.datasets.synhead import Manifest, PoseRecord, Truth
from head360.datasets.synhead_write import table_bytes
from head360.errors import BadInput


def check(folder: Path | str, progress: Progress | None = None) -> list[str]:
    """Sentences about everything wrong with a data set; empty when it is whole.

    Args:
        folder: of the data set.
        progress: called with (files read, files in all, what).

    Raises:
        BadInput: there is no readable manifest, so nothing else can be said.
    """
    root = Path(folder)
    manifest = synhead.read_manifest(root)
    problems = list(_declared(root, manifest))
    expected = list(_files(manifest))
    paths = [item.path for item in expected]
    if len(set(paths)) != len(paths):
        problems.append(f"{root / synhead.MANIFEST} names a file twice: {AGAIN}.")
    tables = [
        _table(root, manifest, synhead.POSES, 1),
        _table(root, manifest, synhead.EXPRESSIONS, 2),
    ]
    return problems + examine(root, [*expected, *tables], (synhead.MANIFEST,), progress)


def _declared(root: Path, manifest: Manifest) -> Iterator[str]:
    """Whether every shot has exactly the kinds that the manifest declares, where they belong."""
    path = root / synhead.MANIFEST
    kinds = set(manifest.kinds)
    lights = {kind.split(":")[1] for kind in kinds if kind.startswith("light:")}
    for name in sorted(lights - {light.name for light in manifest.lights}):
        yield f"{path} has pictures in the light {name!r} but does not list it: {AGAIN}."
    if "image" not in kinds:
        yield f"{path} declares no pictures of the kind 'image': {AGAIN}."
    for pose in manifest.poses:
        if pose.files != synhead.pose_files(pose.subject, pose.expression, manifest.landmarks):
            yield f"{path} looks elsewhere for files of {pose.subject}/{pose.expression}: {AGAIN}."
        for shot in pose.shots:
            name = f"view {shot.view} of {pose.subject}/{pose.expression}"
            differing = kinds ^ set(shot.files)
            if differing or set(shot.sha256) != set(shot.files):
                what = ", ".join(sorted(differing)) or "hashes"
                yield f"{path} declares other files than {name} has ({what}): {AGAIN}."
            for kind, place in shot.files.items():
                if kind in kinds and place != synhead.shot_path(
                    pose.subject, pose.expression, shot.view, kind
                ):
                    yield f"{path} looks for the {kind} of {name} in {place}: {AGAIN}."


def _files(manifest: Manifest) -> Iterator[Expected]:
    size = (manifest.size, manifest.size)
    forms = {kind: partial(png.misfit, form=synhead.form_of(kind), size=size)
             for kind in manifest.kinds}  # fmt: skip
    for pose in manifest.poses:
        for shot in pose.shots:
            for kind, place in shot.files.items():
                yield Expected(place, shot.sha256.get(kind, ""), forms.get(kind), png.damage)
        for kind, place in pose.files.items():
            inspect: Inspect | None = None
            if kind == "lms":
                inspect = _lip_problem
            elif kind == "truth":
                inspect = partial(_truth_problem, manifest=manifest, pose=pose)
            yield Expected(place, pose.sha256.get(kind, ""), inspect, _empty)


def _empty(data: bytes) -> str:
    return "" if data else "is empty"


def _lip_problem(data: bytes) -> str:
    try:
        points = np.array([[float(x) for x in row.split()] for row in data.decode().splitlines()])
    except ValueError as error:
        return f"is not a table of numbers ({error})"
    if points.shape != (12, 3) or not np.isfinite(points).all():
        return "has not 12 rows of 3 numbers"
    return ""


def _truth_problem(data: bytes, manifest: Manifest, pose: PoseRecord) -> str:
    try:
        truth = msgspec.json.decode(data, type=Truth)
    except msgspec.MsgspecError as error:
        return f"is truncated or damaged ({error})"
    own = {kind: found for kind, found in pose.sha256.items() if kind != "truth"}
    if truth.pose != msgspec.structs.replace(pose, sha256=own):
        return "disagrees with the manifest"
    wanted = {
        "none": (0, 0), "68": (LANDMARKS, 0), "68+468": (LANDMARKS, DENSE)
    }[manifest.landmarks]  # fmt: skip
    for table, count in ((truth.landmarks, wanted[0]), (truth.dense, wanted[1])):
        rows = len(pose.shots) if count else 0
        if len(table) != rows or any(len(points) != count for points in table):
            return "lacks landmarks" if count else "has landmarks that the manifest denies"
    if truth.dense and (
        len(truth.visible) != len(pose.shots)
        or any(len(flags) != LANDMARKS + DENSE for flags in truth.visible)
    ):
        return "does not say which landmarks are visible"
    return ""


def _table(root: Path, manifest: Manifest, place: str, column: int) -> Expected:
    """A label file: its contents follow from the manifest, so no hash of it is stored."""
    wanted = hashlib.sha256()
    for piece in table_bytes(None, manifest, column):
        wanted.update(piece)
    return Expected(
        place, wanted.hexdigest(), explain=partial(_first_difference, root, manifest, place, column)
    )


def _first_difference(root: Path, manifest: Manifest, place: str, column: int, data: bytes) -> str:
    try:
        table = decode(root / place, dict[str, list[tuple[str, list[float]]]]).get("labels", [])
    except BadInput:
        return "is truncated or damaged" if data else "is empty"
    what = "camera" if column == 1 else "expression"
    rows = list(synhead.label_rows(manifest.poses, manifest.views))
    for number, (found, wanted) in enumerate(zip(table, rows, strict=False), 1):
        if found[0] != wanted[0]:
            return f"was edited: row {number} is of {found[0]} instead of {wanted[0]}"
        if list(found[1]) != list(wanted[column]):
            return f"was edited: row {number} ({found[0]}) has another {what} than the manifest"
    if len(table) != len(rows):
        return f"was edited: it has {len(table)} rows instead of {len(rows)}"
    return "was rewritten"
