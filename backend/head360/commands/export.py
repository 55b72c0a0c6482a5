"""``head360 export``: a head for other programs, or a whole model for other people."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from head360.arkit.names import COUNT
from head360.commands import add_device, add_json, emit_json, say, style_of
from head360.commands.export_splats import add_sequence, write_moment, write_sequence
from head360.commands.retarget import add_retarget
from head360.errors import BadInput

SUFFIX = {"glb": ".glb", "ply": ".ply", "splat": ".splat", "package": ".zip"}
HAIR_CELLS = 160
_OF_A_TAKE = ("frames", "fps", "neutral", "driver_range")


def register(commands: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = commands.add_parser(
        "export", help="write a head as an animatable GLB, a PLY, or the model as a package"
    )
    parser.add_argument("model", metavar="MODEL", help="name or path of a model")
    parser.add_argument("--subject", help="name of the person (default: the model's first)")
    parser.add_argument(
        "--hair",
        "--style",
        dest="style",
        default="",
        metavar="STYLE",
        help='hair beside the head (default: the subject\'s own; "none" for a bald head)',
    )
    parser.add_argument(
        "--to",
        choices=tuple(SUFFIX),
        default="glb",
        help="glb: mesh with 52 ARKit morph targets; ply: extracted surface (splats of a Gaussian "
        "head); splat: Gaussians in 32 bytes each; package: the model",
    )
    parser.add_argument(
        "--blend",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="expression of --to ply or splat, such as jawOpen=0.7 (default: neutral)",
    )
    parser.add_argument(
        "--view",
        default="0,0",
        metavar="YAW,PITCH",
        help="degrees from where splats' colours are truest (default: 0,0, the face)",
    )
    parser.add_argument(
        "--texture", type=int, default=2048, choices=(512, 1024, 2048), help="texels per side"
    )
    parser.add_argument("--resolution", type=int, default=256, help="cells of --to ply")
    add_device(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a folder with --take"
    )
    add_sequence(parser)
    add_retarget(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from head360 import files
    from head360.server.heads_table import resolve

    if arguments.take is not None:
        return _sequence(arguments)
    if any(getattr(arguments, name) is not None for name in _OF_A_TAKE) or arguments.retarget:
        raise BadInput("--frames, --fps and --retarget are about a take: add --take CSV.")
    if arguments.out.suffix.lower() != SUFFIX[arguments.to]:
        raise BadInput(f"{arguments.out} is not a name for this: end it {SUFFIX[arguments.to]}.")
    files.writable_folder(arguments.out.parent)
    model = resolve(arguments.model)
    start = time.perf_counter()
    write = {"glb": _glb, "ply": _ply, "splat": _ply, "package": _package}[arguments.to]
    report = {
        "out": str(arguments.out),
        "to": arguments.to,
        "model": model.info.name,
        **write(arguments, model.path),
    }
    report["bytes"] = arguments.out.stat().st_size
    report["seconds"] = round(time.perf_counter() - start, 3)
    if arguments.json:
        emit_json(report)
    else:
        say(f"{arguments.out}: {report['bytes'] / 1e6:.1f} MB in {report['seconds']:.0f} s")
    return 0


def _sequence(arguments: argparse.Namespace) -> int:
    """Frames of an animation into a folder."""
    from head360.server.heads_table import resolve

    if arguments.to not in ("ply", "splat") or arguments.blend:
        raise BadInput("A take animates splats: write --to ply or splat, and leave out --blend.")
    model = resolve(arguments.model)
    start = time.perf_counter()
    report = {
        "out": str(arguments.out),
        "to": arguments.to,
        "model": model.info.name,
        **write_sequence(arguments, model.path),
    }
    report["seconds"] = round(time.perf_counter() - start, 3)
    if arguments.json:
        emit_json(report)
    else:
        say(f"{arguments.out}: {report['frames']} frames, {report['bytes'] / 1e6:.1f} MB")
    return 0


def _open(arguments: argparse.Namespace, path: Path) -> tuple[Any, Any]:
    """(head, codes) of the model, subject and hair that were asked for."""
    from head360 import heads
    from head360.heads.hexplane import HexPlaneHead
    from head360.server.worker import choose_device

    head = heads.load(path, choose_device(arguments.device)[0])
    if not isinstance(head, HexPlaneHead):
        raise BadInput(f"{head.name} has no hex-planes to bake: export it --to ply or package.")
    return head, head.codes(arguments.subject, style_of(arguments))


def _glb(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    from head360.arkit.names import NAMES
    from head360.commands.local import ProgressLine
    from head360.geometry.gltf import write_scene
    from head360.heads.albedo import bake_albedo
    from head360.heads.portable import morph_mesh, surface_mesh
    from head360.heads.surfaces import hair_surface

    head, codes = _open(arguments, path)
    line = ProgressLine("baking %", 100)
    texture = bake_albedo(
        head, codes, arguments.texture, lambda fraction, _: line.show(int(fraction * 90))
    )
    meshes = [morph_mesh(head.mesh(codes), texture)]
    hair = hair_surface(head, head.pose(codes, np.zeros(COUNT, dtype=np.float32)), HAIR_CELLS)
    if hair is not None:
        meshes.append(surface_mesh(hair, "hair"))
    write_scene(arguments.out, meshes)
    line.show(100)
    return {
        "subject": codes.subject,
        "style": codes.style,
        "vertices": len(np.asarray(meshes[0].vertices)),
        "hair_vertices": 0 if hair is None else len(hair.vertices),
        "morph_targets": list(NAMES),
        "texture": arguments.texture,
    }


def _ply(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    from head360 import heads
    from head360.commands.extract import parse_blend
    from head360.geometry.isosurface import open_edges
    from head360.geometry.meshfile import write_ply
    from head360.heads.gaussian import GaussianHead
    from head360.server.worker import choose_device

    weights = parse_blend(arguments.blend)
    head = heads.load(path, choose_device(arguments.device)[0])
    codes = head.codes(arguments.subject, style_of(arguments))
    pose = head.pose(codes, weights)
    if isinstance(head, GaussianHead):
        return write_moment(arguments, head, pose)
    if arguments.to == "splat":
        raise BadInput(f"{head.name} has no Gaussians: export it --to ply, glb or package.")
    surface = head.surface(pose, arguments.resolution)
    write_ply(arguments.out, surface.vertices, surface.faces, surface.colours, surface.normals)
    return {
        "subject": codes.subject,
        "style": codes.style,
        "vertices": len(surface.vertices),
        "faces": len(surface.faces),
        "watertight": open_edges(surface.faces) == 0,
    }


def _package(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    from head360 import files, heads
    from head360.heads.package import MANIFEST, read_file, read_manifest

    manifest = read_manifest(path)
    names = sorted(manifest["files"])
    contents = {name: read_file(path, manifest, name) for name in names}
    with files.atomic_path(arguments.out) as temporary:
        _write_zip(temporary, path, contents, MANIFEST)
        heads.load(temporary)  # what cannot be loaded must not be shared
    return {"files": [MANIFEST, *names]}


def _write_zip(target: Path, path: Path, contents: dict[str, bytes], manifest: str) -> None:
    import zipfile

    if path.is_dir():
        raw = (path / manifest).read_bytes()
    else:
        with zipfile.ZipFile(path) as archive:
            raw = archive.read(manifest)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(manifest, raw)
        for name, data in contents.items():
            archive.writestr(name, data)
