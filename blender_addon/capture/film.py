"""Writing a capture in the monocular layout: a moving camera films a performance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

import head360
from head360.arkit import NAMES
from head360.datasets import monocular, monocular_write
from head360.datasets.integrity import digest_file
from head360.datasets.monocular import FrameTruth, MonocularManifest, TakeRecord
from head360.datasets.monocular_write import Filmed
from head360.datasets.records import Notice, StyleRecord, SubjectRecord

from . import keys
from .cast import Cast
from .multiview import STYLE
from .pictures import Photographer
from .plan import Plan
from .shoot import Camerawork, Captured, Clock, survey

_FORMAT = "png"
_AXES = "transform_matrix: camera-to-world, OpenGL (x right, y up, looks along -z), head fixed"
_CONVENTIONS = (
    "The head is the fixed frame, +Y up, +Z out of the face, +X to the subject's left, origin "
    "between the ears. Pictures are sRGB over white: matte x head + (1 - matte) x white, mixed as "
    "encoded. Mattes are numbered img_id + 1. exp_ori are ARKit weights in the order of "
    "`expressions`."
)
_MOTION = "sways before the face: 28 degrees to either side in 8 s, 9 degrees up and down in 5.3 s"


def _manifest(plan: Plan, key: str, rights: tuple[str, str]) -> MonocularManifest:
    consent, licence = rights
    take = None
    if plan.take is not None:
        notice = Notice(
            f"performance: the take {plan.take.stem}", "not stated: ask whoever recorded it",
            "not named",
        )  # fmt: skip
        rows = f"sampled {plan.fps:g} times a second"
        take = TakeRecord(plan.take.stem, digest_file(plan.take), rows, notice)
    return MonocularManifest(
        schema=monocular.SCHEMA, kind=monocular.KIND,
        generator=f"head360 {head360.__version__} in Blender {bpy.app.version_string}",
        seed=None, consent=consent, key=key, width=plan.size, height=plan.size, fps=plan.fps,
        units="metres", axes=_AXES, conventions=_CONVENTIONS, expressions=list(NAMES),
        subject=SubjectRecord(plan.subject, plan.subject, STYLE),
        style=StyleRecord(STYLE, "The artist's own hair"), light="artist", take=take,
        camera_motion=_MOTION, parsing={},
        test_from=len(plan.poses) - round(len(plan.poses) * monocular.TEST_SHARE),
        notices=[
            Notice("pictures", licence, plan.subject), *([take.notice] if take is not None else [])
        ],
        sha256={}, frames=[],
    )  # fmt: skip


def shoot(plan: Plan, cast: Cast, root: Path, rights: tuple[str, str]) -> Iterator[Any]:
    """Flow: film ``plan`` into ``root``; returns :class:`Captured`.

    Raises:
        BadInput: the folder is another data set's, the engine fails, the head is not to be found.
    """
    _surveyor, known, looks = yield from survey(plan, cast)
    cameras = [plan.camera(number, 0) for number in range(len(plan.poses))]
    key = keys.join(
        looks, [posed.key for posed in known], plan.size, plan.fps,
        [camera.flat25().round(9).tolist() for camera in cameras],
    )  # fmt: skip
    monocular_write.prepare(root, key, range(len(plan.poses)), _FORMAT)
    filmed = monocular_write.kept_frames(root, key)
    filmed = {number: item for number, item in filmed.items() if number < len(plan.poses)}
    clock = Clock(plan.shots, plan.renders(bool(cast.hair)))
    clock.skip(len(filmed))
    kept = len(filmed)
    journal = monocular_write.journal(root, key, 0)
    with Photographer(cast, plan.size, keep_view=plan.keep_view) as photographer:
        work = Camerawork(plan, cast, photographer, clock)
        for number, pose in enumerate(plan.poses):
            if number in filmed:
                continue
            (files,) = work.shot(pose, known[number], cameras[number], pose.name)
            record = monocular_write.write_files(root, number, files, _FORMAT)
            item = Filmed(record, FrameTruth(number, number + 1, pose.second, (0.0, 0.0, 0.0)))
            journal.append(item)
            filmed[number] = item
            clock.skip(1)
            yield clock.phase(pose.name)
    path = monocular_write.finish(
        root, _manifest(plan, key, rights), [filmed[k] for k in sorted(filmed)], cameras,
        [posed.weights.tolist() for posed in known],
    )  # fmt: skip
    return Captured(path, len(filmed) - kept, kept, clock.seconds)
