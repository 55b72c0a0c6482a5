"""Soft three-light shading of rasterised heads, in linear light, with alpha.

One fused numba kernel: it reads the fragments of a supersampled raster and writes the averaged
pixels, so no full-resolution buffer but the fragments is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Materials of a face; the kernel branches on these numbers.
SKIN, EYE, TEETH, GUMS, LASH, HAIR = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Light:
    """Directional lights fixed to the head, linear RGB.

    Attributes:
        directions: (L, 3) unit vectors towards the lights, head space.
        colours: (L, 3) linear radiance.
        sky, ground: (3,) linear ambient from above and below.
    """

    directions: Floats
    colours: Floats
    sky: Floats
    ground: Floats


def soft_three_point() -> Light:
    """Warm key from the subject's upper left, cool fill from the right, rim from behind."""
    directions = np.array([[0.55, 0.6, 0.75], [-0.75, 0.1, 0.6], [-0.25, 0.55, -0.9]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Light(
        directions.astype(np.float32),
        np.array([[0.80, 0.76, 0.70], [0.26, 0.28, 0.32], [0.46, 0.47, 0.50]], dtype=np.float32),
        np.array([0.36, 0.37, 0.39], dtype=np.float32),
        np.array([0.22, 0.20, 0.19], dtype=np.float32),
    )


_SRGB_TO_LINEAR = np.array(
    [
        (c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in range(256)
    ],
    dtype=np.float32,
)


def encode_srgb(linear: NDArray[np.floating]) -> Floats:
    """Linear [0, 1] → sRGB-encoded [0, 1] (IEC 61966-2-1), any shape."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    ).astype(np.float32)


@dataclass(frozen=True)
class ShadeInput:
    """A scene ready to be shaded: N vertices and F triangles, head and hair together.

    Attributes:
        positions: (N, 3) float32 metres, head space.
        normals: (N, 3) float32 unit shading normals.
        tangents: (N, 3) float32 unit strand directions (used by hair only).
        occlusion: (N, 1 + L) float32, visible share of the sky and of each light, 1 = open.
        faces: (F, 3) int32.
        corner_uvs: (F, 3, 2) float32, v up.
        materials: (F,) uint8.
        head_texture: (H, W, 3) uint8 sRGB atlas.
        hair_texture: (h, w, 3) uint8 sRGB.
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


def shade(
    scene: ShadeInput,
    face: NDArray[np.int32],
    bary: Floats,
    eye: Floats,
    samples: int,
    light: Light,
) -> tuple[Floats, Floats]:
    """Shade one supersampled view and average it down.

    Args:
        scene: what was rasterised.
        face: (H·S, W·S) int32 of the raster, S = ``samples``.
        bary: (H·S, W·S, 2) float32.
        eye: (3,) camera position, metres, head space.
        samples: supersampling factor per axis.
        light: the set-up.

    Returns:
        (H, W, 4) float32 linear, premultiplied RGBA and (H, W) float32 hair coverage.
    """
    height, width = face.shape[0] // samples, face.shape[1] // samples
    out = np.zeros((height, width, 4), dtype=np.float32)
    hair = np.zeros((height, width), dtype=np.float32)
    _shade(
        face, bary, scene.faces, scene.positions, scene.normals, scene.tangents, scene.occlusion,
        scene.corner_uvs, scene.materials, scene.head_texture, scene.hair_texture,
        _SRGB_TO_LINEAR, np.asarray(eye, dtype=np.float32), light.directions, light.colours,
        light.sky, light.ground, samples, out, hair,
    )  # fmt: skip
    return out, hair


@njit(cache=True, inline="always")
def _texture(texture, lut, u, v, channel):  # type: ignore[no-untyped-def]
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max((1.0 - v) * height - 0.5, 0.0), height - 1.001)
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    top = lut[texture[y0, x0, channel]] * (1 - fx) + lut[texture[y0, x0 + 1, channel]] * fx
    low = lut[texture[y0 + 1, x0, channel]] * (1 - fx) + lut[texture[y0 + 1, x0 + 1, channel]] * fx
    return top * (1 - fy) + low * fy


@njit(parallel=True, cache=True, fastmath=True)
def _shade(  # type: ignore[no-untyped-def]
    face, bary, faces, positions, normals, tangents, occlusion, corner_uvs, materials,
    head_texture, hair_texture, lut, eye, light_dirs, light_colours, sky, ground,
    samples, out, hair,
):  # fmt: skip
    height, width = out.shape[0], out.shape[1]
    share = 1.0 / (samples * samples)
    for row in prange(height):
        n = np.empty(3, dtype=np.float32)
        p = np.empty(3, dtype=np.float32)
        open_to = np.empty(occlusion.shape[1], dtype=np.float32)
        t = np.empty(3, dtype=np.float32)
        v = np.empty(3, dtype=np.float32)
        albedo = np.empty(3, dtype=np.float32)
        colour = np.empty(3, dtype=np.float32)
        wrap = np.empty(3, dtype=np.float32)
        for column in range(width):
            for sub in range(samples * samples):
                y = row * samples + sub // samples
                x = column * samples + sub % samples
                f = face[y, x]
                if f < 0:
                    continue
                wa, wb = bary[y, x, 0], bary[y, x, 1]
                wc = 1.0 - wa - wb
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                for k in range(3):
                    n[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
                    p[k] = wa * positions[a, k] + wb * positions[b, k] + wc * positions[c, k]
                    v[k] = eye[k] - p[k]
                for k in range(occlusion.shape[1]):
                    open_to[k] = wa * occlusion[a, k] + wb * occlusion[b, k] + wc * occlusion[c, k]
                tu = wa * corner_uvs[f, 0, 0] + wb * corner_uvs[f, 1, 0] + wc * corner_uvs[f, 2, 0]
                tv = wa * corner_uvs[f, 0, 1] + wb * corner_uvs[f, 1, 1] + wc * corner_uvs[f, 2, 1]
                length = np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-12
                view = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) + 1e-12
                for k in range(3):
                    n[k] /= length
                    v[k] /= view
                material = materials[f]
                is_hair = material == HAIR
                for k in range(3):
                    if is_hair:
                        albedo[k] = _texture(hair_texture, lut, tu, tv, k)
                    else:
                        albedo[k] = _texture(head_texture, lut, tu, tv, k)
                # Wrapped diffuse stands in for scattering: red travels furthest in skin.
                wrap[0], wrap[1], wrap[2] = 0.0, 0.0, 0.0
                gloss, strength = 1.0, 0.0
                if material == SKIN:
                    wrap[0], wrap[1], wrap[2] = 0.42, 0.22, 0.16
                    gloss, strength = 16.0, 0.10
                elif material == EYE:
                    wrap[0], wrap[1], wrap[2] = 0.5, 0.5, 0.5
                    gloss, strength = 140.0, 2.6
                elif material == TEETH:
                    wrap[0], wrap[1], wrap[2] = 0.4, 0.35, 0.3
                    gloss, strength = 60.0, 0.22
                elif material == GUMS:
                    wrap[0], wrap[1], wrap[2] = 0.4, 0.25, 0.25
                    gloss, strength = 50.0, 0.16
                elif is_hair:
                    wrap[0], wrap[1], wrap[2] = 0.35, 0.35, 0.35
                    for k in range(3):
                        t[k] = wa * tangents[a, k] + wb * tangents[b, k] + wc * tangents[c, k]
                    size = np.sqrt(t[0] * t[0] + t[1] * t[1] + t[2] * t[2]) + 1e-12
                    for k in range(3):
                        t[k] /= size
                up = 0.5 + 0.5 * n[1]
                for k in range(3):
                    colour[k] = albedo[k] * open_to[0] * (ground[k] + (sky[k] - ground[k]) * up)
                for light in range(light_dirs.shape[0]):
                    lx, ly, lz = light_dirs[light, 0], light_dirs[light, 1], light_dirs[light, 2]
                    cosine = n[0] * lx + n[1] * ly + n[2] * lz
                    hx, hy, hz = lx + v[0], ly + v[1], lz + v[2]
                    h = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12
                    shine = 0.0
                    if is_hair:
                        # Kajiya and Kay 1989: a strand reflects into a cone around its tangent.
                        along = (t[0] * hx + t[1] * hy + t[2] * hz) / h
                        across = np.sqrt(max(0.0, 1.0 - along * along))
                        facing = min(max(cosine * 2.0 + 0.6, 0.0), 1.0)
                        shine = 0.10 * across**48 * facing
                    elif strength > 0.0 and cosine > 0.0:
                        half = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) / h)
                        grazing = 1.0 - max(0.0, n[0] * v[0] + n[1] * v[1] + n[2] * v[2])
                        fresnel = 0.35 + 0.65 * grazing**3
                        shine = strength * fresnel * half**gloss * cosine
                    for k in range(3):
                        diffuse = max(0.0, (cosine + wrap[k]) / (1.0 + wrap[k]))
                        arriving = light_colours[light, k] * open_to[1 + light]
                        colour[k] += arriving * (albedo[k] * diffuse + shine)
                for k in range(3):
                    out[row, column, k] += min(colour[k], 1.0) * share
                out[row, column, 3] += share
                if is_hair:
                    hair[row, column] += share
