"""A head without a network: a sphere whose colour depends on jawOpen. For server tests only.

Special subjects make it misbehave on purpose: ``nan`` renders NaN, ``slow`` takes a while for each
frame, ``crash`` kills its own process while rendering, ``memory`` runs out of memory. Photographs
do the same: their bytes are ``crash``, ``slow`` (until it is cancelled), ``deaf`` (even then) or
``nobody``; anything else is a face.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


# --- what ``server.crafts`` calls in place of head360.fitting and head360.editing -----------------


@dataclass(frozen=True)
class FitSettings:
    name: str
    style: str | None
    face: int | None
    seed: int
    invert_planes: bool
    device: str
    steps: int = 7


@dataclass(frozen=True)
class EditSettings:
    name: str
    prompt: str
    seed: int
    steps: int = 5


def fit(
    photos: Sequence[Path],
    base: FakeHead,
    settings: FitSettings,
    out: Path,
    on_stage: Callable[[Any], None],
    on_progress: Callable[[float, str], None],
    cancelled: Callable[[], bool],
) -> Any:
    """Three stages; the new head is ``write_model`` with the settings in its manifest."""
    content = photos[0].read_bytes()
    if content == b"nobody":
        raise BadInput(f"There is no face in {photos[0].name}: choose another photograph.")
    for number, name in enumerate(("detect", "hair", "head"), 1):
        picture = np.full((400, 200, 3), 80 * number, np.uint8)
        text = f"{out}/head is next"  # a path that is of no use to anybody else
        on_stage(SimpleNamespace(name=name, number=number, count=3, text=text, picture=picture))
        on_progress(number / 3, f"after {name}")
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGKILL)
    while content == b"slow" and not cancelled():
        on_progress(0.5, "waiting")
        time.sleep(0.02)
    while content == b"deaf":
        time.sleep(1.0)
    provenance = {"made_by": "head360 fit", "from": [photo.name for photo in photos]}
    return SimpleNamespace(
        head_path=_write(out, provenance, settings),
        landmark_px=1.5,
        psnr_front=float("nan"),  # not every fit has every figure
        style_top3=[("short", 0.75), ("bald", 0.25)],
        notes=("One picture is enough.",),
    )


def list_editors() -> dict[str, str]:
    return {"filter:red": "Redder", "filter:slow": "Never ends"}


def open_editor(name: str, *, device: str, report: Callable[[str], None], **options: Any) -> Any:
    if name not in list_editors():
        raise BadInput(f'There is no editor "{name}".')
    report("opening")
    return SimpleNamespace(name=name, options=options)


def edit(
    head: FakeHead,
    codes: Codes,
    editor: Any,
    settings: EditSettings,
    out: Path,
    on_progress: Callable[[Any], None],
    cancelled: Callable[[], bool],
) -> Any:
    step = 0
    while step < settings.steps or (editor.name == "filter:slow" and not cancelled()):
        step += 1
        picture = np.full((8, 8, 3), step, np.uint8)
        fraction = min(step / settings.steps, 1.0)
        on_progress(SimpleNamespace(
            step=step, steps=settings.steps, fraction=fraction, text="editing", picture=picture
        ))  # fmt: skip
        time.sleep(0.01)
    told = {"prompt": settings.prompt, "seed": settings.seed, "subject": codes.subject}
    provenance = {"made_by": "head360 edit", "editor": editor.name, **editor.options, **told}
    return SimpleNamespace(head_path=_write(out, provenance, settings))


def _write(out: Path, provenance: dict[str, Any], settings: Any) -> Path:
    package = write_model(out, "head")
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["provenance"] = provenance | {"settings": vars(settings)}
    (package / "manifest.json").write_text(json.dumps(manifest))
    return package
