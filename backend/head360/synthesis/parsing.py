"""Parsing labels of the head: a class for every triangle, and for the skin one for every texel.

Borders that cross triangles (brows, vermilion, neck) live in an atlas of classes. They are found
once on the average head, so they stay where they are whoever sits and whatever the face does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt

from head360.datasets import labels
from head360.geometry.topology import Topology
from head360.rendering import raster

Floats = NDArray[np.float32]
Classes = NDArray[np.uint8]

SIZE = 1024  # texels per side of the atlas
_BLEED = 2  # texels
BROW_COVER = 0.15  # of the paint from which a texel counts as brow: as wide as people draw them

# Height of the border between head and neck at some depths on the average head, metres: from the
# nape under the ears along the jaw to the chin.
_NECK_LINE = (
    (-0.08, -0.02, 0.0, 0.03, 0.06, 0.085, 0.105),
    (-0.055, -0.055, -0.062, -0.074, -0.086, -0.098, -0.105),
)

LASHES = len(labels.LABELS)  # what pixels of lashes are called before :func:`look_through`
_REACH = 12  # pixels: how far from lashes their neighbours are looked for

_CLASS_OF_PART = {
    "mouth_socket": labels.MOUTH,
    "teeth": labels.MOUTH,
    "gums_tongue": labels.MOUTH,
    "eye_socket": labels.EYES,
    "eyeball": labels.EYES,
    "eyelashes": LASHES,
}


def face_labels(topology: Topology) -> Classes:
    """(F,) uint8 class of each triangle, ``LASHES`` too; skin is refined by :func:`label_atlas`."""
    out = np.full(len(topology.faces), labels.SKIN, dtype=np.uint8)
    for part, label in _CLASS_OF_PART.items():
        out[topology.part_faces(part)] = label
    return out


def look_through(classes: Classes) -> Classes:
    """Give pixels of lashes the class of the nearest eye or skin.

    Single hairs over lids and eyes are nothing that a picture is cut along, and nobody who labels
    photographs draws them.

    Args:
        classes: (H, W) uint8, ``LASHES`` where most of a pixel is lashes.
    """
    rows, columns = np.nonzero(classes == LASHES)
    if not len(rows):
        return classes
    part = tuple(
        slice(max(0, int(places.min()) - _REACH), int(places.max()) + _REACH + 1)
        for places in (rows, columns)
    )
    near = classes[part]
    unknown = np.isin(near, (labels.BACKGROUND, labels.HAIR, LASHES))
    out = classes.copy()
    if unknown.all():
        out[rows, columns] = labels.SKIN
        return out
    nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    out[part] = np.where(near == LASHES, near[tuple(nearest)], near)
    return out


def label_atlas(topology: Topology, texels: Floats) -> Classes:
    """(1024, 1024) uint8 class of each texel of the skin: skin, lips, mouth or neck.

    Args:
        topology: of the bilinear model.
        texels: :func:`skin_positions` of the neutral average head.
    """
    out = np.full((SIZE, SIZE), labels.SKIN, dtype=np.uint8)
    out[below_jaw(texels) > 0] = labels.NECK
    _bleed(out, ~np.isnan(texels[..., 1]))
    mouth, lips = mouth_masks(topology)
    out[lips], out[mouth] = labels.LIPS, labels.MOUTH
    return out


def below_jaw(places: Floats) -> Floats:
    """(…,) metres by which places (…, 3) of the average head lie below the border to the neck."""
    return (np.interp(places[..., 2], *_NECK_LINE) - places[..., 1]).astype(np.float32)


def _bleed(atlas: Classes, known: NDArray[np.bool_]) -> None:
    """Carry classes a few texels beyond the triangles: samples at a seam look up what is there."""
    for _ in range(_BLEED):
        for axis in (0, 1):
            for step in (1, -1):
                fresh = np.roll(known, step, axis) & ~known
                atlas[fresh] = np.roll(atlas, step, axis)[fresh]
                known |= fresh


def mouth_masks(topology: Topology) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two (1024, 1024) masks: inside the inner contour of the lips, and between the two."""
    places = _landmark_uvs(topology) * SIZE
    places[:, 1] = SIZE - places[:, 1]
    inner = _inside(_rounded(places[60:68]))
    return inner, _inside(_rounded(places[48:60])) & ~inner


def _landmark_uvs(topology: Topology) -> NDArray[np.float64]:
    """(68, 2) atlas places of the landmarks."""
    flat = topology.faces.ravel()
    order = np.argsort(flat, kind="stable")
    first = order[np.searchsorted(flat[order], topology.landmarks68)]
    return topology.uvs[topology.face_uvs.ravel()[first]].astype(np.float64)


def _rounded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(160, 2) closed curve through (P, 2) points, with corners only at the corners of the mouth.

    The first point and its opposite are the corners.
    """
    half = len(points) // 2
    closed = np.concatenate([points, points[:1]])
    curves = []
    for part in (closed[: half + 1], closed[half:]):
        steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(part, axis=0), axis=1))])
        curves.append(CubicSpline(steps, part)(np.linspace(0, steps[-1], 81)[:-1]))
    return np.concatenate(curves)


def _inside(polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(1024, 1024) texels whose centre lies inside a closed (P, 2) polygon."""
    drawn = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(drawn).polygon([tuple(point) for point in polygon - 0.5], fill=1)
    return np.asarray(drawn, dtype=bool)


def with_brows(atlas: Classes, cover: Floats) -> Classes:
    """``atlas`` with brows where ``cover`` (1024, 1024) in [0, 1] paints them on skin."""
    out = atlas.copy()
    out[(cover >= BROW_COVER) & (atlas == labels.SKIN)] = labels.BROWS
    return out


def skin_positions(topology: Topology, vertices: Floats) -> Floats:
    """(1024, 1024, 3) float32 head-space place of each texel of the outer skin, else NaN."""
    uvs = topology.uvs
    screen = np.stack(
        [uvs[:, 0] * SIZE, (1 - uvs[:, 1]) * SIZE, np.ones(len(uvs)), np.ones(len(uvs))], 1
    ).astype(np.float32)
    faces = topology.part_faces("face", "head_neck")
    fragments = raster.rasterize(screen[None], topology.face_uvs[faces], SIZE, SIZE)
    place = raster.interpolate(fragments, 0, topology.faces[faces], vertices)
    place[fragments.face[0] < 0] = np.nan
    return place
