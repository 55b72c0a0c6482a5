"""The geometry file: safetensors with integers, scales and one JSON note. Never pickle.

Columns are quantised one by one: 8 bits where half a step stays below ``STEP``, 16 bits elsewhere.
Generic deltas are sparse (three quarters of them are zero): one bit per (expression, vertex) tells
which are stored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from head360.errors import ModelInvalid
from head360.files import write_bytes
from head360.geometry.ict import LICENCE
from head360.geometry.topology import Topology

if TYPE_CHECKING:
    from head360.geometry.bilinear import BilinearModel

SCHEMA = 1
STEP = 2e-5  # metres: largest rounding error that 8 bits may cause at full coefficient
FRAME_STEP = 3e-3  # the same for the basis of J; coefficients shrink it about tenfold
SILENT = 5e-6  # metres: a delta shorter than this is stored as zero

Arrays = dict[str, NDArray[Any]]


def quantise(rows: NDArray[np.floating], tolerance: NDArray[np.floating]) -> Arrays:
    """Rows (R, M) → int8 rows, int16 rows, (R,) scales and (R,) wide flags.

    ``tolerance``: (R,) largest rounding error allowed for 8 bits, in the rows' own unit.
    """
    peak = np.abs(rows).max(axis=1)
    wide = peak / 254.0 > tolerance
    scale = np.where(peak > 0, peak, 1.0) / np.where(wide, 32767.0, 127.0)
    whole = np.rint(rows / scale[:, None])
    return {
        "narrow": whole[~wide].astype(np.int8),
        "wide": whole[wide].astype(np.int16),
        "scale": scale.astype(np.float32),
        "is_wide": wide.astype(np.uint8),
    }


def restore(packed: Arrays) -> NDArray[np.float32]:
    """Inverse of :func:`quantise`: (R, M) float32."""
    wide = packed["is_wide"].astype(bool)
    rows = np.empty((len(wide), packed["wide"].shape[1]), dtype=np.float32)
    rows[wide] = packed["wide"]
    rows[~wide] = packed["narrow"]
    rows *= packed["scale"][:, None]
    return rows


def _pack_deltas(deltas: NDArray[np.floating]) -> Arrays:
    active = np.linalg.norm(deltas, axis=2) > SILENT
    scale = np.maximum(np.abs(deltas).max(axis=(1, 2)), 1e-12) / 32767.0
    whole = np.rint(deltas / scale[:, None, None]).astype(np.int16)
    return {
        "active": np.packbits(active, axis=1),
        "values": whole[active],
        "scale": scale.astype(np.float32),
    }


def _unpack_deltas(packed: Arrays, count: int) -> NDArray[np.float32]:
    active = np.unpackbits(packed["active"], axis=1, count=count).astype(bool)
    deltas = np.zeros((*active.shape, 3), dtype=np.float32)
    deltas[active] = packed["values"]
    deltas *= packed["scale"][:, None, None]
    return deltas


def write_model(model: BilinearModel, path: Path) -> Path:
    """Quantise and write atomically.

    Raises:
        BadInput: the file system refused.
    """
    t = model.topology
    size = model.shape_size
    # A coefficient of shape_factors is at most about 0.5; divide the tolerance by the largest.
    reach = np.abs(model.shape_factors).max(axis=0).astype(np.float64)
    moving = np.abs(model.frame_basis).max(axis=1) > 0
    groups: dict[str, Arrays] = {
        "neutral": quantise(model.neutral_core.reshape(size, -1), STEP / reach),
        "frames": quantise(
            model.frame_basis[moving].T, np.full(model.frame_basis.shape[1], FRAME_STEP)
        ),
        "deltas": _pack_deltas(model.generic_deltas),
    }
    tensors: Arrays = {
        f"{group}.{name}": value
        for group, arrays in groups.items()
        for name, value in arrays.items()
    }
    tensors |= {
        "moving": np.packbits(moving),
        "frame_core": model.frame_core,
        "jaw_core": model.jaw_core,
        "eye_core": model.eye_core,
        "shape_factors": model.shape_factors,
        "identity_coefficients": model.identity_coefficients.astype(np.float16),
        "faces": t.faces.astype(np.uint16),
        "uvs": np.rint(t.uvs * 65535.0).astype(np.uint16),
        "face_uvs": t.face_uvs.astype(np.uint16),
        "parts": t.parts,
        "vertex_parts": t.vertex_parts,
        "landmarks68": t.landmarks68,
        "ict_vertices": t.ict_vertices.astype(np.uint16),
    }
    note = {
        **model.metadata,
        "schema": SCHEMA,
        "kind": "bilinear-geometry",
        "licence": LICENCE,
        "part_names": list(t.part_names),
    }
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    return write_bytes(
        path, save(contiguous, metadata={"head360": json.dumps(note, sort_keys=True)})
    )


def read_model(path: Path) -> BilinearModel:
    """Read what :func:`write_model` wrote.

    Raises:
        ModelInvalid: missing, damaged, or of another schema version.
    """
    if not path.is_file():
        raise ModelInvalid(
            f"There is no geometry file at {path}: build it with `head360 mesh build`."
        )
    try:
        with safe_open(path, framework="np") as archive:
            note = json.loads((archive.metadata() or {})["head360"])
            if note["schema"] != SCHEMA:
                raise ModelInvalid(
                    f"The geometry file {path} has schema {note['schema']}, this version reads "
                    f"{SCHEMA}: rebuild it with `head360 mesh build`."
                )
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        model = _assemble(tensors, note)
    except (SafetensorError, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelInvalid(
            f"The geometry file {path} is damaged ({error}): reinstall head360 or rebuild it with "
            "`head360 mesh build`."
        ) from error
    return model


def _assemble(tensors: Arrays, note: dict[str, Any]) -> BilinearModel:
    from head360.geometry.bilinear import BilinearModel

    def group(name: str) -> Arrays:
        prefix = name + "."
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    vertex_parts = tensors["vertex_parts"]
    count = len(vertex_parts)
    topology = Topology(
        faces=tensors["faces"].astype(np.int32),
        uvs=tensors["uvs"].astype(np.float32) / np.float32(65535.0),
        face_uvs=tensors["face_uvs"].astype(np.int32),
        parts=tensors["parts"],
        part_names=tuple(note["part_names"]),
        vertex_parts=vertex_parts,
        landmarks68=tensors["landmarks68"].astype(np.int32),
        ict_vertices=tensors["ict_vertices"].astype(np.int32),
    )
    neutral = restore(group("neutral"))
    if topology.faces.max() >= count or topology.face_uvs.max() >= len(topology.uvs):
        raise ValueError("a triangle names a vertex that does not exist")
    frames = restore(group("frames"))
    moving = np.unpackbits(tensors["moving"], count=count).astype(bool)
    basis = np.zeros((count, len(frames)), dtype=np.float32)
    basis[moving] = frames.T
    model = BilinearModel(
        topology=topology,
        neutral_core=neutral.reshape(len(neutral), count, 3),
        frame_basis=basis,
        frame_core=tensors["frame_core"],
        jaw_core=tensors["jaw_core"],
        generic_deltas=_unpack_deltas(group("deltas"), count),
        eye_core=tensors["eye_core"],
        shape_factors=tensors["shape_factors"],
        identity_coefficients=tensors["identity_coefficients"].astype(np.float32),
        metadata=note,
    )
    if model.frame_core.shape[:2] != (len(frames), len(neutral)) or (
        model.shape_factors.shape[1] != len(neutral)
    ):
        raise ValueError("its arrays do not fit together")
    return model
