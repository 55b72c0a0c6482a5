"""The 468 points of MediaPipe's face mesh on the bilinear mesh, and which points a camera sees."""

from __future__ import annotations

import functools
import importlib.resources
import io
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.files import write_bytes
from head360.geometry.ict import LICENCE, IctModel, load_ict
from head360.geometry.reduce import bind, guide_shapes
from head360.geometry.topology import Topology

Floats = NDArray[np.float32]

COUNT = 468
_FILE = "dense_landmarks.npz"
_TOLERANCE = 0.004  # metres that a point may lie behind the picture's depth
_SHARE = 0.34  # of the samples around a point that must not hide it


@functools.cache
def _binding() -> tuple[NDArray[np.int32], Floats]:
    """(468, 3) vertices of the bilinear mesh and their weights."""
    stored = importlib.resources.files("head360") / "data" / _FILE
    with np.load(io.BytesIO(stored.read_bytes()), allow_pickle=False) as archive:
        return archive["vertices"], archive["weights"]


def dense_points(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """(468, 3) float64 points of MediaPipe's face mesh, in its order.

    Args:
        vertices: (N, 3) of the built-in bilinear mesh in any pose and frame.
    """
    corners, weights = _binding()
    return np.einsum("pc,pcd->pd", weights.astype(np.float64), vertices[corners])


def ict_points(assets: Path, shapes: NDArray[np.floating]) -> NDArray[np.float64]:
    """(S, 468, 3) the same points on (S, 26719, 3) full ICT-FaceKit meshes.

    Raises:
        BadInput: the correspondence is missing or damaged.
    """
    path = assets / "ict_facekit" / "mediapipe468_to_ict.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            corners, weights = archive["tri"], archive["bary"].astype(np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(f"Cannot read {path}: {error}. Restore the asset folder.") from error
    return np.einsum("pc,spcd->spd", weights, shapes[:, corners])


def make_dense_landmarks(assets: Path, topology: Topology, target: Path) -> Path:
    """Write the package's ``dense_landmarks.npz`` anew: the points carried onto ``topology``.

    The nearest place is searched in several expressions at once, so that a point of one lip is
    never bound to the other, which it touches at rest.

    Raises:
        BadInput: an asset is missing or damaged.
    """
    ict: IctModel = load_ict(assets)
    shapes = guide_shapes(ict)
    joined = np.concatenate([shapes, ict_points(assets, shapes)], axis=1)
    own = np.arange(shapes.shape[1], joined.shape[1])
    rows = bind(joined, own, topology).tocsr()
    rows.sort_indices()
    corners = np.zeros((COUNT, 3), dtype=np.int32)
    weights = np.zeros((COUNT, 3), dtype=np.float32)
    for point in range(COUNT):
        span = slice(rows.indptr[point], rows.indptr[point + 1])
        used = span.stop - span.start
        corners[point, :used], weights[point, :used] = rows.indices[span], rows.data[span]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, vertices=corners, weights=weights, licence=np.array(LICENCE))
    return write_bytes(target, buffer.getvalue())


def visible_points(
    pixels: NDArray[np.floating], depth: NDArray[np.floating], picture: Floats, samples: int
) -> NDArray[np.bool_]:
    """(P,) whether each point is inside the picture and not hidden.

    Args:
        pixels: (P, 2) places in ``picture``; depth: (P,) planar depth, metres.
        picture: (H·S, W·S) float32 depth of what is seen, +inf where nothing is.
        samples: S, how far around a point the picture is looked at: a point on the outline has
            background beside it, one between strands of hair has skin.
    """
    return _visible(
        np.ascontiguousarray(pixels, dtype=np.float64),
        np.ascontiguousarray(depth, dtype=np.float64),
        picture, samples, _TOLERANCE, _SHARE,
    )  # fmt: skip


@njit(cache=True)
def _visible(pixels, depth, picture, reach, tolerance, share):  # type: ignore[no-untyped-def]
    height, width = picture.shape
    out = np.zeros(len(pixels), dtype=np.bool_)
    for p in range(len(pixels)):
        x, y = pixels[p, 0], pixels[p, 1]
        if not (depth[p] > 0.0 and 0.0 <= x < width and 0.0 <= y < height):
            continue
        total, open_ones = 0, 0
        for row in range(max(int(y) - reach, 0), min(int(y) + reach + 1, height)):
            for column in range(max(int(x) - reach, 0), min(int(x) + reach + 1, width)):
                total += 1
                if picture[row, column] >= depth[p] - tolerance:
                    open_ones += 1
        out[p] = open_ones >= share * total
    return out
