"""A head package of one person, with looks that can be learned freely."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Any

import torch

from head360.errors import BadInput
from head360.heads.base import Codes, Head
from head360.heads.hexplane import HexPlaneHead
from head360.networks.banks import Blend, PlaneBank
from head360.networks.hexplane import HexPlaneNet

_BANKS = ("textures.", "hair_planes.")


def alone(head: Head, codes: Codes, name: str, *, free_hair: bool) -> tuple[HexPlaneHead, Codes]:
    """One person of ``head`` as a head of its own; ``head`` stays as it is.

    The texture becomes free planes whatever generated it; with ``free_hair`` the hair of all
    styles too, and the worn style has the colour it was dyed by no dye but its own planes.

    Args:
        head: to take the person from.
        codes: who, also blended or drawn.
        name: of the new model.
        free_hair: hair planes can be learned.

    Returns:
        The head and the codes of its only subject, which keeps the name of ``codes.subject``.

    Raises:
        BadInput: the head is of another kind, or has no texture.
    """
    if not isinstance(head, HexPlaneHead):
        raise BadInput(f"{head.name} is a {head.kind} head: choose a hex-plane head to edit.")
    if head.net.config.views == "none":
        raise BadInput(f"{head.name} is a plain NeRF without a texture: choose another head.")
    config = dataclasses.replace(head.net.config, texture_codes=None)
    if free_hair:
        config = dataclasses.replace(config, hair_codes=None)
    net = HexPlaneNet(config, 1, len(head.styles))
    look = head.look(codes)
    occupancy = head._occupancy.copy()
    with torch.no_grad():
        state = {
            key: value.cpu().clone()
            for key, value in head.net.state_dict().items()
            if not key.startswith(_BANKS)
        }
        state["textures.entries.0"] = look.texture.cpu().clone()
        if isinstance(net.hair_planes, PlaneBank):
            for index in range(len(head.styles)):
                planes = head.net.hair_planes(Blend.of(index))
                state[f"hair_planes.entries.{index}"] = planes.cpu().clone()
        else:
            for key, value in head.net.hair_planes.state_dict().items():
                state[f"hair_planes.{key}"] = value.cpu().clone()
        if free_hair and codes.style is not None and look.hair is not None:
            worn = head.styles.index(codes.style)
            state[f"hair_planes.entries.{worn}"] = look.hair.cpu().clone()
            occupancy[worn] = head._hulls(codes)
        net.load_state_dict(state)
    net.requires_grad_(False)
    entry: dict[str, Any] = {"shape": codes.shape.copy(), "style": codes.style}
    if codes.hair_colour is not None:
        entry["hair_colour"] = list(codes.hair_colour)
    result = HexPlaneHead(
        name, head.model, net, OrderedDict({codes.subject: entry}), head.styles, occupancy,
        dict(head.manifest), head.device, head._geometry,
    )  # fmt: skip
    result.refine = head.refine
    return result, result.codes(codes.subject, codes.style)
