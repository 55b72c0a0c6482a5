"""Albedo atlases: skin, eyes, teeth, brows and lashes of one subject in a single picture.

The layout is the bilinear model's UV atlas (``ATLAS_TILES``), so truth pictures, neural textures
and exported meshes all speak of the same texels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from head360.errors import BadInput
from head360.geometry.atlas import ATLAS_TILES, INSET, UNIT
from head360.geometry.attach import Attachment, attach
from head360.geometry.meshfile import read_obj
from head360.geometry.topology import Topology
from head360.rendering import raster

SIZE = 1024  # texels per side of the truth atlas
Pixels = NDArray[np.uint8]

_TONGUE = (176, 84, 82)
_GUMS = (168, 72, 70)
_TEETH = (226, 214, 194)
_LASH = (28, 20, 18)


def _picture(path: Path) -> Image.Image:
    if not path.is_file():
        raise BadInput(f"The asset {path} is missing: restore the asset folder and try again.")
    return Image.open(path).convert("RGB")


def _tile_box(tile: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in texels of a tile without its one-unit inset, top row first."""
    x, y, w, h = ATLAS_TILES[tile]
    scale = SIZE // UNIT
    return (
        (x + INSET) * scale,
        SIZE - (y + h - INSET) * scale,
        (x + w - INSET) * scale,
        SIZE - (y + INSET) * scale,
    )


def _paste(atlas: Pixels, tile: str, picture: Image.Image) -> None:
    left, top, right, bottom = _tile_box(tile)
    inner = np.asarray(picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS))
    margin = INSET * SIZE // UNIT
    atlas[top - margin : bottom + margin, left - margin : right + margin] = np.pad(
        inner, ((margin, margin), (margin, margin), (0, 0)), mode="edge"
    )


def _flat(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


def head_atlas(
    topology: Topology,
    generic: NDArray[np.float32],
    tongue: NDArray[np.bool_],
    assets: Path,
    *,
    skin: str,
    iris: str,
    brow: str,
    brow_colour: tuple[int, int, int],
    iris_gain: float = 1.0,
) -> Pixels:
    """(1024, 1024, 3) uint8 sRGB albedo, top row first.

    Args:
        topology: of the bilinear model.
        generic: (N, 3) float32 the generic head in metres, on which the brow cards were fitted.
        tongue: (N,) which vertices belong to the tongue.
        assets: the raw asset folder.
        skin, iris, brow: names of files in ``appearance/ict_uv``, ``appearance/eyes`` and
            ``hair/eyebrows``.
        brow_colour: sRGB 0–255.
        iris_gain: multiplies the iris picture (the brown one is reddish and bright).

    Raises:
        BadInput: a picture is missing.
    """
    atlas = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    folder = assets / "appearance"
    _paste(atlas, "face", _picture(folder / "ict_uv" / f"{skin}_face.jpg"))
    _paste(atlas, "back_head", _picture(folder / "ict_uv" / f"{skin}_backhead.jpg"))
    sclera = _picture(folder / "eyes" / "sclera.jpg")
    pupil = Image.fromarray(
        np.clip(
            np.asarray(_picture(folder / "eyes" / f"iris_{iris}.jpg"), dtype=np.float32)
            * iris_gain,
            0,
            255,
        ).astype(np.uint8)
    )
    for side in ("left", "right"):
        _paste(atlas, f"sclera_{side}", sclera)
        _paste(atlas, f"iris_{side}", pupil)
        _paste(atlas, f"lashes_{side}", _flat(_LASH))
    _paste(atlas, "teeth", _flat(_TEETH))
    _paste(atlas, "gums_tongue", _flat(_GUMS))
    _paint_tongue(atlas, topology, tongue)
    _paint_brows(atlas, topology, generic, assets, brow, brow_colour)
    return atlas


def _paint_faces(faces: NDArray[np.bool_], topology: Topology) -> NDArray[np.bool_]:
    """(SIZE, SIZE) mask of the atlas texels that the chosen faces cover, top row first."""
    uvs = topology.uvs
    screen = np.stack(
        [uvs[:, 0] * SIZE, (1 - uvs[:, 1]) * SIZE, np.ones(len(uvs)), np.ones(len(uvs))], 1
    ).astype(np.float32)
    fragments = raster.rasterize(screen[None], topology.face_uvs[faces], SIZE, SIZE)
    return fragments.face[0] >= 0


def _paint_tongue(atlas: Pixels, topology: Topology, tongue: NDArray[np.bool_]) -> None:
    is_tongue = np.asarray(tongue[topology.faces].all(1), dtype=np.bool_)
    mask = gaussian_filter(_paint_faces(is_tongue, topology).astype(np.float32), 2.0)[..., None]
    noise = np.random.default_rng(0).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    bumps = 1 + 0.05 * gaussian_filter(noise, 1.5)[..., None] / 0.19
    paint = np.clip(np.array(_TONGUE, dtype=np.float32) * bumps, 0, 255)
    atlas[:] = (atlas * (1 - mask) + paint * mask).astype(np.uint8)


def _paint_brows(
    atlas: Pixels,
    topology: Topology,
    generic: NDArray[np.float32],
    assets: Path,
    brow: str,
    colour: tuple[int, int, int],
) -> None:
    """Carry the brow cards' alpha onto the skin texels beneath them."""
    cards = read_obj(assets / "hair" / "eyebrows" / f"{brow}.obj")
    with Image.open(assets / "hair" / "eyebrows" / f"{brow}.png") as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3].astype(np.float32) / 255
    steps = 26
    i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij")
    keep = i + j < steps
    wa, wb = (i[keep] + 1 / 3) / steps, (j[keep] + 1 / 3) / steps
    weights = np.stack([wa, wb, 1 - wa - wb], 1)
    corners, corner_uvs = cards.triangles()
    points = np.einsum("kc,fcd->fkd", weights, cards.vertices[corners]).reshape(-1, 3)
    points = (points - [0.0, 2.0, 0.0]) * 0.01
    uv = np.einsum("kc,fcd->fkd", weights, cards.uvs[corner_uvs]).reshape(-1, 2)
    value = alpha[
        np.clip(((1 - uv[:, 1]) * alpha.shape[0]).astype(int), 0, alpha.shape[0] - 1),
        np.clip((uv[:, 0] * alpha.shape[1]).astype(int), 0, alpha.shape[1] - 1),
    ]
    skin = topology.part_faces("face")
    place: Attachment = attach(points, generic, topology.faces[skin])
    atlas_uv = np.einsum(
        "pc,pcd->pd", place.bary, topology.uvs[topology.face_uvs[skin][place.face]]
    )
    column = np.clip((atlas_uv[:, 0] * SIZE).astype(int), 0, SIZE - 1)
    row = np.clip(((1 - atlas_uv[:, 1]) * SIZE).astype(int), 0, SIZE - 1)
    total = np.zeros((SIZE, SIZE), dtype=np.float32)
    count = np.zeros((SIZE, SIZE), dtype=np.float32)
    np.add.at(total, (row, column), value)
    np.add.at(count, (row, column), 1.0)
    # Spread a little: samples are denser than texels, but not on every single one.
    cover = gaussian_filter(total, 0.8) / np.maximum(gaussian_filter(count, 0.8), 1e-3)
    cover *= gaussian_filter((count > 0).astype(np.float32), 0.8) > 0.3
    cover = np.clip(cover * 1.15, 0, 0.92)[..., None]
    paint = np.array(colour, dtype=np.float32)
    atlas[:] = (atlas * (1 - cover) + paint * cover).astype(np.uint8)


def fill_transparent(picture: Image.Image) -> Pixels:
    """(H, W, 3) uint8 RGB whose transparent texels take the colour of their opaque neighbours."""
    rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32)
    alpha = rgba[..., 3:] / 255
    out = rgba[..., :3] * alpha
    weight = alpha.copy()
    for sigma in (2, 6, 24, 96):
        blurred = np.stack([gaussian_filter(out[..., k], sigma) for k in range(3)], -1)
        spread = gaussian_filter(weight[..., 0], sigma)[..., None]
        fill = blurred / np.maximum(spread, 1e-6)
        missing = 1 - np.clip(weight * 4, 0, 1)
        reach = np.clip(spread * 50, 0, 1) * missing
        out, weight = out + fill * reach, np.clip(weight + reach, 0, 1)
    return np.clip(out / np.maximum(weight, 1e-6), 0, 255).astype(np.uint8)
