"""GLB writer: one mesh with optional normals, vertex colours and morph targets (glTF 2.0).

glTF is right-handed, +Y up, the front towards +Z, metres: head space as it is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.files import write_bytes

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963


def srgb_to_linear(colours: ArrayLike) -> NDArray[np.float32]:
    """sRGB-encoded [0, 1] → linear [0, 1] (IEC 61966-2-1), any shape."""
    c = np.clip(np.asarray(colours, dtype=np.float64), 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


class _Buffer:
    """The binary chunk with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: NDArray, component: int, target: int, bounds: bool = False) -> int:
        """Append (N, 3) or (N,) values; returns the accessor's index."""
        values = np.ascontiguousarray(values)
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append(
            {
                "buffer": 0,
                "byteOffset": len(self.data),
                "byteLength": values.nbytes,
                "target": target,
            }
        )
        self.data += values.tobytes()
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": component,
            "count": len(values),
            "type": "SCALAR" if values.ndim == 1 else "VEC3",
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor["min"] = [float(x) for x in flat.min(axis=0)]
            accessor["max"] = [float(x) for x in flat.max(axis=0)]
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(
    path: Path | str,
    vertices: ArrayLike,
    faces: ArrayLike,
    colours: ArrayLike | None = None,
    normals: ArrayLike | None = None,
    morph_targets: ArrayLike | None = None,
    morph_names: Sequence[str] | None = None,
    name: str = "head",
) -> Path:
    """Write a binary glTF 2.0 file atomically.

    Args:
        vertices: (N, 3) metres, head space.
        faces: (F, 3) 0-based, counter-clockwise seen from outside.
        colours: (N, 3) sRGB-encoded in [0, 1]; stored linear as COLOR_0 demands.
        normals: (N, 3); made unit length, since the format allows nothing else.
        morph_targets: (T, N, 3) position deltas, metres; ``morph_names`` T names.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
        BadInput: the file system refused.
    """
    v = np.asarray(vertices, dtype="<f4")
    f = np.asarray(faces)
    if v.ndim != 2 or v.shape[1] != 3 or f.ndim != 2 or f.shape[1] != 3 or not len(v) or not len(f):
        raise ValueError(f"expected (N, 3) vertices and (F, 3) faces, got {v.shape} and {f.shape}")
    if f.min() < 0 or f.max() >= len(v):
        raise ValueError("a face names a vertex that does not exist")
    if not np.isfinite(v).all():
        raise ValueError("a vertex is not finite")
    buffer = _Buffer()
    # 65535 is the primitive restart value of 16-bit indices and must not be used.
    short = len(v) < 65535
    indices = f.reshape(-1).astype("<u2" if short else "<u4")
    index = buffer.add(indices, _UINT16 if short else _UINT32, _ELEMENT_BUFFER)
    attributes = {"POSITION": buffer.add(v, _FLOAT, _ARRAY_BUFFER, bounds=True)}
    if normals is not None:
        n = np.asarray(normals, dtype=np.float64)
        length = np.linalg.norm(n, axis=1, keepdims=True)
        n = np.where(length > 1e-12, n / np.maximum(length, 1e-12), (0.0, 1.0, 0.0))
        attributes["NORMAL"] = buffer.add(n.astype("<f4"), _FLOAT, _ARRAY_BUFFER)
    if colours is not None:
        attributes["COLOR_0"] = buffer.add(
            srgb_to_linear(colours).astype("<f4"), _FLOAT, _ARRAY_BUFFER
        )
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": index,
        "mode": 4,
        "material": 0,
    }
    mesh: dict[str, Any] = {"name": name, "primitives": [primitive]}
    if morph_targets is not None:
        targets = np.asarray(morph_targets, dtype="<f4")
        if targets.ndim != 3 or targets.shape[1:] != v.shape:
            raise ValueError(f"expected (T, {len(v)}, 3) morph targets, got {targets.shape}")
        names = (
            list(morph_names)
            if morph_names is not None
            else [f"target{k}" for k in range(len(targets))]
        )
        if len(names) != len(targets):
            raise ValueError(f"{len(targets)} morph targets but {len(names)} names")
        if len(targets):
            primitive["targets"] = [
                {"POSITION": buffer.add(t, _FLOAT, _ARRAY_BUFFER, bounds=True)} for t in targets
            ]
            mesh["weights"] = [0.0] * len(targets)
            mesh["extras"] = {"targetNames": names}
    material = {
        "name": name,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8},
    }
    document = {
        "asset": {"version": "2.0", "generator": "Head360 Studio"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [mesh],
        "materials": [material],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    binary = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    parts = [
        struct.pack("<III", _MAGIC, 2, total),
        struct.pack("<II", len(text), _JSON),
        text,
        struct.pack("<II", len(binary), _BIN),
        binary,
    ]
    return write_bytes(path, b"".join(parts))
