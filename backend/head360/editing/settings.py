"""The schedule of an edit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from head360.errors import BadInput

STEPS = {True: 220, False: 1500}  # by whether the editor edits every view once


@dataclass(frozen=True)
class EditSettings:
    """How an edit is learned.

    Attributes:
        prompt: the wish, for editors that read it.
        steps: of learning; 0 is the default for the editor.
        views: pictures around the head.
        size: their pixels per side, even.
        seed: of views, patches and noise.
        interval: steps between two edits of a view, for editors that draw lots.
        hair: the hair that is worn changes too.
        patch, patches: pixels per side of a patch, patches per step.
        rate: peak learning rate.
        anchor: weight of staying near the texture before the edit.
        perceptual: weight of LPIPS where its weights are given.
        name: of the new model; "" makes one of the old name, the person and the editor.
        resume: go on from the folder's checkpoint.
        checkpoint_seconds: between two checkpoints.
    """

    prompt: str = ""
    steps: int = 0
    views: int = 42
    size: int = 256
    seed: int = 0
    interval: int = 10
    hair: bool = True
    patch: int = 128
    patches: int = 2
    rate: float = 0.02
    anchor: float = 0.05
    perceptual: float = 1.0
    name: str = ""
    resume: bool = False
    checkpoint_seconds: float = 60.0

    def checked(self, *, once: bool) -> EditSettings:
        """The same with the default number of steps filled in.

        Raises:
            BadInput: a value is out of range.
        """
        result = dataclasses.replace(self, steps=self.steps or STEPS[once])
        for what, low, high, value in (
            ("--steps", 1, 200_000, result.steps), ("--views", 3, 400, self.views),
            ("--size", 64, 512, self.size), ("--seed", 0, 2**31 - 1, self.seed),
            ("--every", 1, 10_000, self.interval),
        ):  # fmt: skip
            if not low <= value <= high:
                raise BadInput(f"{what} {value} is out of range: choose {low} to {high}.")
        if self.size % 8:
            raise BadInput(f"--size {self.size} does not fit: choose a multiple of 8.")
        if not once and not self.prompt.strip():
            raise BadInput('A diffusion model needs a wish: add --prompt "make her look older".')
        return result

    def facts(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint must have in common with this one."""
        skipped = ("resume", "checkpoint_seconds", "name")
        return {key: v for key, v in dataclasses.asdict(self).items() if key not in skipped}
