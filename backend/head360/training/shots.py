"""Training pictures, in memory: groups of views that share subject, hair and expression.

Two sources fill the same container: the studio (``synth:SPEC``, nothing touches the disk) and a
SYNHEAD folder.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.files import atomic_path, writable_folder, write_text
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

    def save(self, folder: Path, spec: SynthSpec) -> None:
        """Keep the pictures beside a run, so that resuming it does not take them again."""
        folder = writable_folder(folder)
        (folder / "spec.json").unlink(missing_ok=True)
        for name in _ARRAYS:
            value = getattr(self, name)
            if value is not None:
                with (
                    atomic_path(folder / f"{name}.npy") as temporary,
                    open(temporary, "wb") as file,
                ):
                    np.save(file, value, allow_pickle=False)
        facts = {
            "spec": asdict(spec), "subjects": self.subjects, "styles": self.styles,
            "default_style": self.default_style, "notices": self.notices,
        }  # fmt: skip
        write_text(folder / "spec.json", json.dumps(facts))

    @staticmethod
    def load(folder: Path, spec: SynthSpec) -> Shots | None:
        """What :meth:`save` kept for the same ``spec``, memory-mapped; None if there is nothing."""
        try:
            facts = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            if facts["spec"] != asdict(spec):
                return None
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
            }
        except (OSError, ValueError, KeyError):
            return None
        return Shots(
            subjects=tuple(facts["subjects"]),
            styles=tuple(facts["styles"]),
            default_style=tuple(facts["default_style"]),
            notices=facts["notices"],
            **arrays,
        )


_ARRAYS = ("shapes", "subject", "style", "blendshapes", "cameras", "rgba", "hair", "atlases")

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

    return Studio(
        BilinearModel.builtin(),
        find_assets(),
        cast(spec.subjects),
        samples=spec.samples,
        shapes=shapes,
    )


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
    records = data.manifest.subjects
    groups = [group for group in data.groups(views) if len(group) == views]
    if not groups:
        raise BadInput(
            f"{folder} has no expression with at least {views} views: render more views."
        )
    # Every third moment is learned a second time from its bald twins.
    plan = [(group, False) for group in groups] + [(group, True) for group in groups[::3]]
    rgba = np.empty((len(plan), views, size, size, 4), dtype=np.uint8)
    hair = np.zeros((len(plan), views, size // 2, size // 2), dtype=np.uint8)
    for g, (group, bald) in enumerate(plan):
        for v, shot in enumerate(group):
            picture = Image.fromarray(shot.load_bald() if bald else shot.load_rgba())
            rgba[g, v] = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
            if not bald:
                mask = Image.fromarray(shot.load_mask()[..., 1])
                hair[g, v] = np.asarray(mask.resize((size // 2,) * 2, Image.Resampling.BOX))
    return Shots(
        subjects,
        styles,
        np.stack([np.asarray(record.shape, dtype=np.float32) for record in records]),
        tuple(record.style for record in records),
        np.array([subjects.index(group[0].subject) for group, _ in plan], dtype=np.int32),
        np.array(
            [-1 if bald else styles.index(group[0].style) for group, bald in plan], dtype=np.int32
        ),
        np.stack([group[0].weights for group, _ in plan]).astype(np.float32),
        np.stack([[shot.camera.flat25() for shot in group] for group, _ in plan]),
        rgba,
        hair,
        notices=[
            f"{notice.what}: {notice.licence}, {notice.holder}." for notice in data.manifest.notices
        ],
    )
