"""Training pictures from the studio, taken by several processes; same arguments, same bytes."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput, Cancelled, TryAgain
from head360.files import writable_folder
from head360.geometry.bilinear import BilinearModel
from head360.synthesis.hair import STYLES
from head360.synthesis.looks import FIRST_LOOK, LATEST_LOOK
from head360.synthesis.processes import prepare_worker
from head360.synthesis.studio import Studio
from head360.synthesis.subjects import SubjectSpec, cast
from head360.synthesis.wardrobe import open_wardrobe
from head360.training.performances import draw_camera, draw_expression, held_out_camera
from head360.training.shots import Shots, SynthSpec

Floats = NDArray[np.float32]
Part = tuple[Floats, NDArray[np.float64], NDArray[np.uint8], NDArray[np.uint8]]
Progress = Callable[[int, int], None]

LOOKS = {look.version: look for look in (FIRST_LOOK, LATEST_LOOK)}
CAST_SEARCHED = 64  # of the endless cast, when somebody is asked for by name
GROUPS_PER_JOB = 16  # few enough that a request to stop is heard soon
_RESERVE = 64 << 20  # bytes that stay free beside the pictures

NOTICES = [
    "Face geometry: ICT-FaceKit, MIT License, (c) 2020 USC Institute for Creative Technologies.",
    "Skins, eyes, hair and brows: MakeHuman and contributors, CC0 1.0.",
]


def shoot(
    spec: SynthSpec,
    workers: int = 2,
    shapes: dict[str, Floats] | None = None,
    style_names: tuple[str, ...] | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    people: tuple[str, ...] = (),
) -> Shots:
    """Photograph a set in the studio; same arguments, same bytes.

    Args:
        spec: what to photograph.
        workers: processes that share the work; the result does not depend on it.
        shapes: subject → identity coefficients, instead of the first of the cast.
        style_names: instead of the studio's first styles; without any, everybody is bald.
        folder: keep the set there, see ``Shots.save``; the pictures then lie in mapped files
            instead of memory.
        progress: called with (groups done, groups in all).
        people: names of the cast, ``spec.subjects`` of them, instead of its first.

    Raises:
        BadInput: a number out of range, the raw assets are missing, a subject or style is not the
            studio's, or the folder has no room.
        TryAgain: a worker process was killed.
    """
    spec = spec.checked()
    names, shapes = who_and_what(spec, shapes, style_names, people)
    photographer = Photographer(spec, shapes, names, people)
    subjects = photographer.sitters
    plan = [photographer.planned(group) for group in range(spec.groups)]
    atlases = np.stack([photographer.studio.sitter(s.name).atlas for s in subjects])
    size, half = spec.size, spec.size // 2
    shots = Shots(
        tuple(s.name for s in subjects),
        tuple(names),
        np.stack([shapes[s.name] for s in subjects]),
        tuple(
            s.style if s.style in names else names[i % len(names)] if names else None
            for i, s in enumerate(subjects)
        ),
        np.array([p[0] for p in plan], dtype=np.int32),
        np.array([p[1] for p in plan], dtype=np.int32),
        np.zeros((spec.groups, 52), dtype=np.float32),
        np.zeros((spec.groups, spec.views, 25)),
        _pictures((spec.groups, spec.views, size, size, 4), folder, "rgba"),
        _pictures((spec.groups, spec.views, half, half), folder, "hair"),
        atlases,
        list(NOTICES),
    )
    done = 0

    def keep(job: list[int], part: Part) -> None:
        nonlocal done
        shots.blendshapes[job], shots.cameras[job], shots.rgba[job], shots.hair[job] = part
        done += len(job)
        if progress is not None:
            progress(done, spec.groups)

    workers = max(1, min(workers, spec.groups))
    step = min(GROUPS_PER_JOB, -(-spec.groups // workers))
    groups = range(spec.groups)
    jobs = [list(groups[first : first + step]) for first in groups[::step]]
    if workers == 1:
        for job in jobs:
            keep(job, photographer.shoot(job))
    else:
        del photographer  # the workers have their own
        _in_processes(Photographer(spec, shapes, names, people), jobs, workers, keep)
    if folder is not None:
        shots.save(folder, spec)
    return shots


def who_and_what(
    spec: SynthSpec,
    shapes: dict[str, Floats] | None = None,
    style_names: tuple[str, ...] | None = None,
    people: tuple[str, ...] = (),
) -> tuple[list[str], dict[str, Floats]]:
    """Names of the styles and identity coefficients by subject; arguments as in :func:`shoot`.

    Raises:
        BadInput: a subject or style is not the studio's.
    """
    known = [style.name for style in STYLES]
    if style_names is None and spec.wear:
        style_names = tuple(spec.wear.split("+"))
        strange = [name for name in style_names if name not in known]
        if strange or len(set(style_names)) < len(style_names):
            raise BadInput(
                f"synth: wear={spec.wear} names {strange[0] if strange else 'a style twice'}: "
                "head360 synth --list-styles shows the names."
            )
    if style_names is None and not 1 <= spec.styles <= len(known):
        raise BadInput(f"The studio has {len(known)} hair styles, not {spec.styles}.")
    names = list(style_names) if style_names is not None else known[: spec.styles]
    subjects = sitting(spec, people)
    strangers = [name for name in names if name not in known]
    strangers += [name for name in shapes or {} if name not in {s.name for s in subjects}]
    if strangers:
        raise BadInput(
            f"The studio does not know {', '.join(strangers)}: evaluate this model on a data set "
            "of its own with --data."
        )
    if shapes is None:
        model = BilinearModel.builtin()
        shapes = {subject.name: subject.shape(model) for subject in subjects}
    return names, shapes


def sitting(spec: SynthSpec, people: tuple[str, ...] = ()) -> tuple[SubjectSpec, ...]:
    """Who is photographed: the first ``spec.subjects`` of the cast, or those ``people`` of it.

    Raises:
        BadInput: the cast has nobody of such a name.
    """
    if not people:
        return cast(spec.subjects)
    known = {subject.name: subject for subject in cast(max(CAST_SEARCHED, spec.subjects))}
    strangers = [name for name in people if name not in known]
    if strangers:
        raise BadInput(f"The studio does not know {', '.join(strangers)}: choose of its cast.")
    return tuple(known[name] for name in people)


def _pictures(shape: tuple[int, ...], folder: Path | None, name: str) -> NDArray[np.uint8]:
    """An array to fill: in memory, or mapped to a file of ``folder``."""
    if folder is None:
        return np.empty(shape, dtype=np.uint8)
    folder = writable_folder(folder)
    path = folder / f"{name}.npy"
    try:
        (folder / "spec.json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        # A mapped file on a full disk ends the process without a word, so look first.
        needed = int(np.prod(shape, dtype=np.int64)) + _RESERVE
        if shutil.disk_usage(folder).free < needed:
            raise BadInput(
                f"The pictures need {needed >> 20} MiB in {folder}: free some space, or ask for "
                "fewer groups."
            )
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise BadInput(f"Cannot write {path} ({error.strerror}): choose another place.") from error


@dataclass
class Photographer:
    """Takes groups of pictures; every process has one.

    Attributes:
        spec: what to photograph.
        shapes: subject → identity coefficients.
        styles: names.
        people: names of who is photographed; nobody stands for the first of the cast.
    """

    spec: SynthSpec
    shapes: dict[str, Floats]
    styles: list[str]
    people: tuple[str, ...] = ()

    @cached_property
    def sitters(self) -> tuple[SubjectSpec, ...]:
        """Looked up when first needed."""
        return sitting(self.spec, self.people)

    @cached_property
    def studio(self) -> Studio:
        """Built when first needed."""
        return Studio(
            BilinearModel.builtin(), open_wardrobe(), self.sitters,
            samples=self.spec.samples, shapes=self.shapes, look=LOOKS[self.spec.look],
        )  # fmt: skip

    def planned(self, group: int) -> tuple[int, int]:
        """(subject, style) of a group as indices; style −1 is bald."""
        # Each group has a random stream of its own: the result does not depend on the workers.
        rng = np.random.default_rng([self.spec.seed, group])
        people = self.spec.subjects
        bald = rng.random() < self.spec.bald or not self.styles
        # Stepping with both keeps every pairing, and small sets see every style.
        style = -1 if bald else (group + group // people) % len(self.styles)
        return group % people, style

    def shoot(self, groups: list[int], stopped: Callable[[], bool] = lambda: False) -> Part:
        """Blendshapes, cameras, pictures and hair coverage of ``groups``.

        Raises:
            Cancelled: ``stopped()`` said so between two groups.
        """
        spec, studio = self.spec, self.studio
        names = list(studio.subjects)
        size = spec.size
        blendshapes = np.zeros((len(groups), 52), dtype=np.float32)
        cameras = np.zeros((len(groups), spec.views, 25))
        rgba = np.empty((len(groups), spec.views, size, size, 4), dtype=np.uint8)
        hair = np.empty((len(groups), spec.views, size // 2, size // 2), dtype=np.uint8)
        for row, group in enumerate(groups):
            if stopped():
                raise Cancelled("Stopped while taking pictures.")
            rng = np.random.default_rng([spec.seed, group, 1])
            subject, style = self.planned(group)
            blendshapes[row] = draw_expression(rng)
            vertices = studio.pose(names[subject], blendshapes[row])
            worn = None if style < 0 else self.styles[style]
            scene, cutout = studio.scene(names[subject], worn, vertices)
            for view in range(spec.views):
                camera = held_out_camera(rng) if spec.held_out else draw_camera(rng)
                picture = studio.photograph(scene, cutout, camera, size, size)
                cameras[row, view] = camera.flat25()
                rgba[row, view] = (picture.rgba * 255 + 0.5).astype(np.uint8)
                coverage = picture.hair.reshape(size // 2, 2, size // 2, 2).mean((1, 3))
                hair[row, view] = (coverage * 255 + 0.5).astype(np.uint8)
        return blendshapes, cameras, rgba, hair


# --- several processes ----------------------------------------------------------------------------

_photographer: Any = None
_stop: Any = None


def _begin(photographer: Photographer, stop: Any) -> None:
    """First call in a worker process."""
    global _photographer, _stop
    _photographer, _stop = photographer, stop
    prepare_worker()


def _shoot_job(groups: list[int]) -> Part:
    part: Part = _photographer.shoot(groups, _stop.is_set)
    return part


def _in_processes(
    photographer: Photographer,
    jobs: list[list[int]],
    workers: int,
    keep: Callable[[list[int], Part], None],
) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(photographer, stop)
    )
    try:
        waiting: dict[Future[Part], list[int]] = {pool.submit(_shoot_job, job): job for job in jobs}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                keep(waiting.pop(future), future.result())
    except BrokenProcessPool as error:
        raise TryAgain(
            "A process that takes pictures was killed, perhaps for memory: use fewer --workers."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
