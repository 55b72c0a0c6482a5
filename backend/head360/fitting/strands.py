"""What a photograph tells about hair, so that the hair's hex-planes can be inverted with the skin.

Three voices. Where the photograph surely shows none, the cells of the style's hull in front of the
head are taken away and what is left at the rim is pulled to nothing; where photograph and head both
show hair, the colour is the photograph's; and pictures of the start from all around hold the shape
and colour of what no photograph sees, so that no hole, crumb or streak is pulled into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_dilation, binary_erosion, binary_opening
from torch import Tensor
from torch.nn import functional as F

from head360.fitting.inversion import Target, Wearing
from head360.fitting.light import shading
from head360.fitting.sights import Sight, facing
from head360.fitting.targets import reference_target
from head360.geometry.lattice import Lattice
from head360.heads.inputs import PoseInputs
from head360.heads.windows import LUMINANCE
from head360.rendering import raster
from head360.rendering.cameras import Camera, from_normalised, orbit
from head360.rendering.volume import GRID

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_HAIR = 0.6  # share of hair in the photograph that is surely hair
_SHOWN = 0.5  # share of hair in a rendered pixel that counts as hair
_STRANGE = 0.5  # share of the head's hair that a photograph may contradict
_EDGE = 2  # pixels of 256 on both sides of the parsed outline that tell nothing
_LOCK = 4  # half the width in pixels of 256 below which hair is left out
_ALIKE = 1.3  # log ratio to the median luminance of what passes for hair
_DARK = 0.04  # sRGB below which a ratio means nothing
_CELL = 3  # pixels of 256 that a cell of the hull is wide, and a little more
_SOLID = 0.9  # alpha of a rendered pixel whose colour can be compared
_SHEEN = 0.5  # of the skin's light that hair shows
_CENTRE = np.array([0.0, 0.0, -0.02])  # metres, of the skull: hair stands out from it
_NEAR = 0.012  # metres between two renders of one point
_GLANCE = 0.1  # say of a photograph that sees a lock at its rim, against 1 of one from its front
_INTO_SKIN = 0.003  # metres that hair may reach below the skin
_RIM = 0.2  # weight of the outline of a reference: there the photograph may ask for more
_FINE = 256


@dataclass(frozen=True)
class Outline:
    """Where one photograph surely shows hair and surely none.

    Attributes:
        hair, none: (S, S) bool, never both.
    """

    hair: Bools
    none: Bools


def outline(sight: Sight, told: Bools | None = None) -> Outline:
    """Read the parsed hair; small holes and crumbs are the parser's, not the person's.

    What is far brighter or darker than the hair is background that shines through a lock.

    Args:
        sight: the photograph.
        told: (S, S) where no hair means that there is none (under a hat there may be); everywhere
            by default.
    """
    scale = max(1, round(sight.size / _FINE))
    known = sight.known if told is None else sight.known & told
    taken = sight.hair > _HAIR
    if taken.any():
        light = np.maximum(sight.pixels @ np.array(LUMINANCE, dtype=np.float32), _DARK)
        taken &= np.abs(np.log(light / np.median(light[taken]))) < _ALIKE
    hair = binary_closing(np.pad(taken, 8, mode="edge"), iterations=2 * scale)
    # Single locks are thinner than what the planes can draw.
    hair = binary_opening(hair, iterations=_LOCK * scale)[8:-8, 8:-8]
    maybe = binary_dilation(hair, iterations=(_EDGE + 1) * scale)
    sure = binary_erosion(hair, iterations=_EDGE * scale, border_value=1) & sight.known
    return Outline(sure, ~maybe & known)


def believed(seen: Outline, worn: Floats) -> Outline:
    """The outline; without a word on where no hair is, if most of the head's hair is against it.

    Then the style is another one, and cutting it to the outline leaves torn lumps at the sides.

    Args:
        seen: what a photograph tells; worn: (S, S) share of hair that the head shows there.
    """
    shown = worn > _SHOWN
    against = float((shown & seen.none).sum()) / max(1, int(shown.sum()))
    return seen if against < _STRANGE else Outline(seen.hair, np.zeros_like(seen.none))


def carved(
    hull: NDArray[np.uint8],
    lattice: Lattice,
    pose: PoseInputs,
    faces: NDArray[np.int32],
    sight: Sight,
    seen: Outline,
) -> NDArray[np.uint8]:
    """A style's hull without the cells that stand where the photograph shows no hair.

    Args:
        hull: (GRID, GRID, GRID) uint8, canonical, indexed [z, y, x].
        lattice: identity → canonical.
        pose: the head in the photograph; faces: (F, 3) its solid triangles.
        sight, seen: the photograph and what it tells.
    """
    size = sight.size
    cells = np.argwhere(hull)
    if not len(cells):
        return hull
    canonical = ((cells[:, ::-1] + 0.5) / GRID * 2 - 1).astype(np.float32)
    points = from_normalised(lattice.from_canonical(canonical))
    pixel, depth = sight.camera.project(points, size, size)
    screen = raster.perspective_screen(pose.vertices, sight.camera, size, size)
    skin = raster.rasterize(screen[None], faces, size, size).depth[0]
    # A cell is wider than a pixel: it goes when all of it lies where no hair is.
    clear = binary_erosion(
        seen.none, iterations=_CELL * max(1, round(size / _FINE)), border_value=1
    )
    column, row = np.floor(pixel).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < size) & (row < size) & (depth > 0)
    column, row = column.clip(0, size - 1), row.clip(0, size - 1)
    gone = inside & clear[row, column] & (depth < skin[row, column] + _INTO_SKIN)
    out = hull.copy()
    out[tuple(cells[gone].T)] = 0
    return out


# --- pictures to be matched -----------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A photograph beside what the head shows at its camera.

    Attributes:
        seen: what the photograph tells; camera: its own.
        alpha: (s, s) share of hair that the head shows; depth: (s, s) metres, +inf where empty.
    """

    seen: Outline
    camera: Camera
    alpha: Floats
    depth: Floats


def photo_hair(
    wearing: Wearing,
    texture: Tensor,
    pose: PoseInputs,
    sight: Sight,
    light: Floats,
    delight: float,
    seen: Outline,
    composite: tuple[Tensor, Tensor],
    exposure: Floats | None = None,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Shown]:
    """Let a photograph's hair speak in its composite.

    Args:
        wearing, texture, pose: the head at the start.
        sight, light, delight: the photograph, its light and how much of that is taken out.
        seen: see :func:`outline`.
        composite: wanted picture (1, 3, S, S) and trust (1, 1, S, S) of the skin, where pixels of
            ``seen.none`` count as skin whatever the head wears.
        exposure: (3,) log ratio of the photograph's exposure to the first one's.

    Returns:
        The composite with hair; wanted share of hair and its trust, both (1, 1, s, s); and what
        references need to know.
    """
    size = sight.size
    view = wearing.window(pose, sight.camera, size)
    with torch.no_grad():
        out, raw, depth = wearing.draw(texture, pose, [view])
    share = _share(raw, size)
    alpha = raw[0, -1].float().cpu().numpy()
    wanted, trust = composite
    both = seen.hair & (share > _SHOWN) & (out[0, 3].cpu().numpy() > _SOLID)
    normals = _outwards(_place(sight.camera, depth[0]))
    normals = np.where(np.isfinite(depth[0])[..., None], normals, np.float32(0))
    normals = normals.repeat(2, 0).repeat(2, 1)
    plain = sight.pixels * np.exp(-_SHEEN * shading(light, normals, delight))
    if exposure is not None:
        plain = plain * np.exp(-exposure)
    plain = plain.clip(0, 1)
    there = _plane(both, wearing.device)
    shown = torch.from_numpy(np.ascontiguousarray(plain.transpose(2, 0, 1), dtype=np.float32))
    wanted = wanted * (1 - there) + shown[None].to(wearing.device) * there
    # Where hair still has to grow neither skin nor hair can be compared.
    trust = torch.where(_plane(seen.hair, wearing.device) > 0, there, trust)
    cover = seen.hair.astype(np.float32)
    sure = (seen.hair | seen.none).astype(np.float32)
    coarse = [F.avg_pool2d(_plane(plane, wearing.device), 2) for plane in (cover, sure)]
    told = (coarse[1] > 0.99).float()
    return (wanted, trust), (coarse[0], told), Shown(seen, sight.camera, alpha, depth[0])


def divided(trust: Tensor, photographs: Sequence[Shown], number: int) -> Tensor:
    """The trust (1, 1, S, S) in one photograph, divided where others show the same hair.

    The one that sees a lock from its front has most of the say: averages of locks are blurred.

    Args:
        trust: of :func:`photo_hair`.
        photographs: all of them; number: which of them is meant.
    """
    own = photographs[number]
    points = _place(own.camera, own.depth)
    mine = _view_of(points, own.camera)
    total = mine.copy()
    for other, shown in enumerate(photographs):
        if other != number:
            total += _told(points, shown)[0] * _view_of(points, shown.camera)
    say = np.where(np.isfinite(own.depth), mine / total, 1.0).repeat(2, 0).repeat(2, 1)
    return trust * _plane(np.where(own.seen.hair, say, 1.0), str(trust.device))


def _view_of(points: NDArray[np.float64], camera: Camera) -> Floats:
    """(h, w) how well a camera sees hair at points (h, w, 3) metres, up to 1."""
    towards = camera.position - points
    towards /= np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-6)
    cosine = (_outwards(points) * towards).sum(-1).astype(np.float32)
    return np.maximum(facing(cosine), np.float32(_GLANCE)) ** 3


def reference_hair(
    wearing: Wearing,
    texture: Tensor,
    ratios: Tensor,
    pose: PoseInputs,
    yaw: float,
    size: int,
    photographs: Sequence[Shown],
) -> Target:
    """A reference that also holds the hair which none of the ``photographs`` sees."""
    target = reference_target(wearing, texture, ratios, pose, yaw, size)
    with torch.no_grad():
        out, raw, depth = wearing.draw(texture, pose, [target.view])
    alpha = raw[:, -1:].float()
    points = _place(orbit(yaw, 0.0), depth[0])
    solid = np.isfinite(depth[0])
    told, against = np.zeros_like(solid), np.zeros_like(solid)
    for shown in photographs:
        known, unwanted = _told(points, shown)
        told |= known & solid
        against |= unwanted & solid
    held = (_share(raw, size) > _SHOWN) & (out[0, 3].cpu().numpy() > _SOLID)
    held &= ~(told | against).repeat(2, 0).repeat(2, 1)
    weight = torch.maximum(target.weight, _plane(held, wearing.device))
    outside = binary_dilation(alpha[0, 0].cpu().numpy() > 0.1, iterations=2)
    inside = binary_erosion(alpha[0, 0].cpu().numpy() > 0.9, iterations=1)
    trust = np.where(outside & ~inside, _RIM, 1.0) * ~against
    return Target(
        target.pose, target.view, target.picture, weight, False, alpha,
        _plane(trust, wearing.device),
    )  # fmt: skip


def _told(points: NDArray[np.float64], shown: Shown) -> tuple[Bools, Bools]:
    """(h, w) which points (h, w, 3) metres a photograph shows as hair itself, and which it denies.

    Denied hair stands where the photograph shows none; holding it from the side would leave it
    half transparent.
    """
    side = len(shown.depth)
    pixel, depth = shown.camera.project(points.reshape(-1, 3), side, side)
    usable = np.isfinite(pixel).all(1) & (depth > 0)
    pixel = np.where(usable[:, None], pixel, 0.0)
    column, row = np.floor(pixel).astype(int).T
    usable &= (column >= 0) & (row >= 0) & (column < side) & (row < side)
    column, row = column.clip(0, side - 1), row.clip(0, side - 1)
    behind = depth - shown.depth[row, column]
    hair = usable & (np.abs(behind) < _NEAR) & (shown.alpha[row, column] > _SHOWN)
    hair &= shown.seen.hair[::2, ::2][row, column]
    none = usable & (behind < _NEAR) & shown.seen.none[::2, ::2][row, column]
    shape = points.shape[:2]
    return hair.reshape(shape), none.reshape(shape)


def _place(camera: Camera, depth: Floats) -> NDArray[np.float64]:
    """(h, w, 3) metres of the pixels of a whole square picture; meaningless where it is empty."""
    side = len(depth)
    v, u = (np.mgrid[0:side, 0:side] + 0.5) / side
    grid = np.stack([u, v, np.ones_like(u)], -1)
    directions = grid @ np.linalg.inv(camera.intrinsics).T @ camera.cam2world[:3, :3].T
    reach = np.where(np.isfinite(depth), depth, 1.0)[..., None]
    return np.asarray(camera.position + directions * reach, dtype=np.float64)


def _outwards(points: NDArray[np.float64]) -> Floats:
    """(…, 3) unit directions in which hair at points (…, 3) metres stands out from the skull."""
    away = points - _CENTRE
    away /= np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)
    return away.astype(np.float32)


def _share(raw: Tensor, size: int) -> Floats:
    share = raw[:, -1:].float() / raw[:, -2:-1].float().clamp(min=0.05)
    share = F.interpolate(share, size=(size, size), mode="bilinear", align_corners=False)
    return np.asarray(share[0, 0].clamp(0, 1).cpu().numpy())


def _plane(plane: NDArray, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None].to(device)
