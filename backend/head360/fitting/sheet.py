"""The contact sheet of a fitted head: photograph, fit, and what the photograph does not show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.arkit import COUNT, INDEX
from head360.heads.base import Head
from head360.rendering.cameras import Camera, orbit
from head360.sheets import over, table

Floats = NDArray[np.float32]

SIDE = 256
VIEWS: dict[str, tuple[float, dict[str, float]]] = {
    "-60°": (-60.0, {}),
    "+60°": (60.0, {}),
    "180°": (180.0, {}),
    "smile": (15.0, {
        "mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.5,
        "cheekSquintRight": 0.5,
    }),
    "jaw open": (15.0, {"jawOpen": 0.7}),
}  # fmt: skip


def contact_row(
    head: Head, photo: NDArray[np.uint8], camera: Camera, blendshapes: Floats
) -> list[NDArray[np.uint8]]:
    """The pictures of one row, (SIDE, SIDE, 3) uint8.

    Args:
        head: fitted, its first subject is shown.
        photo: (H, H, 3) uint8 the photograph, cut as ``camera`` sees it.
        camera: of the cut; blendshapes: (52,) of the photograph.
    """
    codes = head.codes()
    pictures = [np.asarray(Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.LANCZOS))]
    pictures.append(over(head.render(head.pose(codes, blendshapes), camera, SIDE, SIDE).rgba))
    for yaw, shown in VIEWS.values():
        weights = np.zeros(COUNT, dtype=np.float32)
        for name, value in shown.items():
            weights[INDEX[name]] = value
        pose = head.pose(codes, weights)
        pictures.append(over(head.render(pose, orbit(yaw, 0.0), SIDE, SIDE).rgba))
    return pictures


def contact_sheet(rows: list[tuple[str, list[NDArray[np.uint8]]]]) -> Image.Image:
    """One labelled row a head."""
    return table(rows, ["photo", "fit", *VIEWS])
