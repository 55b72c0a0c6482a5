"""Mesh-bound Gaussians kept near the skin they belong to.

One camera that never sees a head from the side leaves the distance of a Gaussian open: it may float
in front of the cheek and still look right. The mesh knows better. After every step offsets are
shortened to what their place allows, hair more than skin, and scales to what a head has room for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.networks.gaussian import GaussianNet

_LARGEST = 0.012  # metres, standard deviation


class Leash:
    """Limits of a mesh-bound network.

    Args:
        reach: (F,) metres that a Gaussian may sit away from its point of each triangle.
    """

    def __init__(self, reach: NDArray[np.floating]) -> None:
        self.reach = torch.from_numpy(np.asarray(reach, dtype=np.float32))

    @torch.no_grad()
    def pull(self, net: GaussianNet) -> None:
        """Bring back what went too far; Gaussians that no triangle carries are left alone."""
        metre = 1.0 / float(net.half_size)
        net.log_scales.clamp_(max=math.log(_LARGEST * metre))
        self.reach = self.reach.to(net.means.device)
        limit = self.reach[net.face.clamp(min=0)] * metre
        limit = torch.where(net.face < 0, torch.inf, limit)
        length: Tensor = net.means.norm(dim=1).clamp(min=1e-12)
        net.means.mul_((limit / length).clamp(max=1.0)[:, None])
