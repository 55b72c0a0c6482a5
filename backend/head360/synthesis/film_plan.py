"""What a film shows, before anything is filmed: who performs which rows of a take, from where."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import head360
from head360.arkit import NAMES
from head360.arkit.takes import Take
from head360.datasets import monocular
from head360.datasets.monocular import MonocularManifest, TakeRecord
from head360.datasets.records import Notice, StyleRecord
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.synthesis import plan
from head360.synthesis.camera_path import MOTIONS, Sight, sight
from head360.synthesis.hair import STYLES
from head360.synthesis.lights import DEFAULT_LIGHT, LIGHTS
from head360.synthesis.subjects import SubjectSpec, cast

BALD = "none"
AXES = "transform_matrix: camera-to-world, OpenGL (x right, y up, looks along -z), head fixed"
CONVENTIONS = (
    "The head is the fixed frame, +Y up, +Z out of the face, +X to the subject's left, origin "
    "between the ears; the take's head rotation is in the camera, the bust turns with the head. "
    "Pictures are sRGB over a grey backdrop that stands in the room: matte x head + (1 - matte) x "
    "backdrop, mixed as encoded. Mattes are numbered img_id + 1. exp_ori are ARKit weights in the "
    "order of `expressions`. Landmarks in pixels from the top-left corner, centres at +0.5."
)
_TAKES = Path("arkit_takes")
_BUNDLED = Path(head360.__file__).parent / "data" / "takes" / "demo_take.csv"


@dataclass(frozen=True)
class FilmSpec:
    """What to film.

    Attributes:
        take: CSV of Live Link Face; None takes the first of the assets.
        rows: of the take, from 1; empty for all.
        subject: name of the cast.
        style: of the studio; "" is the subject's own, "none" bald.
        size: pixels per side.
        seed: of the face (as in ``CaptureSpec``) and of the camera's path.
        motion: one of ``camera_path.MOTIONS``.
        light: one of ``LIGHTS``.
        image_format: "jpg" as the release reads it, or "png" without loss.
        test_share: of the frames, at the end.
        samples: supersampling per axis.
        assets: folder or pack that dresses the heads; None looks for it.
    """

    take: Path | None = None
    rows: tuple[int, ...] = ()
    subject: str = "felix"
    style: str = ""
    size: int = 512
    seed: int = 0
    motion: str = "orbit"
    light: str = DEFAULT_LIGHT
    image_format: str = "jpg"
    test_share: float = monocular.TEST_SHARE
    samples: int = 3
    assets: Path | None = None

    def checked(self) -> FilmSpec:
        """The same, if it can be done.

        Raises:
            BadInput: a value out of range or an unknown name.
        """
        if not 16 <= self.size <= 2048:
            raise BadInput(f"--size {self.size} is out of range: choose 16 to 2048.")
        if not 0 <= self.seed <= 2**31 - 1:
            raise BadInput(f"--seed {self.seed} is out of range: choose 0 to {2**31 - 1}.")
        if not 0 <= self.test_share < 1:
            raise BadInput(f"The share of test frames {self.test_share} is not between 0 and 1.")
        if self.image_format not in ("jpg", "png"):
            raise BadInput(f"Pictures are jpg or png, not {self.image_format}.")
        styles = ["", BALD, *(style.name for style in STYLES)]
        for what, given, known in (
            ("hair style", self.style, styles),
            ("camera motion", self.motion, list(MOTIONS)),
            ("light", self.light, list(LIGHTS)),
        ):
            if given not in known:
                known = [name for name in known if name]
                raise BadInput(f"There is no {what} {given!r}: choose from {', '.join(known)}.")
        return self

    def person(self) -> SubjectSpec:
        """Who performs, in the style that is worn.

        Raises:
            BadInput: nobody of that name.
        """
        for count in (64, plan.MAX_SUBJECTS):
            for person in cast(count):
                if person.name == self.subject:
                    return dataclasses.replace(
                        person,
                        seed=person.seed + 1_000_003 * self.seed,
                        style=self.style or person.style,
                    )
        names = ", ".join(person.name for person in cast(12))
        raise BadInput(f"There is no subject {self.subject!r}: choose one of {names}, ….")


@dataclass(frozen=True)
class Moment:
    """One frame to film: number, row of the take, its second, weights, angles and camera."""

    img_id: int
    row: int
    second: float
    weights: NDArray[np.float32]
    head: tuple[float, float, float]
    view: Sight


def default_take(assets: Path | None) -> Path:
    """The first take of the assets by name; without assets the one that comes with the package."""
    folder = assets if assets is not None and assets.is_dir() else None
    if folder is None:
        try:
            folder = find_assets()
        except BadInput:
            return _BUNDLED
    return next(iter(sorted((folder / _TAKES).glob("*.csv"))), _BUNDLED)


def moments(spec: FilmSpec, take: Take) -> list[Moment]:
    """The frames of a film, in order.

    Raises:
        BadInput: a row that the take has not.
    """
    rows = spec.rows or tuple(range(1, len(take) + 1))
    for row in rows:
        if not 1 <= row <= len(take):
            raise BadInput(f"The take {take.name} has rows 1 to {len(take)}: leave out {row}.")
    chosen = []
    for number, row in enumerate(rows):
        second = float(take.seconds[row - 1])
        turn = (0.0, 0.0, 0.0) if take.head is None else take.head[row - 1].astype(float)
        yaw, pitch, roll = (round(float(angle), 6) for angle in turn)
        weights = take.weights[row - 1].astype(np.float64).round(6).astype(np.float32)
        view = sight(spec.motion, spec.seed, second, (yaw, pitch, roll))
        chosen.append(Moment(number, row, round(second, 6), weights, (yaw, pitch, roll), view))
    return chosen


def film_manifest(
    spec: FilmSpec, person: SubjectSpec, take: Take, path: Path, frames: Sequence[Moment], key: str
) -> MonocularManifest:
    """The manifest of a film without its frames and hashes."""
    labels = {style.name: style.label for style in STYLES}
    rows = [moment.row for moment in frames]
    notice = take_notice(path)
    test = min(round(spec.test_share * len(frames)), len(frames) - 1)
    return MonocularManifest(
        schema=monocular.SCHEMA,
        kind=monocular.KIND,
        generator=f"head360 {head360.__version__} studio {plan.STUDIO_VERSION}",
        seed=spec.seed,
        consent=f"{plan.CONSENT} The performance is that of the take {take.name}.",
        key=key,
        width=spec.size,
        height=spec.size,
        fps=round(1 / float(np.median(np.diff(take.seconds))), 4) if len(take) > 1 else 30.0,
        units="metres",
        axes=AXES,
        conventions=CONVENTIONS,
        expressions=list(NAMES),
        subject=plan.subject_record(person.name, person, person.style, BilinearModel.builtin()),
        style=StyleRecord(person.style, labels.get(person.style, "Bald")),
        light=spec.light,
        take=TakeRecord(
            take.name, hashlib.sha256(path.read_bytes()).hexdigest(), _spans(rows), notice
        ),
        camera_motion=spec.motion,
        parsing={
            "head": monocular.HEAD_COLOUR,
            "neck and shoulders": monocular.BODY_COLOUR,
            "backdrop": monocular.BACK_COLOUR,
        },
        test_from=len(frames) - test,
        notices=[*plan.NOTICES, notice],
        sha256={},
        frames=[],
    )


def take_notice(path: Path) -> Notice:
    """Licence of a take, from a LICENSE file beside it."""
    what = f"performance: the take {path.stem}"
    if path == _BUNDLED:
        return Notice(what, "CC0-1.0", "Head360 Studio contributors")
    for beside in sorted(path.parent.glob("LICENSE*")):
        lines = [line.strip() for line in beside.read_text("utf-8", "replace").splitlines()]
        holder = next((line for line in lines if line.lower().startswith("copyright")), "not named")
        return Notice(what, next((line for line in lines if line), "not stated"), holder)
    return Notice(what, "not stated: ask whoever recorded it", "not named")


def _spans(rows: Sequence[int]) -> str:
    """[1, 2, 3, 7] → "1-3,7"."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
