"""Faces in a photograph: what finders return, which finders there are, which face is meant."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput

Floats = NDArray[np.floating]

MIN_FACE = 64  # pixels from ear to ear or brow to chin, whichever is more
_ALIKE = 0.6  # of the largest face's side: smaller ones are people in the background


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a picture.

    Attributes:
        box: (4,) float32 pixels: left, top, right and bottom of the landmarks.
        landmarks: (68, 2) float32 pixels, iBUG's order, pixel centres at +0.5. Hidden ones are
            where they would be seen.
        dense: (468, 2) float32 pixels, MediaPipe's order, or None.
        deviation: (68,) float32 pixels, the expected error of each landmark.
        confidence: 0–1.
        source: name of the finder.
    """

    box: Floats
    landmarks: Floats
    dense: Floats | None
    deviation: Floats
    confidence: float
    source: str

    @property
    def side(self) -> float:
        """The longer side of the box, pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


def make_face(
    landmarks: NDArray[np.floating],
    dense: NDArray[np.floating] | None,
    deviation: NDArray[np.floating],
    confidence: float,
    source: str,
) -> Face:
    """A :class:`Face` with the box of its landmarks."""
    places = np.asarray(landmarks, dtype=np.float32)
    box = np.concatenate([places.min(0), places.max(0)])
    return Face(
        box, places, None if dense is None else np.asarray(dense, dtype=np.float32),
        np.asarray(deviation, dtype=np.float32), float(confidence), source,
    )  # fmt: skip


class LandmarkFinder(Protocol):
    """What finds faces; ``name`` is for people, ``digest``, where there is one, tells its weights
    from others of that name."""

    name: str

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Faces in a (H, W, 3) uint8 sRGB picture, the most prominent first."""


Factory = Callable[[Path | None, str], LandmarkFinder]


def _own(weights: Path | None, device: str) -> LandmarkFinder:
    from head360.fitting.own_finder import OwnFinder

    return OwnFinder(weights, device)


def _mediapipe(weights: Path | None, device: str) -> LandmarkFinder:
    from head360.fitting.mediapipe_finder import MediapipeFinder

    if weights is not None:
        raise BadInput("mediapipe has weights of its own: leave out the landmark weights.")
    return MediapipeFinder()


_FACTORIES: dict[str, Factory] = {"own": _own, "mediapipe": _mediapipe}


def register_finder(name: str, factory: Factory) -> None:
    """Add a finder, or put another in its place.

    Args:
        name: what :func:`landmark_finder` is asked for; "auto" is taken.
        factory: called with the path of the user's weights, or None, and the torch device.

    Raises:
        ValueError: the name is empty or "auto".
    """
    if not name or name == "auto":
        raise ValueError(f"a finder cannot be called {name!r}")
    _FACTORIES[name] = factory


def finder_names() -> list[str]:
    """What :func:`landmark_finder` can be asked for."""
    return ["auto", *_FACTORIES]


def landmark_finder(
    name: str = "auto", weights: Path | None = None, device: str = "cpu"
) -> LandmarkFinder:
    """Open a finder.

    Args:
        name: "auto" is mediapipe where it is installed and no weights are given, else our own.
        weights: a file that ``head360 train portrait landmarks`` wrote, instead of ours.
        device: torch device.

    Raises:
        BadInput: there is no such finder, it is not installed, or there is no such file.
        ModelInvalid: the weights do not fit.
    """
    if name == "auto":
        if weights is None and importlib.util.find_spec("mediapipe") is not None:
            from head360.fitting.mediapipe_finder import usable

            name = "mediapipe" if usable() else "own"
        else:
            name = "own"
    if name not in _FACTORIES:
        known = ", ".join(finder_names())
        raise BadInput(f"There is no landmark finder {name!r}: choose one of {known}.")
    return _FACTORIES[name](weights, device)


def choose_face(faces: Sequence[Face], pixels_shape: tuple[int, ...], wanted: int | None) -> Face:
    """The face that is meant.

    Args:
        faces: that were found.
        pixels_shape: (H, W, …) of the picture.
        wanted: which one, counted from the left and from 1; None takes the only prominent one.

    Raises:
        BadInput: there is no face, or not that many, or several alike, or it is too small.
    """
    height, width = pixels_shape[:2]
    if not faces:
        raise BadInput(
            f"No face was found in this picture of {width} × {height} pixels: choose one in which "
            "the face is seen from the front, is sharp and not too small."
        )
    ordered = sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))
    if wanted is not None:
        if not 1 <= wanted <= len(ordered):
            count = "is 1 face" if len(ordered) == 1 else f"are {len(ordered)} faces"
            raise BadInput(f"There {count} in this picture: --face {wanted} is not one of them.")
        face = ordered[wanted - 1]
    else:
        largest = max(ordered, key=lambda face: face.side)
        alike = [face for face in ordered if face.side > _ALIKE * largest.side]
        if len(alike) > 1:
            places = ", ".join(
                f"{number} at ({(face.box[0] + face.box[2]) / 2:.0f}, "
                f"{(face.box[1] + face.box[3]) / 2:.0f})"
                for number, face in enumerate(ordered, 1)
                if face in alike
            )
            raise BadInput(
                f"There are {len(alike)} faces in this picture ({places}): say which one with "
                "--face N, counted from the left."
            )
        face = largest
    if face.side < MIN_FACE:
        raise BadInput(
            f"The face is only {face.side:.0f} pixels large: choose a picture in which it has at "
            f"least {MIN_FACE}."
        )
    return face
