"""``head360 mesh build``: ICT-FaceKit → identities × expressions → Tucker → shipped model.

Figures are per-vertex Euclidean distances in millimetres over the part ``face`` of all 53 posed
meshes (neutral, and each expression at full weight) of every identity.

* ``rms_mm``, ``max_mm``: the rank-50 decomposition at full resolution, 100 kept identities.
* ``heldout_*``: 40 identities it never saw; their coefficients are the least-squares fit.
* ``optimum_rms_mm``: the best any rank-50 identity factor can do on the face (SVD of face alone).
* ``shipped_*``: the reduced, quantised file; every original face vertex is carried by its
  barycentric coordinates on the reduced triangles *without* an offset, so lost relief and sliding
  count. ``shipped_added_rms_mm`` is the difference to the full decomposition's surface, RMS.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.geometry.compare import compare_with_tensorly
from head360.geometry.ict import IctModel, load_ict
from head360.geometry.population import Population, build_population
from head360.geometry.reduce import bind, guide_shapes, reduce_topology
from head360.geometry.topology import Topology
from head360.geometry.transfer import JAW_ROWS
from head360.geometry.tucker import factors_from_gram

log = logging.getLogger(__name__)

RANK = 50
# Weight of skull, neck, mouth, eyes and lashes beside the face in the Gram matrix; helpers get 0.
REST_WEIGHT = 0.02
FRAME_RANK = 64
MM = 1000.0

Array = NDArray[np.floating]


class Errors:
    """Streaming RMS and maximum of 3-vectors."""

    def __init__(self) -> None:
        self.total, self.count, self.largest = 0.0, 0, 0.0

    def add(self, difference: Array) -> None:
        """``difference``: (…, 3) metres."""
        squared = np.einsum("...c,...c->...", difference, difference)
        self.total += float(squared.sum(dtype=np.float64))
        self.count += squared.size
        self.largest = max(self.largest, float(squared.max()))

    @property
    def rms_mm(self) -> float:
        """Root mean square in millimetres."""
        return MM * float(np.sqrt(self.total / max(1, self.count)))

    @property
    def max_mm(self) -> float:
        """Largest in millimetres."""
        return MM * float(np.sqrt(self.largest))


def _measured_vertices(ict: IctModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the part ``face`` and of everything else that is visible."""
    face = ict.part_vertices("face")
    visible = np.unique(ict.triangles[~ict.triangle_hidden])
    return face, np.setdiff1d(visible, face).astype(np.int64)


def decompose(
    population: Population, ict: IctModel
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Identity factor of the kept heads, and everyone's coefficients.

    Returns:
        factors (100, RANK); coefficients (I, RANK), the kept rows equal ``factors``; and the
        face-only optimum's factors (100, RANK).
    """
    kept = population.kept
    face, rest = _measured_vertices(ict)
    face_gram = population.gram(face)
    rest_gram = population.gram(rest)
    whole = face_gram + REST_WEIGHT * rest_gram
    factors = factors_from_gram(whole[:kept, :kept], RANK).factors
    # Held-out heads: least squares on the core C = Uᵀ X, all from inner products.
    normal = factors.T @ whole[:kept, :kept] @ factors
    others = np.linalg.solve(normal, factors.T @ whole[:kept, kept:]).T
    optimum = factors_from_gram(face_gram[:kept, :kept], RANK).factors
    return factors, np.concatenate([factors, others]), optimum


def _residuals(
    population: Population, vertices: NDArray[np.integer], combine: Array
) -> Iterator[NDArray[np.float32]]:
    """Per slice (R, n, 3): heads 0 … R-1 minus ``combine`` (R, kept) times the kept heads."""
    rows, kept = combine.shape

    def difference(x: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = (combine @ x[:kept].reshape(kept, -1)).astype(np.float32)
        return x[:rows] - flat.reshape(rows, *x.shape[1:])

    rest = difference(population.neutrals[:, vertices])
    yield rest
    for e in range(1, 53):
        active, change = population.change(e, vertices)
        residual = rest.copy()
        residual[:, active] += difference(change)
        yield residual


def measure_full(
    population: Population,
    ict: IctModel,
    factors: Array,
    coefficients: Array,
    optimum: Array,
) -> dict[str, float]:
    """Errors of the full-resolution decomposition on the face, and on what else ships."""
    kept = population.kept
    face, rest = _measured_vertices(ict)
    combine = (coefficients @ factors.T).astype(np.float32)
    best = (optimum @ optimum.T).astype(np.float32)
    own, other, ideal, elsewhere, elsewhere_out = (Errors() for _ in range(5))
    for residual in _residuals(population, face, combine):
        own.add(residual[:kept])
        other.add(residual[kept:])
    for residual in _residuals(population, face, best):
        ideal.add(residual)
    for residual in _residuals(population, rest, combine):
        elsewhere.add(residual[:kept])
        elsewhere_out.add(residual[kept:])
    return {
        "rms_mm": own.rms_mm,
        "max_mm": own.max_mm,
        "heldout_rms_mm": other.rms_mm,
        "heldout_max_mm": other.max_mm,
        "optimum_rms_mm": ideal.rms_mm,
        "optimum_max_mm": ideal.max_mm,
        "rest_rms_mm": elsewhere.rms_mm,
        "rest_heldout_rms_mm": elsewhere_out.rms_mm,
    }


def assemble_model(population: Population, topology: Topology, factors: Array) -> BilinearModel:
    """Project everything on the identity mode and restrict it to the reduced vertices."""
    ids, kept = topology.ict_vertices, population.kept
    rank = factors.shape[1]

    def project(values: Array) -> NDArray[np.float32]:
        flat = values[:kept].reshape(kept, -1).astype(np.float64)
        return (factors.T @ flat).reshape(rank, *values.shape[1:]).astype(np.float32)

    deltas = np.ascontiguousarray(population.deltas[:, ids])
    # J matters as much as the vertex ever moves: weigh the factorisation by that.
    local = np.setdiff1d(np.arange(len(deltas)), JAW_ROWS)
    motion = np.sqrt((deltas[local].astype(np.float64) ** 2).sum(axis=(0, 2)))
    moving = np.flatnonzero(motion > 1e-5)
    frames = np.stack([project(population.frames[b][:, ids[moving]]) for b in range(3)], axis=-1)
    table = frames.transpose(1, 0, 2, 3).reshape(len(moving), -1).astype(np.float64)
    weight = np.maximum(motion[moving], 1e-3)[:, None]
    # Right singular vectors from the small Gram matrix: the table is tall (n × 9·RANK).
    weighted = table * weight
    _, axes = np.linalg.eigh(weighted.T @ weighted)
    axes = axes[:, ::-1][:, :FRAME_RANK]
    basis = np.zeros((len(ids), axes.shape[1]), dtype=np.float32)
    basis[moving] = table @ axes
    return BilinearModel(
        topology=topology,
        neutral_core=project(population.neutrals[:, ids]),
        frame_basis=basis,
        frame_core=np.ascontiguousarray(axes.T.reshape(-1, rank, 9), dtype=np.float32),
        jaw_core=project(population.jaw_maps),
        generic_deltas=deltas,
        eye_core=project(population.eye_centres),
        shape_factors=factors.astype(np.float32),
        identity_coefficients=population.coefficients[:kept],
    )


def measure_shipped(
    model: BilinearModel,
    population: Population,
    ict: IctModel,
    factors: Array,
    coefficients: Array,
) -> dict[str, float]:
    """Errors of the shipped file on the face, eyeballs excluded (they are not of that part)."""
    kept = population.kept
    face = ict.part_vertices("face")
    carrier = bind(guide_shapes(ict), face, model.topology)
    combine = (coefficients @ factors.T).astype(np.float32)
    meshes = [model.identity(s.astype(np.float32)) for s in coefficients]
    own, other, added = Errors(), Errors(), Errors()
    for e in range(53):
        x = population.expression(e, face)
        full = (combine @ x[:kept].reshape(kept, -1)).reshape(x.shape)
        for i, mesh in enumerate(meshes):
            posed = mesh.neutral if e == 0 else mesh.neutral + mesh.deltas[e - 1]
            carried = carrier @ posed
            (own if i < kept else other).add(x[i] - carried)
            if i < kept:
                added.add(full[i] - carried)
    return {
        "shipped_rms_mm": own.rms_mm,
        "shipped_max_mm": own.max_mm,
        "shipped_heldout_rms_mm": other.rms_mm,
        "shipped_heldout_max_mm": other.max_mm,
        "shipped_added_rms_mm": added.rms_mm,
        "shipped_added_max_mm": added.max_mm,
    }


def build(
    out: Path,
    seed: int = 0,
    assets: Path | None = None,
    progress: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Build everything into ``out/geometry.safetensors``; returns the figures.

    Raises:
        BadInput: the assets are missing or ``out`` is not writable.
    """
    began = time.perf_counter()
    ict = load_ict(assets or find_assets())
    progress("reading identities and computing their local frames")
    population = build_population(ict, seed=seed)
    progress("decomposing the identity mode")
    factors, coefficients, optimum = decompose(population, ict)
    figures: dict[str, Any] = dict(measure_full(population, ict, factors, coefficients, optimum))
    progress("reducing the topology")
    _, topology = reduce_topology(ict)
    model = assemble_model(population, topology, factors)
    path = model.save(out / "geometry.safetensors")
    progress("measuring what ships")
    shipped = BilinearModel.load(path)
    figures |= measure_shipped(shipped, population, ict, factors, coefficients)
    figures["vertices"] = shipped.vertex_count
    figures["triangles"] = len(topology.faces)
    figures["rank"] = RANK
    figures["identities"] = population.kept
    figures["heldout_identities"] = len(coefficients) - population.kept
    model.save(path, figures)
    figures["bytes"] = path.stat().st_size
    del model, shipped
    figures["build_seconds"] = time.perf_counter() - began
    progress("comparing with tensorly on every 16th vertex")
    figures |= compare_with_tensorly(population, RANK)
    figures["seconds"] = time.perf_counter() - began
    return figures
