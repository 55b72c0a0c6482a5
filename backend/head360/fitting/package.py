"""From an inverted texture to a head of its own: one subject, all hair styles of the base."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.errors import BadInput
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.heads.windows import DYE_CONTRAST
from head360.networks.banks import Blend, PlaneBank
from head360.networks.hexplane import HexPlaneNet

Floats = NDArray[np.float32]

_LONGEST = 40
# What a former fit left behind; anything else in the folder is somebody's.
_OURS = ("head", "stages", "sheet.png", "fit.json", "before_after.png")


def safe_name(text: str) -> str:
    """A name for a subject: lower-case letters, digits and underscores, no digit first."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:_LONGEST].strip("_")
    if not plain:
        return "person"
    return plain if not plain[0].isdigit() else f"person_{plain}"


def check_out(out: Path) -> None:
    """Refuse a folder that holds something else than a former fit.

    Raises:
        BadInput: it does, or it is a file.
    """
    if out.is_file():
        raise BadInput(f"{out} is a file: choose a folder for --out.")
    if out.is_dir():
        strange = [
            entry.name
            for entry in out.iterdir()
            if not (_is_ours(entry) or entry.name in (".DS_Store", "Thumbs.db"))
        ]
        if strange:
            raise BadInput(
                f"{out} holds {sorted(strange)[0]}, which no fit made: choose an empty folder for "
                "--out."
            )


def _is_ours(entry: Path) -> bool:
    if entry.name.startswith(".") and entry.name.endswith(".tmp"):
        return True
    if entry.name == "head" and entry.is_dir():
        return {item.name for item in entry.iterdir()} <= {
            "manifest.json", "head.safetensors", "geometry.safetensors", "thumbnail.png"
        }  # fmt: skip
    if entry.name == "stages" and entry.is_dir():
        return all(re.fullmatch(r"\d\d_[a-z]+\.png", item.name) for item in entry.iterdir())
    return entry.name in _OURS


def single_head(
    base: HexPlaneHead,
    name: str,
    texture: Tensor,
    codes: Codes,
    blendshapes: Floats,
    facts: dict[str, Any],
    hair: Tensor | None = None,
    hull: NDArray[np.uint8] | None = None,
) -> HexPlaneHead:
    """A head with one subject that wears what the base has.

    Args:
        base: whose networks and styles are kept.
        name: of head and subject.
        texture: (1, S, S, C) float32.
        codes: shape, style and hair colour of the subject.
        blendshapes: (52,) of the photograph, kept as a fact.
        facts: for the manifest, beside the base's licence and notices.
        hair: (3, R, R, C) planes of the codes' style, where they were optimised too.
        hull: (GRID, GRID, GRID) occupancy of that style instead of the base's.
    """
    styles = base.styles
    config = dataclasses.replace(base.net.config, texture_codes=None)
    kept = base.net.state_dict()
    if hair is not None:
        # One style of its own: the generator of the others cannot make it.
        config = dataclasses.replace(config, hair_codes=None)
        kept = {key: value for key, value in kept.items() if not key.startswith("hair_planes.")}
    net = HexPlaneNet(config, 1, len(styles))
    state = {key: value for key, value in kept.items() if not key.startswith("textures.")}
    state["textures.entries.0"] = texture.detach().cpu()
    if hair is not None:
        for index, style in enumerate(styles):
            with torch.no_grad():
                planes = base.net.hair_planes(Blend.of(index))
            state[f"hair_planes.entries.{index}"] = hair if style == codes.style else planes
    net.load_state_dict({key: value.detach().cpu() for key, value in state.items()})
    assert isinstance(net.textures, PlaneBank)
    entry: dict[str, Any] = {
        "shape": codes.shape,
        "style": codes.style,
        "expression": [round(float(weight), 4) for weight in blendshapes],
    }
    if codes.hair_colour is not None and codes.style is not None:
        entry["hair_colour"] = [round(float(channel), 4) for channel in codes.hair_colour]
    occupancy = base._occupancy.copy()
    if hull is not None and codes.style is not None:
        occupancy[styles.index(codes.style)] = hull
    head = HexPlaneHead(
        name, base.model, net, OrderedDict({name: entry}), styles, occupancy,
        {**base.manifest, **facts}, base.device, base._geometry,
    )  # fmt: skip
    head.refine = base.refine
    if hair is not None and codes.hair_colour is not None:
        _keep_tone(base, head, codes, entry)
    return head


def _keep_tone(base: HexPlaneHead, head: HexPlaneHead, codes: Codes, entry: dict[str, Any]) -> None:
    """Choose the hair colour so that hair looks as it was inverted.

    A dye is relative to the mean luminance of the planes, and the inversion has changed that.
    """
    before, after = base.look(codes).dye, head.look(head.codes()).dye
    if before is None or after is None:
        return
    gain = (after.mean / max(before.mean, 1e-3)) ** DYE_CONTRAST
    entry["hair_colour"] = [
        round(float(np.clip(channel * gain, 0, 1)), 4) for channel in entry["hair_colour"]
    ]
    head.refresh()


def save_head(head: HexPlaneHead, target: Path) -> Path:
    """Write the package beside ``target`` and move it there: it is whole or absent."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        head.save(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise BadInput(
            f"Cannot write {target} ({error.strerror}): free some space or choose another place."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
