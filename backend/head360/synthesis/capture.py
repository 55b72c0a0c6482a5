"""From the studio to a data set: what is photographed, in which order, by how many processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import head360
from head360.arkit import COUNT, INDEX, NAMES
from head360.datasets import synhead, synhead_write
from head360.errors import BadInput, Cancelled
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import FRONT_YAW, YAWS, rig72
from head360.synthesis.hair import STYLES, StyleSpec
from head360.synthesis.processes import prepare_worker
from head360.synthesis.studio import Studio
from head360.synthesis.subjects import SubjectSpec, cast
from head360.synthesis.wardrobe import open_wardrobe

STUDIO_VERSION = 1  # raise it when the same input gives other pictures
MAX_SUBJECTS = 1000
VIEWS = 72
_FRONTAL = YAWS + FRONT_YAW  # 30: middle ring, facing the nose

# Those that a small data set should have first; the others follow in the order of arkit.NAMES.
_FIRST = (
    "jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp",
    "mouthPucker", "mouthFunnel", "browDownLeft", "browDownRight", "mouthFrownLeft",
    "mouthFrownRight", "tongueOut", "cheekPuff", "jawLeft", "jawRight", "eyeLookOutLeft",
    "eyeLookInRight",
)  # fmt: skip
EXPRESSION_ORDER: tuple[str, ...] = _FIRST + tuple(n for n in NAMES if n not in _FIRST)
# The mesh lets the tongue out and closes the lips over an open jaw only where the jaw is open.
_COMPANIONS: dict[str, dict[str, float]] = {
    "tongueOut": {"jawOpen": 0.6},
    "mouthClose": {"jawOpen": 1.0},
}

NOTICES = (
    synhead.Notice("head geometry and expressions: ICT-FaceKit", "MIT",
                   "Copyright (c) 2020 USC Institute for Creative Technologies"),
    synhead.Notice("skins, irises and sclera carried onto the ICT layout", "CC0-1.0",
                   "MakeHuman and its contributors"),
    synhead.Notice("hair and eyebrow cards", "CC0-1.0", "MakeHuman and its contributors"),
    synhead.Notice("pictures", "CC0-1.0", "drawn by head360 synth"),
)  # fmt: skip
CONVENTIONS = (
    "Head space: metres, +Y up, +Z out of the face, +X to the subject's left, origin between the "
    "ears. Cameras: OpenCV axes, cam2world row-major then intrinsics normalised by width and "
    "height. Pixels: 8-bit sRGB, straight alpha; landmarks in pixels from the top-left corner, "
    "centres at +0.5. Masks: R head, G hair, coverage x 255. Weights: order of Apple's "
    "documentation in this file, sorted names in images/total_dataset_exp.json; tongueOut comes "
    "with jawOpen 0.6 and mouthClose with jawOpen 1, and the weights say so."
)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CaptureSpec:
    """What to photograph.

    Attributes:
        subjects: how many of the cast.
        expressions: how many beside the neutral, 0…52.
        views: 1…72 cameras of the rig.
        size: pixels per side.
        seed: 0 is the cast as it is; others give every subject another face.
        styles: names of the hair styles to hand out; empty for all.
        samples: supersampling per axis.
        assets: raw assets; None looks for them.
    """

    subjects: int = 8
    expressions: int = 8
    views: int = 24
    size: int = 256
    seed: int = 0
    styles: tuple[str, ...] = ()
    samples: int = 3
    assets: Path | None = None

    def checked(self) -> CaptureSpec:
        """The same, if it can be done.

        Raises:
            BadInput: a number out of range or an unknown style.
        """
        for name, value, low, high in (
            ("subjects", self.subjects, 1, MAX_SUBJECTS),
            ("expressions", self.expressions, 0, COUNT),
            ("views", self.views, 1, VIEWS),
            ("size", self.size, 16, 2048),
            ("seed", self.seed, 0, 2**31 - 1),
        ):
            if not low <= value <= high:
                raise BadInput(f"--{name} {value} is out of range: choose {low} to {high}.")
        known = [style.name for style in STYLES]
        for style in self.styles:
            if style not in known:
                raise BadInput(f"There is no hair style {style!r}: choose from {', '.join(known)}.")
        return self

    def chosen_styles(self) -> tuple[StyleSpec, ...]:
        """The styles that are handed out, in the studio's order."""
        return tuple(s for s in STYLES if not self.styles or s.name in self.styles)

    def chosen_cast(self) -> tuple[SubjectSpec, ...]:
        """Who sits; a subject whose own style is not handed out gets one by turn."""
        names = [style.name for style in self.chosen_styles()]
        people = []
        for number, person in enumerate(cast(self.subjects)):
            style = person.style if person.style in names else names[number % len(names)]
            seed = person.seed + 1_000_003 * self.seed
            people.append(dataclasses.replace(person, seed=seed, style=style))
        return tuple(people)


@dataclass(frozen=True)
class Captured:
    """What a run did: shots ``taken`` and ``kept``, ``seconds``, and the manifest's path."""

    manifest: Path
    taken: int
    kept: int
    seconds: float


def choose_views(count: int) -> list[int]:
    """``count`` indices of the rig of 72, the frontal 30 among them, spread over all sides."""
    if count <= YAWS:
        # Around the head once, the rings by turn: level, from above, from below.
        return sorted(
            ((1, 2, 0)[k % 3] * YAWS + (FRONT_YAW + round(k * YAWS / count)) % YAWS)
            for k in range(count)
        )
    return sorted((_FRONTAL + k * VIEWS // count) % VIEWS for k in range(count))


def expression_weights(name: str) -> np.ndarray:
    """(52,) float32: the expression at full weight with what it needs; ``neutral`` is zeros."""
    weights = np.zeros(COUNT, dtype=np.float32)
    if name != synhead.NEUTRAL:
        weights[INDEX[name]] = 1.0
        for other, value in _COMPANIONS.get(name, {}).items():
            weights[INDEX[other]] = value
    return weights


def plan(spec: CaptureSpec, model: BilinearModel) -> synhead.Manifest:
    """The whole manifest before anything is photographed: no keys, no hashes."""
    people = spec.chosen_cast()
    expressions = [synhead.NEUTRAL, *EXPRESSION_ORDER[: spec.expressions]]
    views = choose_views(spec.views)
    cameras = rig72()
    poses = []
    for person in people:
        for expression in expressions:
            mesh, lms = synhead.mesh_paths(person.name, expression)
            shots = [
                synhead.ShotRecord(
                    view, *synhead.shot_paths(person.name, expression, view), sha256=("", "", "")
                )
                for view in views
            ]
            weights = [round(float(w), 6) for w in expression_weights(expression)]
            truth = synhead.truth_path(person.name, expression)
            poses.append(
                synhead.PoseRecord(
                    person.name, person.style, expression, weights, "", mesh, lms, truth, shots
                )
            )
    worn = {person.style for person in people}
    return synhead.Manifest(
        synhead.SCHEMA, "synhead", f"head360 {head360.__version__} studio {STUDIO_VERSION}",
        spec.seed, spec.size, CONVENTIONS, list(NOTICES),
        [_subject_record(person, model) for person in people],
        [synhead.StyleRecord(s.name, s.label) for s in STYLES if s.name in worn],
        expressions,
        [synhead.ViewRecord(v, [float(x) for x in cameras[v].flat25()]) for v in views],
        poses,
    )  # fmt: skip


def _subject_record(person: SubjectSpec, model: BilinearModel) -> synhead.SubjectRecord:
    shape = [float(value) for value in person.shape(model)]
    return synhead.SubjectRecord(
        person.name, person.seed, shape, person.skin, person.iris, person.iris_gain, person.brow,
        person.brow_colour, person.style,
    )  # fmt: skip


def capture(
    spec: CaptureSpec, out: Path | str, workers: int = 1, progress: Progress | None = None
) -> Captured:
    """Photograph a data set into ``out``; shots of an interrupted run are kept.

    Args:
        spec: what.
        out: folder; created if needed.
        workers: processes; each takes whole subjects.
        progress: called with (shots done, shots in all, what is done).

    Raises:
        BadInput: a value out of range, assets missing, the folder unwritable or another's.
    """
    started = time.monotonic()
    spec = dataclasses.replace(spec.checked(), assets=spec.assets or find_assets())
    model = BilinearModel.builtin()
    manifest = plan(spec, model)
    root = synhead_write.prepare(out, manifest)
    report = progress or (lambda done, total, what: None)
    total = sum(len(pose.shots) for pose in manifest.poses)
    done = kept = 0

    def tell(message: tuple[int, int, str]) -> None:
        nonlocal done, kept
        done, kept = done + message[0], kept + message[1]
        report(done, total, message[2])

    jobs = [
        [pose for pose in manifest.poses if pose.subject == subject.name]
        for subject in manifest.subjects
    ]
    if workers <= 1 or len(jobs) == 1:
        studio = _studio(spec)
        poses = [_shoot(studio, spec, pose, root, tell) for job in jobs for pose in job]
    else:
        poses = _in_processes(spec, jobs, root, min(workers, len(jobs)), tell)
    manifest.poses = poses
    path = synhead_write.finish(root, manifest)
    return Captured(path, done - kept, kept, time.monotonic() - started)


def _studio(spec: CaptureSpec) -> Studio:
    return Studio(
        BilinearModel.builtin(), open_wardrobe(spec.assets), spec.chosen_cast(),
        samples=spec.samples,
    )  # fmt: skip


def _shoot(
    studio: Studio,
    spec: CaptureSpec,
    pose: synhead.PoseRecord,
    root: Path,
    tell: Callable[[tuple[int, int, str]], None],
    stopped: Callable[[], bool] = lambda: False,
) -> synhead.PoseRecord:
    """Photograph one pose, or keep what is there; returns it with its shots."""
    vertices = studio.pose(pose.subject, np.array(pose.weights, dtype=np.float32))
    pose = with_key(studio, spec, pose, vertices)
    what = f"{pose.subject} {pose.expression}"
    kept = synhead_write.kept_shots(root, pose)
    missing = [shot.view for shot in pose.shots if shot.view not in kept]
    shots = [kept[shot.view] for shot in pose.shots if shot.view in kept]
    if shots:
        tell((len(shots), len(shots), what))
    if missing:
        cameras = rig72()
        scene, cutout = studio.scene(pose.subject, pose.style, vertices)
        bald_scene, bald_cutout = studio.scene(pose.subject, None, vertices)
        for view in missing:
            if stopped():
                raise Cancelled("Stopped; what was finished is kept.")
            camera, size = cameras[view], spec.size
            picture = studio.photograph(scene, cutout, camera, size, size)
            bald = studio.photograph(bald_scene, bald_cutout, camera, size, size)
            record = synhead_write.write_shot(
                root, pose, view,
                synhead_write.Picture(picture.rgba, bald.rgba, picture.hair, picture.landmarks),
            )  # fmt: skip
            points = [[round(x, 3) for x in point] for point in picture.landmarks.tolist()]
            shots.append((record, points))
            tell((1, 0, what))
    return synhead_write.write_pose(root, pose, shots, vertices, studio.model.topology)


def with_key(
    studio: Studio, spec: CaptureSpec, pose: synhead.PoseRecord, vertices: np.ndarray
) -> synhead.PoseRecord:
    """The pose with its key: a digest of all that its pictures depend on."""
    looks: dict[str, Any] = {
        "studio": [synhead.SCHEMA, STUDIO_VERSION, spec.size, spec.samples],
        "subject": dataclasses.asdict(studio.subjects[pose.subject]),
        "style": dataclasses.asdict(studio.styles[pose.style]),
        "cameras": [camera.flat25().round(9).tolist() for camera in rig72()],
    }
    digest = hashlib.sha256(json.dumps(looks, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(vertices).tobytes())
    digest.update(np.ascontiguousarray(studio.worn(pose.subject, pose.style).positions).tobytes())
    return msgspec.structs.replace(pose, key=digest.hexdigest())


# --- several processes ----------------------------------------------------------------------------

_told: Any = None
_stop: Any = None


def _begin(told: Any, stop: Any) -> None:
    """First call in a worker process; Ctrl-C is the parent's, see _in_processes."""
    global _told, _stop
    _told, _stop = told, stop
    prepare_worker()


def _shoot_job(
    spec: CaptureSpec, job: list[synhead.PoseRecord], root: Path
) -> list[synhead.PoseRecord]:
    studio = _studio(spec)
    return [_shoot(studio, spec, pose, root, _told.put, _stop.is_set) for pose in job]


def _in_processes(
    spec: CaptureSpec,
    jobs: list[list[synhead.PoseRecord]],
    root: Path,
    workers: int,
    tell: Callable[[tuple[int, int, str]], None],
) -> list[synhead.PoseRecord]:
    context = multiprocessing.get_context("spawn")
    told, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(told, stop)
    )
    futures: list[Future[list[synhead.PoseRecord]]] = []
    try:
        futures = [pool.submit(_shoot_job, spec, job, root) for job in jobs]
        while not all(future.done() for future in futures):
            _drain(told, tell, 0.2)
            if any(future.done() and future.exception() for future in futures):
                break
        poses = [pose for future in futures for pose in future.result()]
        _drain(told, tell, 0.0)
        return poses
    finally:
        stop.set()
        for future in futures:
            future.cancel()
        wait(futures)
        pool.shutdown()
        told.close()


def _drain(told: Any, tell: Callable[[tuple[int, int, str]], None], seconds: float) -> None:
    while True:
        try:
            tell(told.get(timeout=seconds) if seconds else told.get(timeout=0.05))
        except queue.Empty:
            return
