"""GLB writer: meshes with normals, colours, a texture and morph targets (glTF 2.0).

glTF is right-handed, +Y up, the front towards +Z, metres: head space as it is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.files import write_bytes

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAPS, _CLAMP = 9729, 9987, 33071
_STILL = 1e-7  # metres (and, for normals, units) below which a morph target does not move a vertex
ALPHA = ("OPAQUE", "MASK", "BLEND")


def srgb_to_linear(colours: ArrayLike) -> NDArray[np.float32]:
    """sRGB-encoded [0, 1] → linear [0, 1] (IEC 61966-2-1), any shape."""
    c = np.clip(np.asarray(colours, dtype=np.float64), 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclass(frozen=True)
class Section:
    """Triangles of one material.

    Attributes:
        name: of the material.
        faces: (F, 3) int, counter-clockwise seen from outside.
        alpha: one of ``ALPHA``; MASK cuts at one half of the texture's alpha.
        double_sided: whether back faces are drawn.
        roughness: of the material, 0 … 1.
    """

    name: str
    faces: ArrayLike
    alpha: str = "OPAQUE"
    double_sided: bool = False
    roughness: float = 0.8


@dataclass(frozen=True)
class GlbMesh:
    """One mesh; all sections share its vertices and its texture.

    Attributes:
        name: of mesh and node.
        vertices: (N, 3) metres, head space.
        sections: at least one.
        normals: (N, 3); made unit length, since the format allows nothing else.
        uvs: (N, 2) in [0, 1], origin bottom-left.
        colours: (N, 3) sRGB-encoded in [0, 1]; stored linear as COLOR_0 demands.
        texture: bytes of a PNG, sRGB, the base colour.
        morph_targets: (T, N, 3) position deltas, metres.
        morph_normals: (T, N, 3) deltas of the unit normals.
        morph_names: T names, stored as ``extras.targetNames``.
    """

    name: str
    vertices: ArrayLike
    sections: Sequence[Section]
    normals: ArrayLike | None = None
    uvs: ArrayLike | None = None
    colours: ArrayLike | None = None
    texture: bytes | None = None
    morph_targets: ArrayLike | None = None
    morph_normals: ArrayLike | None = None
    morph_names: Sequence[str] | None = None


class _Buffer:
    """The binary chunk with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes on a 4-byte boundary; returns the view's index."""
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        self.data += data
        return len(self.views) - 1

    def add(self, values: NDArray, component: int, target: int, bounds: bool = False) -> int:
        """Append (N, K) or (N,) values; returns the accessor's index."""
        values = np.ascontiguousarray(values)
        return self._accessor(
            values, component, {"bufferView": self.view(values.tobytes(), target)}, bounds
        )

    def add_deltas(self, values: Floats, bounds: bool) -> int:
        """Append (N, 3) float32 deltas, sparse where that is smaller; returns the accessor."""
        moved = np.flatnonzero((np.abs(values) > _STILL).any(1))
        if not len(moved):  # a sparse accessor must name one element
            moved = np.zeros(1, dtype=np.int64)
        values = np.where((np.abs(values) > _STILL).any(1, keepdims=True), values, 0.0)
        values = np.ascontiguousarray(values, dtype="<f4")
        wide = int(moved[-1]) > 65535
        indices = moved.astype("<u4" if wide else "<u2")
        if indices.nbytes + 12 * len(moved) >= values.nbytes:
            return self.add(values, _FLOAT, _ARRAY_BUFFER, bounds)
        sparse = {
            "count": len(moved),
            "indices": {
                "bufferView": self.view(indices.tobytes()),
                "componentType": _UINT32 if wide else _UINT16,
            },
            "values": {"bufferView": self.view(values[moved].tobytes())},
        }
        return self._accessor(values, _FLOAT, {"sparse": sparse}, bounds)

    def _accessor(
        self, values: NDArray, component: int, content: dict[str, Any], bounds: bool
    ) -> int:
        width = 1 if values.ndim == 1 else values.shape[1]
        accessor: dict[str, Any] = {
            **content,
            "componentType": component,
            "count": len(values),
            "type": {1: "SCALAR", 2: "VEC2", 3: "VEC3"}[width],
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
    mesh = GlbMesh(
        name, vertices, [Section(name, faces)], normals, None, colours, None,
        morph_targets, None, morph_names,
    )  # fmt: skip
    return write_scene(path, [mesh])


def write_scene(path: Path | str, meshes: Sequence[GlbMesh]) -> Path:
    """Write meshes side by side into one binary glTF 2.0 file, atomically.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or names are not unique.
        BadInput: the file system refused.
    """
    if len({mesh.name for mesh in meshes}) != len(meshes) or not meshes:
        raise ValueError("meshes need different names")
    buffer = _Buffer()
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "Head360 Studio"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"mesh": k, "name": mesh.name} for k, mesh in enumerate(meshes)],
        "meshes": [],
        "materials": [],
    }
    for mesh in meshes:
        texture = None if mesh.texture is None else _add_texture(document, buffer, mesh)
        document["meshes"].append(_mesh(document, buffer, mesh, texture))
    document["accessors"] = buffer.accessors
    document["bufferViews"] = buffer.views
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return write_bytes(path, _container(document, bytes(buffer.data)))


def _add_texture(document: dict[str, Any], buffer: _Buffer, mesh: GlbMesh) -> int:
    assert mesh.texture is not None
    images = document.setdefault("images", [])
    images.append(
        {"bufferView": buffer.view(mesh.texture), "mimeType": "image/png", "name": mesh.name}
    )
    sampler = {
        "magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP,
    }  # fmt: skip
    document["samplers"] = [sampler]
    document.setdefault("textures", []).append({"sampler": 0, "source": len(images) - 1})
    return len(images) - 1


def _mesh(
    document: dict[str, Any], buffer: _Buffer, mesh: GlbMesh, texture: int | None
) -> dict[str, Any]:
    v = np.asarray(mesh.vertices, dtype="<f4")
    if v.ndim != 2 or v.shape[1] != 3 or not len(v):
        raise ValueError(f"expected (N, 3) vertices, got {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError("a vertex is not finite")
    faces = [_checked_faces(section, len(v)) for section in mesh.sections]
    attributes = {"POSITION": buffer.add(v, _FLOAT, _ARRAY_BUFFER, bounds=True)}
    if mesh.normals is not None:
        n = np.asarray(mesh.normals, dtype=np.float64)
        length = np.linalg.norm(n, axis=1, keepdims=True)
        n = np.where(length > 1e-12, n / np.maximum(length, 1e-12), (0.0, 1.0, 0.0))
        attributes["NORMAL"] = buffer.add(n.astype("<f4"), _FLOAT, _ARRAY_BUFFER)
    if mesh.uvs is not None:
        uv = np.asarray(mesh.uvs, dtype="<f4").copy()
        if uv.shape != (len(v), 2):
            raise ValueError(f"expected ({len(v)}, 2) uvs, got {uv.shape}")
        uv[:, 1] = 1.0 - uv[:, 1]  # glTF's origin is the top-left corner
        attributes["TEXCOORD_0"] = buffer.add(uv, _FLOAT, _ARRAY_BUFFER)
    if mesh.colours is not None:
        linear = srgb_to_linear(mesh.colours).astype("<f4")
        attributes["COLOR_0"] = buffer.add(linear, _FLOAT, _ARRAY_BUFFER)
    targets, names = _targets(buffer, mesh, v)
    primitives = []
    # 65535 is the primitive restart value of 16-bit indices and must not be used.
    short = len(v) < 65535
    for section, triangles in zip(mesh.sections, faces, strict=True):
        indices = triangles.reshape(-1).astype("<u2" if short else "<u4")
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": buffer.add(indices, _UINT16 if short else _UINT32, _ELEMENT_BUFFER),
            "mode": 4,
            "material": _material(document, section, texture),
        }
        if targets:
            primitive["targets"] = targets
        primitives.append(primitive)
    result: dict[str, Any] = {"name": mesh.name, "primitives": primitives}
    if targets:
        result["weights"] = [0.0] * len(targets)
        result["extras"] = {"targetNames": names}
    return result


def _checked_faces(section: Section, count: int) -> NDArray[np.int64]:
    f = np.asarray(section.faces, dtype=np.int64)
    if f.ndim != 2 or f.shape[1] != 3 or not len(f):
        raise ValueError(f"expected (F, 3) faces, got {f.shape}")
    if f.min() < 0 or f.max() >= count:
        raise ValueError("a face names a vertex that does not exist")
    return f


def _targets(buffer: _Buffer, mesh: GlbMesh, v: Floats) -> tuple[list[dict[str, int]], list[str]]:
    if mesh.morph_targets is None:
        return [], []
    deltas = np.asarray(mesh.morph_targets, dtype="<f4")
    if deltas.ndim != 3 or deltas.shape[1:] != v.shape:
        raise ValueError(f"expected (T, {len(v)}, 3) morph targets, got {deltas.shape}")
    turns = None if mesh.morph_normals is None else np.asarray(mesh.morph_normals, dtype="<f4")
    if turns is not None and turns.shape != deltas.shape:
        raise ValueError(f"expected {deltas.shape} deltas of normals, got {turns.shape}")
    names = [f"target{k}" for k in range(len(deltas))]
    if mesh.morph_names is not None:
        names = list(mesh.morph_names)
    if len(names) != len(deltas) or len(set(names)) != len(names):
        raise ValueError(f"{len(deltas)} morph targets but {len(set(names))} different names")
    targets = []
    for k, delta in enumerate(deltas):
        target = {"POSITION": buffer.add_deltas(delta, bounds=True)}
        if turns is not None:
            target["NORMAL"] = buffer.add_deltas(turns[k], bounds=False)
        targets.append(target)
    return targets, names


def _material(document: dict[str, Any], section: Section, texture: int | None) -> int:
    if section.alpha not in ALPHA:
        raise ValueError(f"alpha {section.alpha!r} is not one of {ALPHA}")
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": section.roughness}
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    material: dict[str, Any] = {"name": section.name, "pbrMetallicRoughness": surface}
    if section.alpha != "OPAQUE":
        material["alphaMode"] = section.alpha
    if section.double_sided:
        material["doubleSided"] = True
    document["materials"].append(material)
    return len(document["materials"]) - 1


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", _MAGIC, 2, total),
            struct.pack("<II", len(text), _JSON),
            text,
            struct.pack("<II", len(binary), _BIN),
            binary,
        ]
    )
