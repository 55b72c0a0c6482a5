"""Is a SYNHEAD data set whole? Every missing, stray or damaged file in a sentence of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from head360.arkit import COUNT, INDEX
from head360.datasets import synhead
from head360.datasets.synhead import Manifest, PoseRecord, SynheadDataset, Truth, decode
from head360.errors import BadInput

# Folders that belong to the layout: what else lies in them disturbs the release's loader.
FOLDERS = ("images", "neutral", "bald", "masks", "mesh_lms", "truth")


def check(folder: Path | str) -> list[str]:
    """Sentences about everything wrong with a data set; empty when it is whole.

    Raises:
        BadInput: there is no readable manifest, so nothing else can be said.
    """
    data = SynheadDataset.open(folder)
    root, manifest = data.root, data.manifest
    problems: list[str] = []
    for pose in manifest.poses:
        problems += _check_pose(root, manifest, pose)
    problems += _check_labels(root, manifest)
    problems += [
        f"{root / path} does not belong to the data set: move it away."
        for path in stray_files(root, planned_files(manifest))
    ]
    return problems


def planned_files(manifest: Manifest) -> set[str]:
    """Paths of all files below :data:`FOLDERS` that the manifest speaks of."""
    planned = {synhead.POSES, synhead.EXPRESSIONS}
    for pose in manifest.poses:
        planned |= {pose.mesh, pose.lms, pose.truth}
        for shot in pose.shots:
            planned |= {shot.image, shot.bald, shot.mask}
    return planned


def stray_files(root: Path, planned: set[str]) -> list[str]:
    """Sorted paths below :data:`FOLDERS` that are not planned."""
    found: list[str] = []
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.is_dir() and not path.is_symlink():
                continue
            place = path.relative_to(root).as_posix()
            if place not in planned:
                found.append(place)
    return sorted(found)


def _check_pose(root: Path, manifest: Manifest, pose: PoseRecord) -> list[str]:
    problems: list[str] = []
    for shot in pose.shots:
        places = (shot.image, shot.bald, shot.mask)
        for place, digest, channels in zip(places, shot.sha256, (4, 4, 3), strict=True):
            path = root / place
            try:
                data = path.read_bytes()
                synhead.decode_png(data, path, manifest.size, channels)
            except OSError as error:
                problems.append(f"{path} cannot be read ({error.strerror}).")
                continue
            except BadInput as error:
                problems.append(str(error))
                continue
            if hashlib.sha256(data).hexdigest() != digest:
                problems.append(f"{path} is not the picture the manifest describes.")
    try:
        truth = decode(root / pose.truth, Truth)
        if truth.pose != pose:
            problems.append(f"{root / pose.truth} disagrees with the manifest.")
        shapes = {len(points) for points in truth.landmarks}
        if len(truth.landmarks) != len(pose.shots) or shapes - {synhead.LANDMARKS}:
            problems.append(f"{root / pose.truth} lacks landmarks.")
    except BadInput as error:
        problems.append(str(error))
    mesh = root / pose.mesh
    if not mesh.is_file() or mesh.stat().st_size == 0:
        problems.append(f"{mesh} is missing or empty.")
    lms = root / pose.lms
    try:
        points = np.loadtxt(lms, dtype=np.float64, ndmin=2)
        if points.shape != (12, 3) or not np.isfinite(points).all():
            problems.append(f"{lms} has not 12 rows of 3 numbers.")
    except (OSError, ValueError) as error:
        problems.append(f"{lms} cannot be read ({error}).")
    return problems


def _check_labels(root: Path, manifest: Manifest) -> list[str]:
    cameras, weights = label_tables(manifest)
    problems: list[str] = []
    for place, expected in ((synhead.POSES, cameras), (synhead.EXPRESSIONS, weights)):
        try:
            table = decode(root / place, dict[str, list[tuple[str, list[float]]]])
        except BadInput as error:
            problems.append(str(error))
            continue
        if [(path, list(row)) for path, row in table.get("labels", [])] != expected:
            problems.append(f"{root / place} disagrees with the manifest.")
    return problems


def label_tables(
    manifest: Manifest,
) -> tuple[list[tuple[str, list[float]]], list[tuple[str, list[float]]]]:
    """The rows of both label files: (path from ``images/``, 25 camera floats or 52 weights).

    The weights are in the release's order (sorted names); the neutral is not in its grid.
    """
    cameras = {view.index: view.camera for view in manifest.views}
    order = [INDEX[name] for name in synhead.RELEASE_ORDER]
    by_camera: list[tuple[str, list[float]]] = []
    by_weights: list[tuple[str, list[float]]] = []
    for pose in manifest.poses:
        if pose.expression == synhead.NEUTRAL or len(pose.weights) != COUNT:
            continue
        sorted_weights = [pose.weights[k] for k in order]
        for shot in pose.shots:
            path = shot.image.removeprefix("images/")
            by_camera.append((path, cameras[shot.view]))
            by_weights.append((path, sorted_weights))
    return sorted(by_camera), sorted(by_weights)
