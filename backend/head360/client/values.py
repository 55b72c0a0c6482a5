"""What callers give and get: plain arrays and names, read from the protocol's messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.protocol import Message
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """One installed model. ``thumbnail`` is PNG bytes or None; ``licence`` is a short text;
    ``made_by`` tells of a fitted or edited model, such as ``head360 fit``."""

    name: str
    kind: str
    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    licence: str
    preset: str
    note: str
    thumbnail: bytes | None
    made_by: str = ""


@dataclass(frozen=True)
class HeadMesh:
    """Arrays of ``heads.base.HeadMesh`` (same names, shapes and units), without torch."""

    vertices: Floats
    faces: NDArray[np.int32]
    uvs: Floats
    face_uvs: NDArray[np.int32]
    deltas: Floats
    parts: NDArray[np.uint8]
    part_names: tuple[str, ...]


@dataclass(frozen=True)
class SurfaceMesh:
    """Arrays of ``heads.base.Surface`` (same names, shapes, units and colour space)."""

    vertices: Floats
    faces: NDArray[np.int32]
    colours: Floats
    normals: Floats
    uvs: Floats | None = None
    face_uvs: NDArray[np.int32] | None = None
    texture: NDArray[np.uint8] | None = None
    removed: int = 0


@dataclass(frozen=True)
class SequenceFrame:
    """One frame to render. ``number`` names the picture; ``blendshapes`` (52,) in [0, 1]."""

    number: int
    blendshapes: Floats
    camera: Camera


@dataclass(frozen=True)
class RenderedFrame:
    """``rgba`` (H, W, 4) uint8, sRGB, straight alpha, top row first; ``depth`` (H, W) float32,
    planar metres, +inf where nothing is; ``seconds`` of rendering on the backend."""

    rgba: NDArray[np.uint8]
    depth: Floats
    seconds: float


@dataclass(frozen=True)
class Photo:
    """A photograph to fit a head to: the file's bytes, and its name without a folder."""

    name: str
    data: bytes


def models_of(message: Message) -> list[ModelInfo]:
    """What ``models`` answers; thumbnails are blobs beside it."""
    models = []
    for index, info in enumerate(message.body.models):
        picture = message.blobs.get(f"thumbnail.{index}")
        models.append(
            ModelInfo(
                info.name,
                info.kind,
                tuple(info.subjects),
                tuple(info.styles),
                info.licence,
                info.preset,
                info.note,
                None if picture is None else picture.tobytes(),
                info.made_by,
            )
        )
    return models


def mesh_of(message: Message) -> HeadMesh:
    """What ``head_mesh`` answers."""
    return HeadMesh(**message.blobs, part_names=tuple(message.body.part_names))


def frame_of(message: Message) -> RenderedFrame:
    """What ``render_frame`` answers."""
    return RenderedFrame(message.blobs["rgba"], message.blobs["depth"], message.body.seconds)


def surface_of(message: Message) -> SurfaceMesh:
    """What ``extract_surface`` answers."""
    return SurfaceMesh(**message.blobs, removed=message.body.removed)
