"""ICT-FaceKit's own OBJ files → the ``ict_facekit.npz`` that :mod:`head360.geometry.ict` reads.

Upstream is github.com/ICT-VGL/ICT-FaceKit (MIT), folder ``FaceXModel``: one OBJ a shape, all with
the vertices in the same order, and ``vertex_indices.json``. Positions, uvs, faces, materials and
landmarks come from there. What these files do not say is in ``data/ict_indices.npz``, see
:func:`make_indices`.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.files import atomic_path, writable_folder, write_bytes
from head360.geometry.ict import LICENCE
from head360.geometry.meshfile import read_obj

log = logging.getLogger(__name__)

NEUTRAL = "generic_neutral_mesh"
IDENTITIES = tuple(f"identity{i:03d}" for i in range(100))
LANDMARKS = "vertex_indices.json"
# Copied from the assets into the index file, in this order.
COPIED = (
    "part_names",
    "part_vertex_range",
    "part_face_range",
    "detail_names",
    "detail_vertex_range",
    "expression_names",
    "arkit_names",
    "derived_eye_center",
    "derived_gaze_axis",
    "derived_cornea_faces",
    "derived_tongue_verts",
    "proposed_tongueOut_delta",
)
_INDEX_FILE = resources.files("head360") / "data" / "ict_indices.npz"

Arrays = dict[str, NDArray]


def make_indices(assets: Path, target: Path) -> Path:
    """Write the index file from ``assets/ict_facekit/ict_facekit.npz``; deterministic.

    It holds ranges, ids and names, what this project derived itself (eye centres and gaze axes, two
    points and two directions; the tongueOut shape of the tongue) and a checksum of the faces. No
    vertex, uv, identity or expression of ICT-FaceKit is in it. To be run again only if the assets
    change, in the folder of the repository::

        make_indices(Path("../shared/assets"), Path("backend/head360/data/ict_indices.npz"))
    """
    with np.load(Path(assets) / "ict_facekit" / "ict_facekit.npz", allow_pickle=False) as raw:
        arrays = {key: raw[key] for key in COPIED}
        arrays["arkit_to_ict"] = raw["arkit_to_ict"].astype(np.uint8)
        arrays["vertex_count"] = np.int64(len(raw["vertices"]))
        arrays["face_checksum"] = np.int64(_checksum(raw["faces"], raw["face_uvs"]))
    return _write(target, arrays)


def read_indices() -> Arrays:
    """The arrays of ``data/ict_indices.npz``.

    Raises:
        BadInput: the file is missing from the installation or damaged.
    """
    try:
        with (
            resources.as_file(_INDEX_FILE) as path,
            np.load(path, allow_pickle=False) as archive,
        ):
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise BadInput(f"{_INDEX_FILE} is unusable ({error}): reinstall head360.") from error


def import_ict(
    source: Path,
    out: Path,
    identities: Sequence[str] = IDENTITIES,
    expressions: Sequence[str] | None = None,
    progress: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Write ``out/ict_facekit/ict_facekit.npz`` and ICT's notice beside it; returns the figures.

    Args:
        source: folder of the OBJ files, or the clone that has them in ``FaceXModel``.
        identities, expressions: names of the files to read; by default all 100 and all 53.

    Raises:
        BadInput: a file is missing, damaged or of another mesh, or ``out`` is not writable.
    """
    began = time.perf_counter()
    indices = read_indices()
    every = [str(name) for name in indices["expression_names"]]
    chosen = every if expressions is None else list(expressions)
    folder = _folder(Path(source), [*identities, *chosen])
    target = writable_folder(Path(out) / "ict_facekit")

    neutral, lines = _neutral(folder / f"{NEUTRAL}.obj", indices)
    landmarks = _landmarks(folder / LANDMARKS, int(indices["vertex_count"]))
    done, total = 0, len(identities) + len(chosen)

    def deltas(names: Sequence[str]) -> NDArray[np.float32]:
        nonlocal done
        result = np.empty((len(names), *neutral["vertices"].shape), dtype=np.float32)
        for row, name in enumerate(names):
            result[row] = _shape(folder / f"{name}.obj", lines["f"], neutral["vertices"])
            done += 1
            if done % 25 == 0 or done == total:
                progress(f"read {done} of {total} shapes")
        return result

    arrays: Arrays = {key: indices[key] for key in COPIED}
    arrays |= neutral
    arrays["vertices"] = neutral["vertices"].astype(np.float32)
    arrays["identity_names"] = np.array(identities)
    arrays["identity_deltas"] = deltas(identities)
    arrays["expression_names"] = np.array(chosen)
    arrays["expression_deltas"] = deltas(chosen)
    columns = [every.index(name) for name in chosen]
    arrays["arkit_to_ict"] = indices["arkit_to_ict"][:, columns].astype(np.float32)
    arrays["landmarks68"] = landmarks
    vertices, faces = len(neutral["vertices"]), len(neutral["faces"])
    arrays["vertex_part"] = _spread(indices["part_vertex_range"], vertices)
    arrays["face_part"] = _spread(indices["part_face_range"], faces)

    progress("compressing")
    path = _write(target / "ict_facekit.npz", arrays)
    write_bytes(target / "LICENSE", b"\n".join([*(lines["#"] or [LICENCE.encode()]), b""]))
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "identities": len(identities),
        "expressions": len(chosen),
        "vertices": vertices,
        "faces": faces,
        "seconds": time.perf_counter() - began,
    }


def _folder(source: Path, shapes: Sequence[str]) -> Path:
    """Where the files are; all of them, so that nobody waits a minute for the last one to lack."""
    folder = source
    if not (source / f"{NEUTRAL}.obj").is_file() and (source / "FaceXModel").is_dir():
        folder = source / "FaceXModel"
    wanted = [f"{name}.obj" for name in (NEUTRAL, *shapes)] + [LANDMARKS]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        others = f" and {len(missing) - 1} other files" if len(missing) > 1 else ""
        raise BadInput(
            f"{folder} lacks {missing[0]}{others}: give the folder FaceXModel of "
            "github.com/ICT-VGL/ICT-FaceKit."
        )
    return folder


def _read(path: Path) -> dict[str, list[bytes]]:
    """The lines of an OBJ file by their first word; ``usemtl`` lines are among those of ``f``.

    Comments are those at the head of the file.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"Cannot read {path} ({error.strerror}).") from error
    head = next((i for i, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
    return {
        "#": lines[:head],
        "v": [line for line in lines if line.startswith(b"v ")],
        "f": [line for line in lines if line.startswith((b"f ", b"usemtl "))],
    }


def _positions(path: Path, lines: list[bytes], count: int) -> NDArray[np.float64]:
    """The ``v`` lines of ``path`` as (count, 3) float64."""
    if len(lines) != count:
        raise BadInput(
            f"{path} has {len(lines)} vertices instead of ICT-FaceKit's {count}: it is incomplete "
            "or of another mesh."
        )
    try:
        words = np.array(b" ".join(lines).split()).reshape(count, 4)
        positions = words[:, 1:].astype(np.float64)
    except ValueError as error:
        raise BadInput(f"{path} is not a usable OBJ file: {error}.") from error
    if not np.isfinite(positions).all():
        raise BadInput(f"{path} is not a usable OBJ file: a vertex is not a number.")
    return positions


def _shape(path: Path, faces: list[bytes], neutral: NDArray[np.float64]) -> NDArray[np.float32]:
    """What an OBJ file of the same faces adds to the neutral head."""
    lines = _read(path)
    positions = _positions(path, lines["v"], len(neutral))
    if lines["f"] != faces:
        raise BadInput(
            f"The faces of {path} are not those of {NEUTRAL}.obj: it is incomplete or of another "
            "mesh."
        )
    return (positions - neutral).astype(np.float32)


def _neutral(path: Path, indices: Arrays) -> tuple[Arrays, dict[str, list[bytes]]]:
    """Arrays of the neutral mesh, ``vertices`` still float64, and its lines."""
    lines = _read(path)
    vertices = _positions(path, lines["v"], int(indices["vertex_count"]))
    mesh = read_obj(path)
    faces, face_uvs = _padded(mesh.polygons), _padded(mesh.polygon_uvs)
    if _checksum(faces, face_uvs) != int(indices["face_checksum"]):
        raise BadInput(
            f"The faces of {path} are not those of ICT-FaceKit: it is incomplete, of another "
            "version or was saved by another program."
        )
    material_names, face_material = _materials(path, lines["f"])
    arrays: Arrays = {
        "vertices": vertices,
        "uvs": mesh.uvs.astype(np.float32),
        "faces": faces,
        "face_uvs": face_uvs,
        "material_names": material_names,
        "face_material": face_material,
    }
    return arrays, lines


def _padded(polygons: list[tuple[int, ...]]) -> NDArray[np.int32]:
    """Triangles and quads → (F, 4), the fourth of a triangle -1; larger ones lose corners."""
    return np.array([(*polygon, -1)[:4] for polygon in polygons], dtype=np.int32).reshape(-1, 4)


def _materials(path: Path, lines: list[bytes]) -> tuple[NDArray, NDArray[np.uint8]]:
    """Names in the order of their first ``usemtl``, and the material of each face."""
    numbers: dict[str, int] = {}
    current, result = -1, []
    for line in lines:
        if line.startswith(b"usemtl "):
            name = line[len(b"usemtl ") :].strip().decode("utf-8", "replace")
            current = numbers.setdefault(name, len(numbers))
        else:
            result.append(current)
    if not result or not 0 <= min(result) <= max(result) < 255:
        raise BadInput(f"{path} names no usemtl material for some of its faces.")
    return np.array(list(numbers)), np.array(result, dtype=np.uint8)


def _landmarks(path: Path, vertices: int) -> NDArray[np.int32]:
    """The 68 Multi-PIE vertex ids of ICT's ``vertex_indices.json``."""
    try:
        found = json.loads(path.read_bytes())["idx_to_landmark_verts"]
        ids = np.array(found, dtype=np.int32)
    except OSError as error:
        raise BadInput(f"Cannot read {path} ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadInput(f"{path} is not ICT-FaceKit's list of vertices ({error}).") from error
    if ids.shape != (68,) or not ((ids >= 0) & (ids < vertices)).all():
        raise BadInput(f"{path} does not list 68 landmarks of the mesh.")
    return ids


def _checksum(faces: NDArray, face_uvs: NDArray) -> int:
    """CRC-32 of both as int32: the ids of the index file hold for these faces only."""
    both = np.stack([faces, face_uvs]).astype("<i4")
    return zlib.crc32(both.tobytes())


def _spread(ranges: NDArray, count: int) -> NDArray[np.uint8]:
    """Half-open ranges → the number of the range for each of ``count``."""
    result = np.full(count, 255, dtype=np.uint8)
    for number, (first, last) in enumerate(ranges):
        result[first:last] = number
    return result


def _write(target: Path, arrays: Arrays) -> Path:
    with atomic_path(target) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    return Path(target)
