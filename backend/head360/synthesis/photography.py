"""From a prepared scene to finished photographs: rasterise, shade, find the landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from head360.geometry.topology import Topology
from head360.rendering import raster
from head360.rendering.cameras import Camera
from head360.synthesis.dense import dense_points, visible_points
from head360.synthesis.lights import DEFAULT_LIGHT
from head360.synthesis.parsing import look_through
from head360.synthesis.shading import Shaded, ShadeInput, shade

Floats = NDArray[np.float32]

# Cards are coarser than the skull they hug: a small lead in depth keeps it from piercing.
_HAIR_LEAD = 0.003  # metres
_NOTHING = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class Photograph:
    """One picture of the studio, and what is true of it.

    Attributes:
        rgba: (H, W, 4) float32 sRGB-encoded, straight alpha, under ``DEFAULT_LIGHT``.
        hair: (H, W) float32 coverage by hair, 0…1.
        landmarks: (68, 2) float32 pixels, Multi-PIE order, visible or not.
        depth: (H, W) float32 metres, planar z at the pixel's centre, +inf outside.
        normals: (H, W, 3) float32 unit, head space, at the pixel's centre, zero outside. Hair has
            the rounded normals that it is lit with: those of its cards mean nothing.
        albedo: (H, W, 4) float32 sRGB-encoded, straight alpha, unlit.
        labels: (H, W) uint8 classes of ``datasets.labels`` by majority of the samples: background
            where less than half is covered, hair where at least half is hair.
        dense: (468, 2) float32 pixels, MediaPipe face mesh order, visible or not.
        visible: (536,) bool, first the 68, then the dense: neither hidden nor out of the picture.
        lit: (H, W, 4) float32 as ``rgba``, one for each light asked for.

    From depth to visible they are None unless asked for.
    """

    rgba: Floats
    hair: Floats
    landmarks: Floats
    depth: Floats | None = None
    normals: Floats | None = None
    albedo: Floats | None = None
    labels: NDArray[np.uint8] | None = None
    dense: Floats | None = None
    visible: NDArray[np.bool_] | None = None
    lit: dict[str, Floats] = field(default_factory=dict)


def draw(
    scene: ShadeInput,
    cutout: raster.Cutout,
    cameras: list[Camera],
    width: int,
    height: int,
    lights: tuple[str, ...],
    passes: bool,
    samples: int,
    head: int,
    device: str,
) -> Iterator[tuple[Shaded, Floats]]:
    """Yield the finished pixels and the supersampled depth of each view.

    Args:
        scene, cutout: from ``Studio.scene``.
        cameras: where from; on CUDA all views are drawn at once.
        width, height: pixels.
        lights: names, the default first.
        passes: whether the truths are wanted; on CUDA the depth is empty without them.
        samples: supersampling per axis.
        head: how many of the scene's vertices are the head's; hair follows them.
        device: "cpu" or a torch device.

    Raises:
        BadInput: there is no such light.
    """
    wide, high = width * samples, height * samples
    screens = (raster.perspective_screen(scene.positions, c, wide, high) for c in cameras)
    if not device.startswith("cuda"):
        for camera, screen in zip(cameras, screens, strict=True):
            screen[head:, 2] -= _HAIR_LEAD
            seen = raster.rasterize(screen[None], scene.faces, wide, high, cutout)
            yield shade(scene, seen, camera, samples, lights, passes), seen.depth[0]
        return
    from head360.rendering.raster_gpu import fragments_torch
    from head360.synthesis.shading_torch import shade_torch

    stack = np.stack(list(screens))
    stack[:, head:, 2] -= _HAIR_LEAD
    face, bary, depth = fragments_torch(stack, scene.faces, wide, high, cutout, device)
    views = shade_torch(scene, face, bary, cameras, samples, lights, passes)
    for number in range(len(cameras)):
        yield views.view(number), depth[number].cpu().numpy() if passes else _NOTHING


def finish(
    scene: ShadeInput,
    camera: Camera,
    shaded: Shaded,
    depth: Floats,
    lights: tuple[str, ...],
    passes: bool,
    samples: int,
    topology: Topology,
) -> Photograph:
    """Make a photograph of finished pixels and find its landmarks.

    Args:
        scene: what was drawn.
        camera: where from.
        shaded, depth: from :func:`draw`.
        lights: names that were asked for, the default among them or not.
        passes: whether the truths are wanted.
        samples: supersampling of ``depth``.
        topology: of the scene's head.
    """
    height, width = shaded.hair.shape
    names = (DEFAULT_LIGHT, *(name for name in lights if name != DEFAULT_LIGHT))
    lit = dict(zip(names, shaded.lit, strict=True))
    head = scene.positions[: len(topology.ict_vertices)]
    landmarks, near68 = camera.project(head[topology.landmarks68], width, height)
    picture = Photograph(
        lit[DEFAULT_LIGHT],
        shaded.hair,
        landmarks.astype(np.float32),
        lit={name: lit[name] for name in lights},
    )
    if not passes:
        return picture
    dense, near468 = camera.project(dense_points(head), width, height)
    pixels = np.concatenate([landmarks, dense]) * samples
    seen = visible_points(pixels, np.concatenate([near68, near468]), depth, samples)
    labels = None if shaded.labels is None else look_through(shaded.labels)
    return replace(
        picture, depth=shaded.depth, normals=shaded.normals, albedo=shaded.albedo,
        labels=labels, dense=dense.astype(np.float32), visible=seen,
    )  # fmt: skip
