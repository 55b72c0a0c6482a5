"""A head without a network: a sphere whose colour depends on jawOpen. For server tests only.

Special subjects make it misbehave on purpose: ``nan`` renders NaN, ``slow`` takes a while for each
frame, ``crash`` kills its own process while rendering, ``memory`` runs out of memory.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from head360.arkit.names import INDEX
from head360.errors import BadInput
from head360.heads.base import Codes, Frame, Head, HeadMesh, Pose, Surface
from head360.rendering.cameras import BOX_CENTRE, Camera

RADIUS = 0.1
SLOW = 0.1  # seconds a frame of the subject "slow" takes
SUBJECTS = ("ann", "ben", "slow", "nan", "crash", "memory", "hang")


def write_model(folder: Path, name: str = "fake") -> Path:
    """A package folder that the server's models table accepts."""
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    manifest = {
        "name": name,
        "kind": "fake",
        "subjects": list(SUBJECTS),
        "styles": ["short"],
        "licence": "CC0",
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "thumbnail.png").write_bytes(b"\x89PNG fake")
    return path


def load(path: Path) -> FakeHead:
    """The factory given to ``--head-factory``."""
    return FakeHead(path.name)


class FakeHead(Head):
    """See the module's text."""

    kind = "fake"

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def subjects(self) -> tuple[str, ...]:
        return SUBJECTS

    @property
    def styles(self) -> tuple[str, ...]:
        return ("short",)

    def codes(self, subject: str | None = None, style: str | None = "") -> Codes:
        subject = subject or SUBJECTS[0]
        if subject not in SUBJECTS:
            raise BadInput(f'There is no subject "{subject}"; there are: {", ".join(SUBJECTS)}.')
        return Codes(subject, np.zeros(5, np.float32), "short" if style == "" else style)

    def mesh(self, codes: Codes) -> HeadMesh:
        vertices = np.eye(3, dtype=np.float32)
        return HeadMesh(
            vertices=vertices,
            faces=np.array([[0, 1, 2]], np.int32),
            uvs=vertices[:, :2].copy(),
            face_uvs=np.array([[0, 1, 2]], np.int32),
            deltas=np.zeros((52, 3, 3), np.float32),
            parts=np.zeros(1, np.uint8),
            part_names=("skin",),
        )

    def pose(self, codes: Codes, blendshapes: np.ndarray) -> Pose:
        if codes.subject == "slow":
            time.sleep(SLOW)
        return Pose(codes, blendshapes, np.eye(3, dtype=np.float32))

    def render(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        subject = pose.codes.subject
        if subject == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if subject == "memory":
            raise MemoryError
        if subject == "hang":
            time.sleep(3600)
        y, x = np.mgrid[0:height, 0:width] + 0.5
        pixels = np.stack([x / width, y / height, np.ones_like(x)], -1)
        rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.cam2world[:3, :3].T
        offset = camera.position - BOX_CENTRE
        a, b = (rays**2).sum(-1), rays @ offset
        inside = b**2 - a * (offset @ offset - RADIUS**2)
        hit = inside > 0
        depth = np.where(hit, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
        rgba = np.zeros((height, width, 4), np.float32)
        rgba[hit] = (pose.blendshapes[INDEX["jawOpen"]], 0.5, 0.25, 1.0)
        if subject == "nan":
            rgba[0, 0, 0] = np.nan
        return Frame(rgba, depth.astype(np.float32))

    def surface(self, pose: Pose, resolution: int) -> Surface:
        vertices = np.random.default_rng(0).normal(size=(resolution**2, 3)).astype(np.float32)
        faces = np.arange(len(vertices) // 3 * 3, dtype=np.int32).reshape(-1, 3)
        return Surface(vertices, faces, np.full_like(vertices, 0.5), np.ones_like(vertices))

    def save(self, path: Path) -> None:
        raise BadInput("A fake head cannot be saved.")
