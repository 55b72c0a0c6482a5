"""Adam on the 3-sphere, where the derivation quaternions live (GaussianHead §4.2, eq. 5).

Riemannian Adam after Bécigneul and Ganea (2019), one sphere per quaternion (method notes §6). With
gradient g at q, ‖q‖ = 1:

    g_R = g − ⟨g,q⟩q                                   the gradient in the tangent space
    m ← β₁m + (1−β₁)g_R,   v ← β₂v + (1−β₂)‖g_R‖²      v is one number per quaternion
    u = −η·m̂/(√v̂ + ε)                                  m̂, v̂ corrected for their start at zero
    q⁺ = cos‖u‖·q + sin‖u‖·u/‖u‖                       the exponential map; or the retraction
    q⁺ = (q + u)/‖q + u‖
    m ← m − ⟨m,q⁺⟩q⁺                                   transport by projection

The manifold belongs to the parameter *group*. Densification replaces parameters by plain new ones;
a manifold that was a property of the parameter (as in geoopt) would be lost there without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

EUCLIDEAN = "euclidean"
SPHERE = "sphere"  # retraction
SPHERE_EXACT = "sphere_exact"  # exponential map
MANIFOLDS = (EUCLIDEAN, SPHERE, SPHERE_EXACT)


class RiemannianAdam(torch.optim.Adam):
    """Adam whose groups may lie on the sphere; without such groups it *is* torch's Adam.

    Every group may carry, beside Adam's settings:

    * ``manifold``: "euclidean" (default), "sphere" or "sphere_exact". Parameters of a sphere
      group have shape (…, 4); each last row is one point. The state has Adam's names: ``step``,
      ``exp_avg`` (…, 4) tangent at the point, ``exp_avg_sq`` (…, 1).
    * ``name``: for whoever changes rates or rows.

    Args:
        groups: parameter groups or parameters.
        lr, betas, eps: Adam's, and its defaults.
        fused: Adam's fused kernel for Euclidean groups.
    """

    def __init__(
        self,
        groups: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = False,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=fused)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """See torch. Raises ValueError for an unknown manifold or points that are no rows of 4."""
        manifold = param_group.setdefault("manifold", EUCLIDEAN)
        if manifold not in MANIFOLDS:
            raise ValueError(f"no manifold {manifold!r}: one of {', '.join(MANIFOLDS)}")
        if manifold != EUCLIDEAN:
            param_group["fused"] = False  # keeps the count of steps off the device
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if manifold != EUCLIDEAN and (parameter.ndim < 1 or parameter.shape[-1] != 4):
                raise ValueError(
                    f"points of S³ have 4 coordinates; a parameter has shape "
                    f"{tuple(parameter.shape)}"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        curved = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            if group["manifold"] != EUCLIDEAN
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        # Adam passes over parameters without a gradient: they take their own step below.
        for _, parameter, _ in curved:
            parameter.grad = None
        try:
            super().step()
        finally:
            for _, parameter, gradient in curved:
                parameter.grad = gradient
        for group, parameter, gradient in curved:
            assert gradient is not None
            self._step_sphere(group, parameter, gradient)
        return loss

    def _step_sphere(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter[..., :1])
        state["step"] += 1
        count = float(state["step"])
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]

        q = nn.functional.normalize(parameter, dim=-1)
        g = tangent(gradient, q)
        m.lerp_(g, 1 - beta1)
        v.lerp_((g * g).sum(-1, keepdim=True), 1 - beta2)
        size = (v / (1 - beta2**count)).sqrt_().add_(group["eps"])
        u = m * (-group["lr"] / (1 - beta1**count)) / size
        new = exponential(q, u) if group["manifold"] == SPHERE_EXACT else retract(q, u)
        parameter.copy_(new)
        m.copy_(tangent(m, new))


def tangent(vectors: Tensor, q: Tensor) -> Tensor:
    """Project (…, 4) vectors on the tangent space at unit ``q`` (…, 4)."""
    return vectors - (vectors * q).sum(-1, keepdim=True) * q


def exponential(q: Tensor, u: Tensor) -> Tensor:
    """Walk from unit ``q`` (…, 4) along the great circle of tangent ``u`` (…, 4), ‖u‖ radians."""
    angle = u.norm(dim=-1, keepdim=True)
    # sin(x)/x loses its meaning below the square root of the precision, where it is 1 anyway.
    small = angle < torch.finfo(u.dtype).eps ** 0.5
    ratio = torch.where(small, 1.0, angle.sin() / torch.where(small, 1.0, angle))
    walked = angle.cos() * q + ratio * u
    return torch.where(small, retract(q, u), walked)


def retract(q: Tensor, u: Tensor) -> Tensor:
    """(q + u)/‖q + u‖: equals :func:`exponential` up to the second order in ‖u‖."""
    return nn.functional.normalize(q + u, dim=-1)
