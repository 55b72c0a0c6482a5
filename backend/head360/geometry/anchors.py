"""The table of ``arkit.anchors``, measured on the average head of the built-in bilinear model.

Made anew with ``python -c "from head360.geometry.anchors import write; write()"``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from head360.arkit import NAMES
from head360.arkit.anchors import FILE, middles, vertex_areas
from head360.files import write_bytes
from head360.geometry.bilinear import BilinearModel

# The skin alone: a rig may have its teeth, gums and eyes in objects of their own, or not at all.
PARTS = ("face", "head_neck")
_INSIDE = ("eyeLook", "tongue")  # stems of shapes that mostly move what is not skin


def measure(model: BilinearModel | None = None) -> dict[str, tuple[float, float, float]]:
    """Blendshape → middle of what it moves on the skin of the average head, metres, head space."""
    model = model or BilinearModel.builtin()
    skin = model.topology.faces[model.topology.part_faces(*PARTS)]
    average = model.identity(model.mean_shape)
    areas = vertex_areas(average.neutral, skin)
    points, _moves = middles(average.neutral, average.deltas, areas)
    return {
        name: (round(float(x), 5), round(float(y), 5), round(float(z), 5))
        for name, (x, y, z) in zip(NAMES, np.asarray(points), strict=True)
        if not name.startswith(_INSIDE)
    }


def write() -> Path:
    """Measure, and write the table where ``arkit.anchors`` reads it; returns its path."""
    return write_bytes(
        Path(str(FILE)), msgspec.json.format(msgspec.json.encode(measure()), indent=1) + b"\n"
    )
