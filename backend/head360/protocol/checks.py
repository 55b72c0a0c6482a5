"""What a request may carry: sizes within the limits, finite weights, rigid cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.protocol.failures import WireError
from head360.protocol.framing import DTYPES, Message
from head360.protocol.messages import ExtractSurface, Limits, RenderFrame, RenderSequence

BLENDSHAPES = 52


def check_request(message: Message, limits: Limits) -> None:
    """Raise WireError (LIMIT) or BadInput when a request's values or blobs cannot be used."""
    body = message.body
    wanted = _SHAPES.get(type(body), {})
    if set(message.blobs) != set(wanted):
        raise WireError("the message does not carry the arrays it needs")
    if isinstance(body, (RenderFrame, RenderSequence)) and not (
        0 < body.width <= limits.width and 0 < body.height <= limits.height
    ):
        raise WireError(
            f"The picture is {body.width} × {body.height}: the backend renders from 1 × 1 up to "
            f"{limits.width} × {limits.height} pixels.",
            "LIMIT",
        )
    if isinstance(body, ExtractSurface) and not 8 <= body.resolution <= limits.resolution:
        raise WireError(
            f"The surface resolution {body.resolution} is outside 8–{limits.resolution}.", "LIMIT"
        )
    if isinstance(body, ExtractSurface) and body.texture not in (0, 512, 1024, 2048):
        raise WireError("A surface's texture has 0, 512, 1024 or 2048 pixels per side.", "LIMIT")
    frames = message.blobs["numbers"].size if isinstance(body, RenderSequence) else 1
    if not 0 < frames <= limits.sequence_frames:
        raise WireError(
            f"The sequence has {frames} frames: the backend takes 1–{limits.sequence_frames}.",
            "LIMIT",
        )
    for name, (dtype, tail, per_frame) in wanted.items():
        array = message.blobs[name]
        if array.dtype != DTYPES[dtype] or array.shape != ((frames, *tail) if per_frame else tail):
            raise WireError(f"the array {name} has the wrong type or shape")
        if name == "blendshapes":
            check_blendshapes(array)
        elif name in ("camera", "cameras"):
            check_cameras(array)


# name -> (dtype, shape, whether a leading frame axis is expected)
_SHAPES: dict[type, dict[str, tuple[str, tuple[int, ...], bool]]] = {
    RenderFrame: {
        "blendshapes": ("f32", (BLENDSHAPES,), False),
        "camera": ("f64", (25,), False),
    },
    RenderSequence: {
        "numbers": ("i32", (), True),
        "blendshapes": ("f32", (BLENDSHAPES,), True),
        "cameras": ("f64", (25,), True),
    },
    ExtractSurface: {"blendshapes": ("f32", (BLENDSHAPES,), False)},
}


def check_blendshapes(weights: NDArray[Any]) -> None:
    """(…, 52) weights must be finite and lie in [0, 1] (a rounding error of 1e-3 is forgiven)."""
    if not np.isfinite(weights).all() or weights.min() < -1e-3 or weights.max() > 1.001:
        raise BadInput("Blendshape weights must be finite numbers from 0 to 1.")


def check_cameras(labels: NDArray[Any]) -> None:
    """(…, 25) labels: a rigid ``cam2world`` in metres and usable normalised intrinsics."""
    flat = labels.reshape(-1, 25)
    if not np.isfinite(flat).all() or np.abs(flat).max() > 1e6:
        raise BadInput("The camera contains numbers that are not finite.")
    pose = flat[:, :16].reshape(-1, 4, 4)
    rotation = pose[:, :3, :3]
    gram = rotation.transpose(0, 2, 1) @ rotation
    if (
        np.abs(gram - np.eye(3)).max() > 1e-3
        or (np.linalg.det(rotation) < 0).any()
        or np.abs(pose[:, 3] - (0.0, 0.0, 0.0, 1.0)).max() > 1e-6
    ):
        raise BadInput("The camera matrix is not rigid: remove scale and shear from the camera.")
    inner = flat[:, 16:].reshape(-1, 3, 3)
    if (inner[:, (0, 1), (0, 1)] < 1e-3).any() or (inner[:, 2] != (0.0, 0.0, 1.0)).any():
        raise BadInput("The camera's intrinsics are not those of a perspective camera.")
