"""Held-out evaluation of heads: PSNR and SSIM over white, by view band and region, with pictures.

Every figure is on images composited over white, sRGB-encoded, at output size. PSNR and SSIM are of
whole images, averaged over images; ``by_region`` pools the pixels of a region over all images. SSIM
is scikit-image's with its defaults for 8-bit colour. ``hair_swap_psnr`` averages over the images in
which somebody wears another style than their own (Head360, Table 4: the studio photographs any
pairing, so there is a truth). LPIPS and identity appear where weights are given.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import nn

from head360.errors import BadInput
from head360.files import write_bytes
from head360.heads.base import Head, Pose
from head360.heads.hexplane import HexPlaneHead
from head360.heads.package import png_bytes
from head360.networks.perceptual import Lpips, identity_similarity, to_tensor
from head360.rendering import raster
from head360.rendering.cameras import Camera
from head360.synthesis.looks import FIRST_LOOK, LATEST_LOOK
from head360.training.metrics import on_white, psnr
from head360.training.shots import Shots

Floats = NDArray[np.float32]

MOUTH_PARTS = ("teeth", "gums_tongue", "mouth_socket")
FRONT_DEG, BACK_DEG = 60.0, 120.0  # limits of the view bands, yaw away from the face


@dataclass(frozen=True)
class Sample:
    """One compared picture.

    Attributes:
        pictures: truth and prediction, (S, S, 3) float32 over white; None where nobody shows them.
        psnr: dB; ssim: scikit-image.
        band: "front", "side" or "back".
        bald: whether the subject wears no hair.
        errors: per region, sum of squared errors and number of values.
        swapped: whether the hair is another than the subject's own.
        lpips: perceptual distance, where weights were given.
        identity: cosine of face embeddings, where a recogniser was given and the face is seen.
    """

    pictures: tuple[Floats, Floats] | None
    psnr: float
    ssim: float
    band: str
    bald: bool
    errors: dict[str, tuple[float, int]]
    swapped: bool = False
    lpips: float | None = None
    identity: float | None = None


@dataclass(frozen=True)
class Judges:
    """Optional networks, see ``networks.perceptual``."""

    lpips: Lpips | None = None
    identity: nn.Module | None = None
    device: str = "cpu"


def band_of(position: NDArray) -> str:
    """View band of a camera position in head space."""
    yaw = abs(np.degrees(np.arctan2(position[0], position[2])))
    return "front" if yaw < FRONT_DEG else "back" if yaw > BACK_DEG else "side"


def look_of(head: Head) -> int:
    """Version of the studio's look that a head was trained on; heads that say nothing: the first.

    Raises:
        BadInput: this studio has no such look.
    """
    facts = getattr(head, "manifest", {}).get("training", {})  # only loaded packages have one
    look = facts.get("look", FIRST_LOOK.version)
    if look not in (FIRST_LOOK.version, LATEST_LOOK.version):
        raise BadInput(
            f"{head.name} was trained on look {look}, which this studio does not draw: evaluate it "
            "with --data, or update Head360."
        )
    return int(look)


@contextmanager
def as_photographed(head: Head) -> Iterator[None]:
    """Render like the studio, which shows the inside of the open bust; see ``hexplane_bust``."""
    if not isinstance(head, HexPlaneHead):
        yield
        return
    before, head.open_bust = head.open_bust, True
    try:
        yield
    finally:
        head.open_bust = before


def compare(
    head: Head,
    shots: Shots,
    progress: Callable[[int, int], None] | None = None,
    keep: Collection[int] = (),
    judges: Judges | None = None,
    strangers: bool = False,
) -> list[Sample]:
    """Render every picture of ``shots`` with ``head`` and compare.

    ``keep``: numbers of the pictures that are kept; all of them would fill the memory.
    ``strangers``: the pictures show the head's subjects with other faces, which the head takes on.

    Raises:
        BadInput: the head does not know a subject or style of the pictures, or (unless they are
            strangers) knows the subject with another face.
    """
    with as_photographed(head):
        return _compare(head, shots, progress, keep, judges or Judges(), strangers)


def _compare(
    head: Head,
    shots: Shots,
    progress: Callable[[int, int], None] | None,
    keep: Collection[int],
    judges: Judges,
    strangers: bool,
) -> list[Sample]:
    samples: list[Sample] = []
    size = shots.rgba.shape[-2]
    views = shots.cameras.shape[1]
    for index in np.unique(shots.subject):
        name, shape = shots.subjects[index], head.codes(shots.subjects[index]).shape
        same = shape.shape == shots.shapes[index].shape
        if not same or not (strangers or np.allclose(shape, shots.shapes[index], atol=1e-4)):
            raise BadInput(
                f"{name} of the pictures has another face than {name} of the model "
                f"{head.name}: use pictures of the model's own subjects."
            )
    for group in range(len(shots)):
        subject = int(shots.subject[group])
        style = None if shots.style[group] < 0 else shots.styles[shots.style[group]]
        swapped = style is not None and style != shots.default_style[subject]
        codes = head.codes(shots.subjects[subject], style)
        if strangers:
            codes = dataclasses.replace(codes, shape=shots.shapes[subject])
        pose = head.pose(codes, shots.blendshapes[group])
        for view in range(views):
            camera = shots.camera(group, view)
            frame = head.render(pose, camera, size, size)
            rgba = shots.rgba[group, view].astype(np.float32) / 255
            truth, predicted = on_white(rgba), on_white(frame.rgba)
            squared = ((truth - predicted).astype(np.float64) ** 2).sum(-1)
            hair = shots.hair[group, view].repeat(2, 0).repeat(2, 1) > 127
            bare = (rgba[..., 3] > 0.5) & ~hair
            parts = seen_parts(head, pose, camera, size)
            regions = {"hair": hair, "head": bare}
            regions |= {name: bare & mask for name, mask in parts.items()}
            errors = {
                name: (float(squared[mask].sum()), 3 * int(mask.sum()))
                for name, mask in regions.items()
            }
            similarity = structural_similarity(truth, predicted, channel_axis=-1, data_range=1.0)
            samples.append(
                Sample(
                    (truth, predicted) if len(samples) in keep else None,
                    psnr(predicted, truth),
                    float(similarity),
                    band_of(camera.position),
                    style is None,
                    errors,
                    swapped,
                    _lpips(judges, truth, predicted),
                    _identity(judges, head, pose, camera, truth, predicted),
                )
            )
            if progress is not None:
                progress(len(samples), len(shots) * views)
    return samples


def seen_parts(head: Head, pose: Pose, camera: Camera, size: int) -> dict[str, NDArray[np.bool_]]:
    """(size, size) masks of the posed mesh's face and mouth (teeth, gums, tongue), hair ignored."""
    mesh = head.mesh(pose.codes)
    screen = raster.perspective_screen(pose.vertices, camera, size, size)
    face = raster.rasterize(screen[None], mesh.faces, size, size).face[0]
    names = np.array(mesh.part_names)[mesh.parts[face]]
    hit = face >= 0
    return {"face": hit & (names == "face"), "mouth": hit & np.isin(names, MOUTH_PARTS)}


def _lpips(judges: Judges, truth: Floats, predicted: Floats) -> float | None:
    if judges.lpips is None:
        return None
    with torch.no_grad():
        pair = to_tensor(predicted, judges.device), to_tensor(truth, judges.device)
        return float(judges.lpips(*pair)[0])


def _identity(
    judges: Judges, head: Head, pose: Pose, camera: Camera, truth: Floats, predicted: Floats
) -> float | None:
    """Similarity of the face crops; None without a recogniser or where the face looks away."""
    if judges.identity is None or band_of(camera.position) != "front":
        return None
    window = face_window(head, pose, camera, len(truth))
    return identity_similarity(judges.identity, predicted[window], truth[window], judges.device)


def face_window(head: Head, pose: Pose, camera: Camera, size: int) -> tuple[slice, slice]:
    """Rows and columns of the square around the face in a picture of ``size``² pixels."""
    mesh = head.mesh(pose.codes)
    skin = np.unique(mesh.faces[mesh.parts == mesh.part_names.index("face")])
    pixels = camera.project(pose.vertices[skin], size, size)[0]
    low, high = pixels.min(0), pixels.max(0)
    half = max(8.0, float((high - low).max()) / 2)
    left, top = np.clip(np.floor((low + high) / 2 - half), 0, size - 8).astype(int)
    right, bottom = np.clip(np.ceil((low + high) / 2 + half), 8, size).astype(int)
    return slice(top, bottom), slice(left, right)


def summarise(samples: list[Sample]) -> dict[str, Any]:
    """Figures of a comparison; see the module's docstring for what they mean."""
    if not samples:
        raise BadInput("There is nothing to evaluate: the set holds no pictures.")

    def mean(chosen: list[Sample]) -> float | None:
        return round(float(np.mean([s.psnr for s in chosen])), 2) if chosen else None

    regions: dict[str, float | None] = {}
    for name in ("head", "face", "mouth", "hair"):
        total = sum(s.errors[name][0] for s in samples if name in s.errors)
        count = sum(s.errors[name][1] for s in samples if name in s.errors)
        regions[name] = (
            round(-10 * float(np.log10(max(total / count, 1e-12))), 2) if count else None
        )
    figures = {
        "images": len(samples),
        "psnr": mean(samples),
        "psnr_with_hair": mean([s for s in samples if not s.bald]),
        "psnr_bald": mean([s for s in samples if s.bald]),
        "ssim": round(float(np.mean([s.ssim for s in samples])), 4),
        "by_band": {
            band: mean([s for s in samples if s.band == band]) for band in ("front", "side", "back")
        },
        "by_region": regions,
        "hair_swap_psnr": mean([s for s in samples if s.swapped]),
    }
    for name in ("lpips", "identity"):
        values = [value for s in samples if (value := getattr(s, name)) is not None]
        if values:
            figures[name] = round(float(np.mean(values)), 4)
    return figures


def sheet_indices(total: int, count: int = 12) -> list[int]:
    """Which of ``total`` pictures the picture table shows, spread evenly."""
    return np.linspace(0, total - 1, min(count, total)).astype(int).tolist()


def write_sheet(samples: list[Sample], path: Path) -> None:
    """Picture table, one column per kept picture: truth, prediction, error × 4."""
    columns = []
    for truth, predicted in (s.pictures for s in samples if s.pictures is not None):
        error = 1 - np.clip(np.abs(truth - predicted) * 4, 0, 1)
        columns.append(np.concatenate([truth, predicted, error], 0))
    sheet = np.concatenate(columns, 1)
    write_bytes(path, png_bytes((np.clip(sheet, 0, 1) * 255 + 0.5).astype(np.uint8)))


def evaluate(
    head: Head,
    shots: Shots,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    judges: Judges | None = None,
) -> dict[str, Any]:
    """Compare, summarise and, if asked, draw the picture table."""
    start = time.monotonic()
    total = len(shots) * shots.cameras.shape[1]
    keep = sheet_indices(total) if sheet is not None else []
    samples = compare(head, shots, progress, keep, judges)
    result = summarise(samples)
    result["seconds"] = round(time.monotonic() - start, 1)
    if sheet is not None:
        write_sheet(samples, sheet)
        result["sheet"] = str(sheet)
    return result
