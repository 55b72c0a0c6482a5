"""One pose of one sitter: photographed from every view, encoded, written; or kept from before."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from head360.datasets import synhead, synhead_write
from head360.datasets.synhead import PoseRecord, Taken
from head360.errors import Cancelled
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera
from head360.synthesis.lights import LIGHTS
from head360.synthesis.looks import LATEST_LOOK
from head360.synthesis.plan import STUDIO_VERSION, CaptureSpec
from head360.synthesis.processes import Stopped, Tell
from head360.synthesis.studio import Photograph, Studio
from head360.synthesis.subjects import SubjectSpec
from head360.synthesis.wardrobe import Wardrobe, open_wardrobe

_STUDIOS = 2  # that a process keeps: dressing somebody takes seconds, and memory must not grow
_studios: dict[tuple[Path | None, int, tuple[SubjectSpec, ...]], Studio] = {}
_wardrobes: dict[Path | None, Wardrobe] = {}


def studio_for(people: tuple[SubjectSpec, ...], assets: Path | None, samples: int) -> Studio:
    """A studio in the latest look; a process keeps the last ones and the wardrobe, no more."""
    key = (assets, samples, people)
    if key not in _studios:
        if assets not in _wardrobes:
            _wardrobes.clear()
            _wardrobes[assets] = open_wardrobe(assets)
        while len(_studios) >= _STUDIOS:
            del _studios[next(iter(_studios))]
        _studios[key] = Studio(
            BilinearModel.builtin(), _wardrobes[assets], people, samples=samples, look=LATEST_LOOK
        )
    return _studios[key]


def shoot_job(
    spec: CaptureSpec,
    person: SubjectSpec,
    poses: list[PoseRecord],
    cameras: dict[int, Camera],
    root: Path,
    tell: Tell,
    stopped: Stopped,
) -> int:
    """Photograph poses of one person; returns how many."""
    studio = studio_for((person,), spec.assets, spec.samples)
    looks: dict[str, str] = {}
    for pose in poses:
        if pose.style not in looks:
            looks[pose.style] = look_digest(studio, person.name, pose.style)
        _shoot(studio, spec, person.name, pose, looks[pose.style], cameras, root, tell, stopped)
    return len(poses)


def look_digest(studio: Studio, person: str, style: str | None) -> str:
    """A digest of all that a sitter's pictures depend on, except pose and camera."""
    facts: dict[str, Any] = {
        "studio": [synhead.SCHEMA, STUDIO_VERSION, studio.samples],
        "look": dataclasses.asdict(studio.look),
        "lights": {name: dataclasses.asdict(light) for name, light in LIGHTS.items()},
        "subject": dataclasses.asdict(studio.subjects[person]),
        "style": dataclasses.asdict(studio.styles[style]) if style is not None else None,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    things: list[Any] = [studio.sitter(person)]
    if style is not None:
        things.append(studio.style(style))
    for thing in things:
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def pose_key(spec: CaptureSpec, look: str, cameras: Mapping[int, Camera], vertices: Any) -> str:
    """A digest of all that the files of a pose depend on."""
    facts = {
        "look": look,
        "size": spec.size,
        "cameras": {view: camera.flat25().round(9).tolist() for view, camera in cameras.items()},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(vertices, dtype=np.float32).tobytes())
    return digest.hexdigest()


def _shoot(
    studio: Studio,
    spec: CaptureSpec,
    person: str,
    pose: PoseRecord,
    look: str,
    cameras: Mapping[int, Camera],
    root: Path,
    tell: Tell,
    stopped: Stopped,
) -> None:
    vertices = studio.pose(person, np.array(pose.weights, dtype=np.float32))
    pose = msgspec.structs.replace(pose, key=pose_key(spec, look, cameras, vertices))
    what = f"{pose.subject} {pose.expression}"
    kept = synhead_write.kept_shots(root, pose, spec.kinds())
    shots = [taken for view, taken in kept.items() if view in cameras]
    if shots:
        tell((len(shots), len(shots), what))
    missing = [view for view in cameras if view not in kept]
    if missing:
        scene = studio.scene(person, pose.style, vertices)
        bald = studio.scene(person, None, vertices)
    for view in missing:
        if stopped():
            raise Cancelled("Stopped; what was finished is kept.")
        whole = [
            studio.photograph(
                *dressed, cameras[view], spec.size, spec.size, lights=spec.lights, passes=passes
            )
            for dressed, passes in ((scene, bool(spec.passes)), (bald, False))
        ]
        record = synhead_write.write_files(root, pose, view, encode(spec, *whole))
        taken = Taken(record, *points_of(whole[0]))
        synhead_write.note_taken(root, pose, taken)
        shots.append(taken)
        tell((1, 0, what))
    topology = studio.model.topology
    synhead_write.write_pose(
        root, pose, shots, vertices, topology.faces, topology.uvs, topology.face_uvs,
        vertices[topology.landmarks68[synhead.OUTER_LIP]],
    )  # fmt: skip


def encode(spec: CaptureSpec, picture: Photograph, bald: Photograph) -> dict[str, bytes]:
    """The files of one shot by kind."""
    write = synhead_write
    files = {
        "image": write.encode_colour(picture.rgba),
        "bald": write.encode_colour(bald.rgba),
        "mask": write.encode_mask(picture.rgba[..., 3], picture.hair),
    }
    for name, encoder in (
        ("albedo", write.encode_colour),
        ("depth", write.encode_depth),
        ("normals", write.encode_normals),
        ("labels", write.encode_labels),
    ):
        if name in spec.passes:
            files[name] = encoder(getattr(picture, name))
    for light in spec.lights:
        for kind, rgba in zip(
            synhead.light_kinds(light), (picture.lit[light], bald.lit[light]), strict=True
        ):
            files[kind] = write.encode_colour(rgba)
    return files


def points_of(picture: Photograph) -> tuple[list, list, str]:
    """Landmarks, dense landmarks and visibility of a picture as a truth file has them."""
    tables: list[list[tuple[float, float]]] = [
        [(round(x, 3), round(y, 3)) for x, y in np.asarray(points, dtype=np.float64).tolist()]
        for points in (picture.landmarks, picture.dense)
        if points is not None
    ]
    flags = picture.visible
    visible = "" if flags is None else "".join("1" if flag else "0" for flag in flags)
    return tables[0], tables[1] if len(tables) > 1 else [], visible
