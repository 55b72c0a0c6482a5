"""Everything about one Gaussian training run, as plain data: presets fitted to its length."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import Any

from head360.errors import BadInput
from head360.networks.gaussian import PRESETS, GaussianConfig, mesh_bound
from head360.training.densify import DENSIFY, DensifyConfig
from head360.training.gaussian_losses import LOSSES, LossWeights
from head360.training.gaussian_optim import RATES, Rates

STEPS = {"tiny": 4000, "corrected": 30_000, "paper": 80_000, "released": 80_000}
RIGS = ("free", "mesh")
_LEAST_INTERVAL = 25
_DROPOUT = 0.3
_MESH_OFFSETS = 0.3  # weight of what linear bases add to the mesh's motion


@dataclass(frozen=True)
class GaussianSettings:
    """A run.

    Attributes:
        config: of the network. rates, densify, losses: of the training.
        steps: optimisation steps, a frame each.
        seed: of points, networks, order of frames, backgrounds and children.
        test: frames (or share below 1) held out at the end; None: as the data set says.
        expression_dropout: share of steps at which mesh-bound Gaussians follow the mesh alone; the
            learned corrections then stay corrections, also for expressions that nobody made.
        checkpoint_seconds, preview_seconds: how often to write.
    """

    config: GaussianConfig
    rates: Rates
    densify: DensifyConfig
    losses: LossWeights
    steps: int
    seed: int = 0
    test: int | float | None = None
    expression_dropout: float = 0.0
    checkpoint_seconds: float = 60.0
    preview_seconds: float = 90.0

    @classmethod
    def preset(
        cls, name: str, rig: str = "free", steps: int | None = None, seed: int = 0
    ) -> GaussianSettings:
        """A preset whose schedule is stretched or squeezed to ``steps``.

        Raises:
            BadInput: an unknown preset or rig, or less than one step.
        """
        if name not in PRESETS:
            raise BadInput(f"There is no preset {name!r}: choose from {', '.join(PRESETS)}.")
        if rig not in RIGS:
            raise BadInput(f"There is no rig {rig!r}: choose free or mesh.")
        steps = STEPS[name] if steps is None else steps
        if steps < 1:
            raise BadInput("--steps must be at least 1.")
        config = PRESETS[name] if rig == "free" else mesh_bound(PRESETS[name])
        share = steps / STEPS[name]
        losses = LOSSES[name]
        if rig == "mesh":
            losses = dataclasses.replace(losses, offsets=_MESH_OFFSETS)
        return cls(
            fitted_config(config, share), RATES[name].scaled_to(steps),
            fitted_densify(DENSIFY[name], share), losses, steps, seed,
            expression_dropout=_DROPOUT if rig == "mesh" else 0.0,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one that began."""
        return {
            "config": asdict(self.config), "steps": self.steps, "seed": self.seed,
            "losses": asdict(self.losses), "densify": asdict(self.densify),
            "rates": asdict(self.rates), "test": self.test,
            "expression_dropout": self.expression_dropout,
        }  # fmt: skip


def fitted_config(config: GaussianConfig, share: float) -> GaussianConfig:
    """The same with its moments in a run of ``share`` times the length."""
    return dataclasses.replace(
        config,
        deform_warmup=round(config.deform_warmup * share),
        sh_every=max(1, round(config.sh_every * share)),
    )


def fitted_densify(densify: DensifyConfig, share: float) -> DensifyConfig:
    """The same; intervals shrink with short runs, but never grow."""
    interval = max(_LEAST_INTERVAL, round(densify.interval * min(share, 1.0)))
    return dataclasses.replace(
        densify,
        start=round(densify.start * share),
        stop=round(densify.stop * share),
        interval=min(densify.interval, interval),
        large_after=round(densify.large_after * share),
        reset_every=round(densify.reset_every * share),
    )
