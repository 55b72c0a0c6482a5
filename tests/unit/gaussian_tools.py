"""A made-up video for Gaussian heads: coloured blobs on the parametric mesh, a moving jaw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from head360.arkit import COUNT, INDEX, NAMES
from head360.datasets import monocular, monocular_write
from head360.datasets.monocular import FrameTruth, MonocularManifest
from head360.datasets.monocular_write import Filmed
from head360.datasets.png import encode
from head360.datasets.records import Notice, StyleRecord, SubjectRecord
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import orbit
from head360.rendering.splats import render_splats

SIZE = 40


def shape() -> np.ndarray:
    """Of the sitter: not the average head."""
    return BilinearModel.builtin().sample_shape(np.random.default_rng(3))


def expressions(count: int) -> np.ndarray:
    weights = np.zeros((count, COUNT), np.float32)
    weights[:, INDEX["jawOpen"]] = np.abs(np.sin(np.arange(count)))
    weights[:, INDEX["browInnerUp"]] = np.abs(np.cos(np.arange(count) * 0.7))
    return weights


def picture(vertices: np.ndarray, camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S, 3) over grey and (S, S) matte, uint8: a blob on every seventh vertex."""
    points = torch.from_numpy(vertices[::7].copy())
    neutral = BilinearModel.builtin().neutral(shape())[::7]
    colours = torch.from_numpy(0.5 + 0.4 * np.sin(neutral * 40).astype(np.float32))
    count = len(points)
    frame = render_splats(
        points, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), 0.006),
        torch.full((count,), 0.95), colours, camera, size, size, torch.full((3,), 0.5),
    )  # fmt: skip
    rgb = (frame.rgb.clamp(0, 1) * 255).round().byte().numpy()
    return rgb, (frame.alpha.clamp(0, 1) * 255).round().byte().numpy()


def film(root: Path, count: int = 12, size: int = SIZE, names: list[str] | None = None) -> Path:
    """Write a monocular data set; ``names`` other than ARKit's give expressions of that length."""
    identity = BilinearModel.builtin().identity(shape())
    weights = expressions(count)
    cameras = [orbit(35 * np.sin(k), 5 * np.cos(k)) for k in range(count)]
    monocular_write.prepare(root, "test", range(count), "png")
    filmed = []
    for k in range(count):
        rgb, matte = picture(identity.pose(weights[k]), cameras[k], size)
        files = {"image": encode(rgb), "matte": encode(matte)}
        record = monocular_write.write_files(root, k, files, "png")
        filmed.append(Filmed(record, FrameTruth(k, k + 1, k / 30, (0.0, 0.0, 0.0))))
    arkit = names is None
    manifest = MonocularManifest(
        monocular.SCHEMA, monocular.KIND, "a test", 0, "nobody", "test", size, size, 30.0,
        "metres", "", "", list(NAMES) if names is None else names,
        SubjectRecord("blob", "blob", "none", shape=[float(v) for v in shape()]),
        StyleRecord("none", "none"), "soft", None, "orbit", {}, count - 2,
        [Notice("blobs", "CC0-1.0", "nobody")], {}, [],
    )  # fmt: skip
    numbers = weights if arkit else weights[:, [INDEX["jawOpen"], INDEX["browInnerUp"]]]
    monocular_write.finish(root, manifest, filmed, cameras, numbers.tolist())
    return root
