"""What a head is, and how any kind of head is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from head360.heads.base import Head


def load(path: Path | str, device: str = "cpu") -> Head:
    """Load the head package (folder or zip) at ``path`` onto a torch device.

    Raises:
        ModelInvalid: missing, damaged, or of a kind this version does not know.
    """
    from head360.errors import ModelInvalid
    from head360.heads import gaussian, hexplane
    from head360.heads.package import read_manifest

    path = Path(path)
    kind = read_manifest(path).get("kind")
    if kind == hexplane.KIND:
        return hexplane.HexPlaneHead.load(path, device)
    if kind == gaussian.KIND:
        return gaussian.GaussianHead.load(path, device)
    raise ModelInvalid(f"The model {path} is of kind {kind!r}, which this version cannot load.")
