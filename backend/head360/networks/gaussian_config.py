"""Everything a preset fixes about the Gaussian head, as plain data.

Method notes = the project's notes on GaussianHead, which list where the paper (arXiv text) and its
release differ. ``paper`` and ``released`` follow one of them each; ``corrected`` mends what both
get wrong; ``tiny`` is ``corrected`` for two CPU cores. :func:`mesh_bound` turns any of them into
our variant that is carried by the parametric mesh.

==================  ==========  ==========  ==========  ==========  what differs
field               paper       released    corrected   tiny
==================  ==========  ==========  ==========  ==========  =============================
gaussians           10,000      10,000      10,000      4,000       to start with
coordinates         raw         raw         box         box         of means and planes
initial_extent      1.3         1.3         1           1           of the first cube
skip                3           4           4           1           layer whose output is joined
zero_heads          no          no          yes         yes         no jump after the warm-up
quaternion_update   add         add         multiply    multiply    q′
scale_update        add         add         log         log         s′
deform_warmup       3,000       3,000       500         100         steps without motion
resolutions         1,2,4,8     1           1,2         1           of the planes
plane_span          .1 … .5     .1 … .5     .5 … 1.5    .5 … 1.5    first values
slicing             block       last        block       block       channels of doppelgänger k
tau_init            uniform     released    uniform     uniform     on S³
tau_shared          no          yes         yes         yes         same K for all at first
legacy_norm         no          yes         no          no          2/‖q‖ in rotation matrices
opacity_activation  sigmoid     sigmoid     relu        relu        hidden, opacity net
colour_activation   relu        none        none        none        hidden, colour net
sh_degree           3           3           3           1
==================  ==========  ==========  ==========  ==========  =============================

Measured for ``tiny`` on a studio subject (128², 690 steps, two CPU cores, held-out tail): rectified
instead of sigmoid opacity net +3.2 dB, the wider plane_span +0.7 dB, derivations that start shared
+1.1 dB (they are learned per Gaussian all the same): neighbours then begin with like features.

The paper may be read as having rectifiers on the deformation's outputs (``relu_heads``), too; as
they would forbid negative offsets no preset has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from head360.networks import derivation, radiance, triplane

_CHOICES: dict[str, tuple[str, ...]] = {
    "coordinates": ("box", "raw"),
    "motion": ("mlp", "linear", "none"),
    "quaternion_update": ("add", "multiply"),
    "scale_update": ("add", "log"),
    "rig": ("free", "mesh"),
    "frames": ("smooth", "triangle"),
    "texture": ("triplane", "direct"),
    "texture_space": ("deformed", "canonical"),
    "merge": triplane.MERGES,
    "slicing": triplane.SLICES,
    "derivation": ("per_gaussian", "global", "none"),
    "tau_init": derivation.INITS,
    "opacity_activation": radiance.OPACITY_ACTIVATIONS,
    "colour_activation": radiance.COLOUR_ACTIVATIONS,
}


@dataclass(frozen=True)
class GaussianConfig:
    """Sizes and switches of :class:`GaussianNet`; the defaults are the preset ``corrected``.

    Attributes:
        gaussians: how many there are at first where no points are given.
        coordinates: means, planes and offsets live in "box" coordinates, [−1, 1]³ around the head,
            or "raw" in the data set's own unit. Scales and rates are in the same coordinates.
        initial_extent: points start uniform in ±this.
        motion: "mlp" (GaussianHead), "linear" bases (ours) or "none".
        width, depth, skip, frequencies: of the MLP; ``skip`` counts layers from zero.
        relu_heads, zero_heads: see :class:`DeformationField`.
        detach_positions: the MLP's gradient does not reach the means.
        rank: of the linear bases.
        moving_looks: linear bases change opacity and plain colour as well.
        quaternion_update: q′ = q/‖q‖ + Δq ("add"), or q ⊗ (1 + Δq)/‖·‖ ("multiply").
        scale_update: s′ = e^ŝ + Δs ("add", may turn negative), or e^(ŝ + Δs) ("log").
        deform_warmup: steps during which nothing moves.
        rig: "free" Gaussians, or carried by the "mesh".
        frames: rotations of mesh-bound Gaussians, of the one "triangle" or "smooth" over its
            neighbourhood.
        texture: "triplane", or opacity and harmonics "direct" per Gaussian (ablation).
        texture_space: the planes are read at "deformed" positions (GaussianHead) or at
            "canonical" ones, which sticks the texture to the surface.
        channels, plane_size, resolutions, plane_span, merge, slicing: see :class:`TriPlane`.
        derivation: K quaternions "per_gaussian", "global" ones, or "none" (K = 1; ablation).
        copies: K, which divides ``channels``.
        copies_schedule: K grows with the number of Gaussians (ablation of the paper).
        tau_init, tau_shared, legacy_norm: see ``derivation``.
        opacity_activation, colour_activation: see :class:`RadianceDecoder`.
        opacity_bias: of the decoded logit.
        view_input: the colour net sees the viewing direction.
        sh_degree, sh_every: harmonics of degree d are active from step d·sh_every on.
    """

    gaussians: int = 10_000
    coordinates: str = "box"
    initial_extent: float = 1.0
    motion: str = "mlp"
    width: int = 256
    depth: int = 8
    skip: int = 4
    frequencies: int = 10
    relu_heads: bool = False
    zero_heads: bool = True
    detach_positions: bool = True
    rank: int = 20
    moving_looks: bool = True
    quaternion_update: str = "multiply"
    scale_update: str = "log"
    deform_warmup: int = 500
    rig: str = "free"
    frames: str = "smooth"
    texture: str = "triplane"
    texture_space: str = "deformed"
    channels: int = 32
    plane_size: int = 64
    resolutions: tuple[int, ...] = (1, 2)
    plane_span: tuple[float, float] = (0.5, 1.5)
    merge: str = "product"
    slicing: str = "block"
    derivation: str = "per_gaussian"
    copies: int = 4
    copies_schedule: bool = False
    tau_init: str = "uniform"
    tau_shared: bool = True
    legacy_norm: bool = False
    opacity_activation: str = "relu"
    colour_activation: str = "none"
    opacity_bias: float = 0.0
    view_input: bool = True
    sh_degree: int = 3
    sh_every: int = 1000

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}: one of {', '.join(choices)}")
        if self.channels % self.copies:
            raise ValueError(f"K = {self.copies} does not divide {self.channels} channels")
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"spherical harmonics have degree 0 to 3, not {self.sh_degree}")
        if self.motion == "mlp" and not 0 <= self.skip < self.depth - 1:
            raise ValueError(f"layer {self.skip} of {self.depth} has no layer after it to skip to")

    @property
    def derivations(self) -> int:
        """K, 1 where there is no derivation."""
        return 1 if self.derivation == "none" else self.copies

    @property
    def harmonics(self) -> int:
        """Coefficients of a colour channel."""
        return (self.sh_degree + 1) ** 2

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> GaussianConfig:
        """Inverse of ``dataclasses.asdict``, also after a trip through JSON.

        Raises:
            ValueError: a value that is not allowed, or an unknown name.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(table) - known):
            raise ValueError(f"unknown settings of a Gaussian head: {', '.join(unknown)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in table.items()
        }
        return cls(**values)


def mesh_bound(config: GaussianConfig) -> GaussianConfig:
    """The same carried by the mesh: linear bases instead of the MLP, texture stuck to the skin."""
    return dataclasses.replace(config, rig="mesh", motion="linear", texture_space="canonical")


_PAPER = GaussianConfig(
    coordinates="raw",
    initial_extent=1.3,
    skip=3,
    zero_heads=False,
    quaternion_update="add",
    scale_update="add",
    deform_warmup=3000,
    resolutions=(1, 2, 4, 8),
    plane_span=(0.1, 0.5),
    tau_shared=False,
    opacity_activation="sigmoid",
    colour_activation="relu",
)

PRESETS: dict[str, GaussianConfig] = {
    "paper": _PAPER,
    "released": dataclasses.replace(
        _PAPER,
        skip=4,
        resolutions=(1,),
        slicing="last",
        tau_init="released",
        tau_shared=True,
        legacy_norm=True,
        colour_activation="none",
    ),
    "corrected": GaussianConfig(),
    "tiny": GaussianConfig(
        gaussians=4000,
        width=64,
        depth=4,
        skip=1,
        frequencies=6,
        rank=16,
        deform_warmup=100,
        channels=16,
        resolutions=(1,),
        sh_degree=1,
        sh_every=300,
    ),
}
