"""What a fit is asked for, what it shows on its way, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput

STAGES = ("detect", "align", "shape", "parse", "hair", "reference", "inversion", "head")
RANKED = ""  # as a style: the one that looks most alike
STEPS = 240


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Attributes:
        style: a style of the base, None for bald, "" for the one that looks most alike.
        face: number of the face in the first photograph, counted from 1; None lets the photograph
            decide.
        steps: of the inversion.
        seed: of everything random.
        landmarks: name of the landmark finder.
        landmarks_weights, parsing_weights, style_weights: files instead of those that come along.
        invert_planes: the hair planes are optimised too.
        delight: share of the photograph's light that is taken out, 0…1.
        name: of the head; None takes it from the first photograph's file name.
        device: torch device.
    """

    style: str | None = RANKED
    face: int | None = None
    steps: int = STEPS
    seed: int = 0
    landmarks: str = "auto"
    landmarks_weights: Path | None = None
    parsing_weights: Path | None = None
    style_weights: Path | None = None
    invert_planes: bool = False
    delight: float = 1.0
    name: str | None = None
    device: str = "cpu"

    def checked(self) -> FitSettings:
        """The same, if it makes sense.

        Raises:
            BadInput: a number out of range.
        """
        if not 10 <= self.steps <= 20_000:
            raise BadInput(f"--steps {self.steps} is out of range: choose 10 to 20000.")
        if not 0 <= self.seed < 2**31:
            raise BadInput(f"--seed {self.seed} is out of range: choose 0 to {2**31 - 1}.")
        if self.face is not None and self.face < 1:
            raise BadInput(f"--face {self.face}: faces are counted from 1.")
        if not 0.0 <= self.delight <= 1.0:  # also catches NaN
            raise BadInput(f"--delight {self.delight} is out of range: choose 0 to 1.")
        return self

    def facts(self) -> dict[str, Any]:
        """Plain data for the manifest; paths are left out."""
        return {
            "style": "ranked" if self.style == RANKED else self.style or "bald",
            "steps": self.steps,
            "seed": self.seed,
            "landmarks": self.landmarks,
            "invert_planes": self.invert_planes,
            "delight": self.delight,
        }


@dataclass(frozen=True)
class Stage:
    """One finished stage.

    Attributes:
        name: of ``STAGES``; number: from 1; count: of all.
        picture: (H, W, 3) uint8 sRGB to look at, or None.
        text: what was found, for people.
        facts: the same, plain data.
    """

    name: str
    number: int
    count: int
    picture: NDArray[np.uint8] | None
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """A fitted head.

    Attributes:
        head_path: the package; sheet: the contact sheet.
        name: of head and subject; style: worn, None is bald; hair_colour: sRGB or None.
        seconds: from the first photograph to the package; by_stage: of each stage.
        landmark_px: mean distance of the landmarks, pixels of the photograph.
        landmark_share: the same as a share of the distance between the eyes.
        psnr_front: dB of the fit against the first photograph on its bare skin, light included.
        psnr_front_plain: the same against the photograph without its light.
        style_top3: (style of the studio, probability) best first.
        sidelight: ratio of the brightness of both cheeks in the photograph; 1 is even.
        notes: what the user should know.
        cameras: (V, 25) of each photograph as a whole, see ``Camera.flat25``, in the head's space.
        blendshapes: (V, 52) in each photograph.
    """

    head_path: Path
    sheet: Path
    name: str
    style: str | None
    hair_colour: tuple[float, float, float] | None
    seconds: float
    by_stage: dict[str, float]
    landmark_px: float
    landmark_share: float
    psnr_front: float
    psnr_front_plain: float
    style_top3: tuple[tuple[str, float], ...]
    sidelight: float
    notes: tuple[str, ...] = ()
    cameras: tuple[tuple[float, ...], ...] = ()
    blendshapes: tuple[tuple[float, ...], ...] = ()

    def facts(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        colour = self.hair_colour
        return {
            "head": str(self.head_path),
            "sheet": str(self.sheet),
            "name": self.name,
            "style": self.style,
            "hair_colour": None if colour is None else [round(c, 4) for c in colour],
            "seconds": round(self.seconds, 1),
            "seconds_by_stage": {name: round(s, 1) for name, s in self.by_stage.items()},
            "landmark_px": round(self.landmark_px, 2),
            "landmark_share": round(self.landmark_share, 4),
            "psnr_front": round(self.psnr_front, 2),
            "psnr_front_plain": round(self.psnr_front_plain, 2),
            "style_top3": [[name, round(p, 3)] for name, p in self.style_top3],
            "sidelight": round(self.sidelight, 3),
            "notes": list(self.notes),
        }  # fmt: skip
