"""What tells a base, and the networks that read photographs, from others of the same name.

Work that is resumed must know: names and paths stay when weights are trained anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np

from head360.datasets.integrity import digest_file
from head360.fitting.stages import FitSettings
from head360.heads.hexplane import HexPlaneHead

DIGITS = 16


class Named(Protocol):
    """A finder, a parser or the like."""

    name: str


def digest_of(tool: Named) -> str:
    """The ``digest`` of a finder's or parser's weights; "" where it does not know, as those that
    users register may not."""
    return str(getattr(tool, "digest", ""))


def of_base(base: HexPlaneHead) -> str:
    """Of a base's networks, looks and people: 16 hex digits, the same on every device."""
    digest = hashlib.sha256()
    for part in (base.net, base.refine):
        for name, value in sorted(part.state_dict().items()) if part is not None else ():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for name in base.subjects:
        codes = base.codes(name)
        digest.update(json.dumps([name, codes.style, codes.hair_colour]).encode())
        digest.update(np.ascontiguousarray(codes.shape, dtype="<f4").tobytes())
    return digest.hexdigest()[:DIGITS]


def network_digests(settings: FitSettings, kinds: Collection[str]) -> dict[str, list[str]]:
    """Name and digest of the networks that a fit with these settings uses.

    Args:
        settings: of the fit.
        kinds: of "landmarks", "parsing" and "style".

    Raises:
        BadInput: there is no such finder or file. ModelInvalid: weights cannot be used.
    """
    from head360.fitting import hairstyle
    from head360.fitting.faces import landmark_finder
    from head360.fitting.parsing import parser

    found: dict[str, list[str]] = {}
    if "landmarks" in kinds:
        finder = landmark_finder(settings.landmarks, settings.landmarks_weights)
        found["landmarks"] = [finder.name, digest_of(finder)]
    if "parsing" in kinds:
        parsing = parser(settings.parsing_weights)
        found["parsing"] = [parsing.name, digest_of(parsing)]
    if "style" in kinds:
        path = Path(settings.style_weights or hairstyle.SHIPPED)
        found["style"] = [path.stem, digest_file(path)[:DIGITS]]
    return found
