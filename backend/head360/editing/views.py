"""The pictures an edit learns from: moments and cameras around a head, and windows of them.

Everything that does not change while the texture is learned (rays, mesh depth, guidance) is
computed once for each picture; windows are cut out of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from head360.arkit import COUNT, INDEX
from head360.editing.guides import Guide, Places, Tones
from head360.geometry.lattice import Lattice
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs, ViewInputs, pose_inputs, view_inputs
from head360.heads.windows import autocast, render_window
from head360.networks.hexplane import PosePlanes
from head360.rendering.cameras import Camera, orbit
from head360.rendering.volume import Rays

Floats = NDArray[np.float32]

GROUND = 0.8  # grey behind the pictures that editors see
CAMERAS = 3  # pictures of each moment
_FACE = (0.0, -0.008, 0.075)  # what close-ups look at, metres
_DISTANCE = 1.16
_EXPRESSIONS: tuple[dict[str, float], ...] = (
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.6,
     "cheekSquintRight": 0.6, "jawOpen": 0.15},
    {"jawOpen": 0.8, "mouthUpperUpLeft": 0.4, "mouthUpperUpRight": 0.4},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"browInnerUp": 0.9, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8, "eyeWideLeft": 0.7,
     "eyeWideRight": 0.7},
    {"browDownLeft": 0.9, "browDownRight": 0.9, "mouthFrownLeft": 0.7, "mouthFrownRight": 0.7,
     "noseSneerLeft": 0.5, "noseSneerRight": 0.5},
    {"mouthPucker": 0.9, "eyeLookInLeft": 0.6, "eyeLookOutRight": 0.6},
)  # fmt: skip


def close_up(yaw_deg: float, pitch_deg: float, fov_deg: float = 11.5) -> Camera:
    """The face alone, from as far away as whole heads are seen from."""
    return orbit(yaw_deg, pitch_deg, fov_deg=fov_deg, distance=_DISTANCE, target=_FACE)


@dataclass(frozen=True)
class Shot:
    """One picture to take.

    Attributes:
        moment: number of the expression and hair that it shares with others.
        blendshapes: (52,) float32; bald: the hair is left out.
        camera: where from.
    """

    moment: int
    blendshapes: Floats
    bald: bool
    camera: Camera


def plan(count: int, seed: int, *, bald: int) -> list[Shot]:
    """Views around the head, mostly frontal, in several expressions; the same for the same seed.

    Args:
        count: pictures.
        seed: of turns and expressions.
        bald: every ``bald``-th moment is without hair, so that the skin beneath is edited too;
            0 for none.
    """
    rng = np.random.default_rng([seed, 61])
    moments = -(-count // CAMERAS)
    shots = []
    # A golden-section sequence spreads any number of turns evenly.
    start = rng.random(2)
    for number in range(count):
        moment, place = divmod(number, CAMERAS)
        weights = np.zeros(COUNT, dtype=np.float32)
        if moment % 2:
            for name, value in _EXPRESSIONS[(moment // 2) % len(_EXPRESSIONS)].items():
                weights[INDEX[name]] = value * rng.uniform(0.7, 1.0)
        without = bool(bald) and moment % bald == bald - 1
        u, v = (start + number * np.array([0.754877666, 0.569840291])) % 1.0
        close = place == 0
        if close:
            camera = close_up(100 * (u - 0.5), 40 * (v - 0.45), float(rng.uniform(10, 13)))
        elif place == 1:
            camera = orbit(140 * (u - 0.5), 50 * (v - 0.4))
        else:
            # What is behind the ears, above and below fills the rest of the circle.
            camera = orbit(180 + 220 * (u - 0.5), 80 * (v - 0.4))
        shots.append(Shot(moment, weights, without, camera))
    assert shots[-1].moment == moments - 1
    return shots


def held_out_plan() -> list[Shot]:
    """Views that no edit learns from."""
    smile = np.zeros(COUNT, dtype=np.float32)
    for name, value in _EXPRESSIONS[0].items():
        smile[INDEX[name]] = 0.8 * value
    neutral = np.zeros(COUNT, dtype=np.float32)
    return [
        Shot(0, neutral, False, orbit(8, 4)),
        Shot(0, neutral, False, orbit(-75, 8)),
        Shot(1, smile, False, close_up(-28, -6)),
    ]


@dataclass(frozen=True)
class Moment:
    """One expression, with or without hair.

    Attributes:
        blendshapes: (52,); inputs: six views of the mesh; codes: who, perhaps without hair.
        lattice: identity → canonical; hair_box: occupancy by hair, None when bald.
    """

    blendshapes: Floats
    inputs: PoseInputs
    codes: Codes
    lattice: Lattice
    hair_box: NDArray[np.uint8] | None


@dataclass(frozen=True)
class View:
    """One picture of the set.

    Attributes:
        moment: see :class:`Moment`.
        camera: where from.
        inputs: of the whole picture; places: (H, W) int32 row of each pixel in ``inputs.uv``, −1
            where the mesh is not seen.
        alpha: (H, W) float32, hair: (h, w) float32 coverage of the raw render; before the edit.
        original: (H, W, 3) float32 sRGB over :data:`GROUND`.
    """

    moment: Moment
    camera: Camera
    inputs: ViewInputs
    places: NDArray[np.int32]
    alpha: Floats
    hair: Floats
    original: Floats

    def window(self, left: int, top: int, side: int) -> ViewInputs:
        """The inputs of ``side``² rays at (left, top) of the raw render, twice that in pixels."""
        rows, columns = slice(top, top + side), slice(left, left + side)
        width = self.inputs.mesh_depth.shape[1]
        directions = self.inputs.rays.directions.reshape(-1, width, 3)[rows, columns]
        rays = Rays(self.inputs.rays.origin, np.ascontiguousarray(directions).reshape(-1, 3))
        fine = (slice(2 * top, 2 * (top + side)), slice(2 * left, 2 * (left + side)))
        places = self.places[fine].reshape(-1)
        index = np.flatnonzero(places >= 0)
        return ViewInputs(
            rays,
            np.ascontiguousarray(self.inputs.mesh_depth[rows, columns]),
            np.ascontiguousarray(self.inputs.uv[places[index]]),
            index,
            np.ascontiguousarray(self.inputs.normals[fine]),
            np.ascontiguousarray(self.inputs.coverage[fine]),
            np.ascontiguousarray(self.inputs.detail[fine]),
        )


def take(
    head: HexPlaneHead,
    codes: Codes,
    shots: list[Shot],
    size: int,
    report: Callable[[int], None] | None = None,
) -> list[View]:
    """Take the pictures of ``shots``, ``size`` pixels a side.

    Args:
        head, codes: who.
        report: called with the number of pictures taken so far; what it raises stops the work.
    """
    moments: dict[int, Moment] = {}
    views = []
    for number, shot in enumerate(shots):
        if report is not None:
            report(number)
        if shot.moment not in moments:
            moments[shot.moment] = make_moment(head, codes, shot)
        views.append(_take(head, moments[shot.moment], shot.camera, size))
    return views


def make_moment(head: HexPlaneHead, codes: Codes, shot: Shot) -> Moment:
    """Pose the mesh for a shot."""
    worn = dataclasses.replace(codes, style=None, hairs=()) if shot.bald else codes
    identity, lattice = head.identity(codes.shape)
    vertices = identity.pose(shot.blendshapes)
    inputs = pose_inputs(vertices, head.model.topology, head.net.config.plane_size, head.device)
    return Moment(shot.blendshapes, inputs, worn, lattice, head.hair_box(worn, lattice))


def undyed(views: list[View]) -> list[View]:
    """The same views, whose hair shows what its planes hold; pictures stay."""
    moments: dict[int, Moment] = {}
    for view in views:
        codes = dataclasses.replace(view.moment.codes, hair_colour=None)
        moments.setdefault(id(view.moment), dataclasses.replace(view.moment, codes=codes))
    return [dataclasses.replace(view, moment=moments[id(view.moment)]) for view in views]


def head_planes(head: HexPlaneHead, texture: torch.Tensor, moment: Moment) -> PosePlanes:
    """The head's planes of a moment; differentiable with respect to the texture."""
    inputs = moment.inputs
    return head.net.head_planes(texture, inputs.uv, inputs.index, inputs.depths)


def _take(head: HexPlaneHead, moment: Moment, camera: Camera, size: int) -> View:
    raw = size // 2
    inputs = view_inputs(
        moment.inputs, head.model.topology, camera, (size, size), (0, 0, size, size),
        (raw, raw), (0, 0, raw, raw), head.device,
    )  # fmt: skip
    places = np.full(size * size, -1, dtype=np.int32)
    places[inputs.index] = np.arange(len(inputs.index), dtype=np.int32)
    empty = np.zeros((1, 1), dtype=np.float32)
    bare = View(moment, camera, inputs, places.reshape(size, size), empty, empty, empty)
    rgba, hair = snapshot(head, bare)
    return View(
        moment, camera, inputs, bare.places, rgba[..., 3], hair,
        rgba[..., :3] + GROUND * (1 - rgba[..., 3:]),
    )  # fmt: skip


def snapshot(head: HexPlaneHead, view: View) -> tuple[Floats, Floats]:
    """What a view looks like now: (H, W, 4) premultiplied sRGB and (h, w) hair coverage."""
    moment = view.moment
    look = head.look(moment.codes)
    with torch.no_grad(), autocast(head.device):
        out, raw, _ = render_window(
            head.net, look.texture, look.hair, head_planes(head, look.texture, moment),
            [view.inputs], moment.hair_box, moment.lattice, rng=None, dye=look.dye,
        )  # fmt: skip
    rgba = out[0].float().permute(1, 2, 0).clamp(0, 1).cpu().numpy()
    rgba[..., :3] = np.minimum(rgba[..., :3], rgba[..., 3:])
    return rgba, raw[0, -1].float().clamp(0, 1).cpu().numpy()


def over_ground(rgba: Floats) -> Floats:
    """(H, W, 4) premultiplied → (H, W, 3) over :data:`GROUND`."""
    return np.asarray(rgba[..., :3] + GROUND * (1 - rgba[..., 3:]), dtype=np.float32)


def measure_tones(views: list[View], places: Places) -> Tones:
    """Mean colours of skin and hair over all views, weighted by how purely they are seen."""
    neutral = Tones(np.full(3, 0.6, np.float32), None)
    sums = np.zeros((2, 4))
    for view in views:
        guide = make_guide(view, places, neutral)
        solid = view.alpha > 0.99
        for k, weight in enumerate((guide.skin * solid, guide.hair * (guide.hair > 0.9) * solid)):
            sums[k, :3] += (view.original * weight[..., None]).sum((0, 1))
            sums[k, 3] += weight.sum()
    skin = sums[0, :3] / max(sums[0, 3], 1e-6) if sums[0, 3] > 1 else neutral.skin
    hair = sums[1, :3] / sums[1, 3] if sums[1, 3] > 1 else None
    return Tones(
        np.asarray(skin, np.float32), None if hair is None else np.asarray(hair, np.float32)
    )


def make_guide(view: View, places: Places, tones: Tones) -> Guide:
    """What editors are told of a view."""
    size = view.inputs.coverage.shape[0]
    hair = F.interpolate(
        torch.from_numpy(view.hair)[None, None], size=(size, size), mode="bilinear"
    )[0, 0].numpy()
    uv = np.zeros((size * size, 2), dtype=np.float32)
    uv[view.inputs.index] = view.inputs.uv
    distance = float(np.linalg.norm(view.camera.position - np.array(_FACE)))
    scale = 1000 * distance / (float(view.camera.intrinsics[1, 1]) * size)
    return Guide(
        view.alpha, hair, uv.reshape(size, size, 2), view.places >= 0, view.inputs.normals,
        places, tones, scale,
    )  # fmt: skip
