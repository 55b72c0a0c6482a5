"""How a camera moves while it films a head: smooth, seeded, a function of the second alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.errors import BadInput
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, Camera, orbit

Array = NDArray[np.floating]

MOTIONS: dict[str, str] = {
    "orbit": "slowly round the face, 35° to both sides and 10° up and down, breathing in and out",
    "around": "all the way round the head, lingering at the face, 12° up and down",
    "handheld": "in front of the face in a hand that is never quite still",
    "still": "on a tripod in front of the face",
}
FOV = 20.0  # degrees
_FIT = BOX_HALF * 1.08 / np.tan(np.radians(FOV) / 2)  # metres from which the whole box is seen
# The skull turns on the neck: this point stays where it is (metres, head space).
NECK = np.array([0.0, -0.075, -0.02])


@dataclass(frozen=True)
class Sight:
    """One moment of a film.

    Attributes:
        camera: in head space: the head is the fixed frame.
        room: (3, 3) axes of the same camera in the room, as columns (OpenCV); what stands
            still in the room, such as a backdrop, is seen along them.
    """

    camera: Camera
    room: Array


def sight(motion: str, seed: int, second: float, head: ArrayLike = (0.0, 0.0, 0.0)) -> Sight:
    """Where the camera stands at ``second``.

    Args:
        motion: one of :data:`MOTIONS`.
        seed: of phases and periods.
        second: of the take.
        head: yaw, pitch, roll of the performer's head in radians as Live Link Face has them:
            +yaw to the subject's right, +pitch down, +roll with the crown to the subject's right.
            The bust turns with the head: it is one rigid body in the head's frame.

    Raises:
        BadInput: no such motion.
    """
    room = _in_room(motion, seed, second)
    turned = np.eye(4)
    turned[:3, :3] = head_rotation(*np.asarray(head, dtype=np.float64))
    turned[:3, 3] = NECK - turned[:3, :3] @ NECK
    return Sight(
        Camera(np.linalg.inv(turned) @ room.cam2world, room.intrinsics), room.cam2world[:3, :3]
    )


def head_rotation(yaw: float, pitch: float, roll: float) -> Array:
    """(3, 3) rotation of the head in the room from the take's angles, see :func:`sight`."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (-yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _in_room(motion: str, seed: int, second: float) -> Camera:
    if motion not in MOTIONS:
        raise BadInput(f"There is no camera motion {motion!r}: choose {', '.join(MOTIONS)}.")
    rng = np.random.default_rng([seed, 1])
    if motion == "still":
        return orbit(0, 0, fov_deg=FOV, distance=1.02 * _FIT)
    if motion == "orbit":
        phases, periods = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.9, 1.1, 3) * (11.0, 7.3, 8.9)
        yaw, pitch, breath = np.sin(phases + 2 * np.pi * second / periods)
        distance = _FIT * (1.06 + 0.07 * breath)
        return orbit(35.0 * yaw, 10.0 * pitch, fov_deg=FOV, distance=distance)
    if motion == "around":
        phases, periods = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.9, 1.1, 3) * (11.0, 4.7, 8.9)
        angle = phases[0] + 2 * np.pi * second / periods[0]
        _, pitch, breath = np.sin(phases + 2 * np.pi * second / periods)
        # Slower before the face, where there is more to see, and faster behind the head.
        yaw = np.degrees(angle - 0.6 * np.sin(angle))
        distance = _FIT * (1.06 + 0.07 * breath)
        return orbit(yaw, 12.0 * pitch, fov_deg=FOV, distance=distance)
    # A hand: slow drift and a little tremor, each a sum of waves that never line up again.
    sway = np.array([_waves(rng, second) for _ in range(7)])
    camera = orbit(
        5.0 * sway[0], 3.0 * sway[1], fov_deg=FOV, distance=_FIT * (1.06 + 0.025 * sway[2]),
        target=BOX_CENTRE + 0.006 * sway[3:6],
    )  # fmt: skip
    angle = np.radians(1.2) * sway[6]
    lean = np.eye(4)
    lean[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Camera(camera.cam2world @ lean, camera.intrinsics)


def _waves(rng: np.random.Generator, second: float) -> float:
    """Between −1 and 1, smooth."""
    total = 0.0
    for share, period in ((0.6, 5.3), (0.28, 1.9), (0.12, 0.71)):
        phase, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15)
        total += share * np.sin(phase + 2 * np.pi * second / (period * stretch))
    return float(total)


def backdrop(view: Sight, width: int, height: int) -> NDArray[np.float32]:
    """(H, W, 3) float32 sRGB: a studio's grey paper, lit from below, that stands in the room.

    Not white on purpose: a method that forgets the matte shall be seen to forget it.
    """
    lens = view.camera.intrinsics
    x = ((np.arange(width) + 0.5) / width - lens[0, 2]) / lens[0, 0]
    y = ((np.arange(height) + 0.5) / height - lens[1, 2]) / lens[1, 1]
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1) @ view.room.T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    lift = np.clip(0.5 - 2.2 * rays[..., 1:2], 0, 1)
    glow = lift * lift * (3 - 2 * lift)
    side = 0.03 * rays[..., 0:1]
    low, high = np.array([0.36, 0.39, 0.43]), np.array([0.60, 0.59, 0.57])
    return (low + (high - low) * glow + side).astype(np.float32)
