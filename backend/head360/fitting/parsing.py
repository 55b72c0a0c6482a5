"""Which pixel of a photograph is hair, skin, eyes …, and how much of it is person.

A network looks twice, at hair and shoulders and at the face alone (``networks.parsing_net``). What
it finds has the resolution of its windows; a guided filter (He et al. 2013) lets the outlines of
hair and person follow those of the photograph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from head360.datasets.integrity import digest_file
from head360.datasets.labels import BACKGROUND, HAIR, LABELS
from head360.errors import BadInput, ModelInvalid
from head360.networks.face_window import (
    FaceFrame,
    face_layout,
    sample_window,
    spread_window,
    window_grid,
)
from head360.networks.parsing_net import NEAR, WIDE, ParsingConfig, ParsingNet
from head360.networks.weights_file import read_config, read_network

Floats = NDArray[np.float32]

KIND = "portrait-parsing"
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "portrait" / "parsing.safetensors"

_FINE_SIDE = 1024  # pixels of the longer side at which outlines are refined at most
_RADIUS = 2.5  # of the guided filter, in pixels of the wide window
_FLAT = 1e-4  # variance (sRGB in [0, 1]) below which the photograph is no guide


class HasLandmarks(Protocol):
    """What parsing needs of a face, see ``fitting.faces.Face``."""

    @property
    def landmarks(self) -> NDArray[np.floating]:
        """(68, 2) pixels."""


@dataclass(frozen=True)
class Parsing:
    """A photograph taken apart; where neither window reaches, all is background.

    Attributes:
        labels: (H, W) uint8 classes of ``datasets.labels``; clothes and shoulders are "neck".
        matte: (H, W) float32 in [0, 1], coverage by the whole person without hat.
        hair: (H, W) float32 in [0, 1], coverage by hair.
    """

    labels: NDArray[np.uint8]
    matte: Floats
    hair: Floats


class Parser(Protocol):
    """Takes photographs apart; a ``digest``, where there is one, tells its weights from others."""

    name: str

    def parse(self, pixels: NDArray[np.uint8], face: HasLandmarks) -> Parsing:
        """Parse (H, W, 3) uint8 sRGB around one face."""


class OwnParser:
    """The network that ``head360 train portrait parsing`` makes.

    Args:
        network: on its device.
        name: of the weights.
        digest: of their file.
    """

    def __init__(self, network: ParsingNet, name: str = "own", digest: str = "") -> None:
        self.network, self.name, self.digest = network.eval(), name, digest
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def parse(self, pixels: NDArray[np.uint8], face: HasLandmarks) -> Parsing:
        """Parse (H, W, 3) uint8 sRGB around one face."""
        return refine(pixels, self.shares(pixels, face), FaceFrame.of(face.landmarks))

    @torch.no_grad()
    def shares(self, pixels: NDArray[np.uint8], face: HasLandmarks) -> Floats:
        """(8, H, W) float32 probabilities of the labels, before outlines are refined."""
        frame = FaceFrame.of(face.landmarks)
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        picture = planes.to(self.device).float() / 255
        wide, near = (self._window(picture, frame, side, face) for side in (WIDE, NEAR))
        height, width = pixels.shape[:2]
        nothing = [float(label == BACKGROUND) for label in range(len(LABELS))]
        out = spread_window(wide, frame, WIDE, height, width, nothing)
        share = _trust(near.shape[-1]).to(self.device)
        close = spread_window(
            torch.cat([near * share, share]), frame, NEAR, height, width, [0.0] * (len(LABELS) + 1)
        )
        return (out * (1 - close[-1:]) + close[:-1]).cpu().numpy()

    def _window(self, picture: Tensor, frame: FaceFrame, side: float, face: HasLandmarks) -> Tensor:
        """(8, S, S) probabilities in the wide or the near window of a (3, H, W) picture."""
        size = self.network.config.pixels(side)
        window = sample_window(picture, frame, side, size)
        inverse = frame.inverse(side)
        points = face.landmarks @ inverse[:, :2].T + inverse[:, 2]
        layout = torch.from_numpy(face_layout(points, size // 2, side)).to(self.device)
        # Faces lean both ways alike: a picture and its mirror image together are calmer.
        both, layouts = (torch.stack([x, x.flip(2)]) for x in (window, layout))
        sides = torch.full((2,), side, device=self.device)
        straight, mirrored = self.network(both, sides, layouts).softmax(1)
        return (straight + mirrored.flip(2)) / 2


def _trust(size: int) -> Tensor:
    """(1, S, S) how much the near window counts: most in its middle, nothing at its border."""
    away = window_grid(size).abs().amax(-1)
    return (0.85 * ((1 - away) / 0.25).clamp(0, 1))[None]


def refine(pixels: NDArray[np.uint8], shares: Floats, frame: FaceFrame) -> Parsing:
    """Let the outlines of person and hair follow the photograph.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
        shares: (8, H, W) float32 probabilities of the labels.
        frame: of the face.
    """
    height, width = pixels.shape[:2]
    radius = max(1.0, _RADIUS * frame.unit * WIDE / 128)
    guide = np.asarray(pixels / 255, dtype=np.float32)
    soft = np.stack([1 - shares[BACKGROUND], shares[HAIR]])
    matte, hair = np.clip(guided(guide, soft, radius, _FLAT), 0, 1)
    # A step towards certainty: the filter spreads a haze over flat backgrounds.
    matte, hair = _surer(matte), np.minimum(_surer(hair), _surer(matte))
    rest = shares.copy()
    rest[[BACKGROUND, HAIR]] = 0
    rest *= (matte - hair) / np.maximum(rest.sum(0), 1e-3)
    rest[HAIR], rest[BACKGROUND] = hair, 1 - matte
    labels = rest.argmax(0).astype(np.uint8)
    return Parsing(labels.reshape(height, width), matte, hair)


def _surer(cover: Floats) -> Floats:
    """Coverage with its lowest and highest tenth made none and all."""
    return np.clip((cover - 0.1) / 0.8, 0, 1).astype(np.float32)


def guided(guide: Floats, values: Floats, radius: float, flat: float) -> Floats:
    """Guided filter with a colour guide, computed on a reduced picture (He & Sun 2015).

    Args:
        guide: (H, W, 3) float32. values: (C, H, W) float32.
        radius: pixels of the square windows' half side.
        flat: added to the guide's variances.

    Returns:
        (C, H, W) float32: in each window a linear function of the guide, the nearest to values.
    """
    step = max(1, round(radius / 4), -(-max(guide.shape[:2]) // _FINE_SIDE))
    small, wanted = guide[::step, ::step], values[:, ::step, ::step]
    size = 2 * max(1, round(radius / step)) + 1

    def mean(x: NDArray[np.floating]) -> NDArray[np.float64]:
        return ndimage.uniform_filter(x.astype(np.float64), (size, size, *(1,) * (x.ndim - 2)))

    average = mean(small)
    spread = mean(small[..., :, None] * small[..., None, :])
    spread -= average[..., :, None] * average[..., None, :]
    inverse = np.linalg.inv(spread + flat * np.eye(3))
    out = np.empty_like(values)
    places = np.indices(guide.shape[:2]) / step
    for number, value in enumerate(wanted):
        centre = mean(value)
        along = mean(small * value[..., None]) - average * centre[..., None]
        slope = np.einsum("hwij,hwj->hwi", inverse, along)
        offset = mean(centre - (slope * average).sum(-1))
        slope = mean(slope)
        out[number] = ndimage.map_coordinates(offset, places, order=1, mode="nearest")
        for channel in range(3):
            plane = ndimage.map_coordinates(slope[..., channel], places, order=1, mode="nearest")
            out[number] += (plane * guide[..., channel]).astype(np.float32)
    return out


Factory = Callable[[Path | None, str], Parser]
_PARSERS: dict[str, Factory] = {}


def register_parser(name: str, factory: Factory) -> None:
    """Make another parser known; ``factory(weights, device)`` opens it."""
    _PARSERS[name] = factory


def parser(weights: Path | None = None, device: str = "cpu", name: str = "own") -> Parser:
    """Open a parser.

    Args:
        weights: file to load instead of what comes with Head360.
        device: torch device.
        name: "own" or a registered one.

    Raises:
        BadInput: no parser of that name.
        ModelInvalid: the weights are missing, damaged or of another kind.
    """
    if name not in _PARSERS:
        raise BadInput(f"There is no parser {name!r}: choose one of {', '.join(_PARSERS)}.")
    return _PARSERS[name](weights, device)


def _own(weights: Path | None, device: str) -> Parser:
    path = Path(weights or SHIPPED)
    # A file may be replaced while the process lives.
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    network = _network(path, stamp, device)
    return OwnParser(network, path.stem, digest_file(path)[:16])


@lru_cache(maxsize=2)
def _network(path: Path, stamp: int, device: str) -> ParsingNet:
    config = parsing_config(read_config(path, KIND), path)
    network = ParsingNet(config)
    read_network(path, network)
    return network.to(device)


def parsing_config(values: dict[str, Any], path: Path) -> ParsingConfig:
    """The configuration in a header.

    Raises:
        ModelInvalid: it is none that this version knows, or has other labels.
    """
    try:
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        config = ParsingConfig(**lists)
        ParsingNet(dataclasses.replace(config))
    except (TypeError, ValueError) as error:
        raise ModelInvalid(f"The weights {path} are of a network unknown here: {error}.") from error
    if config.classes != len(LABELS):
        raise ModelInvalid(
            f"The weights {path} know {config.classes} labels, not {len(LABELS)}: choose others."
        )
    return config


register_parser("own", _own)
