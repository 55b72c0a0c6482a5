"""One network in one safetensors file: float16 weights, and in the header what it is.

The header says the kind of network, its configuration and facts such as the recipe, so that a file
given by a user is known for what it is before a tensor is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from head360.errors import ModelInvalid
from head360.files import write_bytes

_ENTRY = "head360"


def save_network(
    path: Path, network: nn.Module, kind: str, config: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Write ``network`` atomically; floating point numbers become float16.

    Args:
        path: of the file.
        network: what :func:`read_network` will load.
        kind: of network, such as "portrait-parsing".
        config: what its constructor needs.
        facts: recipe, licence and the like.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = value.detach().cpu().contiguous()
        tensors[name] = value.half() if value.is_floating_point() else value
    # One entry: those of a header come in no certain order, and same weights are same bytes.
    header = json.dumps({"kind": kind, "config": config, "facts": facts})
    write_bytes(path, save(tensors, metadata={_ENTRY: header}))


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """What :func:`save_network` was given as ``config``.

    Raises:
        ModelInvalid: no such file, damaged, or a network of another kind.
    """
    try:
        with safe_open(str(path), "pt") as archive:
            header = json.loads((archive.metadata() or {}).get(_ENTRY, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise _unusable(path, error) from error
    if header.get("kind") != kind:
        raise ModelInvalid(
            f"{path} holds {header.get('kind', 'an unknown network')!r}, not {kind!r}: choose "
            "weights that `head360 train portrait` wrote for this purpose."
        )
    config: dict[str, Any] = header.get("config", {})
    return config


def read_network(path: Path, network: nn.Module) -> None:
    """Fill ``network`` with the weights of a file, as float32.

    Raises:
        ModelInvalid: damaged, of another shape, or holding non-finite numbers.
    """
    try:
        with safe_open(str(path), "pt") as archive:
            # Copies: tensors that lie in the mapped file would keep Windows from replacing it.
            tensors = {key: archive.get_tensor(key).clone() for key in archive.keys()}  # noqa: SIM118
        for name, value in tensors.items():
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} holds non-finite numbers")
        counters = {
            name: value
            for name, value in network.state_dict().items()
            if name.endswith("num_batches_tracked")
        }
        network.load_state_dict(counters | tensors)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> ModelInvalid:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelInvalid(
        f"The weights {path} cannot be read ({reason}): choose a file that `head360 train "
        "portrait` wrote, or reinstall Head360."
    )
