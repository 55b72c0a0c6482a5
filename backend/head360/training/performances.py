"""What the sitters do and where the camera stands while training pictures are taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX, NAMES
from head360.rendering.cameras import BOX_CENTRE, Camera, orbit

Floats = NDArray[np.float32]

_PAIRED = [
    name for name in NAMES if name.endswith("Left") and name.replace("Left", "Right") in INDEX
]
# Both eyes look the same way: the left one out, the right one in.
_TWINS = {"eyeLookInLeft": "eyeLookOutRight", "eyeLookOutLeft": "eyeLookInRight"}
_ONE_SIDED = {"jawLeft", "mouthLeft"}
FACE = np.array([0.0, -0.01, 0.07])  # what close-ups look at, metres


def supported(weights: Floats) -> Floats:
    """Complete a weight vector to something a face can do: the tongue needs an open jaw,
    ``mouthClose`` is a correction on top of ``jawOpen``."""
    jaw = INDEX["jawOpen"]
    if weights[INDEX["tongueOut"]] > 0:
        weights[jaw] = max(weights[jaw], 0.45)
    weights[INDEX["mouthClose"]] = min(weights[INDEX["mouthClose"]], weights[jaw])
    return weights


def draw_expression(rng: np.random.Generator) -> Floats:
    """(52,) float32 random expression: neutral, one shape, a symmetric mix, or an open mouth."""
    weights = np.zeros(COUNT, dtype=np.float32)
    kind = rng.random()
    if kind < 0.12:
        return weights
    if kind < 0.50:
        index = int(rng.integers(COUNT))
        weights[index] = rng.uniform(0.45, 1.0)
        if index == INDEX["mouthClose"]:
            weights[INDEX["jawOpen"]] = weights[index]
        return supported(weights)
    if kind < 0.72:
        weights[INDEX["jawOpen"]] = rng.uniform(0.15, 1.0)
        if rng.random() < 0.3:
            weights[INDEX["tongueOut"]] = rng.uniform(0.3, 1.0)
        if rng.random() < 0.5:
            smile = rng.uniform(0.2, 1.0)
            weights[INDEX["mouthSmileLeft"]] = weights[INDEX["mouthSmileRight"]] = smile
    for _ in range(int(rng.integers(2, 6))):
        name = NAMES[int(rng.integers(COUNT))]
        value = rng.uniform(0.1, 0.9) ** 1.3
        weights[INDEX[name]] = max(weights[INDEX[name]], value)
        if name in _PAIRED and name not in _ONE_SIDED and rng.random() < 0.8:
            twin = INDEX[_TWINS.get(name, name.replace("Left", "Right"))]
            weights[twin] = np.clip(value * rng.uniform(0.8, 1.2), 0, 1)
    return supported(weights)


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera anywhere around the head: any yaw, mostly level, varying lens and distance.

    Seven in ten see the whole box, two in ten are close-ups of the face, one in ten is badly
    framed, so that heads partly out of the picture are learned as well.
    """
    yaw = rng.normal(0, 45) if rng.random() < 0.35 else rng.uniform(-180, 180)
    pitch = float(np.clip(rng.normal(0, 18), -45, 45))
    fov = float(rng.uniform(12, 40))
    kind = rng.random()
    fit = 0.19 / np.tan(np.radians(fov) / 2)
    if kind < 0.70:
        return orbit(
            yaw, pitch, fov_deg=fov, distance=fit * rng.uniform(0.85, 1.25),
            target=BOX_CENTRE + rng.normal(0, 0.006, 3),
        )  # fmt: skip
    if kind < 0.90:
        # Never closer than 0.3 m to the target: the nose must stay in front of the lens.
        distance = max(0.30, fit * rng.uniform(0.45, 0.8))
        return orbit(
            yaw, pitch, fov_deg=fov, distance=distance, target=FACE + rng.normal(0, 0.02, 3)
        )
    return orbit(
        yaw, pitch, fov_deg=fov, distance=max(0.3, fit * rng.uniform(0.6, 1.4)),
        target=BOX_CENTRE + rng.normal(0, 0.07, 3),
    )  # fmt: skip


def held_out_camera(rng: np.random.Generator) -> Camera:
    """A view of the 72-camera rig, turned by up to half its yaw step: never a training camera."""
    index = int(rng.integers(72))
    yaw = (index % 24 - 6) * 15.0 + rng.uniform(-7.5, 7.5)
    pitch = (-30.0, 0.0, 30.0)[index // 24] + rng.uniform(-5.0, 5.0)
    return orbit(yaw, pitch, fov_deg=20.0)
