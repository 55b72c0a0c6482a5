"""Begin a run with what another head has learned: ``train hexplane --start MODEL``."""

from __future__ import annotations

import logging

import torch

from head360.errors import BadInput
from head360.heads.hexplane import HexPlaneHead
from head360.networks.banks import PlaneBank
from head360.networks.hexplane import HexPlaneNet
from head360.training.shots import Shots

log = logging.getLogger(__name__)


def inherit(net: HexPlaneNet, shots: Shots, base: HexPlaneHead) -> None:
    """Overwrite ``net``'s fresh weights with those of ``base`` wherever they mean the same.

    Decoders and super-resolution are taken over whole. A texture whose subject both heads know is
    copied; a stranger's keeps its own albedo and gets the average of the others in the channels
    above. Hair planes are copied by the name of their style; new styles start afresh.

    Args:
        net: of the new run, its textures' first channels already set to the albedo.
        shots: whose subjects and styles ``net`` has.
        base: the head to begin with.

    Raises:
        BadInput: ``base`` has another configuration, or generators instead of free planes.
    """
    if base.net.config != net.config or not isinstance(base.net.textures, PlaneBank):
        raise BadInput(
            f"--start {base.name} has another preset than this run: choose a head of the same "
            "preset that learned free textures."
        )
    shared = {
        name: value
        for name, value in base.net.state_dict().items()
        if not name.startswith(("textures.", "hair_planes."))
    }
    net.load_state_dict(shared, strict=False)
    known, styles = list(base.subjects), list(base.styles)
    old = base.net.textures.entries
    with torch.no_grad():
        average = torch.stack(list(old)).mean(0)
        for index, name in enumerate(shots.subjects):
            entry = net.textures.entries[index]
            entry[..., 3:] = average[..., 3:]
            if name in known:
                entry.copy_(old[known.index(name)])
        for index, name in enumerate(shots.styles):
            if name in styles:
                planes = base.net.hair_planes.entries[styles.index(name)]
                net.hair_planes.entries[index].copy_(planes)
    log.info(
        "started from %s: %d of %d subjects and %d of %d styles are known",
        base.name, len(set(shots.subjects) & set(known)), len(shots.subjects),
        len(set(shots.styles) & set(styles)), len(shots.styles),
    )  # fmt: skip
