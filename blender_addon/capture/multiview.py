"""Writing a capture in the SYNHEAD layout: every pose from the cameras of the rig."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

import head360
from head360.datasets import synhead, synhead_write
from head360.datasets.records import Notice, StyleRecord, SubjectRecord
from head360.datasets.scheme import CONVENTIONS
from head360.datasets.synhead import Manifest, PoseRecord, Taken
from head360.rendering.cameras import Camera

from . import keys
from .cast import Cast
from .frame import HeadFrame
from .pictures import Photographer
from .plan import Plan
from .shoot import Camerawork, Captured, Clock, survey
from .survey import Posed, Surveyor

STYLE = "own"


def _manifest(
    plan: Plan, known: list[Posed], looks: str, landmarks: bool, rights: tuple[str, str]
) -> Manifest:
    """The whole manifest before the first picture. ``rights``: consent and licence."""
    points: synhead.Landmarks = "68" if landmarks else "none"
    views = [
        synhead.ViewRecord(view, [float(x) for x in plan.camera(0, view).flat25()])
        for view in plan.views
    ]
    poses = [
        PoseRecord(
            plan.subject, STYLE, pose.name, [round(float(w), 6) for w in posed.weights],
            keys.join(looks, posed.key, plan.size, plan.kinds, points,
                      [view.camera for view in views]),
            synhead.pose_files(plan.subject, pose.name, points),
        )
        for pose, posed in zip(plan.poses, known, strict=True)
    ]  # fmt: skip
    consent, licence = rights
    return Manifest(
        schema=synhead.SCHEMA, kind=synhead.KIND,
        generator=f"head360 {head360.__version__} in Blender {bpy.app.version_string}",
        seed=None, consent=consent, size=plan.size, conventions=CONVENTIONS, landmarks=points,
        kinds=list(plan.kinds), lights=[synhead.LightRecord("artist", default=True)], labels=[],
        depth_scale=synhead.DEPTH_SCALE,
        notices=[Notice("pictures", licence, plan.subject)],
        subjects=[SubjectRecord(plan.subject, plan.subject, STYLE)],
        styles=[StyleRecord(STYLE, "The artist's own hair")],
        expressions=[pose.name for pose in plan.poses], views=views, poses=poses,
    )  # fmt: skip


def shoot(plan: Plan, cast: Cast, root: Path, rights: tuple[str, str]) -> Iterator[Any]:
    """Flow: photograph ``plan`` into ``root``; returns :class:`Captured`.

    Raises:
        BadInput: the folder is another data set's, the engine fails, the head is not to be found.
    """
    surveyor, known, looks = yield from survey(plan, cast)
    marked = surveyor.landmarks(plan.poses[0], known[0].frame) is not None
    manifest = _manifest(plan, known, looks, marked, rights)
    synhead_write.prepare(root, manifest)
    clock = Clock(plan.shots, plan.renders(bool(cast.hair)))
    taken = kept = 0
    with Photographer(cast, plan.size, keep_view=plan.keep_view) as photographer:
        work = Camerawork(plan, cast, photographer, clock)
        for number, record in enumerate(manifest.poses):
            shots = synhead_write.kept_shots(root, record, plan.kinds)
            shots = {view: shot for view, shot in shots.items() if view in plan.views}
            clock.skip(len(shots))
            kept += len(shots)
            yield clock.phase(record.expression)
            points = surveyor.landmarks(plan.poses[number], known[number].frame)
            for view in plan.views:
                camera = plan.camera(number, view)
                if view in shots:
                    # The marks may have moved since, which no picture shows.
                    shots[view].landmarks = _projected(camera, points, plan.size)
                    continue
                what = f"{record.expression}, view {view}"
                files = None
                for step in work.shot(plan.poses[number], known[number], camera, what):
                    if isinstance(step, dict):
                        files = step
                    else:
                        yield step
                shot = Taken(synhead_write.write_files(root, record, view, files))
                shot.landmarks = _projected(camera, points, plan.size)
                synhead_write.note_taken(root, record, shot)
                shots[view] = shot
                taken += 1
                clock.skip(1)
                yield clock.phase(what)
            _write_pose(root, record, shots, surveyor, plan, number, known[number].frame, points)
    return Captured(synhead_write.finish(root, manifest), taken, kept, clock.seconds)


def _projected(camera: Camera, points: Any, size: int) -> list[tuple[float, float]]:
    """Landmarks as pixels; none where there are none."""
    if points is None:
        return []
    pixels, _depth = camera.project(points, size, size)
    return [(round(x, 3), round(y, 3)) for x, y in pixels.tolist()]


def _write_pose(
    root: Path, record: PoseRecord, shots: dict[int, Taken], surveyor: Surveyor, plan: Plan,
    number: int, frame: HeadFrame, points: Any,
) -> None:  # fmt: skip
    surface = surveyor.surface(plan.poses[number], frame)
    synhead_write.write_pose(
        root, record, shots.values(), surface.vertices, surface.faces, surface.uvs,
        surface.face_uvs, None if points is None else points[synhead.OUTER_LIP],
    )  # fmt: skip
