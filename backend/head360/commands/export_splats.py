"""``head360 export --to ply|splat`` of Gaussian avatars: one moment, or a folder of moments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head360.commands import parse_frames, say, style_of
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.geometry.splatfile import SplatCloud
    from head360.heads.gaussian import GaussianHead

SUFFIX = {"ply": ".ply", "splat": ".splat"}


def add_sequence(parser: argparse.ArgumentParser) -> None:
    """``--take`` and what belongs to it."""
    group = parser.add_argument_group("an animation of a Gaussian avatar")
    group.add_argument(
        "--take",
        type=Path,
        metavar="CSV",
        help="a Live Link take: --out is a folder then, which gets 0001.ply …, as many Gaussians "
        "in each, in the same order",
    )
    group.add_argument("--frames", help="rows of the take from 1, such as 1-24 (default: all)")
    group.add_argument("--fps", type=float, help="count --frames in scene frames at this rate")


def write_moment(arguments: argparse.Namespace, head: GaussianHead, pose: Any) -> dict[str, Any]:
    """One file."""
    from head360.heads.gaussian_bake import bake

    view = parse_view(arguments.view)
    cloud = bake(head, pose, *view)
    _write(arguments.to, arguments.out, cloud)
    return {"subject": head.subject, "gaussians": len(cloud.means), "view": list(view)}


def write_sequence(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    """A folder with one file a frame.

    Raises:
        BadInput: no Gaussian avatar, frames outside the take, or the folder cannot be written.
    """
    from head360 import files, heads
    from head360.arkit.takes import read_take
    from head360.commands.local import ProgressLine
    from head360.commands.render import weights_of
    from head360.commands.retarget import retargeted, sentence
    from head360.heads.gaussian import GaussianHead
    from head360.heads.gaussian_bake import bake
    from head360.server.worker import choose_device

    view = parse_view(arguments.view)
    take = read_take(arguments.take)
    numbers = parse_frames(arguments.frames or f"1-{len(take)}")
    weights = weights_of(take, numbers, arguments.fps)
    weights, carried = retargeted(arguments, take, weights, path)
    head = heads.load(path, choose_device(arguments.device)[0])
    if not isinstance(head, GaussianHead):
        raise BadInput(
            f"{head.name} has no Gaussians, and its surface has other points in every frame: leave "
            "out --take, or export it --to glb, whose morph targets a take can drive."
        )
    codes = head.codes(arguments.subject, style_of(arguments))
    folder = files.writable_folder(arguments.out)
    line = ProgressLine("frame", len(numbers))
    names = []
    for done, (number, row) in enumerate(zip(numbers, weights, strict=True), 1):
        cloud = bake(head, head.pose(codes, row), *view)
        target = folder / f"{number:04d}{SUFFIX[arguments.to]}"
        _write(arguments.to, target, cloud, keep_order=True)
        names.append(target.name)
        line.show(done)
    if carried is not None:
        say(sentence(carried))
    return {
        "subject": head.subject,
        "gaussians": head.net.count,
        "view": list(view),
        "frames": len(names),
        "files": names,
        "bytes": sum((folder / name).stat().st_size for name in names),
        **({"retarget": carried} if carried is not None else {}),
    }


def _write(kind: str, target: Path, cloud: SplatCloud, keep_order: bool = False) -> None:
    from head360.geometry.splat32 import write_splat32
    from head360.geometry.splatfile import write_splats

    if kind == "splat":
        write_splat32(target, cloud, keep_order)
    else:
        write_splats(target, cloud)


def parse_view(text: str) -> tuple[float, float]:
    """``"30,-10"`` → (30.0, −10.0) degrees.

    Raises:
        BadInput: not two finite numbers, or a pitch beyond ±89°.
    """
    try:
        yaw, pitch = (float(part) for part in text.split(","))
    except ValueError:
        yaw = pitch = np.nan
    if not (np.isfinite(yaw) and abs(pitch) <= 89):
        raise BadInput(f'"{text}" is not a viewpoint: write it like 30,-10 (yaw, pitch).')
    return yaw, pitch
