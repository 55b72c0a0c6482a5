"""``head360 extract``: the neural surface of a head as a coloured mesh file."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from head360.arkit.names import COUNT, INDEX
from head360.commands import add_device, add_json, add_person, emit_json, say
from head360.errors import BadInput

SUFFIXES = (".glb", ".obj", ".ply")


def register(commands: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = commands.add_parser("extract", help="extract the surface, hair included, as a mesh")
    parser.add_argument("model", metavar="MODEL", help="name or path of a model")
    parser.add_argument("--resolution", type=int, default=256, help="grid cells along one edge")
    parser.add_argument(
        "--blend",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="blendshape weights, such as jawOpen=0.7 (default: neutral)",
    )
    add_person(parser)
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".glb, .obj, .ply")
    add_json(parser)
    parser.set_defaults(run=_run)


def parse_blend(items: Sequence[str]) -> np.ndarray:
    """``["jawOpen=0.7", …]`` → (52,) float32.

    Raises:
        BadInput: an unknown name, or a value outside [0, 1].
    """
    lower = {name.lower(): index for name, index in INDEX.items()}
    weights = np.zeros(COUNT, np.float32)
    for item in items:
        name, _, text = item.partition("=")
        index = lower.get(name.strip().lower())
        if index is None:
            raise BadInput(f'"{name}" is not an ARKit blendshape: write it like jawOpen=0.7.')
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= 1.0:
            raise BadInput(f'"{item}": the weight of a blendshape is a number from 0 to 1.')
        weights[index] = value
    return weights


def _run(arguments: argparse.Namespace) -> int:
    from head360 import files
    from head360.commands.local import open_head

    weights = parse_blend(arguments.blend)
    suffix = arguments.out.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{arguments.out} is not a mesh's name: end it with .glb, .obj or .ply.")
    files.writable_folder(arguments.out.parent)
    start = time.perf_counter()
    with open_head(arguments) as (client, head, model):
        job = client.extract_surface(head.head_id, weights, arguments.resolution)
        try:
            surface = job.wait()
        finally:
            job.cancel()
        device = client.welcome.device

    from head360.geometry import meshfile

    triangles = surface.vertices, surface.faces
    if suffix == ".glb":
        meshfile.write_glb(
            arguments.out, *triangles, colours=surface.colours, normals=surface.normals
        )
    elif suffix == ".ply":
        meshfile.write_ply(
            arguments.out, *triangles, colours=surface.colours, normals=surface.normals
        )
    else:  # OBJ readers compute smooth normals themselves
        meshfile.write_obj(arguments.out, *triangles, colours=surface.colours)
    report = {
        "out": str(arguments.out),
        "bytes": arguments.out.stat().st_size,
        "vertices": len(surface.vertices),
        "faces": len(surface.faces),
        "resolution": arguments.resolution,
        "seconds": round(time.perf_counter() - start, 3),
        "device": device,
        "model": model.info.name,
        "subject": head.subject,
        "style": head.style,
    }
    if arguments.json:
        emit_json(report)
    else:
        say(f"{arguments.out}: {report['vertices']} vertices, {report['faces']} faces")
    return 0
