"""What will be photographed: expressions or moments, views, cameras, and what it will cost."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.arkit import NAMES
from head360.arkit.takes import read_take
from head360.datasets.records import safe_name
from head360.datasets.scheme import EXPRESSION_ORDER, choose_views, expression_weights
from head360.datasets.synhead import NEUTRAL
from head360.errors import BadInput
from head360.rendering.cameras import Camera, orbit, rig72

from ..scene import frames_per_second
from .cast import arkit_keys
from .stage import Moment

SYNHEAD, MONOCULAR = "SYNHEAD", "MONOCULAR"
MOST_POSES = 20_000
# Bytes a pixel, measured on noisy Cycles skin, with a margin.
_BYTES = {"image": 2.6, "bald": 2.6, "mask": 0.3, "matte": 0.2}
_MARGIN = 200 * 2**20
# The moving camera: degrees to either side, and seconds of a swing.
_SWAY_YAW, _SWAY_PITCH, _YAW_PERIOD, _PITCH_PERIOD = 28.0, 9.0, 8.0, 5.3


@dataclass(frozen=True)
class Pose:
    """One thing the head does: a name, when or how, and (where known already) its 52 weights."""

    name: str
    moment: Moment
    weights: NDArray[np.float32] | None
    second: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A capture before its first picture.

    Attributes:
        layout: :data:`SYNHEAD` or :data:`MONOCULAR`.
        subject: name of the sitter, fit for folders.
        poses: in their order.
        views: numbers of the rig's cameras; empty for the monocular layout.
        size: pixels per side.
        fps: of the monocular film.
        bald, mask: which twins are made besides the picture.
        keep_view: whether the artist's view transform stays.
        take: file of the performance, or None.
    """

    layout: str
    subject: str
    poses: tuple[Pose, ...]
    views: tuple[int, ...]
    size: int
    fps: float
    bald: bool
    mask: bool
    keep_view: bool
    take: Path | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files a shot has."""
        if self.layout == MONOCULAR:
            return ("image", "matte")
        return ("image", *(["bald"] if self.bald else []), *(["mask"] if self.mask else []))

    @property
    def shots(self) -> int:
        """How many pictures with hair there will be."""
        return len(self.poses) * (len(self.views) if self.layout == SYNHEAD else 1)

    def renders(self, hair: bool) -> int:
        """Renders that a shot takes; without hair the twins need none of their own."""
        return 1 + (self.layout == SYNHEAD and hair) * (self.bald + self.mask)

    def camera(self, pose: int, view: int) -> Camera:
        """The camera of a shot, head space."""
        if self.layout == SYNHEAD:
            return rig72()[view]
        second = self.poses[pose].second
        return orbit(
            _SWAY_YAW * np.sin(2 * np.pi * second / _YAW_PERIOD),
            _SWAY_PITCH * np.sin(2 * np.pi * second / _PITCH_PERIOD),
        )

    def bytes(self) -> float:
        """About how much disk the pictures take."""
        return self.shots * self.size**2 * sum(_BYTES[kind] for kind in self.kinds)


def folder_name(text: str) -> str:
    """A name that may be a folder on every system."""
    clean = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    clean = clean[:48] or "head"
    return clean if safe_name(clean) else f"{clean}_head"


def make(scene: Any, head: Any) -> Plan:
    """What the settings of ``scene`` ask for.

    Raises:
        BadInput: shapes are missing, the take cannot be read, or there is nothing to do.
    """
    settings = scene.head360_capture
    fps = frames_per_second(scene) / settings.step
    poses = _poses(scene, head, settings)
    if not poses:
        raise BadInput("There is nothing to photograph: choose more expressions or frames.")
    if len(poses) > MOST_POSES:
        raise BadInput(f"{len(poses)} moments are too many: raise the step ({MOST_POSES} at most).")
    multi = settings.layout == SYNHEAD
    return Plan(
        settings.layout, folder_name(head.name), tuple(poses),
        tuple(choose_views(settings.views)) if multi else (), settings.size, fps,
        multi and settings.bald, multi and settings.mask, settings.keep_view,
        Path(bpy.path.abspath(settings.take)) if settings.source == "TAKE" else None,
    )  # fmt: skip


def _poses(scene: Any, head: Any, settings: Any) -> list[Pose]:
    if settings.source == "FRAMES":
        rate = frames_per_second(scene)
        numbers = range(scene.frame_start, scene.frame_end + 1, settings.step)
        return [
            Pose(_frame_name(n), Moment(None, float(n)), None, (n - scene.frame_start) / rate)
            for n in numbers
        ]
    names = expressions(settings)
    if settings.source == "TAKE":
        return _of_take(scene, head, settings)
    present = set(arkit_keys(head))
    missing = [n for n in names if any(expression_weights(n)[k] and NAMES[k] not in present
                                       for k in range(len(NAMES)))]  # fmt: skip
    if missing and not settings.skip_missing:
        raise BadInput(
            f"{head.name} lacks {len(missing)} of the expressions ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}): press Check Rig, or switch on Skip Missing."
        )
    return [
        Pose(name, Moment(expression_weights(name)), expression_weights(name), float(second))
        for second, name in enumerate(n for n in names if n not in missing)
    ]


def expressions(settings: Any) -> list[str]:
    """Names of the expressions that the settings ask for, the neutral first."""
    count = len(NAMES) if settings.source == "ALL" else settings.count
    return [NEUTRAL, *EXPRESSION_ORDER[:count]]


def _frame_name(number: int) -> str:
    return f"frame_{number:05d}" if number >= 0 else f"frame_m{-number:05d}"


def _of_take(scene: Any, head: Any, settings: Any) -> list[Pose]:
    if not settings.take:
        raise BadInput("Choose a Live Link Face take (.csv) first.")
    take = read_take(Path(bpy.path.abspath(settings.take)))
    if not arkit_keys(head):
        raise BadInput(f"{head.name} has no shape keys with ARKit's names: press Check Rig.")
    pause = settings.step / frames_per_second(scene)
    moments = np.arange(0.0, take.duration + 1e-9, pause)
    return [
        Pose(_frame_name(k + 1), Moment(weights), weights, float(second))
        for k, (second, weights) in enumerate(zip(moments, take.at(moments), strict=True))
    ]


def check_space(folder: Path, plan: Plan) -> None:
    """Raise BadInput when the disk has not room for the pictures that are not there yet."""
    free = shutil.disk_usage(folder).free
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    need = max(0.0, plan.bytes() - there)
    if free < need + _MARGIN:
        raise BadInput(
            f"The pictures need about {need / 2**30:.1f} GiB more and {folder} has "
            f"{free / 2**30:.1f} GiB free: choose another disk, fewer views or a smaller size."
        )


def duration(seconds: float) -> str:
    """``41 min`` and the like."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
