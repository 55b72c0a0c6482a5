"""Checkpoints without pickle: one safetensors file that holds weights, optimiser and generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from head360.errors import BadInput
from head360.files import atomic_path

Extra = dict[str, tuple[torch.nn.Module, torch.optim.Adam | None]]


def save(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Adam,
    rng: np.random.Generator,
    facts: dict[str, Any],
    extra: Extra | None = None,
) -> None:
    """Write everything needed to go on exactly where training stands.

    ``extra`` are further networks by name, each with its optimiser if it has one.
    """
    tensors: dict[str, Tensor] = {}
    parts: Extra = {"": (module, optimiser)} | (extra or {})
    for prefix, (part, adam) in parts.items():
        for name, value in part.state_dict().items():
            tensors[f"{prefix}model.{name}"] = value.detach().cpu().contiguous().clone()
        if adam is None:
            continue
        names = {id(parameter): name for name, parameter in part.named_parameters()}
        for parameter, state in adam.state.items():
            for key, value in state.items():
                tensors[f"{prefix}adam.{names[id(parameter)]}|{key}"] = (
                    torch.as_tensor(value).detach().cpu().contiguous().clone()
                )
    header = {
        "facts": json.dumps(facts),
        "rng": json.dumps(rng.bit_generator.state),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata=header)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts alone, without loading a tensor.

    Raises:
        BadInput: the file is missing or damaged.
    """
    try:
        with safe_open(str(path), "pt") as archive:
            facts: dict[str, Any] = json.loads(archive.metadata()["facts"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _unusable(path, error) from error
    return facts


def check(path: Path, wanted: dict[str, Any]) -> None:
    """Compare the facts of a checkpoint with those of the run that wants to go on from it.

    Facts that an older checkpoint does not hold are not compared.

    Raises:
        BadInput: the file is missing or damaged, or a fact differs; the message names it.
    """
    facts = read_facts(path)
    for name, value in wanted.items():
        # As they come back from JSON: tuples are lists there.
        if name in facts and facts[name] != json.loads(json.dumps(value)):
            raise BadInput(
                f"The run in {path.parent} was started with another {name}: give the same "
                "settings as then, or choose another --out."
            )


def load(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Adam,
    rng: np.random.Generator,
    extra: Extra | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save` wrote with the same ``extra``; returns the facts.

    Raises:
        BadInput: the file is missing, damaged or belongs to another configuration.
    """
    try:
        with safe_open(str(path), "pt") as archive:
            header = archive.metadata()
            # Copies: tensors that lie in the mapped file would keep Windows from replacing it.
            tensors = {key: archive.get_tensor(key).clone() for key in archive.keys()}  # noqa: SIM118
        parts: Extra = {"": (module, optimiser)} | (extra or {})
        for prefix, (part, adam) in parts.items():
            _restore(prefix, part, adam, tensors)
        rng.bit_generator.state = json.loads(header["rng"])
        facts: dict[str, Any] = json.loads(header["facts"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise _unusable(path, error) from error
    return facts


def _restore(
    prefix: str, part: torch.nn.Module, adam: torch.optim.Adam | None, tensors: dict[str, Tensor]
) -> None:
    weights, moments = f"{prefix}model.", f"{prefix}adam."
    part.load_state_dict(
        {key[len(weights) :]: value for key, value in tensors.items() if key.startswith(weights)}
    )
    if adam is None:
        return
    parameters = dict(part.named_parameters())
    for key, value in tensors.items():
        if key.startswith(moments):
            name, _, slot = key[len(moments) :].partition("|")
            parameter = parameters[name]
            place = value if slot == "step" else value.to(parameter.device)
            adam.state[parameter][slot] = place


def _unusable(path: Path, error: Exception) -> BadInput:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BadInput(
        f"The checkpoint {path} cannot be resumed ({reason}): choose another --out, or give the "
        "folder and settings it was made with."
    )
