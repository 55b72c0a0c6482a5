"""The reference: what the head should look like from everywhere, as far as a photograph can tell.

The photograph speaks where it shows bare skin. Its ratio to the blended head is carried on over the
skin by Poisson's equation (Pérez, Gangnet and Blake 2003), solved on the graph of texels instead of
a picture's pixels: no gradient is added where nothing is seen, so there the blended head keeps its
own relief; the other half of the face lends its detail. What is carried on fades towards the common
tone of the face within a few centimetres: a beard, a blue reflection under the jaw or a cheek's rim
would otherwise colour the whole neck.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from head360.fitting.light import shading
from head360.fitting.start import Look, Start, exposures, log_ratio
from head360.fitting.surface import EYE_PARTS, FINE, SkinGraph
from head360.geometry.atlas import ATLAS_TILES, UNIT

Floats = NDArray[np.float32]

_TWIN = 0.12  # trust in the mirrored half
_FLOW = 0.02  # weight of the graph against the photograph where it is seen
_FADE = 12.0  # texels at 256 a side over which what is seen fades into the common tone
_LIMIT = 1.4  # of the log ratio
_SCLERA, _IRIS = 0.25, 0.7  # limits for the eyes, whose gaze and lids are only roughly known


def complete(graph: SkinGraph, start: Start, looks: list[Look], delight: float = 1.0) -> Floats:
    """(M, 3) float32 log ratio of the wanted colours to the blended head's, everywhere.

    Args:
        graph: the skin.
        start: the blend and the light of each photograph.
        looks: of the photographs.
        delight: share of the photograph's light that is taken out.
    """
    weight = np.zeros(graph.count)
    total = np.zeros((graph.count, 3))
    exposed = exposures(start.colour, looks, start.light, delight)
    for look, light, trust, exposure in zip(looks, start.light, says(looks), exposed, strict=True):
        plain = log_ratio(look.colour, start.colour) - shading(light, look.normals, delight)
        # Other photographs were exposed in another way: the first one gives the complexion.
        plain = plain - exposure
        total += trust[:, None] * np.clip(plain, -_LIMIT, _LIMIT)
        weight += trust
    known = total / np.maximum(weight, 1e-9)[:, None]
    weight = np.minimum(weight, 1.0)
    result = np.zeros((graph.count, 3), dtype=np.float32)
    skin = graph.skin
    if not (weight[skin] > 0.2).any():
        return result
    tone = np.median(known[skin & (weight > 0.2)], 0)
    pull = tone_pull(graph.texels.size)
    twin = graph.twin
    mirrored = np.where((twin >= 0) & skin, weight[twin], 0.0) * _TWIN
    data = weight * skin
    trust = data + mirrored + pull
    wanted = data[:, None] * known + mirrored[:, None] * known[twin] + pull * tone
    matrix = sp.diags(trust) + _FLOW * graph.laplacian()
    inside = np.flatnonzero(skin)
    solve = splu(matrix.tocsr()[inside][:, inside].tocsc()).solve
    result[inside] = solve(np.ascontiguousarray(wanted[inside]))
    _eyes(graph, known, weight, result)
    return result


def says(looks: list[Look]) -> list[NDArray[np.float64]]:
    """(M,) say of each photograph in every texel.

    The one that shows a place best has it: averages are blurred. A neck lies in the chin's shadow,
    and cloth passes for it: it takes the face's tone.
    """
    return [look.of_face().astype(np.float64) ** (3 if len(looks) > 1 else 1) for look in looks]


def tone_pull(size: int) -> float:
    """Weight of the common tone in every texel of an atlas with ``size`` texels a side.

    The solution of a screened Poisson equation fades like exp(−x √(pull / flow)).
    """
    return _FLOW / (_FADE * size / FINE) ** 2


def _eyes(graph: SkinGraph, known: NDArray, weight: NDArray, result: Floats) -> None:
    """One tone for both whites and one for both irises; a texel's own would be a painted gaze."""
    rows = graph.texels.size - 1 - graph.texels.index // graph.texels.size
    columns = graph.texels.index % graph.texels.size
    scale = graph.texels.size / UNIT
    balls = graph.of(*EYE_PARTS)
    for tile, limit in (("sclera", _SCLERA), ("iris", _IRIS)):
        inside = np.zeros(graph.count, dtype=np.bool_)
        for side in ("left", "right"):
            x, y, width, height = (value * scale for value in ATLAS_TILES[f"{tile}_{side}"])
            inside |= (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        inside &= balls
        shown = inside & (weight > 0.3)
        if shown.sum() >= 12:
            tone = np.median(known[shown], 0)
            if tile == "sclera":
                tone = np.full(3, tone.mean())
            result[inside] = np.clip(tone, -limit, limit)


def wanted_colour(start: Start, ratio: Floats) -> Floats:
    """(M, 3) sRGB of the completed skin."""
    return np.clip(start.colour * np.exp(ratio), 0.0, 1.0).astype(np.float32)
