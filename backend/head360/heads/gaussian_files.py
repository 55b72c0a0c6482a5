"""Weights of a Gaussian head as the arrays of a package, small, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.heads.package import quantise
from head360.networks.gaussian import GaussianNet

_EXACT = ("means", "centre", "half_size")  # half floats would move a Gaussian by a tenth of a mm
_LARGEST_HALF = 65504.0
_SCALE = ".scale"


def arrays_of(net: GaussianNet) -> dict[str, NDArray]:
    """State of ``net`` by name: float16, int32, and bases as int8 with ``<name>.scale``."""
    arrays: dict[str, NDArray] = {}
    for name, tensor in net.state_dict().items():
        value = tensor.detach().cpu().numpy()
        if name == "bases":
            rows = value.reshape(len(value), -1)
            whole, scale = quantise(rows)
            arrays[name] = whole.reshape(value.shape)
            arrays[name + _SCALE] = scale.reshape(value.shape[1:])
        elif np.issubdtype(value.dtype, np.integer):
            arrays[name] = value.astype(np.int32)
        elif name in _EXACT or (value.size and np.abs(value).max() > _LARGEST_HALF):
            arrays[name] = value.astype(np.float32)
        else:
            arrays[name] = value.astype(np.float16)
    return arrays


def state_of(arrays: dict[str, NDArray]) -> dict[str, Tensor]:
    """Inverse of :func:`arrays_of`: a state dictionary in float32 and int64."""
    state: dict[str, Tensor] = {}
    for name, value in arrays.items():
        if name.endswith(_SCALE):
            continue
        if name + _SCALE in arrays:
            value = value.astype(np.float32) * arrays[name + _SCALE]
        kind = np.int64 if name == "face" else np.float32
        state[name] = torch.from_numpy(np.array(value, dtype=kind))
    return state
