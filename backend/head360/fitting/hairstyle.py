"""Which of the studio's hair styles a photographed head wears, and in what colour."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from head360.datasets.labels import BROWS, MOUTH, SKIN
from head360.errors import BadInput, ModelInvalid
from head360.fitting.parsing import HasLandmarks, Parsing
from head360.networks.face_window import FaceFrame, sample_window
from head360.networks.hairstyle_net import (
    ResNet50,
    StyleConfig,
    StyleNet,
    style_network,
    style_planes,
)
from head360.networks.weights_file import read_config, read_network

Floats = NDArray[np.float32]

KIND = "portrait-hairstyle"
BALD = "bald"
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "portrait" / "hairstyle.safetensors"

_LIKELY, _SURE = 0.4, 0.9  # least coverage that counts, and share of the highest that is clear
_LEAST = 12  # pixels of hair below which there is no colour to tell
_CRUMBS = 0.5  # of the brows: less hair than that is what a parser sees in wool
_SHADE, _GLINT = 0.1, 0.85  # quantiles of lightness: below lies in shadow, above shines


class StyleRanker(Protocol):
    """Tells hair styles apart."""

    name: str

    def rank(
        self, pixels: NDArray[np.uint8], parsing: Parsing, face: HasLandmarks
    ) -> list[tuple[str, float]]:
        """All styles and "bald" with their probabilities, best first."""


class OwnRanker:
    """The network that ``head360 train portrait hairstyle`` makes.

    Args:
        network: on its device.
        name: of the weights.
    """

    def __init__(self, network: StyleNet | ResNet50, name: str = "own") -> None:
        self.network, self.name = network.eval(), name
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def rank(
        self, pixels: NDArray[np.uint8], parsing: Parsing, face: HasLandmarks
    ) -> list[tuple[str, float]]:
        """All styles and "bald" with their probabilities, best first.

        Args:
            pixels: (H, W, 3) uint8 sRGB.
            parsing: of the same picture.
            face: whose landmarks say where the head is; any view from −60° to 60°.
        """
        config = self.network.config
        frame = FaceFrame.of(face.landmarks)
        bare = (parsing.labels >= SKIN) & (parsing.labels <= MOUTH)
        planes = np.concatenate(
            [pixels.astype(np.float32).transpose(2, 0, 1) / 255, parsing.hair[None], bare[None]]
        )
        tensor = torch.from_numpy(planes.astype(np.float32)).to(self.device)
        x = sample_window(tensor, frame, config.side, config.size)[None]
        x = style_planes(x[:, :3], x[:, 3:4], x[:, 4:5])
        # A parting may be on either side, a head may not: both ways are one style.
        chance = self.network(torch.cat([x, x.flip(3)])).softmax(1).mean(0).cpu().numpy()
        order = np.argsort(-chance, kind="stable")
        return [(config.styles[k], float(chance[k])) for k in order]


def hair_colour(pixels: NDArray[np.uint8], parsing: Parsing) -> Floats | None:
    """(3,) float32 sRGB in [0, 1] of the hair, or None when too little is seen.

    Where there is less hair than half of the brows, as under a hat, the brows tell the colour.
    Highlights and the darkest shadows are left out; of the rest it is the median in Oklab, where
    distances are those that an eye sees.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
        parsing: of the same picture.
    """
    likely = parsing.hair[parsing.hair >= _LIKELY]
    brows = parsing.labels == BROWS
    if len(likely) < max(_LEAST, _CRUMBS * int(brows.sum())):
        if int(brows.sum()) < _LEAST:
            return None
        clear = brows
    else:
        clear = parsing.hair >= min(_SURE, _SURE * float(np.quantile(likely, 0.95)))
    seen = to_oklab(pixels[clear].astype(np.float64) / 255)
    if clear is brows:  # hairs over skin: the darker half is hair
        seen = seen[seen[:, 0] <= np.median(seen[:, 0])]
    low, high = np.quantile(seen[:, 0], (_SHADE, _GLINT))
    middle = seen[(seen[:, 0] >= low) & (seen[:, 0] <= high)]
    return from_oklab(np.median(middle, axis=0)).astype(np.float32)


# Björn Ottosson's matrices: linear sRGB → cone responses, and their cube roots → Oklab.
_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def to_oklab(srgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """(…, 3) sRGB in [0, 1] → (…, 3) Oklab."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _CONES.T) @ _LAB.T


def from_oklab(lab: NDArray[np.floating]) -> NDArray[np.float64]:
    """(…, 3) Oklab → (…, 3) sRGB, clipped to [0, 1]."""
    linear = np.clip(((lab @ np.linalg.inv(_LAB).T) ** 3) @ np.linalg.inv(_CONES).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


Factory = Callable[[Path | None, str], StyleRanker]
_RANKERS: dict[str, Factory] = {}


def register_style_ranker(name: str, factory: Factory) -> None:
    """Make another ranker known; ``factory(weights, device)`` opens it."""
    _RANKERS[name] = factory


def style_ranker(
    weights: Path | None = None, device: str = "cpu", name: str = "own"
) -> StyleRanker:
    """Open a ranker.

    Args:
        weights: file to load instead of what comes with Head360.
        device: torch device.
        name: "own" or a registered one.

    Raises:
        BadInput: no ranker of that name.
        ModelInvalid: the weights are missing, damaged or of another kind.
    """
    if name not in _RANKERS:
        raise BadInput(f"There is no style ranker {name!r}: choose one of {', '.join(_RANKERS)}.")
    return _RANKERS[name](weights, device)


def _own(weights: Path | None, device: str) -> StyleRanker:
    path = Path(weights or SHIPPED)
    # A file may be replaced while the process lives.
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return OwnRanker(_network(path, stamp, device), path.stem)


@lru_cache(maxsize=2)
def _network(path: Path, stamp: int, device: str) -> StyleNet | ResNet50:
    network = style_network(style_config(read_config(path, KIND), path))
    read_network(path, network)
    return network.to(device)


def style_config(values: dict[str, Any], path: Path) -> StyleConfig:
    """The configuration in a header.

    Raises:
        ModelInvalid: it is none that this version knows.
    """
    try:
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        config = StyleConfig(**lists)
        style_network(config)
    except (TypeError, ValueError) as error:
        raise ModelInvalid(f"The weights {path} are of a network unknown here: {error}.") from error
    return config


register_style_ranker("own", _own)
