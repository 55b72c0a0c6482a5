"""The surface of a hex-plane head: where its density turns opaque, hair included.

The head's density climbs from nothing to opaque within about a millimetre, less than a cell of most
grids: marching cubes on it makes terraces. So the place is measured along the mesh's normals, where
it is sharp (``opaque_mesh``), and the grid sees a signed depth behind that place. Hair has no mesh;
its density is smooth enough for the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from head360.errors import BadInput
from head360.geometry.attach import vertex_normals
from head360.geometry.bilinear import BilinearModel
from head360.geometry.bricks import BrickGrid
from head360.geometry.carving import Carving, close_rim, cut_above, longest_rim
from head360.geometry.isosurface import solid_components
from head360.geometry.lashes import solid_faces
from head360.geometry.lattice import Lattice
from head360.geometry.topology import Topology
from head360.heads.base import Codes, Pose, Surface
from head360.heads.windows import enclosure
from head360.networks.hexplane import HexPlaneNet, PosePlanes
from head360.rendering.cameras import from_normalised, to_normalised
from head360.rendering.volume import GRID

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Progress = Callable[[float, str], None]

RESOLUTIONS = (32, 512)
TEXTURES = (0, 512, 1024, 2048)
_DENSITY = 8.0  # per normalised unit: the surface
_ENCLOSED = 0.02  # normalised depth inside the five views beyond which a point is solid head
_SOLID = 400.0  # density there
_POINTS = 1 << 16
_REACH = 0.02  # normalised; how far from the mesh its density is measured
_RELAX = 8  # passes that smooth the measured offsets over the mesh
_BLUR = 0.8  # cells
_BAND = 3.0  # cells over which the depth inside the head goes from 0 to 1
_HULL_BLUR = 1.2  # hull cells
_HULL_EDGE = 0.28  # of the blurred hull: one cell alone stays
_ROUNDING = 1.5  # of the band: how far the edge of the cut bust is rounded
_KEEP = 0.005  # components with fewer triangles than this share of the largest are floaters
_SEEN = (0.012, -0.028)  # normalised; where along the normal colour is looked for
_STEPS = 9
_SEEN_LEAST = 0.1  # opacity below which a place has no colour of its own


class DensityHead(Protocol):
    """What this module needs of a hex-plane head."""

    net: HexPlaneNet
    model: BilinearModel
    device: str

    def hair_box(self, codes: Codes, lattice: Lattice) -> NDArray[np.uint8] | None:
        """(GRID,)*3 occupancy of the hair around this identity."""


def field(head: DensityHead, pose: Pose, points: Floats) -> tuple[Floats, Floats]:
    """Density and colour of head and hair together.

    Args:
        points: (M, 3) float32 normalised space.

    Returns:
        (M,) density per normalised unit and (M, 3) sRGB colour.
    """
    densities, colours = [], []
    planes: PosePlanes = pose.state["planes"]
    for start in range(0, len(points), _POINTS):
        chunk = points[start : start + _POINTS]
        tensor = torch.from_numpy(chunk).to(head.device)
        with torch.no_grad():
            inside = enclosure(planes, tensor)
            sigma, colour = head.net.head_field(planes, tensor)
            # The field is trained in a band around the mesh only; beyond it the mesh decides.
            sigma = torch.where(inside < -_ENCLOSED, torch.zeros_like(sigma), sigma)
            sigma = torch.where(inside > _ENCLOSED, torch.full_like(sigma, _SOLID), sigma)
            density = sigma.cpu().numpy()
            rgb = colour[:, :3].clamp(0, 1).cpu().numpy()
        index, hair, hair_rgb = _hair(head, pose, chunk)
        if len(index):
            total = density[index] + hair
            share = (hair / np.maximum(total, 1e-6))[:, None]
            rgb[index] = rgb[index] * (1 - share) + hair_rgb * share
            density[index] = total
        densities.append(density)
        colours.append(rgb)
    return np.concatenate(densities), np.concatenate(colours)


def _cells(points: Floats) -> Floats:
    """(M, 3) normalised x, y, z → (M, 3) fractional indices z, y, x into a hair hull."""
    return ((points[:, ::-1] + 1) * (0.5 * GRID) - 0.5).astype(np.float32)


def _hair_density(head: DensityHead, pose: Pose, points: Floats) -> Floats:
    """(M,) hair density at (M, 3) normalised points, wherever the hull is."""
    lattice: Lattice = pose.state["lattice"]
    found = [np.zeros(0, np.float32)]
    for start in range(0, len(points), _POINTS):
        canonical = lattice.to_canonical(points[start : start + _POINTS])
        with torch.no_grad():
            density, _ = head.net.hair_field(
                pose.state["look"].hair, torch.from_numpy(canonical).to(head.device)
            )
        found.append(density.cpu().numpy())
    return np.concatenate(found)


def _hair(
    head: DensityHead, pose: Pose, points: Floats
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Which of (M, 3) points may be hair, their density (K,) and sRGB colour (K, 3)."""
    lattice: Lattice = pose.state["lattice"]
    look: Any = pose.state["look"]
    box = head.hair_box(pose.codes, lattice)
    nothing = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 3), np.float32)
    if box is None or look.hair is None:
        return nothing
    cell = np.clip(((points + 1) * 0.5 * GRID).astype(int), 0, GRID - 1)
    index = np.flatnonzero(box[cell[:, 2], cell[:, 1], cell[:, 0]])
    if not len(index):
        return nothing
    canonical = torch.from_numpy(lattice.to_canonical(points[index])).to(head.device)
    with torch.no_grad():
        density, colour = head.net.hair_field(look.hair, canonical)
        rgb = colour[:, :3] if look.dye is None else look.dye(colour[:, :3])
    return index, density.cpu().numpy(), rgb.float().clamp(0, 1).cpu().numpy()


def opaque_mesh(head: DensityHead, pose: Pose) -> Floats:
    """(N, 3) float32 normalised vertices, moved along their normals to where density is opaque.

    Parts that are not seen (the mouth behind closed lips) have density all around: they stay.
    """
    topology = head.model.topology
    vertices = to_normalised(pose.vertices).astype(np.float32)
    normals = vertex_normals(vertices, topology.faces)
    steps = np.linspace(_REACH, -_REACH, 21, dtype=np.float32)
    planes: PosePlanes = pose.state["planes"]
    with torch.no_grad():
        density = np.stack(
            [
                head.net.head_field(
                    planes, torch.from_numpy(vertices + normals * step).to(head.device)
                )[0].cpu().numpy()
                for step in steps
            ]
        )  # fmt: skip
    # Half of the light is gone.
    through = np.cumsum(density, axis=0) * (steps[0] - steps[1])
    crossed = through > np.log(2.0)
    offset = steps[crossed.argmax(0)]
    known = crossed.any(0) & (density[0] < _DENSITY) & (density[1] < _DENSITY)
    known &= np.isin(topology.vertex_parts, _outer_parts(topology))
    return vertices + normals * _relaxed(offset, known, topology.faces)[:, None]


def _outer_parts(topology: Topology) -> list[int]:
    return [k for k, name in enumerate(topology.part_names) if name in ("face", "head_neck")]


def _relaxed(offset: Floats, known: NDArray[np.bool_], faces: Ints) -> Floats:
    """(N,) float32 offsets, averaged over neighbours that are known; 0 where none is."""
    count = len(offset)
    pairs = np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]])
    ones = np.ones(len(pairs), dtype=np.float32)
    graph = sp.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
    graph = ((graph + graph.T + sp.identity(count, dtype=np.float32, format="csr")) > 0).astype(
        np.float32
    )
    weight = known.astype(np.float32)
    value = np.where(known, offset, 0.0).astype(np.float32)
    for _ in range(_RELAX):
        total = graph @ weight
        value = np.where(known, (graph @ (value * weight)) / np.maximum(total, 1e-6), 0.0)
    return np.asarray(value, dtype=np.float32)


def extract_surface(
    head: DensityHead,
    pose: Pose,
    resolution: int,
    texture: int = 0,
    progress: Progress | None = None,
) -> Surface:
    """The surface of head and hair as a watertight mesh.

    Args:
        head, pose: of the moment.
        resolution: cells per axis of the box, 32 … 512.
        texture: side of a baked texture in pixels, or 0 for vertex colours alone.
        progress: called with (fraction, phase); what it raises stops the work.

    Raises:
        BadInput: resolution or texture out of range, or no xatlas for the texture.
    """
    if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise BadInput(f"Cannot extract at resolution {resolution}: use 32 to 512.")
    if texture not in TEXTURES:
        raise BadInput(f"A texture of {texture} pixels is not offered: use 0, 512, 1024 or 2048.")
    share = 0.5 if texture else 0.9

    reached = 0.0

    def report(fraction: float, phase: str, start: float = 0.0, stop: float = 1.0) -> None:
        nonlocal reached
        # Sampling finds more to do on its way; what is shown never runs backwards.
        reached = max(reached, start + fraction * (stop - start))
        if progress is not None:
            progress(reached, phase)

    def grid(fraction: float, phase: str) -> None:
        middle = 0.8 * share
        span = (0.02, middle) if phase == "sampling" else (middle, share)
        report(fraction, phase, *span)

    report(0.0, "measuring")
    normalised, faces, removed = _triangles(head, pose, resolution, grid)
    positions = from_normalised(normalised).astype(np.float32)
    normals = vertex_normals(positions, faces)
    report(share, "colouring")
    seen = Colours(head, pose)
    colours = seen(normalised, normals)
    surface = Surface(positions, faces, colours, normals, removed=removed)
    if texture:
        from head360.geometry.bake import bake
        from head360.geometry.unwrap import unwrap

        report(share + 0.05, "unwrapping")
        uvs, face_uvs = unwrap(positions, faces, texture)
        picture = bake(
            normalised, faces, uvs, face_uvs, normals, texture,
            seen,
            lambda f: report(f, "baking", share + 0.1, 1.0),
        )  # fmt: skip
        surface = Surface(
            positions, faces, colours, normals, uvs, face_uvs, picture, removed=removed
        )
    report(1.0, "done")
    return surface


def hair_surface(
    head: DensityHead, pose: Pose, resolution: int, progress: Progress | None = None
) -> Surface | None:
    """The hair alone as a closed mesh with vertex colours; None when bald."""
    hair = _hair_values(head, pose)
    if hair is None:
        return None
    values, spots = hair

    def alone(points: Floats) -> Floats:
        return values(points, np.full(len(points), -1.0, dtype=np.float32))

    normalised, faces, removed = _level(alone, spots, resolution, progress)
    if not len(faces):
        return None
    positions = from_normalised(normalised).astype(np.float32)
    normals = vertex_normals(positions, faces)
    colours = Colours(head, pose, hair_only=True)(normalised, normals)
    return Surface(positions, faces, colours, normals, removed=removed)


def _triangles(
    head: DensityHead, pose: Pose, resolution: int, report: Progress
) -> tuple[Floats, Ints, int]:
    """Normalised vertices, faces, and how many floaters and cavities were dropped."""
    topology = head.model.topology
    vertices = opaque_mesh(head, pose)
    closed, faces = vertices, topology.faces[solid_faces(topology)]
    # The bust ends in an edge as sharp as paper, which a grid would tear: it is cut straight.
    rim = longest_rim(vertices, faces)
    normal, offset = np.zeros(3, np.float32), -1.0
    if rim:
        closed, faces = close_rim(vertices, faces, rim)
        normal, offset = cut_above(vertices[rim], vertices.mean(0), 2.0 / resolution)
    # Texels half the size of a cell, so that outlines are not coarser than the grid.
    solid = Carving(closed, faces, int(np.clip(3 * resolution, 256, 1024)))
    band = _BAND * 2.0 / resolution
    hair = _hair_values(head, pose)

    def values(points: Floats) -> Floats:
        value = _rounded_minimum(
            solid.inside(points, band) / band, (points @ normal - offset) / band
        )
        return value if hair is None else hair[0](points, value)

    spots = np.concatenate([closed[faces].mean(1), closed, *([] if hair is None else [hair[1]])])
    found, triangles, removed = _level(values, spots, resolution, report)
    if not len(triangles):
        raise BadInput("The head has no surface at this resolution: try a higher one.")
    return found, triangles, removed


def _rounded_minimum(a: Floats, b: Floats) -> Floats:
    """Intersection of two solids with a rounded edge: a grid turns a sharp one into teeth."""
    blend = np.maximum(_ROUNDING - np.abs(a - b), 0.0) / _ROUNDING
    return np.asarray(np.minimum(a, b) - blend**2 * (_ROUNDING / 4), dtype=np.float32)


def _level(
    values: Callable[[Floats], Floats], spots: Floats, resolution: int, report: Progress | None
) -> tuple[Floats, Ints, int]:
    """The zero level near ``spots`` (M, 3), cleaned: vertices, faces, dropped components."""
    grid = BrickGrid(values, resolution, blur=_BLUR)
    grid.sample(grid.bricks_at(spots, 4 + resolution // GRID), report)
    found, triangles = grid.extract(report)
    kept, rest, removed = solid_components(found, triangles, _KEEP)
    return kept.astype(np.float32), rest.astype(np.int32), removed


def _hair_values(
    head: DensityHead, pose: Pose
) -> tuple[Callable[[Floats, Floats], Floats], Floats] | None:
    """How hair adds to the values of a grid, and (M, 3) places where it may be; None when bald."""
    box = head.hair_box(pose.codes, pose.state["lattice"])
    if box is None or pose.state["look"].hair is None or not box.any():
        return None
    hull = gaussian_filter(box.astype(np.float32), _HULL_BLUR)

    def add(points: Floats, value: Floats) -> Floats:
        """The mesh's ``value`` (M,) at (M, 3) points, raised by the hair's density."""
        near = map_coordinates(hull, _cells(points).T, order=1, mode="nearest")
        index = np.flatnonzero((near > _HULL_EDGE / 2) & (value < 1.0))
        density = _hair_density(head, pose, points[index])
        # Marching cubes interpolates linearly: the logarithm is smoother than the density.
        hair = np.log1p(density) / np.log1p(_DENSITY) - 1.0
        # Walls of the hull are where rendering stops; as cubes they would be steps.
        hair = np.minimum(hair, (near[index] - _HULL_EDGE) / (1 - _HULL_EDGE))
        value[index] = np.maximum(value[index], hair)
        return value

    cells = np.argwhere(box)[:, ::-1]
    return add, ((cells + 0.5) / GRID * 2 - 1).astype(np.float32)


class Colours:
    """What is seen of a pose's surface, looked at against the normal.

    Args:
        head, pose: of the moment.
        hair_only: the head is not there.
    """

    def __init__(self, head: DensityHead, pose: Pose, hair_only: bool = False) -> None:
        self._head, self._pose, self._hair_only = head, pose, hair_only
        self._known: tuple[cKDTree, Floats] | None = None

    def __call__(self, points: Floats, normals: Floats) -> Floats:
        """(M, 3) float32 sRGB at (M, 3) normalised points with unit normals.

        What the first call finds, all vertices of a surface, helps out where later ones see
        nothing: below the bust nothing was ever trained, and the colours around go on.
        """
        colour, total = self._march(points, normals)
        known = total >= _SEEN_LEAST
        if self._known is None and known.any():
            self._known = cKDTree(points[known]), colour[known]
        if self._known is not None and not known.all():
            tree, found = self._known
            count = min(4, len(found))
            distance, nearest = tree.query(points[~known], k=list(range(1, count + 1)), workers=-1)
            weight = 1.0 / np.maximum(distance, 1e-4)
            weight /= weight.sum(1, keepdims=True)
            colour[~known] = (found[nearest] * weight[:, :, None]).sum(1)
        return colour

    def _march(self, points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        """Composited colour (M, 3) and opacity (M,) along the normals, from outside in."""
        steps = np.linspace(*_SEEN, _STEPS, dtype=np.float32)
        gap = float(steps[0] - steps[1])
        through = np.ones(len(points), dtype=np.float32)
        seen = np.zeros((len(points), 3), dtype=np.float32)
        for step in steps:
            active = np.flatnonzero(through > 0.02)
            if not len(active):
                break
            density, colour = field(self._head, self._pose, points[active] + normals[active] * step)
            opacity = 1 - np.exp(-density * gap)
            seen[active] += (through[active] * opacity)[:, None] * colour
            through[active] *= 1 - opacity
        total = 1 - through
        return (seen / np.maximum(total, 1e-4)[:, None]).clip(0, 1), total

    def _look(self, points: Floats) -> tuple[Floats, Floats]:
        if not self._hair_only:
            return field(self._head, self._pose, points)
        density = np.zeros(len(points), dtype=np.float32)
        colour = np.zeros((len(points), 3), dtype=np.float32)
        index, hair, rgb = _hair(self._head, self._pose, points)
        density[index], colour[index] = hair, rgb
        return density, colour
