"""Mesh files other programs open: OBJ, PLY and (through ``geometry.gltf``) GLB. Written atomically.

Colours are given sRGB-encoded in [0, 1]. PLY stores them as such in 8 bits; glTF wants linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.errors import BadInput
from head360.files import write_bytes
from head360.geometry.gltf import write_glb

__all__ = ["ObjMesh", "read_obj", "write_glb", "write_obj", "write_ply", "write_textured_obj"]


@dataclass(frozen=True)
class ObjMesh:
    """What :func:`read_obj` found.

    Attributes:
        vertices: (N, 3) float64 in the file's unit.
        uvs: (U, 2) float64, empty where the file has none.
        polygons: per face, 0-based corner ids; ``polygon_uvs`` the uv ids, -1 where absent.
    """

    vertices: NDArray[np.float64]
    uvs: NDArray[np.float64]
    polygons: list[tuple[int, ...]]
    polygon_uvs: list[tuple[int, ...]]

    def triangles(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Fans of all polygons: (F, 3) corners and (F, 3) uv corners, int32."""
        corners, uvs = [], []
        for polygon, polygon_uv in zip(self.polygons, self.polygon_uvs, strict=True):
            for k in range(1, len(polygon) - 1):
                corners.append((polygon[0], polygon[k], polygon[k + 1]))
                uvs.append((polygon_uv[0], polygon_uv[k], polygon_uv[k + 1]))
        shape = (-1, 3)
        return (
            np.array(corners, dtype=np.int32).reshape(shape),
            np.array(uvs, dtype=np.int32).reshape(shape),
        )


def write_obj(
    path: Path | str,
    vertices: ArrayLike,
    faces: ArrayLike,
    uvs: ArrayLike | None = None,
    face_uvs: ArrayLike | None = None,
    colours: ArrayLike | None = None,
    name: str = "head",
    library: str | None = None,
) -> Path:
    """Write a Wavefront OBJ.

    Args:
        vertices: (N, 3), the file's unit is that of the caller (metres in this project).
        faces: (F, 3) 0-based corners.
        uvs, face_uvs: (U, 2) and (F, 3); both or neither.
        colours: (N, 3) sRGB in [0, 1], appended to the ``v`` lines as many programs read them.
        library: name of an MTL file beside it whose material ``name`` all faces use.
    """
    v, f = _checked(vertices, faces)
    if (uvs is None) != (face_uvs is None):
        raise ValueError("uvs and face_uvs belong together")
    lines = ["# Head360 Studio", *([] if library is None else [f"mtllib {library}"]), f"o {name}"]
    if colours is None:
        lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in v.tolist()]
    else:
        both = np.concatenate([v, np.asarray(colours, dtype=np.float64)], axis=1)
        lines += ["v " + " ".join(f"{x:.7g}" for x in row) for row in both.tolist()]
    if library is not None:
        lines.append(f"usemtl {name}")
    if uvs is None or face_uvs is None:
        lines += [f"f {a} {b} {c}" for a, b, c in (f + 1).tolist()]
    else:
        lines += [f"vt {u:.7g} {w:.7g}" for u, w in np.asarray(uvs, dtype=np.float64).tolist()]
        paired = np.stack([f, np.asarray(face_uvs, dtype=np.int64)], axis=2) + 1
        lines += ["f " + " ".join(f"{a}/{t}" for a, t in row) for row in paired.tolist()]
    return write_bytes(path, ("\n".join(lines) + "\n").encode("ascii"))


def write_textured_obj(
    path: Path | str,
    vertices: ArrayLike,
    faces: ArrayLike,
    uvs: ArrayLike,
    face_uvs: ArrayLike,
    picture: bytes,
    name: str = "head",
) -> list[Path]:
    """Write an OBJ with its MTL and its picture beside it, under the same name.

    Args:
        vertices, faces, uvs, face_uvs: as for :func:`write_obj`.
        picture: bytes of a PNG, sRGB.

    Returns:
        the OBJ, the MTL and the PNG; the OBJ is written last, when what it names is there.

    Raises:
        BadInput: a file name that OBJ cannot carry, or the file system refused.
    """
    path = Path(path)
    if " " in path.name or not path.name.isascii():
        raise BadInput(
            f"An OBJ cannot name a picture beside {path.name}: choose a name of plain letters."
        )
    texture, library = path.with_suffix(".png"), path.with_suffix(".mtl")
    material = ["# Head360 Studio", f"newmtl {name}", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "illum 1"]
    material.append(f"map_Kd {texture.name}")
    write_bytes(texture, picture)
    write_bytes(library, ("\n".join(material) + "\n").encode("ascii"))
    write_obj(path, vertices, faces, uvs, face_uvs, name=name, library=library.name)
    return [path, library, texture]


def read_obj(path: Path | str) -> ObjMesh:
    """Positions, uvs and polygons of a Wavefront OBJ; everything else is skipped.

    Raises:
        BadInput: unreadable, or a line that is not OBJ.
    """
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    polygons: list[tuple[int, ...]] = []
    polygon_uvs: list[tuple[int, ...]] = []
    number = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            for line in handle:
                number += 1
                key, *words = line.split() or [""]
                if key == "v":
                    vertices.append([float(word) for word in words[:3]])
                elif key == "vt":
                    uvs.append([float(word) for word in words[:2]])
                elif key == "f":
                    corners = [_corner(word, len(vertices), len(uvs)) for word in words]
                    if len(corners) < 3:
                        raise ValueError("a face needs three corners")
                    polygons.append(tuple(c[0] for c in corners))
                    polygon_uvs.append(tuple(c[1] for c in corners))
        result = ObjMesh(
            np.array(vertices, dtype=np.float64).reshape(-1, 3),
            np.array(uvs, dtype=np.float64).reshape(-1, 2),
            polygons,
            polygon_uvs,
        )
    except OSError as error:
        raise BadInput(f"Cannot read {path} ({error.strerror}).") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a usable OBJ file, line {number}: {error}.") from error
    return result


def _corner(word: str, vertices: int, uvs: int) -> tuple[int, int]:
    """``7/3/2`` → (6, 2); negative numbers count from the end, as the format allows."""
    fields = word.split("/")
    corner = _index(fields[0], vertices)
    uv = _index(fields[1], uvs) if len(fields) > 1 and fields[1] else -1
    return corner, uv


def _index(text: str, count: int) -> int:
    value = int(text)
    index = value - 1 if value > 0 else count + value
    if not 0 <= index < count:
        raise ValueError(f"the corner {text} does not exist")
    return index


def write_ply(
    path: Path | str,
    vertices: ArrayLike,
    faces: ArrayLike,
    colours: ArrayLike | None = None,
    normals: ArrayLike | None = None,
) -> Path:
    """Write a binary little-endian PLY.

    Args:
        vertices: (N, 3); ``faces`` (F, 3) 0-based.
        colours: (N, 3) sRGB in [0, 1] → uchar red, green, blue.
        normals: (N, 3) unit vectors.
    """
    v, f = _checked(vertices, faces)
    columns: list[tuple[str, str, NDArray]] = [
        (axis, "<f4", v[:, k]) for k, axis in enumerate("xyz")
    ]
    if normals is not None:
        n = np.asarray(normals)
        columns += [(name, "<f4", n[:, k]) for k, name in enumerate(("nx", "ny", "nz"))]
    if colours is not None:
        c = np.rint(np.clip(np.asarray(colours), 0.0, 1.0) * 255.0)
        columns += [(name, "u1", c[:, k]) for k, name in enumerate(("red", "green", "blue"))]
    table = np.empty(len(v), dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        table[name] = values
    rows = np.empty(len(f), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    rows["count"], rows["corners"] = 3, f
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment Head360 Studio",
        f"element vertex {len(v)}",
    ]
    header += [
        f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind, _ in columns
    ]
    header += [f"element face {len(f)}", "property list uchar int vertex_indices", "end_header\n"]
    return write_bytes(path, "\n".join(header).encode("ascii") + table.tobytes() + rows.tobytes())


def _checked(vertices: ArrayLike, faces: ArrayLike) -> tuple[NDArray, NDArray]:
    v = np.asarray(vertices, dtype=np.float64)
    f = np.asarray(faces, dtype=np.int64)
    if v.ndim != 2 or v.shape[1] != 3 or f.ndim != 2 or f.shape[1] != 3:
        raise ValueError(f"expected (N, 3) vertices and (F, 3) faces, got {v.shape} and {f.shape}")
    if len(f) and (f.min() < 0 or f.max() >= len(v)):
        raise ValueError("a face names a vertex that does not exist")
    return v, f
