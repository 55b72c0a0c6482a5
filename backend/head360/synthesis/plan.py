"""What a data set shall hold, before anything is photographed."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import head360
from head360.arkit import COUNT
from head360.datasets import labels, synhead
from head360.datasets.scheme import (
    CONVENTIONS,
    EXPRESSION_ORDER,
    MAX_HELD_OUT,
    cameras_by_view,
    expression_weights,
)
from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel
from head360.synthesis.hair import STYLES, StyleSpec
from head360.synthesis.lights import DEFAULT_LIGHT, LIGHTS
from head360.synthesis.subjects import SubjectSpec, cast

STUDIO_VERSION = 4  # raise it when the same input gives other pictures
MAX_SUBJECTS = 1000
CONSENT = "No real person is shown: shapes are drawn from a statistical model of faces."

NOTICES = (
    synhead.Notice("head geometry and expressions: ICT-FaceKit", "MIT",
                   "Copyright (c) 2020 USC Institute for Creative Technologies"),
    synhead.Notice("skins, irises and sclera carried onto the ICT layout", "CC0-1.0",
                   "MakeHuman and its contributors"),
    synhead.Notice("hair and eyebrow cards", "CC0-1.0", "MakeHuman and its contributors"),
    synhead.Notice("pictures", "CC0-1.0", "drawn by head360 synth"),
)  # fmt: skip

# Bytes per pixel of encoded files, measured on pictures of 128² to 512² with a sixth on top for
# hair finer than that seen; small pictures compress worse: edges are a larger share of them.
_BYTES_PER_PIXEL = {
    "image": 0.46, "bald": 0.40, "mask": 0.03, "albedo": 0.45, "depth": 0.28, "normals": 0.31,
    "labels": 0.016,
}  # fmt: skip
_EDGES = 108  # at this size edges double a file
_BYTES_PER_POSE = 1_260_000  # mesh and lip landmarks
_BYTES_PER_SHOT = 16_000  # landmarks, hashes and paths, in the truth file and in the manifest
_RESERVE = 256 << 20  # bytes that stay free


@dataclass(frozen=True)
class CaptureSpec:
    """What to photograph.

    Attributes:
        subjects: how many of the cast.
        expressions: how many beside the neutral, 0…52.
        views: 1…72 cameras of the rig.
        size: pixels per side.
        seed: 0 is the cast as it is; others give every subject another face, and other held-out
            cameras.
        styles: names of the hair styles to hand out; empty for all.
        wear: "own" gives every subject one style, "all" every style, "3" three of them.
        held_out: cameras outside the rig.
        passes: of ``synhead.PASSES``.
        lights: beside the default one.
        samples: supersampling per axis.
        assets: folder or pack that dresses the heads; None looks for it.
    """

    subjects: int = 8
    expressions: int = 8
    views: int = 72
    size: int = 512
    seed: int = 0
    styles: tuple[str, ...] = ()
    wear: str = "own"
    held_out: int = 8
    passes: tuple[str, ...] = synhead.PASSES
    lights: tuple[str, ...] = ("sun", "window", "overcast", "stage")
    samples: int = 3
    assets: Path | None = None

    def checked(self) -> CaptureSpec:
        """The same, if it can be done.

        Raises:
            BadInput: a number out of range, an unknown style, pass or light.
        """
        for name, value, low, high in (
            ("subjects", self.subjects, 1, MAX_SUBJECTS),
            ("expressions", self.expressions, 0, COUNT),
            ("views", self.views, 1, synhead.RIG),
            ("size", self.size, 16, 2048),
            ("seed", self.seed, 0, 2**31 - 1),
            ("held-out", self.held_out, 0, MAX_HELD_OUT),
        ):
            if not low <= value <= high:
                raise BadInput(f"--{name} {value} is out of range: choose {low} to {high}.")
        for what, given, known in (
            ("hair style", self.styles, [style.name for style in STYLES]),
            ("pass", self.passes, synhead.PASSES),
            ("light", self.lights, list(LIGHTS)),
        ):
            for name in given:
                if name not in known:
                    raise BadInput(f"There is no {what} {name!r}: choose from {', '.join(known)}.")
        if self.wear not in ("own", "all") and not (self.wear.isdecimal() and int(self.wear) > 0):
            raise BadInput(f"--wear {self.wear} is none of own, all and a number from 1.")
        most = len(self.chosen_styles())
        if self.wear.isdecimal() and int(self.wear) > most:
            raise BadInput(f"--wear {self.wear} is out of range: choose 1 to {most}, or all.")
        lights = tuple(name for name in LIGHTS if name in self.lights and name != DEFAULT_LIGHT)
        passes = tuple(name for name in synhead.PASSES if name in self.passes)
        return dataclasses.replace(self, lights=lights, passes=passes)

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

    def sitters(self) -> tuple[tuple[str, SubjectSpec, str], ...]:
        """(name in the data set, person, style) of everybody who is photographed.

        With one style each a sitter is called like the person, else like felix-bob01. The own
        style comes first, the others by turn, so that few styles a person still show them all.
        """
        names = [style.name for style in self.chosen_styles()]
        count = len(names) if self.wear == "all" else 1 if self.wear == "own" else int(self.wear)
        chosen: list[tuple[str, SubjectSpec, str]] = []
        for number, person in enumerate(self.chosen_cast()):
            folder = _folder_name(person.name)
            if self.wear == "own":
                chosen.append((folder, person, person.style))
                continue
            start = number * max(count - 1, 1) % len(names)
            others = [name for name in names[start:] + names[:start] if name != person.style]
            for style in [person.style, *others][:count]:
                chosen.append((f"{folder}-{style}", person, style))
        return tuple(chosen)

    def kinds(self) -> list[str]:
        """Kinds of files that every shot gets."""
        kinds = [*synhead.BASE, *self.passes]
        return kinds + [kind for light in self.lights for kind in synhead.light_kinds(light)]


def _folder_name(name: str) -> str:
    """abel2 → abel-02: so that folders and meshes sort alike, see ``synhead.order_problems``."""
    match = re.fullmatch(r"(.*[A-Za-z])(\d{1,2})", name)
    return name if match is None else f"{match[1]}-{int(match[2]):02d}"


def plan(spec: CaptureSpec, model: BilinearModel) -> synhead.Manifest:
    """The whole manifest before anything is photographed: poses without keys, hashes and shots."""
    sitters = spec.sitters()
    expressions = [synhead.NEUTRAL, *EXPRESSION_ORDER[: spec.expressions]]
    landmarks: synhead.Landmarks = "68+468" if spec.passes else "68"
    poses = [
        synhead.PoseRecord(
            name, style, expression,
            [round(float(w), 6) for w in expression_weights(expression)], "",
            synhead.pose_files(name, expression, landmarks),
        )
        for name, _, style in sitters
        for expression in expressions
    ]  # fmt: skip
    worn = {style for _, _, style in sitters}
    cameras = cameras_by_view(spec.views, spec.held_out, spec.seed)
    return synhead.Manifest(
        schema=synhead.SCHEMA,
        kind=synhead.KIND,
        generator=f"head360 {head360.__version__} studio {STUDIO_VERSION}",
        seed=spec.seed,
        consent=CONSENT,
        size=spec.size,
        conventions=CONVENTIONS,
        landmarks=landmarks,
        kinds=spec.kinds(),
        lights=[
            synhead.LightRecord(name, name == DEFAULT_LIGHT)
            for name in (DEFAULT_LIGHT, *spec.lights)
        ],
        labels=list(labels.LABELS) if "labels" in spec.passes else [],
        depth_scale=synhead.DEPTH_SCALE,
        notices=list(NOTICES),
        subjects=[subject_record(name, person, style, model) for name, person, style in sitters],
        styles=[synhead.StyleRecord(s.name, s.label) for s in STYLES if s.name in worn],
        expressions=expressions,
        views=[
            synhead.ViewRecord(view, [float(x) for x in camera.flat25()], view >= synhead.RIG)
            for view, camera in cameras.items()
        ],
        poses=poses,
    )


def subject_record(
    name: str, person: SubjectSpec, style: str, model: BilinearModel
) -> synhead.SubjectRecord:
    """What a manifest says of a sitter."""
    looks: dict[str, Any] = dataclasses.asdict(person)
    for other in ("name", "seed", "style"):
        del looks[other]
    shape = [float(value) for value in np.asarray(person.shape(model))]
    return synhead.SubjectRecord(name, person.name, style, person.seed, shape, looks)


def disk_need(manifest: synhead.Manifest) -> int:
    """Bytes that the whole data set will take, from measured sizes per pixel; within a third."""
    pixels = manifest.size**2
    crowded = 1 + _EDGES / manifest.size
    shot = float(_BYTES_PER_SHOT if manifest.landmarks == "68+468" else _BYTES_PER_SHOT // 4)
    for kind in manifest.kinds:
        name = kind
        if kind.startswith("light:"):
            name = "bald" if kind.endswith(":bald") else "image"
        shot += _BYTES_PER_PIXEL[name] * pixels * crowded
    return round(len(manifest.poses) * (_BYTES_PER_POSE + len(manifest.views) * shot))


def demand_room(root: Path, need: int) -> int:
    """Bytes still to be written of ``need``, where the disk has room for them.

    Raises:
        BadInput: it has not.
    """
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    written = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            written += path.stat().st_size if path.is_file() else 0
    rest = max(0, need - written)
    free = shutil.disk_usage(there).free
    if rest + _RESERVE > free:
        raise BadInput(
            f"The data set needs about {words(rest)} in {root}, where {words(free)} are free: "
            "choose another disk, fewer views or lights, or a smaller size."
        )
    return rest


def words(count: int) -> str:
    """Bytes for people: 812 MB, 4.6 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
