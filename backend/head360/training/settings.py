"""Schedule and losses of hex-plane training, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from head360.networks.hexplane import HexPlaneConfig
from head360.training.adversarial import AdversarialSettings

OBJECTIVES = ("photometric", "adversarial")
TRAINABLE = ("all", "hair", "styles")


@dataclass(frozen=True)
class TrainSettings:
    """Schedule and losses; the defaults are the ``tiny`` recipe.

    Attributes:
        steps: optimisation steps; each renders one group (four views of one moment).
        crop: side of the raw windows that are rendered.
        lr_planes, lr_networks: peak Adam rates of textures and planes, and of the networks.
        warmup: steps of linear warm-up; then cosine down to ``floor``.
        smooth_loss: weight of the hair planes' roughness; it calms cells that few rays visit.
        detail_gain: extra weight of colour where eyes, teeth and mouth are seen.
        white: share of the steps that compare over white, the others over a random grey: what is
            half transparent gets its colour right over other grounds, too.
        raw_loss, alpha_loss, hair_loss: weights beside the full-resolution L1.
        seed: of initialisation and batches.
        trainable: "all", or "hair": the paper's second stage, in which the head is frozen and only
            hair planes and hair decoder learn (method notes §3 and contradiction 6); or "styles":
            hair planes alone, for styles that a trained head shall wear beside its own.
        objective: "photometric", or "adversarial" with the paper's dual discriminator beside it;
            it looks at whole pictures, so ``crop`` plays no part then.
        adversarial: of that objective.
        checkpoint_seconds, preview_seconds: how often to write.
    """

    steps: int = 9000
    crop: int = 64
    lr_planes: float = 1e-2
    lr_networks: float = 4e-3
    warmup: int = 50
    floor: float = 0.03
    detail_gain: float = 5.0
    white: float = 0.7
    raw_loss: float = 0.4
    alpha_loss: float = 0.3
    hair_loss: float = 0.4
    smooth_loss: float = 0.05
    seed: int = 0
    trainable: str = "all"
    objective: str = "photometric"
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    checkpoint_seconds: float = 60.0
    preview_seconds: float = 120.0


def settings_facts(config: HexPlaneConfig, settings: TrainSettings) -> dict[str, Any]:
    """What is known of a run's settings before its pictures are: see ``checkpoint.check``."""
    return {
        "config": asdict(config),
        "seed": settings.seed,
        "objective": settings.objective,
        "trainable": settings.trainable,
    }
