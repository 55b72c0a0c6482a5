"""Held-out evaluation of heads: PSNR and SSIM over white, by view band and region, with pictures.

Every figure is on the whole image composited over white, sRGB-encoded, at output size, averaged
over images (not over pixels); SSIM is scikit-image's with its defaults for 8-bit colour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from head360.errors import BadInput
from head360.files import write_bytes
from head360.heads.base import Head
from head360.heads.package import png_bytes
from head360.training.shots import Shots

Floats = NDArray[np.float32]

FRONT_DEG, BACK_DEG = 60.0, 120.0  # limits of the view bands, yaw away from the face


@dataclass(frozen=True)
class Sample:
    """One compared picture.

    Attributes:
        truth, predicted: (S, S, 3) float32 over white.
        psnr: dB; ssim: scikit-image.
        band: "front", "side" or "back".
        bald: whether the subject wears no hair.
        errors: per region, sum of squared errors and number of values.
    """

    truth: Floats
    predicted: Floats
    psnr: float
    ssim: float
    band: str
    bald: bool
    errors: dict[str, tuple[float, int]]


def on_white(rgba: Floats) -> Floats:
    """(…, 4) straight alpha → (…, 3) over white, blended as encoded."""
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def psnr(predicted: NDArray, truth: NDArray) -> float:
    """10·log₁₀(1 / MSE) in dB for pictures in [0, 1]."""
    error = float(np.mean((predicted.astype(np.float64) - truth) ** 2))
    return float(-10 * np.log10(max(error, 1e-12)))


def band_of(position: NDArray) -> str:
    """View band of a camera position in head space."""
    yaw = abs(np.degrees(np.arctan2(position[0], position[2])))
    return "front" if yaw < FRONT_DEG else "back" if yaw > BACK_DEG else "side"


def compare(
    head: Head, shots: Shots, progress: Callable[[int, int], None] | None = None
) -> list[Sample]:
    """Render every picture of ``shots`` with ``head`` and compare.

    Raises:
        BadInput: the head does not know a subject or style of the pictures.
    """
    samples: list[Sample] = []
    size = shots.rgba.shape[-2]
    views = shots.cameras.shape[1]
    for group in range(len(shots)):
        style = None if shots.style[group] < 0 else shots.styles[shots.style[group]]
        codes = head.codes(shots.subjects[shots.subject[group]], style)
        pose = head.pose(codes, shots.blendshapes[group])
        for view in range(views):
            camera = shots.camera(group, view)
            frame = head.render(pose, camera, size, size)
            rgba = shots.rgba[group, view].astype(np.float32) / 255
            truth, predicted = on_white(rgba), on_white(frame.rgba)
            squared = ((truth - predicted).astype(np.float64) ** 2).sum(-1)
            hair = shots.hair[group, view].repeat(2, 0).repeat(2, 1) > 127
            regions = {"hair": hair, "head": (rgba[..., 3] > 0.5) & ~hair}
            errors = {
                name: (float(squared[mask].sum()), 3 * int(mask.sum()))
                for name, mask in regions.items()
            }
            similarity = structural_similarity(truth, predicted, channel_axis=-1, data_range=1.0)
            samples.append(
                Sample(
                    truth,
                    predicted,
                    psnr(predicted, truth),
                    float(similarity),
                    band_of(camera.position),
                    style is None,
                    errors,
                )
            )
            if progress is not None:
                progress(len(samples), len(shots) * views)
    return samples


def summarise(samples: list[Sample]) -> dict[str, Any]:
    """Figures of a comparison; see the module's docstring for what they mean."""
    if not samples:
        raise BadInput("There is nothing to evaluate: the set holds no pictures.")

    def mean(chosen: list[Sample]) -> float | None:
        return round(float(np.mean([s.psnr for s in chosen])), 2) if chosen else None

    regions: dict[str, float | None] = {}
    for name in ("head", "hair"):
        total = sum(s.errors[name][0] for s in samples)
        count = sum(s.errors[name][1] for s in samples)
        regions[name] = (
            round(-10 * float(np.log10(max(total / count, 1e-12))), 2) if count else None
        )
    return {
        "images": len(samples),
        "psnr": mean(samples),
        "psnr_with_hair": mean([s for s in samples if not s.bald]),
        "psnr_bald": mean([s for s in samples if s.bald]),
        "ssim": round(float(np.mean([s.ssim for s in samples])), 4),
        "by_band": {
            band: mean([s for s in samples if s.band == band]) for band in ("front", "side", "back")
        },
        "by_region": regions,
    }


def write_sheet(samples: list[Sample], path: Path, count: int = 12) -> None:
    """Picture table, one column per sample: truth, prediction, error × 4."""
    chosen = [
        samples[k] for k in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    ]
    columns = []
    for sample in chosen:
        error = 1 - np.clip(np.abs(sample.truth - sample.predicted) * 4, 0, 1)
        columns.append(np.concatenate([sample.truth, sample.predicted, error], 0))
    sheet = np.concatenate(columns, 1)
    write_bytes(path, png_bytes((np.clip(sheet, 0, 1) * 255 + 0.5).astype(np.uint8)))


def evaluate(
    head: Head,
    shots: Shots,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare, summarise and, if asked, draw the picture table."""
    start = time.monotonic()
    samples = compare(head, shots, progress)
    result = summarise(samples)
    result["seconds"] = round(time.monotonic() - start, 1)
    if sheet is not None:
        write_sheet(samples, sheet)
        result["sheet"] = str(sheet)
    return result
