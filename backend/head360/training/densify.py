"""More Gaussians where the picture needs them, fewer where it does not (method notes §7).

The adaptive control of 3-D Gaussian Splatting with GaussianHead's inheritance of the derivation:
every ``interval`` steps Gaussians whose centre is pulled hard on the screen are cloned (small ones)
or split (large ones), transparent and huge ones are removed. All of it works on undeformed
parameters. The optimiser's moments of every surviving Gaussian stay as they are, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from head360.networks import derivation, quaternions
from head360.networks.gaussian import GaussianNet

TAU_CHILDREN = ("inherit", "random", "zero")
_RESET_OPACITY = 0.01


@dataclass(frozen=True)
class DensifyConfig:
    """When and what to add and to remove; the defaults are the preset ``corrected``.

    Attributes:
        start, interval, stop: steps; ``start`` and ``stop`` themselves are left out.
        gradient: mean gradient of the screen position, normalised device coordinates, from which a
            Gaussian is doubled.
        small: share of ``extent`` up to which the largest scale counts as small: cloned, not split.
        children, shrink: Gaussians that a split one becomes, and what their scales are divided by.
        opacity: less is removed.
        opacity_memory: judge the largest opacity since the last time ("recent"), or that of the
            "last" frame, which deletes teeth while the mouth is closed.
        large: share of ``extent`` above which a scale is removed; ``large_after`` this step.
        most: Gaussians there may be; those with the largest gradients come first.
        tau_child: quaternions of new Gaussians: "inherit" from the parent, "random" on S³, or
            "zero" rotation, (1, 0, 0, 0).
        moments_child: new rows of the optimiser are "zero", or "inherit"ed.
        forget_tau: drop all moments of the derivation each time, as the release does.
        reset_every: steps between resets of opacity; only Gaussians with an opacity of their own
            have one to reset. 0: never.
    """

    start: int = 500
    interval: int = 100
    stop: int = 15_000
    gradient: float = 2e-4
    small: float = 0.01
    children: int = 2
    shrink: float = 1.6
    opacity: float = 0.005
    opacity_memory: str = "recent"
    large: float = 0.1
    large_after: int = 3000
    most: int = 60_000
    tau_child: str = "inherit"
    moments_child: str = "inherit"
    forget_tau: bool = False
    reset_every: int = 0

    def __post_init__(self) -> None:
        if self.tau_child not in TAU_CHILDREN:
            raise ValueError(f"tau_child is {self.tau_child!r}: one of {', '.join(TAU_CHILDREN)}")
        if self.moments_child not in ("zero", "inherit"):
            raise ValueError(f"moments_child is {self.moments_child!r}: zero or inherit")
        if self.opacity_memory not in ("recent", "last"):
            raise ValueError(f"opacity_memory is {self.opacity_memory!r}: recent or last")
        if self.children < 2 or self.interval < 1:
            raise ValueError("a split makes at least 2 children, at least 1 step apart")

    def due(self, step: int) -> bool:
        """Is there something to do after the step with this number, counted from 1?"""
        return self.start < step < self.stop and step % self.interval == 0


DENSIFY: dict[str, DensifyConfig] = {
    # Two of the paper's numbers look like other thresholds of the code (notes §7), but are kept.
    "paper": DensifyConfig(
        start=2999, interval=500, opacity=0.0002, opacity_memory="last", large=0.01, large_after=0,
        most=500_000, moments_child="zero", reset_every=3000,
    ),
    "released": DensifyConfig(
        opacity_memory="last", most=500_000, moments_child="zero", forget_tau=True,
        reset_every=3000,
    ),
    "corrected": DensifyConfig(),
    "tiny": DensifyConfig(start=200, stop=2500, most=10_000, large_after=1000),
}  # fmt: skip


def scene_extent(positions: ArrayLike) -> float:
    """1.1 times the largest distance of a camera (M, 3) from their mean; raw coordinates."""
    points = np.asarray(positions, dtype=np.float64)
    return float(1.1 * np.linalg.norm(points - points.mean(0), axis=1).max())


@dataclass(frozen=True)
class Change:
    """What one call did: numbers of Gaussians, ``count`` those that there are now."""

    cloned: int
    split: int
    removed: int
    count: int


class Densifier:
    """Collects what the frames say about every Gaussian, and acts on it.

    Args:
        config: see there.
        count: Gaussians at first.
        extent: what shares are of, in the space of the means: :func:`scene_extent` of the cameras
            in "raw" coordinates, 1 in "box" coordinates.
        seed: together with the step it decides about children.
    """

    def __init__(self, config: DensifyConfig, count: int, extent: float, seed: int = 0) -> None:
        self.config, self.extent, self.seed = config, extent, seed
        self.first = count
        self._clear(count, "cpu")

    def _clear(self, count: int, device: torch.device | str) -> None:
        self.pull = torch.zeros(count, device=device)
        self.seen = torch.zeros(count, device=device)
        self.opacity = torch.zeros(count, device=device)

    def _move(self, device: torch.device) -> None:
        if self.pull.device != device:
            self.pull, self.seen = self.pull.to(device), self.seen.to(device)
            self.opacity = self.opacity.to(device)

    # -- what frames say ---------------------------------------------------------------------

    @torch.no_grad()
    def observe(self, gradient: Tensor, visible: Tensor, opacities: Tensor) -> None:
        """Take note of one frame.

        Args:
            gradient: (N,) length of the gradient of the centre in normalised device coordinates.
            visible: (N,) bool.
            opacities: (N,).
        """
        self._move(gradient.device)
        self.pull += torch.where(visible, gradient, 0.0)
        self.seen += visible
        if self.config.opacity_memory == "last":
            self.opacity = opacities.detach().clone()
        else:
            self.opacity = torch.maximum(self.opacity, opacities.detach())

    def state_dict(self) -> dict[str, Tensor]:
        """What has been collected since the last change."""
        return {"pull": self.pull, "seen": self.seen, "opacity": self.opacity,
                "first": torch.tensor(self.first)}  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`."""
        self.pull, self.seen = state["pull"].clone(), state["seen"].clone()
        self.opacity, self.first = state["opacity"].clone(), int(state["first"])

    # -- what follows ------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, net: GaussianNet, optimiser: torch.optim.Optimizer, step: int) -> Change | None:
        """Add and remove where this step, counted from 1, is due; None where it is not.

        Also grows K where the configuration schedules it, and resets opacities in their time.
        Parameters of the network are new objects afterwards; the optimiser knows them.
        """
        c = self.config
        if c.reset_every and step % c.reset_every == 0:
            reset_opacity(net, optimiser)
        if not c.due(step):
            return None
        self._move(net.means.device)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clone, split = self._doubled(net)
        keep = self._kept(net, step)
        # A Gaussian that goes anyway leaves no children behind.
        clone, split = clone & keep, split & keep
        stay = torch.nonzero(keep & ~split)[:, 0]
        clones = torch.nonzero(clone)[:, 0]
        parents = torch.nonzero(split)[:, 0]
        children = parents.repeat(c.children)
        index = torch.cat([stay, clones, children])
        replace_rows(
            net, optimiser, index, len(stay), self._new_rows(net, clones, children, generator),
            c.moments_child == "inherit", ("tau",) if c.forget_tau else (),
        )  # fmt: skip
        if net.config.copies_schedule:
            copies = derivation.scheduled(net.count, self.first, net.config.channels)
            repeat_derivations(net, optimiser, copies)
        self._clear(net.count, net.means.device)
        removed = int((~keep).sum())
        return Change(len(clones), len(parents), removed, net.count)

    def _doubled(self, net: GaussianNet) -> tuple[Tensor, Tensor]:
        """(N,) bool each: to be cloned, to be split."""
        c = self.config
        pull = self.pull / self.seen.clamp(min=1)
        wanted = pull > c.gradient
        room = max(0, c.most - net.count)
        small = net.log_scales.exp().amax(1) <= c.small * self.extent
        cost = torch.where(small, 1, c.children - 1) * wanted
        if int(cost.sum()) > room:
            order = torch.argsort(pull, descending=True, stable=True)
            order = order[wanted[order]]
            fits = cost[order].cumsum(0) <= room
            wanted = torch.zeros_like(wanted)
            wanted[order[fits]] = True
        return wanted & small, wanted & ~small

    def _kept(self, net: GaussianNet, step: int) -> Tensor:
        """(N,) bool: opaque and small enough; unseen since the last time counts as opaque."""
        c = self.config
        keep = (self.opacity >= c.opacity) | (self.seen == 0)
        if step > c.large_after:
            keep &= net.log_scales.exp().amax(1) <= c.large * self.extent
        if not keep.any():  # a head of nothing cannot recover
            keep[torch.argmax(self.opacity)] = True
        return keep

    def _new_rows(
        self, net: GaussianNet, clones: Tensor, children: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Values of new rows (clones, then children) that are not simply their parent's."""
        c = self.config
        scales = net.log_scales[children].exp()
        noise = torch.randn(len(children), 3, generator=generator).to(scales)
        rotation = quaternions.matrices(net.quaternions[children])
        spread = (rotation * (scales * noise)[:, None, :]).sum(2)
        rows = {
            "means": torch.cat([net.means[clones], net.means[children] + spread]),
            "log_scales": torch.cat([net.log_scales[clones], (scales / c.shrink).log()]),
        }
        tau = net.row_parameters().get("tau")
        if tau is not None and c.tau_child != "inherit":
            shape = (len(clones) + len(children), tau.shape[1])
            rows["tau"] = (
                quaternions.uniform(shape, generator).to(tau)
                if c.tau_child == "random"
                else quaternions.identity(shape, tau)
            )
        return rows


def replace_rows(
    net: GaussianNet,
    optimiser: torch.optim.Optimizer,
    index: Tensor,
    kept: int,
    values: dict[str, Tensor],
    inherit: bool,
    forget: tuple[str, ...] = (),
) -> None:
    """Keep, double and drop rows of a network and of its optimiser.

    Args:
        net: its per-Gaussian tensors become rows ``index`` of what they were.
        optimiser: groups are found by name; states of the first ``kept`` rows move with them.
        index: (M,) old row of every new one.
        kept: rows at the beginning that are the same Gaussians as before.
        values: what the rows from ``kept`` on hold instead, by parameter.
        inherit: new rows take their parent's moments, else zero. Moments of quaternions that are
            not the parent's are zero in any case: they would not be tangent.
        forget: parameters all of whose moments become zero.
    """
    groups = {group.get("name"): group for group in optimiser.param_groups}
    fresh: dict[str, Tensor] = {name: old[index] for name, old in net.row_buffers().items()}
    before = net.row_parameters()
    for name, old in before.items():
        fresh[name] = old.detach()[index]
        if name in values:
            fresh[name][kept:] = values[name]
    net.replace_rows(fresh)
    for name, new in net.row_parameters().items():
        old = before[name]
        groups[name]["params"] = [new]
        state = optimiser.state.pop(old, None)
        if state is None:
            continue
        drop = not inherit or (name == "tau" and "tau" in values)
        for key, value in state.items():
            if key == "step":
                continue
            moved = value[index]
            if name in forget:
                moved.zero_()
            elif drop:
                moved[kept:] = 0
            state[key] = moved
        optimiser.state[new] = state


def repeat_derivations(net: GaussianNet, optimiser: torch.optim.Optimizer, copies: int) -> None:
    """Grow K to ``copies`` by repeating every quaternion and its moments; never shrinks it."""
    own: dict[str, nn.Parameter] = dict(net.named_parameters(recurse=False))
    for name in ("tau", "tau_shared"):
        old = own.get(name)
        if old is None or old.shape[1] >= copies:
            continue
        times = copies // old.shape[1]
        new = nn.Parameter(old.detach().repeat_interleave(times, 1))
        setattr(net, name, new)
        for group in optimiser.param_groups:
            group["params"] = [new if p is old else p for p in group["params"]]
        if old in optimiser.state:
            state: dict[str, Any] = optimiser.state.pop(old)
            optimiser.state[new] = {
                key: value if key == "step" else value.repeat_interleave(times, 1)
                for key, value in state.items()
            }


@torch.no_grad()
def reset_opacity(net: GaussianNet, optimiser: torch.optim.Optimizer) -> bool:
    """Lower every Gaussian's own opacity to at most 0.01 and forget its moments.

    False, and nothing done, where a decoder makes the opacities: it would overwrite them.
    """
    logits = net.row_parameters().get("opacity_logits")
    if logits is None:
        return False
    logits.clamp_(max=float(np.log(_RESET_OPACITY / (1 - _RESET_OPACITY))))
    for key, value in optimiser.state.get(logits, {}).items():
        if key != "step":
            value.zero_()
    return True
