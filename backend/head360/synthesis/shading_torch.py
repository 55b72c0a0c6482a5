"""The shading of ``shading_kernel`` in torch: the same formulas for many views at once, on CUDA.

Everything stays on the device from the raster to the finished pixels. It runs on the CPU too, where
the tests compare it with the numba kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from head360.datasets import labels as classes
from head360.rendering.cameras import Camera
from head360.synthesis import shading
from head360.synthesis.shading import EYE, HAIR, SKIN, SRGB_TO_LINEAR, LampTable, ShadeInput

# Rows: materials of ``shading``. Columns: wrap in red, green and blue, gloss, strength.
_MATERIALS = (
    (0.42, 0.22, 0.16, 16.0, 0.10),
    (0.5, 0.5, 0.5, 140.0, 2.6),
    (0.4, 0.35, 0.3, 60.0, 0.22),
    (0.4, 0.25, 0.25, 50.0, 0.16),
    (0.0, 0.0, 0.0, 1.0, 0.0),
    (0.35, 0.35, 0.35, 1.0, 0.0),
)
_FINE_SKIN_WRAP = (0.42, 0.26, 0.21)
_FINE_EYE = (460.0, 4.5)


@dataclass(frozen=True)
class Views:
    """V finished pictures on the device, fields as in ``shading.Shaded`` with V in front.

    Attributes:
        lit: (V, K, H, W, 4) float32.
        hair: (V, H, W) float32.
        albedo, depth, normals, labels: (V, H, W, 4), (V, H, W), (V, H, W, 3) float32 and
            (V, H, W) uint8, or None.
    """

    lit: Tensor
    hair: Tensor
    albedo: Tensor | None
    depth: Tensor | None
    normals: Tensor | None
    labels: Tensor | None

    def view(self, number: int) -> shading.Shaded:
        """One picture as arrays."""

        def array(value: Tensor | None) -> np.ndarray | None:
            return None if value is None else value[number].cpu().numpy()

        return shading.Shaded(
            self.lit[number].cpu().numpy(), self.hair[number].cpu().numpy(), array(self.albedo),
            array(self.depth), array(self.normals), array(self.labels),
        )  # fmt: skip


@dataclass(frozen=True)
class _Scene:
    """``ShadeInput`` on the device: per vertex and per triangle."""

    positions: Tensor
    normals: Tensor
    surface: Tensor
    tangents: Tensor
    occlusion: Tensor
    faces: Tensor
    corner_uvs: Tensor
    materials: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Groups:
    """G groups of samples that are lit together: one triangle within one pixel.

    Attributes:
        pixel: (G,) which of the V·H·W pixels; count: (G,) float32 samples; face: (G,).
        weights: (G, 3) barycentric; uv: (G, 2); albedo: (G, 3) linear, their means.
    """

    pixel: Tensor
    count: Tensor
    face: Tensor
    weights: Tensor
    uv: Tensor
    albedo: Tensor


def shade_torch(
    scene: ShadeInput,
    face: Tensor,
    bary: Tensor,
    cameras: list[Camera],
    samples: int,
    lights: tuple[str, ...],
    passes: bool,
) -> Views:
    """Shade V supersampled views and average them down, see ``shading.shade``.

    Args:
        scene: what was rasterised.
        face: (V, H·S, W·S) int32; bary: (V, H·S, W·S, 2) float32, on the device.
        cameras: V of them.
        samples: S.
        lights: names, at least one.
        passes: whether the truths are wanted.

    Raises:
        BadInput: there is no such light.
    """
    device = face.device
    views, height, width = len(face), face.shape[1] // samples, face.shape[2] // samples
    data = _Scene(
        *(
            torch.as_tensor(np.ascontiguousarray(array), device=device)
            for array in (
                scene.positions, scene.normals, scene.surface, scene.tangents, scene.occlusion,
            )
        ),
        *(
            torch.as_tensor(np.ascontiguousarray(array), device=device).to(kind)
            for array, kind in (
                (scene.faces, torch.int64), (scene.corner_uvs, torch.float32),
                (scene.materials, torch.int64), (scene.labels, torch.int64),
            )
        ),
    )  # fmt: skip
    sample = (face.reshape(-1) >= 0).nonzero()[:, 0]
    across = width * samples
    row, column = sample // across, sample % across
    pixel = row // samples * width + column // samples  # rows of all views follow each other
    tri = face.reshape(-1)[sample].long()
    two = bary.reshape(-1, 2)[sample]
    weights = torch.cat([two, 1 - two.sum(1, keepdim=True)], 1)
    uv = (weights[:, :, None] * data.corner_uvs[tri]).sum(1)
    is_hair = data.materials[tri] == HAIR
    albedo = torch.where(
        is_hair[:, None], _texture(scene.hair_texture, uv), _texture(scene.head_texture, uv)
    )
    pixels, square = views * height * width, samples * samples
    covered = torch.bincount(pixel, minlength=pixels).float()
    hairy = torch.bincount(pixel[is_hair], minlength=pixels).float()
    groups = _grouped(pixel, tri, weights, uv, albedo, len(data.faces), scene.fine)
    colours = _light(scene, data, groups, cameras, width, height, shading.lamp_table(lights))
    alpha = covered / square
    safe = alpha.clamp(min=1e-6)
    lit = torch.zeros(len(lights), pixels, 3, device=device)
    share = (groups.count / square)[:, None]
    for k, colour in enumerate(colours):
        lit[k].index_add_(0, groups.pixel, colour.clamp(max=1.0) * share)
    shape = (views, height, width)
    straight = torch.cat(
        [_encode(lit / safe[:, None]) * (alpha > 0)[:, None],
         alpha[None, :, None].expand(len(lights), -1, -1)], -1,
    )  # fmt: skip
    lit = straight.reshape(len(lights), *shape, 4).transpose(0, 1)
    hair = (hairy / square).reshape(shape)
    if not passes:
        return Views(lit, hair, None, None, None, None)
    total = torch.zeros(pixels, 3, device=device).index_add_(0, pixel, albedo)
    unlit = _encode(total / covered.clamp(min=1)[:, None]) * (alpha > 0)[:, None]
    depth, normals = _surface(data, face, bary, cameras, samples)
    return Views(
        lit, hair, torch.cat([unlit, alpha[:, None]], 1).reshape(*shape, 4), depth, normals,
        _parse(scene, data, tri, uv, pixel, covered, hairy, square).reshape(shape),
    )  # fmt: skip


def _grouped(
    pixel: Tensor, tri: Tensor, weights: Tensor, uv: Tensor, albedo: Tensor, faces: int, fine: bool
) -> _Groups:
    """Samples of one triangle in one pixel as one, unless in the first look."""
    if not fine:
        return _Groups(pixel, torch.ones_like(uv[:, 0]), tri, weights, uv, albedo)
    key, group, count = torch.unique(pixel * faces + tri, return_inverse=True, return_counts=True)
    values = torch.cat([weights, uv, albedo], 1)
    sums = torch.zeros(len(key), values.shape[1], device=uv.device).index_add_(0, group, values)
    share = count.float()
    means = sums / share[:, None]
    return _Groups(key // faces, share, key % faces, means[:, :3], means[:, 3:5], means[:, 5:])


def _light(
    scene: ShadeInput, data: _Scene, groups: _Groups, cameras: list[Camera], width: int,
    height: int, table: LampTable,
) -> list[Tensor]:  # fmt: skip
    """(G, 3) linear colour of every group under each of K lights."""
    device = groups.count.device
    corners = data.faces[groups.face]
    weights = groups.weights[:, :, None]

    def at(values: Tensor) -> Tensor:
        return (weights * values[corners]).sum(1)

    n, p = _unit(at(data.normals)), at(data.positions)
    view = groups.pixel // (height * width)
    eyes = torch.tensor(np.stack([c.position for c in cameras]), dtype=torch.float32, device=device)
    v = _unit(eyes[view] - p)
    t = _unit(at(data.tangents))
    open_to = at(data.occlusion)
    material = data.materials[groups.face]
    hair, skin, eye = material == HAIR, material == SKIN, material == EYE
    wrap, gloss, strength = (
        part.clone()
        for part in torch.tensor(_MATERIALS, device=device)[material].split([3, 1, 1], 1)
    )
    gloss, strength = gloss[:, 0], strength[:, 0]
    bumped, thin = n, torch.zeros_like(gloss)
    if scene.fine:
        detail = _skin_detail(scene, groups.uv)
        scales = [shading.relief_scale(camera, width) for camera in cameras]
        relief = torch.tensor(scales, dtype=torch.float32, device=device)[view]
        tilted = _tilt(n, data, corners, groups.face, detail[:, :2] * relief[:, None])
        bumped = torch.where(skin[:, None], tilted, n)
        thin = torch.where(skin, detail[:, 3], thin)
        oil = detail[:, 2]
        gloss = torch.where(skin, 8 + 8 * oil * oil, gloss)
        strength = torch.where(skin, 0.075 * oil, strength)
        wrap[skin] = torch.tensor(_FINE_SKIN_WRAP, device=device)
        gloss[eye], strength[eye] = _FINE_EYE
    facing = (n * v).sum(1).clamp(min=0)
    directions = torch.as_tensor(table.directions, device=device)
    radiance = torch.as_tensor(table.colours, device=device)
    out = []
    for k, column in enumerate(table.ambient_columns):
        sky, ground = torch.as_tensor(table.ambient[k], device=device)
        around = ground + (sky - ground) * (0.5 + 0.5 * n[:, 1:2])
        seen = open_to[:, column][:, None]
        colour = groups.albedo * seen * around
        if scene.fine:
            warm = torch.tensor([0.34, 0.08, 0.08], device=device)
            bleed = seen * (1 - seen) * skin[:, None]
            mirror = seen * (0.03 + 0.35 * (1 - facing[:, None]) ** 4) * eye[:, None]
            colour = colour + around * (groups.albedo * warm * bleed + mirror)
        for lamp in range(table.first[k], table.first[k + 1]):
            towards = directions[lamp]
            arriving = radiance[lamp] * open_to[:, table.columns[lamp]][:, None]
            cosine = n @ towards
            h = _unit(towards + v)
            across = (1 - (t * h).sum(1) ** 2).clamp(min=0).sqrt()
            strands = 0.10 * across**48 * (cosine * 2 + 0.6).clamp(0, 1)
            half = (bumped * h).sum(1).clamp(min=0)
            fresnel = 0.35 + 0.65 * (1 - facing) ** 3
            shine = strength * fresnel * half**gloss * cosine.clamp(min=0)
            if scene.fine:
                lean = bumped @ towards
                fresnel = 0.35 + 0.65 * (1 - (v * h).sum(1).clamp(min=0)) ** 3
                broad = half**gloss
                film = strength * fresnel * (broad + 1.1 * broad**4) * lean.clamp(min=0)
                shine = torch.where(skin, film, shine)
                cosine = torch.where(skin, cosine + 0.35 * (lean - cosine), cosine)
            shine = torch.where(hair, strands, shine)
            diffuse = ((cosine[:, None] + wrap) / (1 + wrap)).clamp(min=0)
            colour = colour + arriving * (groups.albedo * diffuse + shine[:, None])
            if scene.fine:
                through = 0.7 * thin * (-cosine).clamp(min=0)
                red = torch.tensor([1.0, 0.3, 0.2], device=device)
                colour = colour + arriving * groups.albedo * red * through[:, None]
        out.append(colour)
    return out


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-12)


def _encode(linear: Tensor) -> Tensor:
    linear = linear.clamp(0, 1)
    curve = 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)


def _corners4(uv: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat index (P,) of the upper left of four texels, and the share of right and lower ones."""
    x = (uv[:, 0] * width - 0.5).clamp(0, width - 1.001)
    y = ((1 - uv[:, 1]) * height - 0.5).clamp(0, height - 1.001)
    x0, y0 = x.floor(), y.floor()
    return (y0 * width + x0).long(), (x - x0)[:, None], (y - y0)[:, None]


def _bilinear(flat: Tensor, uv: Tensor, width: int, height: int) -> Tensor:
    """(P, C) of a (H·W, C) picture."""
    first, fx, fy = _corners4(uv, width, height)
    top = flat[first] * (1 - fx) + flat[first + 1] * fx
    low = flat[first + width] * (1 - fx) + flat[first + width + 1] * fx
    return top * (1 - fy) + low * fy


def _texture(texture: np.ndarray, uv: Tensor) -> Tensor:
    """(P, 3) linear colour of an sRGB texture."""
    bytes_ = torch.as_tensor(np.ascontiguousarray(texture), device=uv.device)
    flat = torch.as_tensor(SRGB_TO_LINEAR, device=uv.device)[bytes_.long()].reshape(-1, 3)
    return _bilinear(flat, uv, texture.shape[1], texture.shape[0])


def _skin_detail(scene: ShadeInput, uv: Tensor) -> Tensor:
    """(G, 4) slopes in [-1, 1], gloss and thinness."""
    size = len(scene.skin_map)
    flat = torch.as_tensor(scene.skin_map, device=uv.device).reshape(-1, 4).float()
    offset = torch.tensor([128.0, 128.0, 0.0, 0.0], device=uv.device)
    scale = torch.tensor([127.0, 127.0, 128.0, 255.0], device=uv.device)
    return (_bilinear(flat, uv, size, size) - offset) / scale


def _tilt(n: Tensor, data: _Scene, corners: Tensor, face: Tensor, slopes: Tensor) -> Tensor:
    """Normals (G, 3) of a relief: leaned against the slopes along u and v."""
    place = data.positions[corners]
    uv = data.corner_uvs[face]
    e1, e2 = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    turn = torch.where(d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1] > 0, 1.0, -1.0)[:, None]
    along_u = _unit((e1 * d2[:, 1:] - e2 * d1[:, 1:]) * turn)
    along_v = _unit((e2 * d1[:, :1] - e1 * d2[:, :1]) * turn)
    return _unit(n - slopes[:, :1] * along_u - slopes[:, 1:] * along_v)


def _surface(
    data: _Scene, face: Tensor, bary: Tensor, cameras: list[Camera], samples: int
) -> tuple[Tensor, Tensor]:
    """Depth (V, H, W) and unit normals (V, H, W, 3) at the central samples."""
    middle = samples // 2
    face = face[:, middle::samples, middle::samples].long()
    two = bary[:, middle::samples, middle::samples]
    hit = face >= 0
    corners = data.faces[face.clamp(min=0)]
    weights = torch.cat([two, 1 - two.sum(-1, keepdim=True)], -1)[..., None]
    normals = (weights * data.surface[corners]).sum(-2)
    normals = normals / (normals.norm(dim=-1, keepdim=True) + 1e-12) * hit[..., None]
    place = (weights * data.positions[corners]).sum(-2)
    forward = np.stack([camera.world2cam()[2] for camera in cameras])
    axis = torch.tensor(forward, dtype=torch.float64, device=face.device)
    depth = torch.einsum("vhwk,vk->vhw", place.double(), axis[:, :3]) + axis[:, 3, None, None]
    return torch.where(hit, depth, torch.inf).float(), normals


def _parse(
    scene: ShadeInput, data: _Scene, tri: Tensor, uv: Tensor, pixel: Tensor, covered: Tensor,
    hairy: Tensor, square: int,
) -> Tensor:  # fmt: skip
    """(V·H·W,) uint8 classes by majority, see the kernel."""
    size, count = len(scene.label_atlas), len(classes.LABELS) + 1  # with lashes
    atlas = torch.as_tensor(scene.label_atlas, device=uv.device).reshape(-1).long()
    column = (uv[:, 0] * size).long().clamp(0, size - 1)
    row = ((1 - uv[:, 1]) * size).long().clamp(0, size - 1)
    own = data.labels[tri]
    label = torch.where(own == classes.SKIN, atlas[row * size + column], own)
    votes = torch.bincount(pixel * count + label, minlength=len(covered) * count)
    votes = votes.reshape(-1, count)
    votes[:, classes.HAIR] = -1
    best = votes[:, 1:].argmax(1) + 1
    best = torch.where(2 * hairy >= square, classes.HAIR, best)
    empty = (2 * covered < square) & (2 * hairy < square)
    return torch.where(empty, classes.BACKGROUND, best).to(torch.uint8)
