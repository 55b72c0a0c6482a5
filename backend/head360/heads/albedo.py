"""The colours of a head in its mesh's own atlas, gathered from pictures that the head renders.

Whatever the model draws best, its pictures, becomes the texture: bald renders from all around, with
the mouth open, the lids closed and the eyes turned, are carried back to the texels that they show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates, maximum_filter, minimum_filter

from head360.arkit import COUNT
from head360.arkit.names import INDEX
from head360.geometry.atlas import ATLAS_TILES, UNIT
from head360.geometry.attach import vertex_normals
from head360.geometry.bake import Texels, texels, to_bytes
from head360.geometry.lashes import lash_mask
from head360.heads.base import Codes, Head, HeadMesh
from head360.rendering import raster
from head360.rendering.cameras import Camera, orbit

Floats = NDArray[np.float32]
Report = Callable[[float, str], None]

PICTURE = 512  # pixels per side of a render
_EDGE = 4.0  # pixels from an outline within which colours count less
_STEP = 0.004  # metres of depth that make an outline
_BEHIND = 0.0015  # metres behind what is seen that still count as seen
_SHARPNESS = 5.0  # exponent of the cosine: the squarest view wins
_LEAST = 1e-4
_TARGET = (0.0, -0.03, 0.0)
_SKIN = ("face", "head_neck")


@dataclass(frozen=True)
class Shot:
    """One picture to take: blendshape weights, yaw and pitch in degrees, and what it counts."""

    weights: Mapping[str, float]
    yaw: float
    pitch: float
    trust: float


def shots() -> list[Shot]:
    """Neutral from all around; the rest only for what neutral hides."""
    found = [Shot({}, yaw, 0.0, 1.0) for yaw in range(-135, 181, 45)]
    found += [Shot({}, 0.0, -35.0, 0.5), Shot({}, 0.0, 60.0, 0.5)]
    found.append(Shot({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, 0.0, -10.0, 0.02))
    wide = {"eyeWideLeft": 1.0, "eyeWideRight": 1.0}
    for side, way in (("Left", "Down"), ("Right", "Up")):
        turned = {"eyeLookOut" + side: 1.0, "eyeLookIn" + _other(side): 1.0}
        turned |= {f"eyeLook{way}{eye}": 0.5 for eye in ("Left", "Right")}
        found.append(Shot({**turned, **wide}, 0.0, 0.0, 0.02))
    mouth = {"jawOpen": 1.0, "mouthUpperUpLeft": 0.6, "mouthUpperUpRight": 0.6}
    found += [Shot(mouth, yaw, pitch, 0.02) for yaw, pitch in ((-25, 15), (25, 15), (0, -25))]
    return found


def _other(side: str) -> str:
    return "Right" if side == "Left" else "Left"


def bake_albedo(
    head: Head,
    codes: Codes,
    size: int = 2048,
    report: Report | None = None,
    plan: Sequence[Shot] | None = None,
    picture: int = PICTURE,
) -> NDArray[np.uint8]:
    """The head's skin, eyes, teeth and tongue as one picture over ``head.mesh(codes)``'s uvs.

    Args:
        head, codes: who; hair is left out whatever the codes say.
        size: texels per side.
        report: called with (fraction, phase); what it raises stops the work.
        plan: pictures to take; ``shots()`` unless given.
        picture: their pixels per side.

    Returns:
        (size, size, 4) uint8 sRGB + alpha, top row first. Alpha is 255 but between the lashes.
    """
    bald = dataclasses.replace(codes, style=None)
    mesh = head.mesh(bald)
    covered = texels(mesh.uvs, mesh.face_uvs, size)
    total = np.zeros((len(covered.index), 3), dtype=np.float32)
    weight = np.zeros(len(covered.index), dtype=np.float32)
    plan = shots() if plan is None else plan
    for number, shot in enumerate(plan):
        if report is not None:
            report(number / len(plan), "photographing")
        _gather(head, bald, mesh, covered, shot, picture, total, weight)
    return _finish(mesh, covered, total, weight)


def _gather(
    head: Head,
    codes: Codes,
    mesh: HeadMesh,
    covered: Texels,
    shot: Shot,
    size: int,
    total: Floats,
    weight: Floats,
) -> None:
    """Add one picture to ``total`` (M, 3) and ``weight`` (M,) of the covered texels."""
    weights = np.zeros(COUNT, dtype=np.float32)
    for name, value in shot.weights.items():
        weights[INDEX[name]] = value
    pose = head.pose(codes, weights)
    camera = orbit(shot.yaw, shot.pitch, fov_deg=20.0, distance=1.1, target=_TARGET)
    colour = head.render(pose, camera, size, size).rgba
    group = _groups(mesh)
    seen, depth, trust = _outlines(mesh, group, pose.vertices, camera, size)
    trust = trust * (colour[..., 3] > 0.98)

    normals = vertex_normals(pose.vertices, mesh.faces)
    place = covered.blend(pose.vertices, mesh.faces)
    normal = covered.blend(normals, mesh.faces)
    towards = camera.position - place
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = np.einsum("mk,mk->m", normal, towards) / np.maximum(
        np.linalg.norm(normal, axis=1), 1e-9
    )
    pixel, z = camera.project(place, size, size)
    inside = (facing > 0.05) & (pixel > 1).all(1) & (pixel < size - 2).all(1)
    chosen = np.flatnonzero(inside)
    row, column = pixel[chosen, 1].astype(int), pixel[chosen, 0].astype(int)
    same = seen[row, column] == group[covered.face[chosen]]
    front = z[chosen] < depth[row, column] + _BEHIND
    part = trust[row, column] * np.clip(facing[chosen], 0, 1) ** _SHARPNESS * (same & front)
    chosen, part = chosen[part > 0], part[part > 0].astype(np.float32) * shot.trust
    at = np.stack([pixel[chosen, 1] - 0.5, pixel[chosen, 0] - 0.5])
    for k in range(3):
        total[chosen, k] += part * map_coordinates(colour[..., k], at, order=1, mode="nearest")
    weight[chosen] += part


def _groups(mesh: HeadMesh) -> NDArray[np.int64]:
    """(F,) what belongs together where colours may flow: skin is one, every other part its own."""
    skin = [k for k, name in enumerate(mesh.part_names) if name in _SKIN]
    return np.where(np.isin(mesh.parts, skin), -2, mesh.parts.astype(np.int64))


def _outlines(
    mesh: HeadMesh, group: NDArray[np.int64], vertices: Floats, camera: Camera, size: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """(H, W) group seen, depth, and trust 0 … 1: pixels at outlines and lashes show a mixture."""
    lashes = np.isin(
        mesh.parts, [k for k, n in enumerate(mesh.part_names) if n.startswith("eyelashes")]
    )
    screen = raster.perspective_screen(vertices, camera, size, size)[None]
    solid = np.flatnonzero(~lashes)
    view = raster.rasterize(screen, mesh.faces[solid], size, size)
    face, depth = view.face[0], view.depth[0]
    seen = np.where(face >= 0, group[solid][face], -9)
    finite = np.where(np.isfinite(depth), depth, 9.0)
    mixed = maximum_filter(seen, 3) != minimum_filter(seen, 3)
    mixed |= maximum_filter(finite, 3) - minimum_filter(finite, 3) > _STEP
    if lashes.any():
        cut = raster.Cutout(
            mesh.uvs[mesh.face_uvs], np.where(lashes, 0, -1).astype(np.int32), lash_mask()[None]
        )
        hair = raster.rasterize(screen, mesh.faces, size, size, cut).face[0]
        mixed |= maximum_filter((hair >= 0) & lashes[hair], 3)
    trust = np.clip(distance_transform_edt(~mixed) / _EDGE, 0.0, 1.0)
    return seen, depth, np.asarray(trust, dtype=np.float32)


def _finish(mesh: HeadMesh, covered: Texels, total: Floats, weight: Floats) -> NDArray[np.uint8]:
    """Texels that no picture showed, gutters, and the lashes' alpha."""
    size = covered.size
    colour: Floats = np.zeros((size * size, 3), dtype=np.float32)
    strength: Floats = np.zeros(size * size, dtype=np.float32)
    known = weight > _LEAST * 0.01
    colour[covered.index[known]] = total[known] / weight[known, None]
    # A texel counts once it is known at all: holes are filled from neighbours, not blended.
    strength[covered.index[known]] = 1.0
    image, strength = colour.reshape(size, size, 3), strength.reshape(size, size)
    out = np.zeros((size, size, 4), dtype=np.float32)
    out[..., 3] = 1.0
    out[..., :3] = image[strength > 0].mean(0) if known.any() else 0.5
    scale = size / UNIT
    for name, (x, y, w, h) in ATLAS_TILES.items():
        tile = np.s_[
            round(size - (y + h) * scale) : round(size - y * scale),
            round(x * scale) : round((x + w) * scale),
        ]
        if name.startswith("lashes"):
            out[tile][..., :3] = _lash_colour(mesh, covered, total, weight)
        elif (strength[tile] > 0).any():
            out[tile][..., :3] = fill_holes(image[tile], strength[tile])
    return _with_lash_alpha(to_bytes(out))


def _lash_colour(mesh: HeadMesh, covered: Texels, total: Floats, weight: Floats) -> Floats:
    """(3,) the darkest the face has: brows, nostrils and the line of the lashes."""
    parts = [k for k, name in enumerate(mesh.part_names) if name == "face"]
    chosen = (weight > _LEAST) & np.isin(mesh.parts[covered.face], parts)
    if not chosen.any():
        return np.full(3, 0.08, dtype=np.float32)
    colours = total[chosen] / weight[chosen, None]
    light = colours.mean(1)
    dark = colours[light <= np.quantile(light, 0.002)]
    return np.asarray(0.6 * np.median(dark, axis=0), dtype=np.float32)


def _with_lash_alpha(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    size = len(picture)
    mask = Image.fromarray(lash_mask()).resize((size, size), Image.Resampling.BILINEAR)
    picture[..., 3] = np.asarray(mask)
    return picture


def fill_holes(picture: Floats, known: Floats) -> Floats:
    """Fill (H, W, C) where ``known`` (H, W) is 0 from ever wider surroundings (push-pull).

    Known pixels stay as they are; holes get the mean of what is known at the finest scale that
    knows anything there, smoothly interpolated.
    """
    if min(picture.shape[:2]) < 2 or (known > 0).all():
        return picture
    h, w = (-(-n // 2) for n in picture.shape[:2])
    padded = np.zeros((2 * h, 2 * w, picture.shape[2] + 1), dtype=np.float32)
    padded[: picture.shape[0], : picture.shape[1], :-1] = picture * known[..., None]
    padded[: picture.shape[0], : picture.shape[1], -1] = known
    pooled = padded.reshape(h, 2, w, 2, -1).sum((1, 3))
    mean = pooled[..., :-1] / np.maximum(pooled[..., -1:], 1e-6)
    coarse = fill_holes(mean, (pooled[..., -1] > 0).astype(np.float32))
    rows = np.clip((np.arange(picture.shape[0]) - 0.5) / 2, 0, h - 1)
    columns = np.clip((np.arange(picture.shape[1]) - 0.5) / 2, 0, w - 1)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    fine = np.stack(
        [map_coordinates(coarse[..., k], grid, order=1) for k in range(picture.shape[2])], -1
    )
    return np.asarray(np.where(known[..., None] > 0, picture, fine), dtype=np.float32)
