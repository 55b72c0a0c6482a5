"""Shading of rasterised heads under any number of lights, in linear light, with every truth.

One fused numba kernel: it walks over the fragments of a supersampled raster once, interpolates each
of them once, and writes averaged pixels for all lights and truths, so no full-resolution buffer but
the fragments is ever made. The formulas are in ``shading_kernel``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.rendering.cameras import Camera
from head360.rendering.raster import Fragments
from head360.synthesis.lights import LIGHTS, light_number

Floats = NDArray[np.float32]

# Materials of a face; the kernel branches on these numbers.
SKIN, EYE, TEETH, GUMS, LASH, HAIR = 0, 1, 2, 3, 4, 5

_RELIEF_TEXEL = 0.0008  # metres: finest relief of the skin map

SRGB_TO_LINEAR = np.array(
    [
        (c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in range(256)
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class ShadeInput:
    """A scene ready to be shaded: N vertices and F triangles, head and hair together.

    Attributes:
        positions: (N, 3) float32 metres, head space.
        normals: (N, 3) float32 unit shading normals.
        tangents: (N, 3) float32 unit strand directions (used by hair only).
        occlusion: (N, C) float32, 1 = open: for each light of ``LIGHTS`` in turn the visible share
            of the ambient, then of each of its lamps.
        faces: (F, 3) int32.
        corner_uvs: (F, 3, 2) float32, v up.
        materials: (F,) uint8.
        head_texture: (H, W, 3) uint8 sRGB atlas.
        hair_texture: (h, w, 3) uint8 sRGB.
        surface: (N, 3) float32 unit normals of the true surface, without the shading's liberties.
        labels: (F,) uint8 class of each triangle (``datasets.labels``); that of skin is refined by
            ``label_atlas``.
        label_atlas: (A, A) uint8 class of each texel of the atlas, top row first.
        skin_map: (B, B, 4) uint8 atlas of the skin's relief and gloss (``skin_detail``), or a
            single texel for the first look.
    """

    positions: Floats
    normals: Floats
    tangents: Floats
    occlusion: Floats
    faces: NDArray[np.int32]
    corner_uvs: Floats
    materials: NDArray[np.uint8]
    head_texture: NDArray[np.uint8]
    hair_texture: NDArray[np.uint8]
    surface: Floats
    labels: NDArray[np.uint8]
    label_atlas: NDArray[np.uint8]
    skin_map: NDArray[np.uint8]

    @property
    def fine(self) -> bool:
        """Whether the skin has relief: everything but the first look."""
        return len(self.skin_map) > 1


@dataclass(frozen=True)
class LampTable:
    """Several lights as flat arrays, K lights and J lamps in all.

    Attributes:
        directions, colours: (J, 3) float32.
        columns: (J,) int32 of each lamp in ``ShadeInput.occlusion``.
        first: (K + 1,) int32: light k has the lamps first[k] … first[k + 1] − 1.
        ambient: (K, 2, 3) float32 sky and ground.
        ambient_columns: (K,) int32.
    """

    directions: Floats
    colours: Floats
    columns: NDArray[np.int32]
    first: NDArray[np.int32]
    ambient: Floats
    ambient_columns: NDArray[np.int32]


def lamp_table(names: tuple[str, ...]) -> LampTable:
    """The lamps of the named lights.

    Raises:
        BadInput: there is no such light.
    """
    widths = [1 + len(light.directions) for light in LIGHTS.values()]
    starts = np.concatenate([[0], np.cumsum(widths)])
    places = [light_number(name) for name in names]
    chosen = [(LIGHTS[n], int(starts[k])) for n, k in zip(names, places, strict=True)]
    counts = [len(light.directions) for light, _ in chosen]
    return LampTable(
        np.concatenate([light.directions for light, _ in chosen]),
        np.concatenate([light.colours for light, _ in chosen]),
        np.concatenate([s + 1 + np.arange(len(x.directions)) for x, s in chosen]).astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        np.stack([np.stack([light.sky, light.ground]) for light, _ in chosen]),
        np.array([start for _, start in chosen], dtype=np.int32),
    )


@dataclass(frozen=True)
class Shaded:
    """One view, averaged down to pixels.

    Attributes:
        lit: (K, H, W, 4) float32 sRGB-encoded, straight alpha, one for each light asked for.
        hair: (H, W) float32 coverage by hair.
        albedo: (H, W, 4) float32 sRGB-encoded, straight alpha.
        depth: (H, W) float32 planar z in metres at the central sample, +inf outside.
        normals: (H, W, 3) float32 unit, head space, at the central sample, zero outside.
        labels: (H, W) uint8 classes by majority of the samples, ``parsing.LASHES`` among them.

    The last four are None unless asked for.
    """

    lit: Floats
    hair: Floats
    albedo: Floats | None = None
    depth: Floats | None = None
    normals: Floats | None = None
    labels: NDArray[np.uint8] | None = None


def encode_srgb(linear: NDArray[np.floating]) -> Floats:
    """Linear [0, 1] → sRGB-encoded [0, 1] (IEC 61966-2-1), any shape."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    ).astype(np.float32)


def relief_scale(camera: Camera, width: int) -> float:
    """How much of the skin's relief a picture can show; the rest would only sparkle."""
    pixel = np.linalg.norm(camera.position) / (camera.intrinsics[0, 0] * width)
    return float(min(1.0, _RELIEF_TEXEL / pixel))


def shade(
    scene: ShadeInput,
    fragments: Fragments,
    camera: Camera,
    samples: int,
    lights: tuple[str, ...],
    passes: bool,
) -> Shaded:
    """Shade one supersampled view and average it down.

    Args:
        scene: what was rasterised.
        fragments: of one view, (1, H·S, W·S), S = ``samples``.
        camera: that view's.
        samples: supersampling factor per axis. Depth and normals are taken at the sample in the
            pixel's centre, for an even factor at the one right below it.
        lights: names, at least one.
        passes: whether the truths are wanted.

    Raises:
        BadInput: there is no such light.
    """
    from head360.synthesis.shading_kernel import shade_kernel

    face, bary = fragments.face[0], fragments.bary[0]
    height, width = face.shape[0] // samples, face.shape[1] // samples
    table = lamp_table(lights)
    truth = (height, width) if passes else (1, 1)
    lit = np.zeros((len(lights), height, width, 4), dtype=np.float32)
    hair = np.zeros((height, width), dtype=np.float32)
    albedo = np.zeros((*truth, 4), dtype=np.float32)
    depth = np.full(truth, np.inf, dtype=np.float32)
    normals = np.zeros((*truth, 3), dtype=np.float32)
    labels = np.zeros(truth, dtype=np.uint8)
    shade_kernel(
        face, bary, scene.faces, scene.positions, scene.normals, scene.surface, scene.tangents,
        scene.occlusion, scene.corner_uvs, scene.materials, scene.labels, scene.head_texture,
        scene.hair_texture, scene.label_atlas, scene.skin_map, SRGB_TO_LINEAR,
        np.asarray(camera.position, dtype=np.float32), camera.world2cam()[2].astype(np.float64),
        table.directions, table.colours, table.columns, table.first, table.ambient,
        table.ambient_columns, samples, scene.fine,
        relief_scale(camera, width), passes, lit, hair, albedo, depth, normals,
        labels,
    )  # fmt: skip
    if not passes:
        return Shaded(lit, hair)
    return Shaded(lit, hair, albedo, depth, normals, labels)
