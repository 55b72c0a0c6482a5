"""Which views and expressions a SYNHEAD data set has. Needs numpy alone: Blender uses it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX, NAMES
from head360.datasets.synhead import NEUTRAL, RIG
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, FRONT_YAW, YAWS, Camera, orbit, rig72

_FRONTAL = YAWS + FRONT_YAW  # 30: middle ring, facing the nose
MAX_HELD_OUT = 1000
_STEPS = np.array([0.7548776662466927, 0.5698402909980532])  # spread evenly over a square

# Those that a small data set should have first; the others follow in the order of arkit.NAMES.
_FIRST = (
    "jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp",
    "mouthPucker", "mouthFunnel", "browDownLeft", "browDownRight", "mouthFrownLeft",
    "mouthFrownRight", "tongueOut", "cheekPuff", "jawLeft", "jawRight", "eyeLookOutLeft",
    "eyeLookInRight",
)  # fmt: skip
EXPRESSION_ORDER: tuple[str, ...] = _FIRST + tuple(n for n in NAMES if n not in _FIRST)
# The mesh lets the tongue out and closes the lips over an open jaw only where the jaw is open.
_COMPANIONS: dict[str, dict[str, float]] = {
    "tongueOut": {"jawOpen": 0.6},
    "mouthClose": {"jawOpen": 1.0},
}

CONVENTIONS = (
    "Head space: metres, +Y up, +Z out of the face, +X to the subject's left, origin between the "
    "ears. Cameras: OpenCV axes, cam2world row-major then intrinsics normalised by width and "
    "height. Pixels: 8-bit sRGB, straight alpha; landmarks in pixels from the top-left corner, "
    "centres at +0.5. Masks: R head, G hair, coverage x 255. Depth: planar z at the pixel's centre "
    "in 1/20000 m, 0 where nothing is. Normals: head space, (n + 1) / 2 x 255, black where nothing "
    "is. Labels: majority of the samples. Weights: order of Apple's documentation in this file, "
    "sorted names in images/total_dataset_exp.json; tongueOut comes with jawOpen 0.6 and "
    "mouthClose with jawOpen 1, and the weights say so. Views from 72 on are held out."
)


def choose_views(count: int) -> list[int]:
    """``count`` indices of the rig of 72, the frontal 30 among them, spread over all sides."""
    if count <= YAWS:
        # Around the head once, the rings by turn: level, from above, from below.
        return sorted(
            ((1, 2, 0)[k % 3] * YAWS + (FRONT_YAW + round(k * YAWS / count)) % YAWS)
            for k in range(count)
        )
    return sorted((_FRONTAL + k * RIG // count) % RIG for k in range(count))


def held_out_cameras(seed: int, count: int) -> list[Camera]:
    """``count`` cameras all over a band of a sphere around the head, none of them the rig's.

    Yaw all round, pitch within ±40°, lenses of 14° to 32°, the whole head in the picture with a
    margin that varies. Few cameras already lie far apart (additive sequences from a drawn start),
    and the first ones do not depend on ``count``.
    """
    start = np.random.default_rng([seed, 72]).uniform(size=2)
    cameras = []
    for number in range(count):
        rng = np.random.default_rng([seed, 72, number])
        around, up = (start + number * _STEPS + rng.uniform(-0.02, 0.02, 2)) % 1
        yaw = 360 * around - 180
        pitch = np.degrees(np.arcsin((2 * up - 1) * np.sin(np.radians(40))))
        fov = rng.uniform(14, 32)
        fit = BOX_HALF * 1.08 / np.tan(np.radians(fov) / 2)
        target = BOX_CENTRE + rng.normal(0, 0.005, 3)
        distance = fit * rng.uniform(1.04, 1.25)
        cameras.append(orbit(yaw, pitch, fov_deg=fov, distance=distance, target=target))
    return cameras


def cameras_by_view(views: int, held_out: int, seed: int) -> dict[int, Camera]:
    """The chosen views of the rig, and from 72 on the held-out cameras."""
    rig = rig72()
    chosen = {view: rig[view] for view in choose_views(views)}
    return chosen | {RIG + k: camera for k, camera in enumerate(held_out_cameras(seed, held_out))}


def expression_weights(name: str) -> NDArray[np.float32]:
    """(52,) float32: the expression at full weight with what it needs; ``neutral`` is zeros."""
    weights = np.zeros(COUNT, dtype=np.float32)
    if name != NEUTRAL:
        weights[INDEX[name]] = 1.0
        for other, value in _COMPANIONS.get(name, {}).items():
            weights[INDEX[other]] = value
    return weights
