"""A head as a file for other programs: textured mesh with the 52 ARKit shapes, hair beside it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from head360.arkit.names import NAMES
from head360.geometry.attach import vertex_normals
from head360.geometry.gltf import GlbMesh, Section
from head360.heads.base import HeadMesh, Surface

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Report = Callable[[float, str], None]

LASHES = "eyelashes"
WET = ("eyeball", "teeth", "gums_tongue", "mouth_socket")


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """PNG of a uint8 (H, W, 3|4) sRGB picture; alpha that is 255 throughout is left out."""
    from PIL import Image

    if picture.shape[2] == 4 and (picture[..., 3] == 255).all():
        picture = picture[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def split_corners(faces: Ints, face_uvs: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64], Ints]:
    """One index for position and uv, as glTF wants it.

    Returns:
        (K,) vertex and (K,) uv of each new vertex, and (F, 3) int32 into them.
    """
    count = int(face_uvs.max()) + 1
    key = faces.astype(np.int64) * count + face_uvs
    unique, index = np.unique(key, return_inverse=True)
    return unique // count, unique % count, index.reshape(faces.shape).astype(np.int32)


def morph_mesh(mesh: HeadMesh, texture: NDArray[np.uint8], name: str = "head") -> GlbMesh:
    """The parametric head with its 52 shapes as morph targets, positions and normals.

    Args:
        mesh: neutral, in metres.
        texture: (T, T, 4) uint8 over the mesh's uvs, alpha between the lashes.
        name: of the mesh.
    """
    vertex, uv, faces = split_corners(mesh.faces, mesh.face_uvs)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    turns = np.stack(
        [vertex_normals(mesh.vertices + delta, mesh.faces) - normals for delta in mesh.deltas]
    )
    # Round-off of vertices that do not move would make every target dense.
    turns[np.abs(turns) < 1e-5] = 0.0
    return GlbMesh(
        name,
        mesh.vertices[vertex],
        _sections(mesh, faces),
        normals[vertex],
        mesh.uvs[uv],
        None,
        png_bytes(texture),
        mesh.deltas[:, vertex],
        turns[:, vertex],
        NAMES,
    )


def _sections(mesh: HeadMesh, faces: Ints) -> list[Section]:
    """Skin, what is wet, and the lashes: three materials over one texture."""
    names = np.array(mesh.part_names)[mesh.parts]
    lashes = np.char.startswith(names, LASHES)
    wet = np.array([name.startswith(WET) for name in names])
    sections = [
        Section("skin", faces[~lashes & ~wet], double_sided=True, roughness=0.6),
        Section("eyes and mouth", faces[wet], double_sided=True, roughness=0.25),
        Section("lashes", faces[lashes], "MASK", double_sided=True, roughness=0.9),
    ]
    return [section for section in sections if len(np.asarray(section.faces))]


def surface_mesh(surface: Surface, name: str) -> GlbMesh:
    """An extracted surface: with its texture where it has one, else with vertex colours."""
    if surface.texture is None or surface.uvs is None or surface.face_uvs is None:
        section = Section(name, surface.faces, double_sided=True)
        return GlbMesh(name, surface.vertices, [section], surface.normals, None, surface.colours)
    vertex, uv, faces = split_corners(surface.faces, surface.face_uvs)
    return GlbMesh(
        name,
        surface.vertices[vertex],
        [Section(name, faces, double_sided=True)],
        surface.normals[vertex],
        surface.uvs[uv],
        None,
        png_bytes(surface.texture),
    )
