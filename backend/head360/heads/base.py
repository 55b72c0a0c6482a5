"""The door every head has: the server, the commands and the extension know only this file.

``HexPlaneHead`` (and later ``GaussianHead``) live behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Codes:
    """Who is rendered; texture, shape and hair are independent of each other.

    Attributes:
        subject: name of the texture code t.
        shape: (S,) float32 identity coefficients s of the bilinear mesh.
        style: name of the hair code h, or None for a bald head.
        textures: (subject, weight) …: a blend of texture codes instead of ``subject``'s.
        hairs: (style, weight) …: a blend of hair codes instead of ``style``'s; only where there is
            hair at all.
        hair_colour: (3,) sRGB in [0, 1] that the hair takes on average; None leaves it.
    """

    subject: str
    shape: Floats
    style: str | None
    textures: tuple[tuple[str, float], ...] = ()
    hairs: tuple[tuple[str, float], ...] = ()
    hair_colour: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class HeadMesh:
    """The parametric mesh of one identity, as a rig shows it. Metres, head space, neutral pose.

    Attributes:
        vertices: (N, 3) float32.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        uvs: (U, 2) float32 in [0, 1], origin bottom-left, one atlas for all parts.
        face_uvs: (F, 3) int32 into ``uvs``.
        deltas: (52, N, 3) float32 in the order of ``arkit.NAMES``; the eye-look shapes carry the
            rigid eyeball rotation at full weight.
        parts: (F,) uint8 into ``part_names``.
    """

    vertices: Floats
    faces: Ints
    uvs: Floats
    face_uvs: Ints
    deltas: Floats
    parts: NDArray[np.uint8]
    part_names: tuple[str, ...]


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with colour. Metres, head space.

    Attributes:
        vertices: (N, 3) float32.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        colours: (N, 3) float32, sRGB-encoded in [0, 1].
        normals: (N, 3) float32 unit vectors.
        uvs: (U, 2) float32 in [0, 1], origin bottom-left; None without a texture.
        face_uvs: (F, 3) int32 into ``uvs``.
        texture: (T, T, 3) uint8 sRGB, top row first.
        removed: components (floaters, hidden cavities) that were dropped.
    """

    vertices: Floats
    faces: Ints
    colours: Floats
    normals: Floats
    uvs: Floats | None = None
    face_uvs: Ints | None = None
    texture: NDArray[np.uint8] | None = None
    removed: int = 0


@dataclass
class Pose:
    """Everything of one moment that does not depend on the camera; made by ``Head.pose``.

    Attributes:
        codes: who.
        blendshapes: (52,) float32 in [0, 1].
        vertices: (N, 3) float32 posed mesh, metres, head space.
        state: the head's own cached features.
    """

    codes: Codes
    blendshapes: Floats
    vertices: Floats
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One rendered picture.

    Attributes:
        rgba: (H, W, 4) float32, sRGB-encoded, straight alpha, [0, 1], top row first.
        depth: (H, W) float32 planar depth along the view axis in metres, +inf where nothing is.
    """

    rgba: Floats
    depth: Floats


class Head(ABC):
    """A drivable neural head."""

    name: str
    kind: str

    @property
    @abstractmethod
    def subjects(self) -> tuple[str, ...]:
        """Names of the identities that were trained; the first is the default."""

    @property
    @abstractmethod
    def styles(self) -> tuple[str, ...]:
        """Names of the hair styles that were trained; any subject can wear any."""

    @abstractmethod
    def codes(self, subject: str | None = None, style: str | None = "") -> Codes:
        """Codes of a trained subject. ``style``: a name, None for bald, "" for the subject's own.

        Raises:
            BadInput: no such subject or style; the message lists those that exist.
        """

    def random_codes(self, seed: int) -> Codes:
        """A head that was not trained; the same seed gives the same head.

        Raises:
            BadInput: heads of this kind have only the identity they were trained on.
        """
        raise BadInput(f"{self.name} has one identity only: choose a hex-plane head.")

    @abstractmethod
    def mesh(self, codes: Codes) -> HeadMesh:
        """The parametric mesh of ``codes``: what the rig shows."""

    @abstractmethod
    def pose(self, codes: Codes, blendshapes: Floats) -> Pose:
        """Pose geometry and features once; camera-only changes reuse the result."""

    @abstractmethod
    def render(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        """Render ``pose`` from ``camera``."""

    @abstractmethod
    def surface(
        self,
        pose: Pose,
        resolution: int,
        texture: int = 0,
        progress: Callable[[float, str], None] | None = None,
    ) -> Surface:
        """The neural surface, hair included, by marching cubes on a ``resolution``³ grid.

        Args:
            pose: of the moment.
            resolution: cells per axis.
            texture: side of a baked texture in pixels; 0 gives vertex colours alone.
            progress: called with (fraction, phase); what it raises stops the work.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the model package (manifest.json, *.safetensors, thumbnail.png) into ``path``."""
