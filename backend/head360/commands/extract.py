"""``head360 extract``: the neural surface of a head as a coloured mesh file."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head360.arkit.names import COUNT, INDEX
from head360.commands import add_device, add_json, add_person, emit_json, say
from head360.errors import BadInput

if TYPE_CHECKING:
    from head360.client import SurfaceMesh

SUFFIXES = (".glb", ".obj", ".ply")


def register(commands: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = commands.add_parser("extract", help="extract the surface, hair included, as a mesh")
    parser.add_argument("model", metavar="MODEL", help="name or path of a model")
    parser.add_argument("--resolution", type=int, default=256, help="grid cells along one edge")
    parser.add_argument(
        "--texture",
        type=int,
        default=0,
        choices=(0, 512, 1024, 2048),
        help="side of a baked texture in pixels (default 0: vertex colours; a PLY has those only)",
    )
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
    from head360.client import Progress
    from head360.commands.local import ProgressLine, open_head
    from head360.geometry.isosurface import open_edges

    weights = parse_blend(arguments.blend)
    suffix = arguments.out.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{arguments.out} is not a mesh's name: end it with .glb, .obj or .ply.")
    if arguments.texture and suffix == ".ply":
        raise BadInput("A PLY carries vertex colours only: leave out --texture, or write a .glb.")
    files.writable_folder(arguments.out.parent)
    start = time.perf_counter()
    with open_head(arguments) as (client, head, model):
        job = client.extract_surface(head.head_id, weights, arguments.resolution, arguments.texture)
        line = ProgressLine("extracting %", 100)
        try:
            surface = job.wait(
                lambda event: (
                    line.show(int(event.fraction * 100)) if isinstance(event, Progress) else None
                )
            )
        finally:
            job.cancel()
        device = client.welcome.device

    written = _write(arguments.out, surface)
    report = {
        "out": str(arguments.out),
        "bytes": arguments.out.stat().st_size,
        "vertices": len(surface.vertices),
        "faces": len(surface.faces),
        "watertight": open_edges(surface.faces) == 0,
        "removed": surface.removed,
        "texture": arguments.texture,
        "files": [str(path) for path in written],
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


def _write(target: Path, surface: SurfaceMesh) -> list[Path]:
    """The files written for ``target``: one, or three for a textured OBJ."""
    from head360.geometry import meshfile
    from head360.geometry.gltf import write_scene
    from head360.heads.base import Surface
    from head360.heads.portable import png_bytes, surface_mesh

    triangles = surface.vertices, surface.faces
    suffix = target.suffix.lower()
    if suffix == ".glb":
        whole = Surface(
            *triangles, surface.colours, surface.normals,
            surface.uvs, surface.face_uvs, surface.texture,
        )  # fmt: skip
        return [write_scene(target, [surface_mesh(whole, "head")])]
    if suffix == ".ply":
        return [
            meshfile.write_ply(target, *triangles, colours=surface.colours, normals=surface.normals)
        ]
    # OBJ readers compute smooth normals themselves
    if surface.texture is None or surface.uvs is None or surface.face_uvs is None:
        return [meshfile.write_obj(target, *triangles, colours=surface.colours)]
    picture = png_bytes(surface.texture)
    return meshfile.write_textured_obj(target, *triangles, surface.uvs, surface.face_uvs, picture)
