"""The Gaussian head as a network: from an expression and a camera to what a rasteriser draws.

After GaussianHead (method notes §2–4): Gaussians are moved by the expression, each reads the
tri-plane at its K doppelgängers, and a small decoder turns the features into opacity and spherical
harmonics. Every published ablation, and the variant carried by the mesh, are settings of
:class:`GaussianConfig`. What depends on what:

    appearance(canonical)        fixed after training where the texture is canonical
    pose(expression, vertices)   geometry, and appearance where the texture is deformed
    view(posed, camera)          adds what depends on the viewing direction
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F

from head360.networks import derivation, quaternions
from head360.networks.deform import APPEARANCE, GEOMETRY, DeformationField, LinearBases, Offsets
from head360.networks.gaussian_config import PRESETS, GaussianConfig, mesh_bound
from head360.networks.meshrig import Binding, MeshRig
from head360.networks.posed import Looks, Posed, RenderInputs, carried, moved_looks
from head360.networks.radiance import RadianceDecoder
from head360.networks.triplane import TriPlane

__all__ = [
    "PRESETS", "GaussianConfig", "GaussianNet", "Looks", "Posed", "RenderInputs", "mesh_bound",
]  # fmt: skip

_START_OPACITY = 0.1  # of Gaussians with an opacity of their own, as in 3-D Gaussian Splatting
_LEAST_SCALE = 1e-4  # of a start, in the space of the means; coinciding points have no neighbours


class GaussianNet(nn.Module):
    """Parameters of a Gaussian head and the way from them to a picture's inputs.

    Rows of per-Gaussian tensors belong together; ``ROWS`` and ``BOUND`` name them for
    ``training.densify``.

    Args:
        config: see there.
        expression: E.
        centre, half: metres; "box" coordinates are (x − centre) / half. Ignored when "raw".
        start: (N, 3) points in metres to start from, or their binding to ``mesh``; by default
            random ones.
        mesh: neutral vertices (V, 3) in metres and faces (F, 3); needed by ``rig="mesh"``.
        seed: of everything random here.
    """

    ROWS = (
        "means", "log_scales", "quaternions", "tau", "bases", "opacity_logits", "sh_dc", "sh_rest",
    )  # fmt: skip
    BOUND = ("face", "bary")

    centre: Tensor
    half_size: Tensor
    face: Tensor
    bary: Tensor

    def __init__(
        self,
        config: GaussianConfig,
        expression: int,
        centre: ArrayLike = (0.0, 0.0, 0.0),
        half: float = 1.0,
        start: np.ndarray | Binding | None = None,
        mesh: tuple[ArrayLike, ArrayLike] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.expression = config, expression
        raw = config.coordinates == "raw"
        place = np.zeros(3) if raw else np.asarray(centre, dtype=np.float64)
        self.register_buffer("centre", torch.tensor(place, dtype=torch.float32))
        self.register_buffer("half_size", torch.tensor(1.0 if raw else float(half)))
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._make_shared()
        self.rig: MeshRig | None = None
        self._make_rows(self._start(start, mesh, generator), generator)

    # -- construction ------------------------------------------------------------------------

    def _make_shared(self) -> None:
        """What all Gaussians share, from the global generator."""
        c = self.config
        self.deformation = (
            DeformationField(
                self.expression, c.width, c.depth, c.skip, c.frequencies, c.relu_heads, c.zero_heads
            )
            if c.motion == "mlp"
            else None
        )
        self.linear = LinearBases(self.expression, c.rank) if c.motion == "linear" else None
        self.triplane: TriPlane | None = None
        self.decoder: RadianceDecoder | None = None
        if c.texture == "triplane":
            self.triplane = TriPlane(
                c.channels, c.plane_size, c.resolutions, c.plane_span, c.merge, c.slicing
            )
            self.decoder = RadianceDecoder(
                c.channels, c.sh_degree, c.opacity_activation, c.colour_activation, c.opacity_bias
            )

    def _start(
        self,
        start: np.ndarray | Binding | None,
        mesh: tuple[ArrayLike, ArrayLike] | None,
        generator: torch.Generator,
    ) -> Tensor:
        """(N, 3) canonical positions in the space of the means; sets up the rig."""
        c = self.config
        if c.rig == "mesh":
            if mesh is None:
                raise ValueError("Gaussians carried by a mesh need that mesh")
            vertices = self.from_metres(torch.as_tensor(np.asarray(mesh[0]), dtype=torch.float32))
            self.rig = MeshRig(vertices, torch.as_tensor(np.asarray(mesh[1])), c.frames == "smooth")
        if start is None:
            points = (torch.rand(c.gaussians, 3, generator=generator) * 2 - 1) * c.initial_extent
            start = Binding.free(points.numpy())
        else:
            if not isinstance(start, Binding):
                start = Binding.free(start)
            points = self.from_metres(torch.from_numpy(start.points))
        if self.rig is not None:
            self.register_buffer("face", torch.from_numpy(start.face.copy()))
            self.register_buffer("bary", torch.from_numpy(start.bary.copy()))
        return points

    def _make_rows(self, points: Tensor, generator: torch.Generator) -> None:
        """Parameters of every Gaussian, those of 3-D Gaussian Splatting first."""
        c, count = self.config, len(points)
        offset = points if self.rig is None else points - self.rig.rest(self.face, self.bary)
        self.means = nn.Parameter(offset.clone())
        self.log_scales = nn.Parameter(nearest_scales(points)[:, None].repeat(1, 3))
        self.quaternions = nn.Parameter(quaternions.identity((count,), points))
        if c.texture == "triplane" and c.derivation != "none":
            rows = count if c.derivation == "per_gaussian" else 1
            copies = derivation.scheduled(count, count, c.channels) if c.copies_schedule else (
                c.copies
            )  # fmt: skip
            tau = derivation.initial(rows, copies, c.tau_init, c.tau_shared, generator)
            name = "tau" if c.derivation == "per_gaussian" else "tau_shared"
            self.register_parameter(name, nn.Parameter(tau))
        if c.motion == "linear":
            width = GEOMETRY + APPEARANCE * c.moving_looks
            self.bases = nn.Parameter(points.new_zeros(count, width, c.rank))
        if c.texture == "direct":
            logit = math.log(_START_OPACITY / (1 - _START_OPACITY))
            self.opacity_logits = nn.Parameter(points.new_full((count,), logit))
            self.sh_dc = nn.Parameter(points.new_zeros(count, 1, 3))
            self.sh_rest = nn.Parameter(points.new_zeros(count, c.harmonics - 1, 3))

    # -- rows --------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """N."""
        return len(self.means)

    def row_parameters(self) -> dict[str, nn.Parameter]:
        """Per-Gaussian parameters that this configuration has, by name."""
        own = dict(self.named_parameters(recurse=False))
        return {name: own[name] for name in self.ROWS if name in own}

    def row_buffers(self) -> dict[str, Tensor]:
        """Per-Gaussian tensors that are not learned, by name."""
        return {name: getattr(self, name) for name in self.BOUND} if self.rig is not None else {}

    def replace_rows(self, tensors: dict[str, Tensor]) -> None:
        """Put other rows in the place of all that are there, in parameters and buffers alike."""
        for name, value in tensors.items():
            if name in self.BOUND:
                setattr(self, name, value)
            else:
                setattr(self, name, nn.Parameter(value))

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Resize per-Gaussian tensors to those of a state dictionary that is to be loaded next.

        Parameters are new objects afterwards: build optimisers later.
        """
        wanted = {*self.row_parameters(), *self.row_buffers(), "tau_shared"} & set(state)
        old = dict(self.named_parameters(recurse=False)) | self.row_buffers()
        self.replace_rows({name: old[name].new_zeros(state[name].shape) for name in wanted})

    # -- coordinates -------------------------------------------------------------------------

    def from_metres(self, points: Tensor) -> Tensor:
        """Head space → the space of the means."""
        return (points - self.centre.to(points)) / self.half_size.to(points)

    def to_metres(self, points: Tensor) -> Tensor:
        """The space of the means → head space."""
        return points * self.half_size + self.centre

    def canonical(self) -> Tensor:
        """(N, 3) means before any motion, in their space."""
        if self.rig is None:
            return self.means
        return self.means + self.rig.rest(self.face, self.bary)

    # -- the method --------------------------------------------------------------------------

    def appearance(self, places: Tensor | None = None) -> Looks:
        """Opacity and colour of Gaussians at ``places`` (N, 3), by default the canonical ones."""
        if self.triplane is None or self.decoder is None:
            return Looks(self.opacity_logits, None, torch.cat([self.sh_dc, self.sh_rest], 1))
        places = self.canonical() if places is None else places
        own = dict(self.named_parameters(recurse=False))
        tau = own.get("tau", own.get("tau_shared"))
        features = self.triplane(derivation.derive(places, tau, self.config.legacy_norm))
        logits, latent = self.decoder.opacity(features)
        return Looks(logits, latent, self.decoder.colour(latent, None))

    def pose(
        self,
        expression: Tensor,
        vertices: Tensor | None = None,
        step: int | None = None,
        looks: Looks | None = None,
    ) -> Posed:
        """Everything but the viewing direction.

        Args:
            expression: (E,).
            vertices: (V, 3) posed mesh, metres; needed by ``rig="mesh"``.
            step: of training; None after it.
            looks: result of :meth:`appearance`, for a network that is not trained at the moment;
                used where the texture is canonical.

        Raises:
            ValueError: the expression has another length, or the posed mesh is missing.
        """
        if expression.shape != (self.expression,):
            raise ValueError(
                f"an expression of shape {tuple(expression.shape)}: this head takes "
                f"{self.expression} values"
            )
        c = self.config
        canonical = self.canonical()
        offsets = self._offsets(canonical, expression, step)
        means: Tensor = self.means
        turns = F.normalize(self.quaternions, dim=1)
        scales = self.log_scales.exp()
        if offsets is not None:
            means = means + offsets.means
            if c.scale_update == "log":
                scales = (self.log_scales + offsets.scales).exp()
            else:
                scales = scales + offsets.scales
            turns = self._turned(turns, offsets.rotations)
        if self.rig is not None:
            if vertices is None:
                raise ValueError("Gaussians carried by a mesh need its posed vertices")
            carry = self.rig.carry(self.from_metres(vertices), self.face, self.bary)
            means, turns, scales = carried(carry, means, turns, scales)
        if c.texture_space == "deformed" or looks is None:
            looks = self.appearance(means if c.texture_space == "deformed" else canonical)
        degree = c.sh_degree if step is None else min(c.sh_degree, step // c.sh_every)
        looks = moved_looks(looks, offsets)
        return Posed(means, turns, scales, canonical, looks, offsets, degree)

    def view(self, posed: Posed, camera_position: Tensor | None = None) -> RenderInputs:
        """Gaussians seen from ``camera_position`` (3,) in metres; None leaves the direction out.

        The direction runs to the undeformed means and carries a gradient to them, as in the
        release (method notes §4).
        """
        looks, c = posed.looks, self.config
        sh = looks.sh
        if camera_position is not None and self.decoder is not None and c.view_input:
            toward = posed.canonical - self.from_metres(camera_position)
            directions = F.normalize(toward, dim=1)
            matrix = self.decoder.direction_matrix()
            if matrix is not None:
                sh = sh + torch.einsum("nd,dkc->nkc", directions, matrix)
            else:
                assert looks.latent is not None
                # Linear bases add to the colour after the network.
                added = sh - self.decoder.colour(looks.latent, None)
                sh = self.decoder.colour(looks.latent, directions) + added
        return RenderInputs(
            self.to_metres(posed.means), posed.quaternions, posed.scales * self.half_size,
            looks.logits.sigmoid(), sh, posed.sh_degree, posed.offsets,
        )  # fmt: skip

    def forward(
        self,
        expression: Tensor,
        camera_position: Tensor | None = None,
        vertices: Tensor | None = None,
        step: int | None = None,
    ) -> RenderInputs:
        """:meth:`pose`, then :meth:`view`."""
        return self.view(self.pose(expression, vertices, step), camera_position)

    # -- pieces ------------------------------------------------------------------------------

    def _offsets(self, canonical: Tensor, expression: Tensor, step: int | None) -> Offsets | None:
        if step is not None and step < self.config.deform_warmup:
            return None
        if self.deformation is not None:
            places = canonical.detach() if self.config.detach_positions else canonical
            offsets: Offsets = self.deformation(places, expression)
            return offsets
        if self.linear is not None:
            offsets = self.linear(self.bases, expression)
            return offsets
        return None

    def _turned(self, turns: Tensor, offset: Tensor) -> Tensor:
        if self.config.quaternion_update == "add":
            return turns + offset
        one = quaternions.identity((1,), offset)
        return quaternions.product(turns, F.normalize(one + offset, dim=1))


def nearest_scales(points: Tensor) -> Tensor:
    """(N,) logarithms of the root mean square distance to the three nearest other points."""
    where = points.detach().cpu().double().numpy()
    neighbours = min(4, len(where))
    if neighbours < 2:
        return points.new_full((len(where),), math.log(0.01))
    distances, _ = cKDTree(where).query(where, k=neighbours)
    spread = np.sqrt((distances[:, 1:] ** 2).mean(1)).clip(min=_LEAST_SCALE)
    return torch.from_numpy(np.log(spread)).to(points)
