"""Where the inversion starts: a blend of the base's people that comes nearest to the photograph.

Textures are read through the base's own decoder: the colour of a texel is what the frozen head
field shows at its place on the fitted mesh. A ridge regression over the base's people then tells
how a texture changes with its colour, so that a wanted colour becomes a texture without a search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from head360.errors import BadInput
from head360.fitting.light import light_of, shading
from head360.fitting.surface import SkinGraph
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs
from head360.networks.banks import Blend
from head360.networks.hexplane import HexPlaneNet
from head360.rendering.cameras import to_normalised

Floats = NDArray[np.float32]

DARKEST = 0.03  # sRGB below which a ratio means nothing
_ALONG = (0.010, 0.004, -0.002, -0.008, -0.014, -0.022)  # normalised, along the normal
_CHUNK = 1 << 16
_SUBSET = 6000  # texels that the people are compared on
_ROUNDS = 3
_EVEN = 0.02  # pull of the weights towards the even blend
_RIDGE = 1e-3
_BOTH, _COMMON = 0.2, 50  # trust in a texel, and number of texels, that two photographs share


def seen_colours(
    net: HexPlaneNet, texture: Tensor, inputs: PoseInputs, points: Floats, normals: Floats
) -> Floats:
    """(M, 3) sRGB that the head field shows at surface ``points`` (M, 3) metres, seen head-on."""
    with torch.no_grad():
        planes = net.head_planes(texture, inputs.uv, inputs.index, inputs.depths)
        base = torch.from_numpy(to_normalised(points).astype(np.float32)).to(texture.device)
        along = torch.from_numpy(normals).to(texture.device)
        steps = torch.tensor(_ALONG, device=texture.device)
        gaps = (steps[:-1] - steps[1:]).tolist()
        gaps = [gaps[0], *gaps]
        found = []
        for first in range(0, len(base), _CHUNK):
            part = slice(first, first + _CHUNK)
            light = torch.ones(len(base[part]), device=texture.device)
            total = torch.zeros(len(base[part]), 3, device=texture.device)
            for step, gap in zip(_ALONG, gaps, strict=True):
                density, colour = net.head_field(planes, base[part] + along[part] * step)
                opacity = 1 - torch.exp(-density * gap)
                total += (light * opacity)[:, None] * colour[:, :3]
                light = light * (1 - opacity)
            found.append((total / (1 - light).clamp(min=0.05)[:, None]).clamp(0, 1).cpu().numpy())
    return np.concatenate(found)


@dataclass(frozen=True)
class Start:
    """The blend that a fit begins with.

    Attributes:
        weights: (K,) float32 ≥ 0, Σ = 1, of the base's subjects.
        texture: (1, S, S, C) the blend.
        colour: (M, 3) float32 sRGB of its texels.
        light: (9, 3) of each photograph, see ``light``.
        response: (3, C) change of a texture per change of its colour.
        nearest: name of the subject with the largest weight.
    """

    weights: Floats
    texture: Tensor
    colour: Floats
    light: tuple[Floats, ...]
    response: Floats
    nearest: str


@dataclass(frozen=True)
class Look:
    """What one photograph shows of the skin, on its own pose.

    Attributes:
        colour: (M, 3) sRGB; weight: (M,); normals: (M, 3).
        neck: (M,) bool, what was taken for neck: it may be a collar, and lies in the chin's shadow.
    """

    colour: Floats
    weight: Floats
    normals: Floats
    neck: NDArray[np.bool_]

    def of_face(self) -> Floats:
        """(M,) trust in what is face alone."""
        return np.where(self.neck, np.float32(0), self.weight)


def find_start(
    head: HexPlaneHead,
    graph: SkinGraph,
    inputs: PoseInputs,
    looks: list[Look],
    progress: Callable[[float, str], None],
) -> Start:
    """Blend the base's people so that they look like the photographs; light is set apart.

    Args:
        head: the base.
        graph: its skin.
        inputs: the fitted mesh in the first photograph's expression.
        looks: of the photographs, the first from the front.
        progress: called with (fraction, phase); what it raises stops the work.
    """
    points, normals = graph.placed(inputs.vertices)
    total = np.sum([look.of_face() for look in looks], 0) * graph.skin
    candidates = np.flatnonzero(total > 0.05)
    if not len(candidates):
        raise BadInput(
            "The photographs show too little bare skin of the face: choose one from the front, "
            "without veil or mask."
        )
    chosen = candidates[:: max(1, len(candidates) // _SUBSET)]
    people = len(head.subjects)
    colours = np.empty((people, len(chosen), 3), dtype=np.float32)
    entries = []
    for k in range(people):
        progress(k / people, "comparing with the people of the base")
        with torch.no_grad():
            texture = head.net.textures(Blend.of(k))
        colours[k] = seen_colours(head.net, texture, inputs, points[chosen], normals[chosen])
        entries.append(graph.gather(texture[0].cpu().numpy())[chosen])
    weights, lights = _weights(colours, [_part(look, chosen) for look in looks])
    with torch.no_grad():
        blend = head.net.textures(Blend(tuple((k, float(w)) for k, w in enumerate(weights) if w)))
    colour = seen_colours(head.net, blend, inputs, points, normals)
    response = _response(colours, np.stack(entries))
    lights = tuple(
        light_of(log_ratio(look.colour, colour), look.normals, look.of_face() * graph.skin)
        for look in looks
    )
    nearest = head.subjects[int(np.argmax(weights))]
    return Start(weights, blend, colour, lights, response, nearest)


def _part(look: Look, chosen: NDArray[np.int64]) -> Look:
    part = look.colour[chosen], look.weight[chosen], look.normals[chosen], look.neck[chosen]
    return Look(*part)


def log_ratio(colour: Floats, base: Floats) -> Floats:
    """Logarithm of the ratio of two colours; dark values are lifted, they are mostly noise."""
    return np.log(np.maximum(colour, DARKEST)) - np.log(np.maximum(base, DARKEST))


def exposures(
    base: Floats, looks: list[Look], lights: tuple[Floats, ...], delight: float = 1.0
) -> list[Floats]:
    """(3,) log ratio of each photograph's exposure to the first one's.

    Compared where both show the skin: the constants of their lights are found on different sides of
    the head, and what is light and what exposure differs with the side.

    Args:
        base: (M, 3) sRGB of the texels on the blended head.
        looks, lights: of the photographs; delight: share of the light that is taken out.
    """
    plain = [
        log_ratio(look.colour, base) - shading(light, look.normals, delight)
        for look, light in zip(looks, lights, strict=True)
    ]
    found = [np.zeros(3, dtype=np.float32)]
    for look, values in zip(looks[1:], plain[1:], strict=True):
        both = (look.of_face() > _BOTH) & (looks[0].of_face() > _BOTH)
        if both.sum() < _COMMON:
            found.append(np.zeros(3, dtype=np.float32))
            continue
        found.append(np.median(values[both] - plain[0][both], 0).astype(np.float32))
    return found


def _weights(colours: Floats, looks: list[Look]) -> tuple[Floats, tuple[Floats, ...]]:
    people = len(colours)
    weights = np.full(people, 1.0 / people, dtype=np.float32)
    lights: tuple[Floats, ...] = ()
    for _ in range(_ROUNDS):
        blend = np.einsum("k,kmc->mc", weights, colours)
        lights = tuple(
            light_of(log_ratio(look.colour, blend), look.normals, look.of_face()) for look in looks
        )
        rows, values = [], []
        exposed = exposures(blend, looks, lights)
        for look, light, exposure in zip(looks, lights, exposed, strict=True):
            plain = look.colour * np.exp(-shading(light, look.normals) - exposure)
            off = _strangeness(plain, blend, light, exposure)
            trust = np.sqrt(look.of_face() / max(look.of_face().sum(), 1e-6))
            # Lips, brows and lids tell more about a person than cheeks; but hair that was taken for
            # skin tells nothing.
            trust = trust / np.maximum(1.0, off / 0.3)
            rows.append((colours * trust[:, None]).reshape(people, -1).T)
            values.append((plain * trust[:, None]).reshape(-1))
        size = float(np.sqrt(np.mean(np.concatenate(values) ** 2) * sum(map(len, values))))
        rows += [_EVEN * size * np.eye(people), 3 * size * np.ones((1, people))]
        values += [np.full(people, _EVEN * size / people), np.array([3 * size])]
        found, _ = nnls(np.concatenate(rows).astype(np.float64), np.concatenate(values))
        weights = (found / max(found.sum(), 1e-6)).astype(np.float32)
    return weights, lights


def _strangeness(plain: Floats, blend: Floats, light: Floats, exposure: Floats) -> Floats:
    """(M,) mean log ratio to the blend beside the complexion: large where hair passed for skin.

    Args:
        plain: (M, 3) sRGB of a photograph without its light and exposure; blend: (M, 3).
        light: (9, 3), whose constant is complexion and exposure; exposure: (3,).
    """
    return np.abs(log_ratio(plain, blend) - (light[0] - exposure)).mean(1)


def _response(colours: Floats, entries: Floats) -> Floats:
    """(3, C): ridge regression of texture differences on colour differences between people."""
    if len(colours) < 2:
        return np.eye(3, entries.shape[-1], dtype=np.float32)
    x = (colours - colours.mean(0)).reshape(-1, 3).astype(np.float64)
    y = (entries - entries.mean(0)).reshape(len(x), -1).astype(np.float64)
    ridge = _RIDGE * len(x) * np.eye(3)
    return np.linalg.solve(x.T @ x + ridge, x.T @ y).astype(np.float32)
