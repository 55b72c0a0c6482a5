"""Training pictures, in memory: groups of views that share subject, hair and expression.

Two sources fill the same container: the studio (``synth:SPEC``, nothing touches the disk) and a
SYNHEAD folder.
"""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.rendering.cameras import Camera
from head360.training.performances import draw_camera, draw_expression, held_out_camera

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SynthSpec:
    """What ``synth:SPEC`` asks for; written ``synth:subjects=8,styles=8,groups=3000``.

    Attributes:
        subjects, styles: how many of the studio's cast and styles.
        groups: number of (subject, hair, expression) moments; each is seen from ``views`` cameras.
        views: pictures per group.
        size: pixels per side.
        seed: of everything.
        bald: share of groups without hair.
        samples: supersampling per axis.
        held_out: True draws the held-out cameras of the evaluation instead.
    """

    subjects: int = 8
    styles: int = 8
    groups: int = 2400
    views: int = 4
    size: int = 256
    seed: int = 0
    bald: float = 0.25
    samples: int = 3
    held_out: bool = False

    @staticmethod
    def parse(text: str) -> SynthSpec:
        """Parse ``synth:key=value,…``.

        Raises:
            BadInput: an unknown key or a value that is no number; the message lists the keys.
        """
        values: dict[str, int | float] = {}
        body = text.removeprefix("synth:").removeprefix("synth")
        known = {name: kind for name, kind in SynthSpec.__annotations__.items() if kind != "bool"}
        for item in filter(None, body.split(",")):
            key, _, value = item.partition("=")
            if key not in known:
                raise BadInput(f"synth: has no {key!r}: use {', '.join(known)}.")
            try:
                values[key] = float(value) if known[key] == "float" else int(value)
            except ValueError as error:
                raise BadInput(f"synth: {key} must be a number, not {value!r}.") from error
        return SynthSpec(**values)  # type: ignore[arg-type]


@dataclass
class Shots:
    """G groups of V views at S² pixels.

    Attributes:
        subjects, styles: names; indices below refer to them.
        shapes: (subjects, S') float32 identity coefficients.
        default_style: per subject, or None.
        subject, style: (G,) int32; style −1 is bald.
        blendshapes: (G, 52) float32.
        cameras: (G, V, 25) float64, see ``Camera.flat25``.
        rgba: (G, V, S, S, 4) uint8 sRGB, straight alpha.
        hair: (G, V, S/2, S/2) uint8 coverage by hair.
        atlases: (subjects, 1024, 1024, 3) uint8 albedo to start the textures from, or None.
        notices: licences of what the pictures were made from.
    """

    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    shapes: Floats
    default_style: tuple[str | None, ...]
    subject: NDArray[np.int32]
    style: NDArray[np.int32]
    blendshapes: Floats
    cameras: NDArray[np.float64]
    rgba: NDArray[np.uint8]
    hair: NDArray[np.uint8]
    atlases: NDArray[np.uint8] | None = None
    notices: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.subject)

    def camera(self, group: int, view: int) -> Camera:
        """The camera of one picture."""
        return Camera.from_flat25(self.cameras[group, view])


NOTICES = [
    "Face geometry: ICT-FaceKit, MIT License, (c) 2020 USC Institute for Creative Technologies.",
    "Skins, eyes, hair and brows: MakeHuman and contributors, CC0 1.0.",
]


def shoot(
    spec: SynthSpec,
    workers: int = 2,
    shapes: dict[str, Floats] | None = None,
    style_names: tuple[str, ...] | None = None,
) -> Shots:
    """Photograph a set in the studio; same arguments, same bytes.

    Args:
        spec: what to photograph.
        workers: processes that share the work; the result does not depend on it.
        shapes: subject → identity coefficients, instead of the first of the cast.
        style_names: instead of the studio's first styles.

    Raises:
        BadInput: the raw assets are missing, or a subject or style is not the studio's.
    """
    from head360.geometry.bilinear import BilinearModel
    from head360.synthesis.hair import STYLES
    from head360.synthesis.subjects import cast

    known = [style.name for style in STYLES]
    if style_names is None and not 1 <= spec.styles <= len(known):
        raise BadInput(f"The studio has {len(known)} hair styles, not {spec.styles}.")
    names = list(style_names) if style_names is not None else known[: spec.styles]
    subjects = cast(spec.subjects)
    strangers = [name for name in names if name not in known]
    strangers += [name for name in shapes or {} if name not in {s.name for s in subjects}]
    if strangers:
        raise BadInput(
            f"The studio does not know {', '.join(strangers)}: evaluate this model on a data set "
            "of its own with --data."
        )
    model = BilinearModel.builtin()
    if shapes is None:
        shapes = {subject.name: subject.shape(model) for subject in subjects}
    # Each group has a random stream of its own: the result does not depend on the workers.
    plan = []
    for group in range(spec.groups):
        rng = np.random.default_rng([spec.seed, group])
        style = -1 if rng.random() < spec.bald else group // len(subjects) % len(names)
        plan.append((group % len(subjects), style))
    workers = max(1, min(workers, spec.groups))
    jobs = [list(range(k, spec.groups, workers)) for k in range(workers)]
    size, half = spec.size, spec.size // 2
    shots = Shots(
        tuple(s.name for s in subjects),
        tuple(names),
        np.stack([shapes[s.name] for s in subjects]),
        tuple(
            s.style if s.style in names else names[i % len(names)] for i, s in enumerate(subjects)
        ),
        np.array([p[0] for p in plan], dtype=np.int32),
        np.array([p[1] for p in plan], dtype=np.int32),
        np.zeros((spec.groups, 52), dtype=np.float32),
        np.zeros((spec.groups, spec.views, 25)),
        np.empty((spec.groups, spec.views, size, size, 4), dtype=np.uint8),
        np.empty((spec.groups, spec.views, half, half), dtype=np.uint8),
        notices=list(NOTICES),
    )
    if workers == 1:
        parts = [_shoot_part(spec, jobs[0], plan, shapes, names)]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            parts = list(
                pool.map(
                    _shoot_part,
                    [spec] * workers,
                    jobs,
                    [plan] * workers,
                    [shapes] * workers,
                    [names] * workers,
                )
            )
    for job, (blendshapes, cameras, rgba, hair) in zip(jobs, parts, strict=True):
        shots.blendshapes[job], shots.cameras[job] = blendshapes, cameras
        shots.rgba[job], shots.hair[job] = rgba, hair
    studio = _studio(spec, shapes)
    shots.atlases = np.stack([studio.sitter(name).atlas for name in shots.subjects])
    return shots


def _studio(spec: SynthSpec, shapes: dict[str, Floats]):  # type: ignore[no-untyped-def]
    from head360.geometry.assets import find_assets
    from head360.geometry.bilinear import BilinearModel
    from head360.synthesis.studio import Studio
    from head360.synthesis.subjects import cast

    return Studio(BilinearModel.builtin(), find_assets(), cast(spec.subjects), samples=spec.samples)


def _shoot_part(
    spec: SynthSpec,
    groups: list[int],
    plan: list[tuple[int, int]],
    shapes: dict[str, Floats],
    styles: list[str],
) -> tuple[Floats, NDArray[np.float64], NDArray[np.uint8], NDArray[np.uint8]]:
    if len(groups) < spec.groups:
        from numba import set_num_threads

        set_num_threads(1)
    studio = _studio(spec, shapes)
    names = list(studio.subjects)
    size = spec.size
    blendshapes = np.zeros((len(groups), 52), dtype=np.float32)
    cameras = np.zeros((len(groups), spec.views, 25))
    rgba = np.empty((len(groups), spec.views, size, size, 4), dtype=np.uint8)
    hair = np.empty((len(groups), spec.views, size // 2, size // 2), dtype=np.uint8)
    for row, group in enumerate(groups):
        rng = np.random.default_rng([spec.seed, group, 1])
        subject, style = plan[group]
        blendshapes[row] = draw_expression(rng)
        vertices = studio.pose(names[subject], blendshapes[row])
        scene, cutout = studio.scene(names[subject], None if style < 0 else styles[style], vertices)
        for view in range(spec.views):
            camera = held_out_camera(rng) if spec.held_out else draw_camera(rng)
            picture = studio.photograph(scene, cutout, camera, size, size)
            cameras[row, view] = camera.flat25()
            rgba[row, view] = (picture.rgba * 255 + 0.5).astype(np.uint8)
            coverage = picture.hair.reshape(size // 2, 2, size // 2, 2).mean((1, 3))
            hair[row, view] = (coverage * 255 + 0.5).astype(np.uint8)
        if row % 50 == 0:
            log.info("studio: %d of %d moments photographed", row, len(groups))
    return blendshapes, cameras, rgba, hair


def load_folder(folder: Path, size: int = 256, views: int = 4) -> Shots:
    """Read a SYNHEAD folder written by ``head360 synth`` into groups.

    Raises:
        BadInput: no manifest, missing files, or pictures of another size than their manifest says.
    """
    from PIL import Image

    from head360.datasets.synhead import SynheadDataset

    data = SynheadDataset.open(folder)
    subjects, styles = tuple(data.subjects), tuple(data.styles)
    groups = [group for group in data.groups(views) if len(group) == views]
    if not groups:
        raise BadInput(
            f"{folder} has no expression with at least {views} views: render more views."
        )
    rgba = np.empty((len(groups), views, size, size, 4), dtype=np.uint8)
    hair = np.empty((len(groups), views, size // 2, size // 2), dtype=np.uint8)
    for g, group in enumerate(groups):
        for v, shot in enumerate(group):
            picture = Image.fromarray(shot.load_rgba())
            mask = Image.fromarray(shot.load_mask()[..., 1])
            rgba[g, v] = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
            hair[g, v] = np.asarray(mask.resize((size // 2,) * 2, Image.Resampling.BOX))
    return Shots(
        subjects,
        styles,
        np.stack([np.asarray(data.subjects[name].shape, dtype=np.float32) for name in subjects]),
        tuple(data.subjects[name].style for name in subjects),
        np.array([subjects.index(group[0].subject) for group in groups], dtype=np.int32),
        np.array(
            [-1 if group[0].style is None else styles.index(group[0].style) for group in groups],
            dtype=np.int32,
        ),
        np.stack([np.asarray(group[0].blendshapes, dtype=np.float32) for group in groups]),
        np.stack([[shot.camera.flat25() for shot in group] for group in groups]),
        rgba,
        hair,
        notices=list(data.notices),
    )
