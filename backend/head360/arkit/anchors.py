"""Where each blendshape moves a head: the way from any rig's own space into head space.

The middle of what ``eyeBlinkLeft`` moves is the left eye of every head, whatever its unit, its
orientation and its number of vertices. The table of these middles on the project's average head
(written by ``geometry.anchors``) is therefore all that is needed to find head space in a rig.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput

Points = NDArray[np.float64]

FILE = resources.files("head360") / "data" / "anchors.json"
LEAST = 6  # anchors; fewer do not pin down position, turn and size of a face safely
_ROUNDS = 30
_NEAR = 0.006  # metres; an anchor this far off counts half
_LEAST_SPREAD = 1e-9


@functools.cache
def anchors() -> dict[str, Points]:
    """Blendshape → (3,) float64 middle of what it moves on the average head, metres, head space.

    Not all 52: what moves eyeballs and tongues lies inside the head, and not every rig has it.
    """
    table = msgspec.json.decode(FILE.read_bytes(), type=dict[str, tuple[float, float, float]])
    return {name: np.array(point) for name, point in table.items()}


def middles(vertices: NDArray, deltas: NDArray, areas: NDArray) -> tuple[Points, NDArray]:
    """The middle of what each shape moves.

    Args:
        vertices: (N, 3) at rest, any unit and space.
        deltas: (K, N, 3) displacements, in any space of their own: only lengths count.
        areas: (N,) surface that belongs to each vertex, so that a dense mesh weighs no more.

    Returns:
        (K, 3) float64 in the space of ``vertices`` and (K,) bool: whether the shape moves anything.
        Squared lengths weigh: where a shape fades out differs from rig to rig, its peak does not.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    weights = np.einsum("kni,kni->kn", deltas, deltas, dtype=np.float64) * areas
    total = weights.sum(1)
    moves = total > _LEAST_SPREAD * max(float(total.max(initial=0.0)), 1e-300)
    safe = np.where(moves, total, 1.0)
    return weights @ vertices / safe[:, None], moves


def vertex_areas(vertices: NDArray, triangles: NDArray) -> NDArray[np.float64]:
    """(N,) a third of every triangle that meets at a vertex, in the square of the unit."""
    corners = np.asarray(vertices, dtype=np.float64)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    share = np.linalg.norm(normals, axis=1) / 6.0
    flat = np.repeat(share, 3)
    areas = np.bincount(np.ravel(triangles), weights=flat, minlength=len(vertices))
    return areas.astype(np.float64)


@dataclass(frozen=True)
class Fit:
    """A similarity that carries head space onto a rig.

    Attributes:
        matrix: (4, 4) float64 head space, metres → the rig's space: scale · rotation, then a shift.
        scale: rig units in a metre of the head.
        error: weighted root mean square of what remains, in metres of the head.
    """

    matrix: Points
    scale: float
    error: float


def similarity(source: NDArray, target: NDArray, weights: NDArray) -> Points:
    """(4, 4) scale, rotation and shift (no mirror) that best carry ``source`` onto ``target``.

    Umeyama's closed form. Shapes: (K, 3), (K, 3) and (K,) ≥ 0.
    """
    share = weights / weights.sum()
    middle, goal = share @ source, share @ target
    a, b = source - middle, target - goal
    u, sigma, vt = np.linalg.svd(np.einsum("k,ki,kj->ij", share, b, a))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    spread = float(share @ (a * a).sum(1))
    scale = float(sigma @ flip) / max(spread, 1e-300)
    matrix = np.eye(4)
    matrix[:3, :3] = scale * (u * flip) @ vt
    matrix[:3, 3] = goal - matrix[:3, :3] @ middle
    return matrix


def fit(points: dict[str, Points]) -> Fit:
    """Head space from a rig's own anchors: blendshape → (3,) middle of what it moves.

    Robust: an anchor that disagrees with the others (a jaw that drags the whole neck) counts
    less and less.

    Raises:
        BadInput: too few of the shapes, or they do not spread over a face.
    """
    table = anchors()
    names = [name for name in table if name in points]
    if len(names) < LEAST:
        raise BadInput(
            f"Only {len(names)} of the blendshapes that show where a face is were found, "
            f"{LEAST} are needed: press Check Rig and fix the names."
        )
    source = np.array([table[name] for name in names])
    target = np.array([points[name] for name in names], dtype=np.float64)
    weights = np.ones(len(names))
    if np.linalg.svd(target - target.mean(0), compute_uv=False)[1] < 1e-12:
        raise BadInput(
            "The blendshapes all move the same spot, so no face can be found: press Check Rig."
        )
    for _ in range(_ROUNDS):
        matrix = similarity(source, target, weights)
        scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
        rest = np.linalg.norm(source @ matrix[:3, :3].T + matrix[:3, 3] - target, axis=1) / scale
        weights = 1.0 / (1.0 + (rest / _NEAR) ** 2)
    error = float(np.sqrt(weights @ rest**2 / weights.sum()))
    return Fit(matrix, scale, error)
