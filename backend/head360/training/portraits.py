"""Portraits from the studio: what the networks that read photographs are trained on.

A set is a folder of memory-mapped arrays and ``spec.json``. It is drawn person by person, can be
read while it grows, and goes on where it was stopped; same spec, same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT
from head360.errors import BadInput
from head360.synthesis.hair import STYLES
from head360.synthesis.subjects import CAST

Floats = NDArray[np.float32]

VERSION = 2  # raised whenever the same spec gives other pictures
HELD_OUT = 1000  # people from this number on are nobody's training data


@dataclass(frozen=True)
class PortraitSpec:
    """What to draw; written ``synth:people=300,first=8``.

    Attributes:
        people: how many; first: number of the first one, from 8 on, see ``synthesis.people``.
        styles: hair styles each wears; moments: expressions in each; views: cameras for each.
        bald: pictures without hair, each with its own expression.
        size: pixels per side; samples: supersampling per axis.
        seed: of everything but the people themselves.
    """

    people: int = 300
    first: int = len(CAST)
    styles: int = 2
    moments: int = 3
    views: int = 2
    bald: int = 2
    size: int = 256
    samples: int = 2
    seed: int = 0

    @property
    def each(self) -> int:
        """Pictures of one person."""
        return self.styles * self.moments * self.views + self.bald

    @staticmethod
    def parse(text: str) -> PortraitSpec:
        """Parse ``synth:key=value,…``.

        Raises:
            BadInput: an unknown key, or a value that is no number or out of range.
        """
        values: dict[str, int] = {}
        known = PortraitSpec.__annotations__
        for item in filter(None, text.removeprefix("synth").removeprefix(":").split(",")):
            key, _, value = item.partition("=")
            if key not in known:
                raise BadInput(f"synth: has no {key!r} for portraits: use {', '.join(known)}.")
            try:
                values[key] = int(value)
            except ValueError as error:
                raise BadInput(f"synth: {key} must be a whole number, not {value!r}.") from error
        return PortraitSpec(**values).checked()

    def checked(self) -> PortraitSpec:
        """The same, if it can be drawn.

        Raises:
            BadInput: a number out of range.
        """
        for name, low, high in (
            ("people", 1, 100_000), ("first", len(CAST), 100_000), ("styles", 0, len(STYLES)),
            ("moments", 1, 64), ("views", 1, 64), ("bald", 0, 64), ("size", 64, 1024),
            ("samples", 1, 4), ("seed", 0, 2**32),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"synth: {name}={value} is out of range: choose {low} to {high}.")
        if self.each == 0:
            raise BadInput("synth: styles=0 and bald=0 leave no pictures: raise one of them.")
        return self

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each array; N pictures of S² pixels. See :class:`PortraitSet`."""
        count, size = self.people * self.each, self.size
        return {
            "rgba": ((count, size, size, 4), "u1"),
            "labels": ((count, size, size), "u1"),
            "hair": ((count, size, size), "u1"),
            "points": ((count, 536, 2), "f4"),
            "visible": ((count, 536), "?"),
            "style": ((count,), "i2"),
            "hair_colour": ((count, 3), "u1"),
            "person": ((count,), "i4"),
            "blendshapes": ((count, COUNT), "f4"),
            "camera": ((count, 25), "f8"),
            "done": ((self.people,), "?"),
        }


@dataclass(frozen=True)
class PortraitSet:
    """The finished pictures of a set, memory-mapped; N rows of which ``rows`` are drawn.

    Attributes:
        spec: what they are.
        style_names: of the studio; ``style`` refers to them.
        rows: (M,) int64 the rows that are finished.
        rgba: (N, S, S, 4) uint8 sRGB, straight alpha.
        labels: (N, S, S) uint8 classes of ``datasets.labels``.
        hair: (N, S, S) uint8 coverage by hair.
        points: (N, 536, 2) float32 pixels, centres at +0.5: iBUG's 68, then MediaPipe's 468.
        visible: (N, 536) bool neither hidden nor out of the picture.
        style: (N,) int16; −1 is bald. hair_colour: (N, 3) uint8 sRGB the hair was dyed in, zero
            where it has the style's own colour.
        person: (N,) int32 number. blendshapes: (N, 52) float32. camera: (N, 25), ``Camera.flat25``.
    """

    spec: PortraitSpec
    style_names: tuple[str, ...]
    rows: NDArray[np.int64]
    rgba: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    hair: NDArray[np.uint8]
    points: Floats
    visible: NDArray[np.bool_]
    style: NDArray[np.int16]
    hair_colour: NDArray[np.uint8]
    person: NDArray[np.int32]
    blendshapes: Floats
    camera: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def load(folder: Path | str) -> PortraitSet:
        """Open a set, finished or growing.

        Raises:
            BadInput: there is none, it is damaged or of another version, or nothing is drawn yet.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            spec = PortraitSpec(**facts["spec"])
            version = facts["version"]
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in spec.arrays()
            }
            names = tuple(facts["styles"])
            fits = all(arrays[name].shape == shape for name, (shape, _) in spec.arrays().items())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{folder} holds no set of portraits ({error}): give synth:people=300, which draws "
                "one, or the folder of one."
            ) from error
        if version != VERSION or not fits:
            raise BadInput(f"The portraits in {folder} are of another version: draw them again.")
        done = np.asarray(arrays.pop("done"))
        rows = np.flatnonzero(done.repeat(spec.each))
        if not len(rows):
            raise BadInput(f"The set of portraits in {folder} has no picture yet: wait a minute.")
        return PortraitSet(spec, names, rows, **arrays)
