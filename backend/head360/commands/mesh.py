"""``head360 mesh``: raw assets → the bilinear model that ships; ICT's OBJ files → raw assets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from head360.commands import add_json, emit_json, say


def register(commands: Any) -> None:
    """Add the group's commands to ``argparse`` subparsers."""
    mesh = commands.add_parser("mesh", help="the parametric mesh")
    actions = mesh.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build", help="build the bilinear model from ../shared/assets (or HEAD360_ASSETS)"
    )
    build.add_argument(
        "--out",
        type=Path,
        default=Path("runs/geometry"),
        metavar="DIR",
        help="folder for geometry.safetensors and figures.json (default: %(default)s)",
    )
    build.add_argument("--seed", type=int, default=0, help="of the identities (default: 0)")
    add_json(build)
    build.set_defaults(run=_build)

    imports = actions.add_parser(
        "import", help="turn ICT-FaceKit's own OBJ files into the asset that build reads"
    )
    imports.add_argument(
        "source",
        type=Path,
        metavar="DIR",
        help="the folder FaceXModel of a clone of github.com/ICT-VGL/ICT-FaceKit",
    )
    imports.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of assets: gets ict_facekit/ict_facekit.npz, and HEAD360_ASSETS may name it",
    )
    add_json(imports)
    imports.set_defaults(run=_import)


def _build(arguments: argparse.Namespace) -> int:
    from head360.files import writable_folder, write_text
    from head360.geometry.build import build

    out = writable_folder(arguments.out)
    figures = build(out, seed=arguments.seed, progress=say)
    write_text(out / "figures.json", json.dumps(figures, indent=2, sort_keys=True) + "\n")
    if arguments.json:
        emit_json(figures)
    else:
        say(
            f"Face error over 53 meshes a head: {figures['rms_mm']:.3f} mm RMS on the heads it was "
            f"built from (optimum {figures['optimum_rms_mm']:.3f}), "
            f"{figures['heldout_rms_mm']:.3f} mm on others; as shipped "
            f"{figures['shipped_rms_mm']:.3f} and {figures['shipped_heldout_rms_mm']:.3f} mm.\n"
            f"{figures['speedup_vs_tensorly']:.0f}x faster than tensorly. Wrote "
            f"{out / 'geometry.safetensors'} ({figures['bytes'] / 2**20:.2f} MiB)."
        )
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from head360.geometry.ict_import import import_ict

    figures = import_ict(arguments.source, arguments.out, progress=say)
    if arguments.json:
        emit_json(figures)
    else:
        say(
            f"Imported {figures['identities']} identities and {figures['expressions']} expressions "
            f"of {figures['vertices']} vertices. Wrote {figures['file']} "
            f"({figures['bytes'] / 2**20:.1f} MiB); use it with HEAD360_ASSETS={arguments.out}."
        )
    return 0
