"""Where a Gaussian head begins: on the mesh and in the hair, or anywhere inside the mattes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.geometry.topology import Topology
from head360.networks.gaussian import GaussianConfig, GaussianNet
from head360.networks.meshrig import Binding, bind_surface
from head360.training.footage import Footage
from head360.training.leash import Leash

# How much denser than skin these parts are filled: small, and looked at first.
_DENSER = {"teeth": 3.0, "gums_tongue": 2.0, "eyeball": 4.0, "eyelashes": 4.0}
_HIDDEN = ("eye_socket",)
_HAIR_SHARE = 0.35  # of the Gaussians; the rest sits on the mesh
_HAIR_REACH = 0.05  # metres above the skin
_SKIN_REACH = 0.006
_TRIES = 8  # candidates for every point that is wanted


def start(footage: Footage, config: GaussianConfig, seed: int) -> GaussianNet:
    """A network whose Gaussians lie where the footage shows a head.

    Raises:
        BadInput: the mattes are empty.
    """
    rng = np.random.default_rng(seed)
    mesh = None
    if footage.identity is not None:
        mesh = footage.identity.neutral, footage.model.topology.faces
    if config.coordinates == "raw":
        binding = None if mesh is None else _bound(footage, config.gaussians, rng)
        return GaussianNet(
            config, footage.expression, start=binding, mesh=mesh, seed=seed
        )  # fmt: skip
    centre, half = footage.box()
    points: Binding | NDArray[np.floating]
    if mesh is not None:
        points = _bound(footage, config.gaussians, rng)
    else:
        points = _inside(footage, centre, half * config.initial_extent, config.gaussians, rng)
    return GaussianNet(config, footage.expression, centre, half, points, mesh, seed)


def _inside(
    footage: Footage,
    centre: NDArray[np.float64],
    half: float,
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(count, 3) random points of the cube inside the mattes; all of the cube where few are."""
    drawn = centre + rng.uniform(-half, half, (count * _TRIES, 3))
    within = drawn[footage.hull(drawn)][:count]
    return np.concatenate([within, drawn[: count - len(within)]])


def _bound(footage: Footage, count: int, rng: np.random.Generator) -> Binding:
    """Points on the mesh, and above skin that may wear hair as far as the mattes reach."""
    assert footage.identity is not None
    topology, vertices = footage.model.topology, footage.identity.neutral
    loose = _hair(footage, round(count * _HAIR_SHARE), rng)
    bare = count - len(loose.face)
    on_mesh = bind_surface(vertices, topology.faces, bare, rng, part_weights(topology))
    return on_mesh.joined(loose)


def part_weights(topology: Topology) -> NDArray[np.float64]:
    """(F,) how dense Gaussians sit on the triangles of each part."""
    weights = np.ones(len(topology.faces))
    for part, weight in _DENSER.items():
        weights[topology.part_faces(part)] = weight
    weights[topology.part_faces(*_HIDDEN)] = 0.0
    return weights


def hair_faces(vertices: NDArray[np.floating], topology: Topology) -> NDArray[np.bool_]:
    """(F,) whether hair may grow on a triangle: above the brows, or behind the ears."""
    skin = np.zeros(len(topology.faces), dtype=bool)
    skin[topology.part_faces("face", "head_neck")] = True
    middle = vertices[topology.faces].mean(1)
    low, high = vertices.min(0), vertices.max(0)
    skin[(middle[:, 1] < 0.6 * high[1]) & (middle[:, 2] > 0.3 * low[2])] = False
    skin[middle[:, 1] < 0.5 * low[1]] = False
    return skin


def leash(footage: Footage) -> Leash:
    """How far Gaussians may sit from the mesh of the footage."""
    assert footage.identity is not None
    hair = hair_faces(footage.identity.neutral, footage.model.topology)
    return Leash(np.where(hair, 1.2 * _HAIR_REACH, _SKIN_REACH))


def _hair(footage: Footage, count: int, rng: np.random.Generator) -> Binding:
    """At most ``count`` points above the skin that lie inside the mattes of a neutral-ish face."""
    assert footage.identity is not None
    topology, vertices = footage.model.topology, footage.identity.neutral
    skin = hair_faces(vertices, topology).astype(np.float64)
    if not skin.any():
        return Binding.free(np.zeros((0, 3), np.float32))
    reach = np.full(len(skin), _HAIR_REACH)
    drawn = bind_surface(vertices, topology.faces, count * _TRIES, rng, skin, reach)
    chosen = np.flatnonzero(footage.hull(drawn.points))
    chosen = rng.permutation(chosen)[:count]
    return Binding(drawn.face[chosen], drawn.bary[chosen], drawn.points[chosen])
