"""Gaussians as ``.splat``: 32 bytes each, what small viewers on the web read.

Little endian, without a header: position (3 float32), standard deviations (3 float32), sRGB and
opacity (4 bytes), quaternion, scalar first (4 bytes, 128 is zero). No harmonics: colours are those
from everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from head360.files import write_bytes
from head360.geometry.splatfile import SplatCloud

ROW = np.dtype(
    [("place", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("turn", "u1", 4)]
)  # fmt: skip
_C0 = 0.28209479177387814  # of the constant harmonic


def write_splat32(path: Path | str, cloud: SplatCloud, keep_order: bool = False) -> Path:
    """Write atomically; returns the path.

    Args:
        path: ends with .splat. cloud: see there.
        keep_order: otherwise the largest and most opaque ones come first, as viewers that draw
            while they load want it.

    Raises:
        BadInput: the disk refuses. ValueError: numbers that are not finite.
    """
    rows = np.zeros(len(cloud.means), dtype=ROW)
    rows["place"], rows["scale"] = cloud.means, cloud.scales
    colour = np.concatenate([cloud.sh[:, 0] * _C0 + 0.5, cloud.opacities[:, None]], axis=1)
    if not all(np.isfinite(a).all() for a in (cloud.means, cloud.scales, colour)):
        raise ValueError("a Gaussian holds numbers that are not finite")
    rows["rgba"] = np.rint(np.clip(colour, 0, 1) * 255)
    rows["turn"] = np.clip(np.rint(cloud.quaternions * 128 + 128), 0, 255)
    if not keep_order:
        seen = np.prod(cloud.scales.astype(np.float64), axis=1) * cloud.opacities
        rows = rows[np.argsort(-seen, kind="stable")]
    return write_bytes(path, rows.tobytes())
