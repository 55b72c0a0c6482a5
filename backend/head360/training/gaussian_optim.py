"""Learning rates of the Gaussian head, one optimiser group per kind of parameter.

Method notes §6. Rates fall log-linearly from ``first`` to ``last`` over ``steps``, or stay. The
published rate of positions is for "raw" coordinates, in which half a head measures about 0.18; in
"box" coordinates, where that is 1, the same walk takes about five times the rate. The other
corrected rates are set for runs of minutes instead of hours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from head360.networks.gaussian import GaussianNet
from head360.training.riemannian import EUCLIDEAN, SPHERE_EXACT, RiemannianAdam


@dataclass(frozen=True)
class Rate:
    """A learning rate over time.

    Attributes:
        first, last: at step 0 and from step ``steps`` on.
        steps: 0 keeps ``first`` for ever.
    """

    first: float
    last: float = 0.0
    steps: int = 0

    def at(self, step: int) -> float:
        """Rate of the step with this number, counted from 0."""
        if not self.steps:
            return self.first
        share = min(step / self.steps, 1.0)
        if self.last == 0:  # no logarithm of zero: a straight line
            return self.first * (1 - share)
        return float(self.first ** (1 - share) * self.last**share)


@dataclass(frozen=True)
class Rates:
    """Rates and Adam's constants; the defaults are the release's (notes, table of §6).

    Attributes:
        position … tau: of the groups of :func:`build`.
        tau_manifold: "sphere_exact", "sphere" or "euclidean" (what the release does in effect).
        eps, tau_eps: Adam's ε.
    """

    position: Rate = Rate(8e-4, 8e-6, 30_000)
    log_scale: Rate = Rate(5e-3)
    rotation: Rate = Rate(1e-3)
    deformation: Rate = Rate(8e-4, 1.6e-6, 80_000)
    planes: Rate = Rate(1e-3, 1.6e-6, 80_000)
    opacity: Rate = Rate(1e-4)
    colour: Rate = Rate(1e-3)
    colour_rest: Rate = Rate(5e-5)
    tau: Rate = Rate(1e-3)
    tau_manifold: str = SPHERE_EXACT
    eps: float = 1e-15
    tau_eps: float = 1e-8
    # Gaussians' own looks and bases, where there are any: 3-D Gaussian Splatting's rates.
    own_opacity: Rate = Rate(5e-2)
    own_colour: Rate = Rate(2.5e-3)
    own_rest: Rate = Rate(1.25e-4)
    bases: Rate = Rate(1e-3)

    def scaled_to(self, steps: int) -> Rates:
        """The same for a run of another length: every falling rate ends with it."""
        changed: dict[str, Any] = {}
        for entry in dataclasses.fields(self):
            rate = getattr(self, entry.name)
            if isinstance(rate, Rate) and rate.steps:
                changed[entry.name] = dataclasses.replace(rate, steps=steps)
        return dataclasses.replace(self, **changed)


_CORRECTED = Rates(
    position=Rate(4e-3, 4e-5, 30_000),
    deformation=Rate(8e-4, 8e-6, 30_000),
    planes=Rate(1e-2, 1e-4, 30_000),
    opacity=Rate(1e-3, 1e-4, 30_000),
    colour=Rate(2e-3, 2e-4, 30_000),
    colour_rest=Rate(2e-4, 2e-5, 30_000),
    tau=Rate(1e-3, 1e-5, 30_000),
    bases=Rate(1e-3, 1e-5, 30_000),
)

RATES: dict[str, Rates] = {
    "paper": Rates(planes=Rate(1e-3, 0.0, 80_000), tau=Rate(1e-3, 0.0, 80_000)),
    "released": Rates(tau_manifold=EUCLIDEAN),
    "corrected": _CORRECTED,
    "tiny": _CORRECTED.scaled_to(4000),
}


@dataclass(frozen=True)
class _Group:
    rate: str
    members: Mapping[str, nn.Parameter] = field(default_factory=dict)


def _groups(net: GaussianNet) -> dict[str, _Group]:
    """Name of every group → its rate in :class:`Rates` and its parameters by name."""
    rows = {
        "means": "position", "log_scales": "log_scale", "quaternions": "rotation", "tau": "tau",
        "bases": "bases", "opacity_logits": "own_opacity", "sh_dc": "own_colour",
        "sh_rest": "own_rest",
    }  # fmt: skip
    groups = {
        name: _Group(rows[name], {name: parameter})
        for name, parameter in net.row_parameters().items()
    }
    shared = {
        ("tau_shared",): "tau",
        ("deformation.",): "deformation",
        ("linear.",): "bases",
        ("triplane.",): "planes",
        ("decoder.opacity",): "opacity",
        ("decoder.colour", "decoder.dc"): "colour",
        ("decoder.rest",): "colour_rest",
    }
    for prefixes, rate in shared.items():
        members = {k: p for k, p in net.named_parameters() if k.startswith(prefixes)}
        if members:
            groups[prefixes[0].rstrip(".")] = _Group(rate, members)
    return groups


def build(net: GaussianNet, rates: Rates) -> RiemannianAdam:
    """An optimiser of all parameters; per-Gaussian groups are named like their parameter."""
    groups = []
    for name, group in _groups(net).items():
        tau = group.rate == "tau"
        groups.append(
            {
                "name": name,
                "rate": group.rate,
                "params": list(group.members.values()),
                "manifold": rates.tau_manifold if tau else EUCLIDEAN,
                "eps": rates.tau_eps if tau else rates.eps,
                "lr": getattr(rates, group.rate).first,
            }
        )
    owned = sum(len(group["params"]) for group in groups)
    if owned != len(list(net.parameters())):
        raise ValueError("a parameter of the network belongs to no group, or to two")
    fused = all(p.device.type in ("cpu", "cuda") for p in net.parameters())
    return RiemannianAdam(groups, fused=fused)


def set_rates(optimiser: torch.optim.Optimizer, rates: Rates, step: int) -> None:
    """Give every group its rate of this step."""
    for group in optimiser.param_groups:
        group["lr"] = getattr(rates, group["rate"]).at(step)
