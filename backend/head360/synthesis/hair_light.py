"""Hair in the way of light: on the head, and on itself.

Both are found once for a subject and a style, on the neutral face: hair hardly moves against the
skin it grows on, so a pose multiplies its own visibility with what hair leaves of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.rendering.raster import Cutout
from head360.synthesis.hair import Style, WornHair
from head360.synthesis.lights import LIGHTS
from head360.synthesis.occlusion import visibility, weigh

Floats = NDArray[np.float32]

REACH = 0.05  # metres from the hair where its shadow ends, so that a bald twin differs nearby only
_FULL = 0.02  # metres up to which the shadow is whole
_STRENGTH = 0.9  # light also passes through hair
_SELF_STRENGTH = 0.75
_THICKNESS = 0.008  # metres


@dataclass(frozen=True)
class HairLight:
    """What one style on one subject leaves of the light.

    Attributes:
        behind: (N, D) uint8, what each vertex of the head sees of ``occlusion.directions()`` past
            the hair; 255 is all.
        own: (M, C) float32 what each vertex of the hair sees under every light, columns as in
            ``ShadeInput.occlusion``.
    """

    behind: NDArray[np.uint8]
    own: Floats


def hair_light(
    style: Style, worn: WornHair, head: Floats, normals: Floats, casters: NDArray[np.int32]
) -> HairLight:
    """Cast the shadows of ``worn``.

    Args:
        style: whose triangles and mask.
        worn: on the head.
        head, normals: (N, 3) float32 neutral vertices in metres and their unit normals.
        casters: (F, 3) int32 the head's triangles that cast shadows.
    """
    layers = np.zeros(len(style.faces), dtype=np.int32)
    masks = style.mask[None]
    # Cards are thin and lie on the skull: real hair has a thickness that overhangs.
    thick = (worn.positions + _THICKNESS * worn.normals).astype(np.float32)
    seen = visibility(
        head, normals, style.faces, casters=thick,
        cutout=Cutout(style.corner_uvs, layers, masks), bias=0.0005, soft=0.004,
    )  # fmt: skip
    centres = worn.positions[style.faces].mean(1)
    distance, _ = cKDTree(np.concatenate([worn.positions, centres])).query(
        head, distance_upper_bound=REACH
    )
    near = np.clip((REACH - distance) / (REACH - _FULL), 0.0, 1.0)
    near = _STRENGTH * near * near * (3 - 2 * near)
    behind = 1.0 - near[:, None] * (1.0 - seen)
    both = np.concatenate([casters, style.faces + len(head)])
    own = visibility(
        worn.positions, worn.normals, both, casters=np.concatenate([head, worn.positions]),
        cutout=Cutout(
            np.concatenate([np.zeros((len(casters), 3, 2), np.float32), style.corner_uvs]),
            np.concatenate([np.full(len(casters), -1, np.int32), layers]),
            masks,
        ),
        bias=0.004, soft=0.02,
    )  # fmt: skip
    own = 1.0 - _SELF_STRENGTH * (1.0 - own)
    columns = np.concatenate([weigh(own, worn.normals, light) for light in LIGHTS.values()], 1)
    return HairLight(np.round(behind * 255).astype(np.uint8), columns * worn.occlusion[:, None])
