"""The capture itself, as a flow: survey, picture by picture, files; resumable at every shot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from head360.datasets import png
from head360.datasets.synhead_write import encode_mask
from head360.errors import BadInput
from head360.rendering.cameras import Camera

from ..flows import Phase
from . import keys
from .cast import Cast
from .pictures import Photographer, Pixels
from .plan import MONOCULAR, Plan, Pose, duration
from .stage import HairShown, find
from .survey import Posed, Surveyor

_DARK = 4  # of 255: a picture that is nowhere brighter has no light


@dataclass(frozen=True)
class Captured:
    """What a run did: pictures taken and kept, seconds a render, and the manifest's path."""

    manifest: Path
    taken: int
    kept: int
    seconds: float


class Clock:
    """Times renders, and says how much is left.

    Attributes:
        seconds: an average render so far; 0 before the first.
    """

    def __init__(self, shots: int, renders: int) -> None:
        self._shots, self._renders = max(shots, 1), renders
        self._done = self._measured = 0
        self._spent = 0.0
        self.seconds = 0.0

    def skip(self, shots: int) -> None:
        """Shots that are there already."""
        self._done += shots

    def took(self, seconds: float, renders: int) -> None:
        """Part of a shot was rendered."""
        self._spent += seconds
        self._measured += renders
        self.seconds = self._spent / self._measured

    def phase(self, what: str) -> Phase:
        """For the progress bar."""
        left = (self._shots - self._done) * self._renders * self.seconds
        words = f"{what}, {duration(left)} left" if self.seconds else what
        return Phase(words, self._done / self._shots)


class Camerawork:
    """Takes the files of one shot; shared by both layouts."""

    def __init__(self, plan: Plan, cast: Cast, photographer: Photographer, clock: Clock) -> None:
        self.plan, self.cast, self.clock = plan, cast, clock
        self._photographer = photographer
        self._checked = False
        self._looks = keys.looks(cast, find(cast)[0])

    def shot(
        self, pose: Pose, posed: Posed, camera: Camera, what: str
    ) -> Iterator[Phase | dict[str, bytes]]:
        """Yield a phase after every render, and last of all the files as bytes by kind.

        Raises:
            BadInput: the picture is of no use, or lights or materials changed since the survey, so
                that it is not the picture it would be kept as.
        """
        take, moment, frame = self._photographer.take, pose.moment, posed.frame
        hair = bool(self.cast.hair)
        image = self._timed(lambda: take(moment, camera, frame))
        self._check(image)
        if self.plan.layout == MONOCULAR:
            self._demand_same_looks()
            yield {"image": png.encode(over_white(image)), "matte": png.encode(image[..., 3])}
            return
        files = {"image": png.encode(image)}
        if self.plan.bald:
            bald = image
            if hair:
                yield self.clock.phase(what)
                bald = self._timed(lambda: take(moment, camera, frame, HairShown.HIDDEN))
            files["bald"] = png.encode(bald)
        if self.plan.mask:
            if hair:
                yield self.clock.phase(what)
            alpha, part = self._timed(
                lambda: self._photographer.take_mask(moment, camera, frame, image), renders=hair
            )
            files["mask"] = encode_mask(alpha, part)
        self._demand_same_looks()
        yield files

    def _demand_same_looks(self) -> None:
        if keys.looks(self.cast, find(self.cast)[0]) != self._looks:
            raise BadInput(
                "Lights, materials or settings changed while pictures were taken: press Capture "
                "Training Set again; what still fits is kept."
            )

    def _timed(self, work: Any, *, renders: int = 1) -> Any:
        started = time.perf_counter()
        result = work()
        if renders:
            self.clock.took(time.perf_counter() - started, 1)
        return result

    def _check(self, image: Pixels) -> None:
        """Complain about the first picture when it is of no use, not after an hour of them."""
        if self._checked:
            return
        if not image[..., 3].any():
            raise BadInput(
                f"{self.cast.head} is not in the picture: check that renders show it, and press "
                "Show Head Frame to see where its face was found."
            )
        if int(image[..., :3].max()) <= _DARK:
            raise BadInput("The first picture is black: add lights to the scene, or a world.")
        self._checked = True


def over_white(image: Pixels) -> Pixels:
    """(H, W, 3) uint8: the picture before a white backdrop, mixed as encoded."""
    alpha = image[..., 3:].astype(np.float32) / 255.0
    return np.rint(image[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)


def survey(plan: Plan, cast: Cast) -> Iterator[Any]:
    """Flow: (surveyor, what is known of every pose, digest of all looks)."""
    surveyor = Surveyor(cast)
    known = []
    for number, pose in enumerate(plan.poses):
        known.append(surveyor.look(pose))
        yield Phase("looking at the poses", number / len(plan.poses))
    scene, _layer, _head = find(cast)
    return surveyor, known, keys.join(keys.looks(cast, scene), plan.keep_view)
