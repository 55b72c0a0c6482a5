"""What a request may carry: sizes within the limits, finite weights, rigid cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.protocol.failures import WireError
from head360.protocol.framing import DTYPES, Message
from head360.protocol.messages import (
    EditHead,
    ExtractSurface,
    FitHead,
    Limits,
    RenderFrame,
    RenderSequence,
)

BLENDSHAPES = 52
MAX_NAME = 80  # characters of a model's or a photograph's name
MAX_STEPS = 100_000
_REFUSED = frozenset('/\\:*?"<>|')  # by one file system or another


def check_request(message: Message, limits: Limits) -> None:
    """Raise WireError (LIMIT) or BadInput when a request's values or blobs cannot be used."""
    body = message.body
    if isinstance(body, (FitHead, EditHead)):
        check_making(body, limits)
    if isinstance(body, FitHead):
        check_photos(message, limits)
        return
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


_LONGEST = 1000  # characters of a name that a request may carry


def check_making(body: FitHead | EditHead, limits: Limits) -> None:
    """Names are names, numbers in their ranges.

    Raises:
        BadInput: one of them is not, in words for the person who typed it.
    """
    _check_name(body.name, "The new model's name")
    for field in ("model", "style", "editor", "head"):
        if len(getattr(body, field, None) or "") > _LONGEST:
            raise BadInput(f"The {field} is too long: {_LONGEST} characters are allowed.")
    if body.steps is not None and not 1 <= body.steps <= MAX_STEPS:
        raise BadInput(f"{body.steps} steps are out of range: choose 1 to {MAX_STEPS}.")
    if not 0 <= body.seed < 2**31:
        raise BadInput(f"The seed {body.seed} is out of range: choose 0 to {2**31 - 1}.")
    if isinstance(body, FitHead):
        if not body.consent.strip() or len(body.consent) > 2000:
            raise BadInput("Say that you may use the photograph before a head is fitted to it.")
        if body.face is not None and not 1 <= body.face < 1000:
            raise BadInput(f"There is no face number {body.face}: count from 1.")
        return
    if len(body.prompt) > limits.prompt:
        raise BadInput(f"The prompt is longer than {limits.prompt} characters: shorten it.")
    for name, value, top in (
        ("strength", body.strength, 1.0),
        ("guidance", body.guidance, 100.0),
        ("image guidance", body.image_guidance, 100.0),
    ):
        if value is not None and not 0.0 <= value <= top:  # also catches NaN
            raise BadInput(f"The {name} {value} is out of range: choose 0 to {top:g}.")


def check_photos(message: Message, limits: Limits) -> None:
    """As many photographs as file names, and each of a size that is accepted.

    Raises:
        WireError: names and arrays do not match, or too much (LIMIT).
    """
    names = message.body.photos
    if not 0 < len(names) <= limits.photos:
        raise WireError(
            f"A head is fitted to 1 to {limits.photos} photographs, not to {len(names)}.", "LIMIT"
        )
    if set(message.blobs) != {f"photo.{index}" for index in range(len(names))}:
        raise WireError("the message does not carry the photographs it names")
    for index, name in enumerate(names):
        _check_name(name, "A photograph's file name")
        data = message.blobs[f"photo.{index}"]
        if data.dtype != np.uint8 or data.ndim != 1:
            raise WireError("a photograph has the wrong type or shape")
        if not data.size:
            raise BadInput(f"The photograph {name} is empty: choose another file.")
        if data.size > limits.photo_bytes:
            raise WireError(
                f"The photograph {name} has {data.size >> 20} MiB, the backend takes "
                f"{limits.photo_bytes >> 20}: save a smaller copy.",
                "LIMIT",
            )


def tidy_name(text: str, fallback: str = "head") -> str:
    """The nearest name to ``text`` that a request may carry; the end of a file name survives."""
    kept = "".join("_" if c in _REFUSED or not c.isprintable() else c for c in text)
    kept = kept.strip().lstrip(".").strip() or fallback
    if len(kept) > MAX_NAME:
        stem, dot, suffix = kept.rpartition(".")
        if not dot or len(suffix) > 8:
            return kept[:MAX_NAME].strip()
        kept = f"{stem[: MAX_NAME - len(suffix) - 1].strip()}.{suffix}"
    return kept


def _check_name(name: str, what: str) -> None:
    """No folders, nothing hidden, nothing that a file system refuses."""
    bad = _REFUSED & set(name) or not name.isprintable()
    if not 0 < len(name) <= MAX_NAME or bad or name != name.strip() or name.startswith("."):
        raise BadInput(
            f"{what} {name[:MAX_NAME]!r} cannot be used: take 1 to {MAX_NAME} letters, digits, "
            "spaces, - and _."
        )


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
