"""Hair on heads: loading cards, growing strands, and wearing either on an identity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.errors import BadInput
from head360.geometry.attach import attach, vertex_normals
from head360.geometry.lattice import Lattice
from head360.geometry.meshfile import read_obj
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, from_normalised, to_normalised
from head360.synthesis.grow import FLOOR as _FLOOR
from head360.synthesis.grow import SKIN_GAP, grow
from head360.synthesis.hair_motion import Binding, bind, follow
from head360.synthesis.scalp import Scalp
from head360.synthesis.skins import fill_transparent
from head360.synthesis.strand_texture import StrandLook, strand_texture
from head360.synthesis.styles import COLOURS, STYLES, StyleSpec

__all__ = [
    "COLOURS", "STYLES", "TEXTURE", "Style", "StyleSpec", "WornHair", "follow", "grow_style",
    "load_style", "make_style", "wear",
]  # fmt: skip

Floats = NDArray[np.float32]

TEXTURE = 512
_ALPHA_CUT = 96  # of 255: card alphas are soft, cutting at one half thins the tips too much
_CLEARANCE = 0.0025  # metres that roots keep from the skin
_DYE_CONTRAST = 0.6  # exponent on the luminance of dyed textures


@dataclass(frozen=True)
class Style:
    """A hair style in canonical space, ready to be warped.

    Attributes:
        spec: what it is.
        canonical: (M, 3) float32 normalised canonical positions.
        faces: (F, 3) int32.
        corner_uvs: (F, 3, 2) float32, v up.
        texture: (512, 512, 3) uint8 sRGB.
        mask: (512, 512) uint8 cut-out mask (0 or 255).
        normals, tangents: (M, 3) float32 unit, canonical, of grown hair; None for cards.
        shade: (M,) float32 0…1 what a vertex of grown hair sees of the sky; None for cards.
    """

    spec: StyleSpec
    canonical: Floats
    faces: NDArray[np.int32]
    corner_uvs: Floats
    texture: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    normals: Floats | None = None
    tangents: Floats | None = None
    shade: Floats | None = None


@dataclass(frozen=True)
class WornHair:
    """A style on one identity: metres, head space.

    Attributes:
        positions, normals, tangents: (M, 3) float32.
        occlusion: (M,) float32, darker towards the scalp.
        binding: how it hangs on the skin, for :func:`follow`.
    """

    positions: Floats
    normals: Floats
    tangents: Floats
    occlusion: Floats
    binding: Binding


def make_style(spec: StyleSpec, assets: Path | None, generic_to_canonical: Lattice) -> Style:
    """A style in canonical space, grown or from cards.

    Args:
        spec: which.
        assets: the folder of raw assets; grown styles need none.
        generic_to_canonical: the warp that carries cards (see :func:`load_style`).

    Raises:
        BadInput: files of a card style are missing.
    """
    if spec.growth is not None:
        return grow_style(spec)
    if assets is None:
        raise BadInput(
            f"The hair style {spec.name} is made of cards: give the folder of raw assets."
        )
    return load_style(spec, assets, generic_to_canonical)


def grow_style(spec: StyleSpec) -> Style:
    """Grow a style around the average head: same spec, same bytes; no files are read.

    Raises:
        BadInput: the style is made of cards.
    """
    if spec.growth is None:
        raise BadInput(f"The hair style {spec.name} is made of cards: load it from the assets.")
    mesh = grow(spec.growth, Scalp.builtin())
    look: StrandLook = spec.growth.strands
    if spec.dye is not None:
        look = replace(look, colour=spec.dye)
    texture, mask = strand_texture(look, spec.growth.seed)
    return Style(
        spec,
        to_normalised(mesh.positions).astype(np.float32),
        mesh.faces,
        mesh.corner_uvs.astype(np.float32),
        texture,
        mask,
        mesh.normals.astype(np.float32),
        mesh.tangents.astype(np.float32),
        mesh.shade.astype(np.float32),
    )


def load_style(spec: StyleSpec, assets: Path, generic_to_canonical: Lattice) -> Style:
    """Read a card style and carry it from the generic to the average (canonical) head.

    Raises:
        BadInput: a file of the style is missing.
    """
    folder = assets / "hair"
    for suffix in (".obj", ".png"):
        if not (folder / f"{spec.name}{suffix}").is_file():
            raise BadInput(
                f"The hair style {spec.name} lacks {spec.name}{suffix} in {folder}: "
                "restore the asset folder and try again."
            )
    cards = read_obj(folder / f"{spec.name}.obj")
    metres = (cards.vertices - [0.0, 2.0, 0.0]) * 0.01
    canonical = generic_to_canonical.to_canonical(to_normalised(metres).astype(np.float32))
    corners, corner_uvs = cards.triangles()
    canonical, corners, uvs = _cut_at_floor(canonical, corners, cards.uvs[corner_uvs])
    used, faces = np.unique(corners, return_inverse=True)
    with Image.open(folder / f"{spec.name}.png") as picture:
        small = picture.convert("RGBA").resize((TEXTURE, TEXTURE), Image.Resampling.LANCZOS)
    alpha = np.asarray(small)[..., 3]
    texture = fill_transparent(small).astype(np.float32) * np.array(spec.gain, dtype=np.float32)
    if spec.dye is not None:
        texture = _dyed(texture, alpha >= _ALPHA_CUT, spec.dye)
    return Style(
        spec,
        canonical[used].astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
        uvs.astype(np.float32),
        np.clip(texture, 0, 255).astype(np.uint8),
        np.where(alpha >= _ALPHA_CUT, 255, 0).astype(np.uint8),
    )


def _cut_at_floor(
    points: Floats, corners: NDArray[np.int32], uvs: NDArray[np.float64]
) -> tuple[Floats, NDArray[np.int32], NDArray[np.float64]]:
    """Clip cards at the floor: dropping the triangles that cross it would leave a saw's edge.

    Args:
        points: (M, 3) normalised canonical; corners: (F, 3); uvs: (F, 3, 2).

    Returns:
        The same three with new vertices appended; triangles wholly below are gone.
    """
    above = points[:, 1] > _FLOOR
    count = above[corners].sum(1)
    new_points, extra = [points], []
    faces, face_uvs = [corners[count == 3]], [uvs[count == 3]]
    following = len(points)
    for face in np.flatnonzero((count == 1) | (count == 2)):
        # Walk around the triangle and keep what is above (Sutherland and Hodgman 1974).
        polygon: list[tuple[int, NDArray[np.float64]]] = []
        for k in range(3):
            a, b = corners[face, k], corners[face, (k + 1) % 3]
            uv_a, uv_b = uvs[face, k], uvs[face, (k + 1) % 3]
            if above[a]:
                polygon.append((int(a), uv_a))
            if above[a] != above[b]:
                t = (_FLOOR - points[a, 1]) / (points[b, 1] - points[a, 1])
                extra.append(points[a] + t * (points[b] - points[a]))
                polygon.append((following, uv_a + t * (uv_b - uv_a)))
                following += 1
        for k in range(1, len(polygon) - 1):
            fan = (polygon[0], polygon[k], polygon[k + 1])
            faces.append(np.array([[corner for corner, _ in fan]], dtype=np.int32))
            face_uvs.append(np.array([[uv for _, uv in fan]]))
    if extra:
        new_points.append(np.array(extra, dtype=points.dtype))
    return np.concatenate(new_points), np.concatenate(faces), np.concatenate(face_uvs)


def _dyed(texture: Floats, strands: NDArray[np.bool_], colour: tuple[int, int, int]) -> Floats:
    """Recolour (H, W, 3) by luminance; bright patches are evened out."""
    light = texture @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    detail = (light / max(float(light[strands].mean()), 1.0)) ** _DYE_CONTRAST
    return np.clip(detail, 0.3, 1.8)[..., None] * np.array(colour, dtype=np.float32)


def wear(style: Style, lattice: Lattice, head: Floats, skin_faces: NDArray[np.int32]) -> WornHair:
    """Warp ``style`` onto an identity and lift what would pierce the scalp.

    Args:
        style: canonical hair.
        lattice: identity → canonical.
        head: (N, 3) float32 the identity's neutral vertices, metres.
        skin_faces: (F, 3) the outer skin's triangles.
    """
    positions = from_normalised(lattice.from_canonical(style.canonical))
    place = attach(positions, head, skin_faces)
    corners = head[skin_faces[place.face]].astype(np.float64)
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    near = place.distance < 0.03
    clearance = _CLEARANCE if style.normals is None else SKIN_GAP
    lift = np.where(near, np.maximum(0.0, clearance - place.height), 0.0)
    positions = positions + lift[:, None] * outward
    binding = bind(place, skin_faces)
    if style.normals is not None and style.tangents is not None and style.shade is not None:
        positions[:, 1] = np.maximum(positions[:, 1], _FLOOR * BOX_HALF + BOX_CENTRE[1])
        normals32, tangents32 = _grown_frames(style.normals, style.tangents, style.spec.curly)
        shade = _below(positions) * style.shade
        return WornHair(positions.astype(np.float32), normals32, tangents32, shade, binding)
    tangents = _strand_directions(positions, style)
    # Cards are flat and seen from both sides: bend their normals towards "away from the skull",
    # which is how a full head of hair catches light.
    centre = np.array([0.0, 0.03, -0.01])
    radial = positions - centre
    radial /= np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-9)
    card = vertex_normals(positions, style.faces).astype(np.float64)
    card *= np.where((card * radial).sum(1, keepdims=True) < 0, -1.0, 1.0)
    normals = 0.75 * radial + 0.45 * card
    normals -= 0.8 * tangents * (normals * tangents).sum(1, keepdims=True)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    if style.spec.curly:
        tangents = normals  # a strand that points at the viewer does not shine
    depth = np.clip(place.distance / 0.018, 0.0, 1.0)
    below = np.clip((0.01 - positions[:, 1]) / 0.10, 0.0, 1.0)
    occlusion = (0.55 + 0.45 * depth) * (1.0 - 0.25 * below * (radial[:, 2] > -0.2))
    return WornHair(
        positions.astype(np.float32),
        normals.astype(np.float32),
        tangents.astype(np.float32),
        occlusion.astype(np.float32),
        binding,
    )


def _grown_frames(normals: Floats, tangents: Floats, curly: bool) -> tuple[Floats, Floats]:
    """Shading normals and tangents of grown hair: the warp to an identity hardly turns them."""
    if curly:
        return normals, normals  # a strand that points at the viewer does not shine
    along = (normals * tangents).sum(1, keepdims=True)
    shading = normals - 0.8 * along * tangents
    shading /= np.maximum(np.linalg.norm(shading, axis=1, keepdims=True), 1e-9)
    return shading.astype(np.float32), tangents


def _below(positions: NDArray[np.float64]) -> Floats:
    """(M,) float32: hair beside the neck lies in the shadow of the head."""
    below = np.clip((0.01 - positions[:, 1]) / 0.10, 0.0, 1.0)
    inner = np.clip((0.115 - np.hypot(positions[:, 0], positions[:, 2] + 0.01)) / 0.05, 0.0, 1.0)
    return (1.0 - 0.45 * below * inner).astype(np.float32)


def _strand_directions(positions: NDArray[np.float64], style: Style) -> NDArray[np.float64]:
    """(M, 3) unit direction of growing v on the cards, averaged over the faces of a vertex."""
    corners = positions[style.faces]
    uv = style.corner_uvs.astype(np.float64)
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    determinant = d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1]
    along = e2 * d1[:, :1] - e1 * d2[:, :1]
    along *= np.sign(determinant)[:, None]
    tangents = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(tangents, style.faces[:, corner], along)
    length = np.linalg.norm(tangents, axis=1, keepdims=True)
    down = np.array([0.0, 1.0, 0.0])
    return np.where(length > 1e-12, tangents / np.maximum(length, 1e-12), down)
