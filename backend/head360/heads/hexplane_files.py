"""Packages of hex-plane heads: networks as float16, textures and hair planes packed as int8."""

from __future__ import annotations

import tempfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.errors import ModelInvalid
from head360.geometry.bilinear import BilinearModel
from head360.geometry.topology import Topology
from head360.heads import package, packing
from head360.heads.refining import from_arrays
from head360.networks.hexplane import HexPlaneConfig, HexPlaneNet
from head360.networks.refine import RefineNet
from head360.rendering.volume import GRID

_HEAD = "head.safetensors"
_ENTRIES = ("textures.entries", "hair_planes.entries")  # stored apart, as int8
# What the manifest says beside the head's own facts.
_OWN = ("schema", "files", "config", "subjects", "styles", "kind", "name")


@dataclass(frozen=True)
class Parts:
    """What a head is made of; see the arguments of ``HexPlaneHead``."""

    name: str
    model: BilinearModel
    net: HexPlaneNet
    subjects: OrderedDict[str, dict[str, Any]]
    styles: tuple[str, ...]
    occupancy: NDArray[np.uint8]
    facts: dict[str, Any]
    geometry: bytes
    refine: RefineNet | None


def to_arrays(
    net: HexPlaneNet, topology: Topology, occupancy: NDArray[np.uint8]
) -> dict[str, NDArray]:
    """The arrays of ``head.safetensors``.

    Args:
        net: trained.
        topology: of the mesh, whose uvs say which texels count.
        occupancy: (styles, GRID, GRID, GRID) uint8.
    """
    arrays: dict[str, NDArray] = {"occupancy": _pack_hulls(occupancy)}
    for kind, bank in (("texture", net.textures), ("hair", net.hair_planes)):
        for index, parameter in enumerate(bank.entries):
            values = parameter.detach().cpu().numpy()
            side = values.shape[1]
            if kind == "hair":
                used = packing.hair_cover(occupancy[index], side)
            else:
                used = packing.texture_cover(topology, side)
            whole, scale = packing.pack(values, used)
            arrays[f"{kind}.{index}"], arrays[f"{kind}.{index}.scale"] = whole, scale
    for name, value in net.state_dict().items():
        if not name.startswith(_ENTRIES):
            arrays[f"net.{name}"] = value.detach().cpu().numpy().astype(np.float16)
    return arrays


def write_extended(
    base: Path,
    folder: Path,
    name: str,
    styles: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]],
    facts: dict[str, Any],
) -> None:
    """Write the package ``base`` with more hair styles; what it holds already stays to the byte.

    Args:
        base: a package of free hair planes.
        folder: of the new package.
        name: of the new model.
        styles: name → (3, R, R, C) planes and (GRID, GRID, GRID) hull; none of them the base's.
        facts: about the extension, added to those of earlier ones in the manifest.

    Raises:
        ModelInvalid: the base is missing, damaged or inconsistent.
    """
    manifest = package.read_manifest(base)
    files = {
        entry: package.read_file(base, manifest, entry)
        for entry in manifest["files"]
        if entry != _HEAD
    }
    arrays = package.read_arrays(base, manifest, _HEAD)
    known = list(manifest["styles"])
    # Unpacking and packing again might round once more: packed planes are handed on as they are.
    hulls = [_unpack_hulls(arrays["occupancy"], len(known))]
    for index, (planes, hull) in enumerate(styles.values(), len(known)):
        used = packing.hair_cover(hull, planes.shape[1])
        arrays[f"hair.{index}"], arrays[f"hair.{index}.scale"] = packing.pack(planes, used)
        hulls.append(hull[None])
    arrays["occupancy"] = _pack_hulls(np.concatenate(hulls))
    manifest |= {
        "name": name,
        "styles": [*known, *styles],
        "extensions": [*manifest.get("extensions", []), facts],
    }
    package.write_package(folder, manifest, files, {_HEAD: arrays})


def _pack_hulls(occupancy: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Hulls are mostly runs of equal bits: deflate takes them to a few per cent.
    packed = zlib.compress(np.packbits(occupancy.reshape(-1) > 0).tobytes(), 9)
    return np.frombuffer(packed, dtype=np.uint8)


def _unpack_hulls(packed: NDArray, count: int) -> NDArray[np.uint8]:
    data = zlib.decompress(packed.tobytes(), bufsize=count * GRID**3 // 8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * GRID**3)
    return bits.reshape(count, GRID, GRID, GRID)


def read_parts(path: Path, device: str) -> Parts:
    """Read a package written by ``HexPlaneHead.save``.

    Raises:
        ModelInvalid: missing, damaged or inconsistent.
    """
    manifest = package.read_manifest(path)
    try:
        config = HexPlaneConfig.from_facts(manifest["config"])
        subjects = OrderedDict(manifest["subjects"])
        styles = tuple(manifest["styles"])
        arrays = package.read_arrays(path, manifest, _HEAD)
        geometry = package.read_file(path, manifest, "geometry.safetensors")
        model = _geometry_from(geometry)
        title = str(manifest["name"])
        for entry in subjects.values():
            entry["shape"] = np.asarray(entry["shape"], dtype=np.float32)
            if entry["shape"].shape != (model.shape_size,):
                raise ValueError("a subject's shape has the wrong length")
            if entry["style"] is not None and entry["style"] not in styles:
                raise ValueError("a subject's hair style is missing")
            colour = entry.get("hair_colour", (0.0, 0.0, 0.0))
            if len(colour) != 3 or not all(0.0 <= float(c) <= 1.0 for c in colour):
                raise ValueError("a subject's hair colour is no colour")
        net = HexPlaneNet(config, len(subjects), len(styles))
        net.load_state_dict(_state(net, arrays))
        refine = None
        if "refine" in manifest:
            refine = from_arrays(manifest["refine"], arrays, device)
        hulls = _unpack_hulls(arrays["occupancy"], len(styles))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, zlib.error) as error:
        raise ModelInvalid(
            f"The model {path} does not fit this version ({error}): reinstall the model."
        ) from error
    facts = {key: value for key, value in manifest.items() if key not in _OWN}
    return Parts(
        title, model, net, subjects, styles, hulls, facts, geometry, refine,
    )  # fmt: skip


def _state(net: HexPlaneNet, arrays: dict[str, NDArray]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for kind, bank, entries in (
        ("texture", "textures", net.textures.entries),
        ("hair", "hair_planes", net.hair_planes.entries),
    ):
        for index, entry in enumerate(entries):
            scale = arrays[f"{kind}.{index}.scale"]
            values = packing.unpack(arrays[f"{kind}.{index}"], scale, tuple(entry.shape))
            state[f"{bank}.entries.{index}"] = torch.from_numpy(values)
    for name, value in arrays.items():
        if name.startswith("net."):
            state[name[4:]] = torch.from_numpy(value.astype(np.float32))
    return state


def geometry_bytes(model: BilinearModel) -> bytes:
    """The file ``geometry.safetensors``."""
    with tempfile.TemporaryDirectory() as folder:
        return model.save(Path(folder) / "geometry.safetensors").read_bytes()


def _geometry_from(data: bytes) -> BilinearModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "geometry.safetensors"
        path.write_bytes(data)
        return BilinearModel.load(path)
