"""A head without a network: an ellipsoid with a moving jaw, for a real backend process to serve.

The backend loads it with ``--head-factory addon_fake_head:load``; numpy is all it needs. The same
module stands in for fitting and editing; the bytes of a photograph say what becomes of the fit:
``nobody`` has no face, ``crowd`` too many, ``slow`` goes on until it is cancelled.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from head360.arkit import INDEX
from head360.errors import BadInput
from head360.heads.base import Codes, Frame, Head, HeadMesh, Pose, Surface

RADII = np.array([0.075, 0.11, 0.09], dtype=np.float32)


def ball(rings: int = 12, sectors: int = 20):
    """(N, 3) unit vectors, (F, 3) faces, (N, 2) uvs of a sphere with outward faces."""
    v, u = np.meshgrid(np.linspace(0, 1, rings + 1), np.linspace(0, 1, sectors + 1), indexing="ij")
    polar, turn = np.pi * v, 2 * np.pi * u
    points = np.stack(
        [np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1
    ).reshape(-1, 3)
    faces = []
    for ring in range(rings):
        for sector in range(sectors):
            a = ring * (sectors + 1) + sector
            b, c, d = a + sectors + 1, a + sectors + 2, a + 1
            if ring < rings - 1:
                faces.append((a, b, c))
            if ring > 0:
                faces.append((a, c, d))
    uvs = np.stack([u, 1 - v], -1).reshape(-1, 2)
    return points.astype(np.float32), np.array(faces, np.int32), uvs.astype(np.float32)


class FakeHead(Head):
    name = "fake"
    kind = "fake"
    subjects = ("Ada", "Bob")
    styles = ("short", "long")

    def codes(self, subject=None, style=""):
        if subject not in (None, *self.subjects):
            raise BadInput(f"There is no subject {subject}: choose Ada or Bob.")
        if style not in (None, "", *self.styles):
            raise BadInput(f"There is no style {style}: choose short or long.")
        return Codes(subject or "Ada", np.zeros(50, np.float32), "short" if style == "" else style)

    def mesh(self, codes):
        points, faces, uvs = ball()
        vertices = points * RADII
        deltas = np.zeros((52, len(vertices), 3), np.float32)
        for index in range(52):
            deltas[index] = points * 0.0005 * (index + 1)
        chin = np.clip(-points[:, 1], 0, 1) * (points[:, 2] > 0)
        deltas[INDEX["jawOpen"], :, 1] = -0.03 * chin
        parts = np.zeros(len(faces), np.uint8)
        return HeadMesh(vertices, faces, uvs, faces, deltas, parts, ("skin",))

    def pose(self, codes, blendshapes):
        mesh = self.mesh(codes)
        moved = mesh.vertices + np.einsum("b,bnc->nc", blendshapes, mesh.deltas)
        return Pose(codes, blendshapes, moved.astype(np.float32))

    def render(self, pose, camera, width, height):
        """A disc where the ellipsoid's centre projects; its green follows the jaw."""
        pixel, depth = camera.project(np.zeros((1, 3)), width, height)
        radius = 0.1 * camera.intrinsics[1, 1] / depth[0] * height
        y, x = np.mgrid[:height, :width] + 0.5
        inside = np.hypot(x - pixel[0, 0], y - pixel[0, 1]) < radius
        rgba = np.zeros((height, width, 4), np.float32)
        rgba[inside] = (0.8, float(pose.blendshapes[INDEX["jawOpen"]]), 0.3, 1.0)
        far = np.where(inside, np.float32(depth[0]), np.float32(np.inf)).astype(np.float32)
        return Frame(rgba, far)

    def surface(self, pose, resolution):
        points, faces, _ = ball(24, 40)
        colours = np.clip(points * 0.5 + 0.5, 0, 1).astype(np.float32)
        return Surface(points * RADII, faces, colours, points)

    def save(self, path):
        raise NotImplementedError


def load(path: Path):
    return FakeHead()


def write_model(folder: Path, name="fake", **manifest):
    """A package folder that the server's models table accepts."""
    path = folder / name
    path.mkdir(parents=True)
    known = {"name": name, "kind": "fake", "subjects": ["Ada", "Bob"], "styles": ["short", "long"]}
    (path / "manifest.json").write_text(json.dumps(known | {"licence": "CC0-1.0"} | manifest))
    return path


# --- what ``head360.server.crafts`` calls in place of head360.fitting and head360.editing ---------

STAGES = ("detect", "shape", "hair", "head")
FitSettings = EditSettings = SimpleNamespace


def fit(photos, base, settings, out, on_stage, on_progress, cancelled):
    content = photos[0].read_bytes()
    if content == b"nobody":
        raise BadInput(f"There is no face in {photos[0].name}: choose another photograph.")
    for number, name in enumerate(STAGES, 1):
        on_progress(number / 5, f"at {name}")
        y, x = np.mgrid[:200, :160]
        picture = np.stack([x + 60 * number, y, 255 - y], -1).clip(0, 255).astype(np.uint8)
        text = f"{len(photos)} photographs"
        on_stage(SimpleNamespace(name=name, number=number, count=4, text=text, picture=picture))
        if content == b"crowd":
            raise BadInput("There are 2 faces: say which one with --face N.")
        time.sleep(0.05)
    while content == b"slow" and not cancelled():
        on_progress(0.6, "optimising the texture")
        time.sleep(0.02)
    made = {"made_by": "head360 fit", "style": settings.style, "device": settings.device}
    return SimpleNamespace(
        head_path=write_model(out, "head", provenance=made),
        landmark_px=1.25,
        psnr_front=24.5,
        style_top3=[("long", 0.6), ("bald", 0.3), ("curly", 0.1)],
        notes=["The light comes from the left."],
    )


def list_editors():
    return {"filter:aged": "Older", "filter:slow": "Never ends"}


def open_editor(name, *, device, report, **options):
    if name not in list_editors():
        raise BadInput(f'There is no editor "{name}".')
    return SimpleNamespace(name=name, options=options)


def edit(head, codes, editor, settings, out, on_progress, cancelled):
    step = 0
    while step < 5 or (editor.name == "filter:slow" and not cancelled()):
        step += 1
        picture = np.full((64, 64, 3), 40 * step % 256, np.uint8)
        told = {"fraction": min(step / 5, 1.0), "text": "learning", "picture": picture}
        on_progress(SimpleNamespace(step=step, steps=5, **told))
        time.sleep(0.02)
    made = {"made_by": "head360 edit", "editor": editor.name, **editor.options}
    return SimpleNamespace(head_path=write_model(out, "head", provenance=made, subjects=["Ada"]))
