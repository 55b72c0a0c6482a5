"""Learnable Gaussian derivation (GaussianHead §4.2; method notes §3).

A Gaussian at μ′ is looked up in the tri-plane at K places instead of one: at its doppelgängers
x_k = R(τ_k)·μ′, rotations about the origin of the planes' space by unit quaternions that are
learned per Gaussian on the 3-sphere S³ (see ``training.riemannian``). Gaussians that share a
column of a plane therefore share few of their K columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from head360.networks import quaternions

INITS = ("uniform", "released")


def initial(count: int, copies: int, init: str, shared: bool, generator: torch.Generator) -> Tensor:
    """Quaternions (count, copies, 4) float32 to start from, scalar first, unit length.

    Args:
        count: Gaussians, or 1 for one set for all.
        copies: K.
        init: "uniform" on S³, as the paper says; "released", Shoemake's formula without the factor
            2π on its angles, which covers a small patch of S³.
        shared: all Gaussians start from the same K quaternions.
        generator: of the random numbers.
    """
    drawn = (1 if shared else count, copies)
    if init == "uniform":
        tau = quaternions.uniform(drawn, generator)
    elif init == "released":
        u = torch.rand(*drawn, 3, generator=generator)
        low, high = (1 - u[..., 0]).sqrt(), u[..., 0].sqrt()
        tau = torch.stack(
            [low * u[..., 1].sin(), low * u[..., 1].cos(),
             high * u[..., 2].sin(), high * u[..., 2].cos()], -1
        )  # fmt: skip
    else:
        raise ValueError(f"no initialisation {init!r} of derivations: one of {', '.join(INITS)}")
    return tau.expand(count, copies, 4).clone()


def derive(means: Tensor, tau: Tensor | None, legacy_norm: bool = False) -> Tensor:
    """Doppelgängers (N, K, 3) of means (N, 3).

    Args:
        means: in the space of the planes.
        tau: (N, K, 4) of each Gaussian, (1, K, 4) of all of them, or None for the means themselves
            (K = 1).
        legacy_norm: see :func:`quaternions.matrices`.
    """
    if tau is None:
        return means[:, None]
    rotation = quaternions.matrices(tau, legacy_norm)
    return (rotation * means[:, None, None, :]).sum(-1)


def scheduled(count: int, initial_count: int, channels: int, constant: int = 6) -> int:
    """K of the paper's scheduler: min(C, 2^⌈N / (6·N₀)⌉), read from a formula that is lost.

    Args:
        count, initial_count: Gaussians now and at first.
        channels: C, the ceiling.
    """
    exponent = -(-count // (constant * initial_count))
    return min(channels, 2 ** min(exponent, 30))
