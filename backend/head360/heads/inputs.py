"""What a hex-plane head needs to know of geometry before any network runs. No gradients here.

``PoseInputs`` belong to a moment (mesh posed, six orthographic views), ``ViewInputs`` to a camera
(rays, mesh depth, screen-space guidance). Training and rendering use the same two functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.geometry.attach import vertex_normals
from head360.geometry.lashes import lash_cutout, solid_faces
from head360.geometry.topology import Topology
from head360.rendering import raster
from head360.rendering.cameras import Camera
from head360.rendering.volume import Rays, camera_rays

Floats = NDArray[np.float32]

COVERAGE_SAMPLES = 3  # per axis; the middle one is the pixel centre

# Small, rarely seen and looked at first: training weighs their pixels more.
DETAIL_PARTS = ("eyeball", "teeth", "gums_tongue", "mouth_socket", "eyelashes")

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class PoseInputs:
    """Six orthographic views of a posed mesh.

    Attributes:
        vertices, normals: (N, 3) float32.
        uv: (M, 2) float32 tensor of texture coordinates at covered pixels.
        index: (M,) int64 tensor, flat into (6, R, R).
        depths: (3, R, R, 2) float32 tensor, 2 where empty.
    """

    vertices: Floats
    normals: Floats
    uv: Tensor
    index: Tensor
    depths: Tensor


@dataclass(frozen=True)
class ViewInputs:
    """One window of one camera.

    Attributes:
        rays: of the raw window.
        mesh_depth: (h, w) float32 metres, +inf where the mesh is missed.
        uv: (M, 2) float32 at covered output pixels; index: (M,) int64 flat into (H, W).
        normals: (H, W, 3) float32; coverage: (H, W) float32.
        detail: (H, W) bool, where eyes, teeth, tongue or the inside of the mouth are seen.
    """

    rays: Rays
    mesh_depth: Floats
    uv: Floats
    index: NDArray[np.int64]
    normals: Floats
    coverage: Floats
    detail: NDArray[np.bool_]


def pose_inputs(
    vertices: Floats, topology: Topology, resolution: int, device: str = "cpu"
) -> PoseInputs:
    """Rasterise the six sides of the box; lashes are left to the guidance (they are too thin)."""
    solid = solid_faces(topology)
    fragments = raster.rasterize(
        raster.orthographic_screens(vertices, resolution),
        topology.faces[solid],
        resolution,
        resolution,
        device=device,
    )
    index = np.flatnonzero(fragments.face.reshape(-1) >= 0)
    corners = topology.uvs[topology.face_uvs[solid]][fragments.face.reshape(-1)[index]]
    uv = _blend(corners, fragments.bary.reshape(-1, 2)[index])
    depths = np.where(np.isfinite(fragments.depth), fragments.depth - raster.NEAR, 2.0)
    depths = depths.reshape(3, 2, resolution, resolution).transpose(0, 2, 3, 1)
    return PoseInputs(
        vertices,
        vertex_normals(vertices, topology.faces),
        torch.from_numpy(uv).to(device),
        torch.from_numpy(index).to(device),
        torch.from_numpy(np.ascontiguousarray(depths, dtype=np.float32)).to(device),
    )


def view_inputs(
    pose: PoseInputs,
    topology: Topology,
    camera: Camera,
    size: tuple[int, int],
    window: Window,
    raw_size: tuple[int, int],
    raw_window: Window,
    device: str = "cpu",
) -> ViewInputs:
    """Rasterise one camera window at raw and at output resolution.

    Args:
        pose: of the moment.
        topology: of the mesh.
        camera: where from.
        size, window: output width and height; the window (left, top, right, bottom) in output
            pixels, which may reach beyond the image.
        raw_size, raw_window: the same for the raw render.
        device: "cpu" or "cuda".
    """
    left, top, right, bottom = raw_window
    screen = raster.perspective_screen(pose.vertices, camera, *raw_size)
    screen[:, 0] -= left
    screen[:, 1] -= top
    solid = topology.faces[solid_faces(topology)]
    raw = raster.rasterize(screen[None], solid, right - left, bottom - top, device=device)
    rays = camera_rays(camera, *raw_size, raw_window)

    left, top, right, bottom = window
    width, height = right - left, bottom - top
    s = COVERAGE_SAMPLES
    screen = raster.perspective_screen(pose.vertices, camera, size[0] * s, size[1] * s)
    screen[:, 0] -= left * s
    screen[:, 1] -= top * s
    fine = raster.rasterize(
        screen[None], topology.faces, width * s, height * s, lash_cutout(topology), device=device
    )
    covered = fine.face[0] >= 0
    coverage = covered.reshape(height, s, width, s).mean((1, 3), dtype=np.float32)
    centre = slice(s // 2, None, s)
    face = np.ascontiguousarray(fine.face[0, centre, centre])
    bary = np.ascontiguousarray(fine.bary[0, centre, centre])
    index = np.flatnonzero(face.reshape(-1) >= 0)
    uv = _blend(
        topology.uvs[topology.face_uvs][face.reshape(-1)[index]], bary.reshape(-1, 2)[index]
    )
    centre_view = raster.Fragments(face[None], bary[None], fine.depth[:, centre, centre])
    normals = raster.interpolate(centre_view, 0, topology.faces, pose.normals)
    fine_parts = np.zeros(len(topology.faces) + 1, dtype=np.bool_)  # the last entry is "nothing"
    fine_parts[topology.part_faces(*DETAIL_PARTS)] = True
    return ViewInputs(rays, raw.depth[0], uv, index, normals, coverage, fine_parts[face])


def _blend(corners: Floats, bary: Floats) -> Floats:
    """(M, 3, 2) corner values and (M, 2) weights → (M, 2)."""
    wa, wb = bary[:, :1], bary[:, 1:]
    blended = corners[:, 0] * wa + corners[:, 1] * wb + corners[:, 2] * (1 - wa - wb)
    return np.ascontiguousarray(blended, dtype=np.float32)
