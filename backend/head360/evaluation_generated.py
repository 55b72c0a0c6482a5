"""Heads drawn from seeds: how well they hold together, and how near the studio they come.

Nobody has photographed a head that was drawn, so there is no picture to compare it with. Measured
is what can be without one, beside the same figures of as many trained heads:

* ``consistency_psnr``: the picture of one camera, carried by its own depth into a camera eight
  degrees further, against what the head renders there; pixels that both see. A head whose shape,
  depth and colour agree from all sides scores as well as a trained one.
* ``diversity``: mean root-mean-square difference of the front pictures of two heads.
* ``identity``: mean cosine of face embeddings between front and three-quarter view (CSIM), where
  a recogniser is given; ``fid``: Fréchet distance of features between drawn heads and the
  studio's pictures, where a feature network and the studio are there. With few pictures it is
  biased upwards and compares only runs of one size.

Where the studio is there, every drawn head has a twin with a truth: the same shape and a skin of
the studio's cast. ``twins`` has the figures of the ordinary evaluation on held-out cameras (PSNR,
SSIM and LPIPS of Head360's Table 3) for faces that no training has seen.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import nn

from head360.arkit import COUNT
from head360.errors import BadInput
from head360.evaluation import Judges, Sample, as_photographed, compare, face_window, summarise
from head360.files import atomic_path
from head360.heads.base import Codes, Frame, Head, Pose
from head360.networks.perceptual import identity_similarity
from head360.rendering.cameras import Camera, orbit
from head360.sheets import over, table
from head360.training.metrics import on_white
from head360.training.shots import Shots

Floats = NDArray[np.float32]
Features = nn.Module

BANDS = {"front": (0.0, 5.0), "side": (90.0, 0.0), "back": (180.0, 10.0)}  # yaw, pitch in degrees
STEP_DEG = 8.0  # between the two cameras of the consistency
_SAME = 0.006  # metres by which two depths of one place may differ
_SOLID = 0.98  # alpha
_ROWS = 8  # of the picture table
_ERROR = 4.0  # by which errors are magnified


@dataclass(frozen=True)
class Held:
    """One head seen from all bands.

    Attributes:
        errors: band → sum of squared errors of the carried picture, and number of values.
        pictures: band → (S, S, 3) float32 over white.
        carried: the front picture as the other camera's picture and depth have it, white where
            they do not show it.
        identity: cosine between front and three-quarter view; None without a recogniser.
    """

    errors: dict[str, tuple[float, int]]
    pictures: dict[str, Floats]
    carried: Floats
    identity: float | None


def carry(
    here: Frame, camera: Camera, there: Frame, other: Camera
) -> tuple[Floats, NDArray[np.bool_]]:
    """What ``there`` shows of the places that ``here`` shows.

    Args:
        here, camera: the picture to rebuild; its depth says where its pixels are.
        there, other: the picture to take colours from.

    Returns:
        (H, W, 3) float32 sRGB and the (H, W) mask of places that both show.
    """
    height, width = here.depth.shape
    seen = np.isfinite(here.depth) & (here.rgba[..., 3] > _SOLID)
    row, column = np.nonzero(seen)
    pixel = np.stack([(column + 0.5) / width, (row + 0.5) / height, np.ones(len(row))], 1)
    local = pixel @ np.linalg.inv(camera.intrinsics).T * here.depth[seen][:, None]
    points = local @ camera.cam2world[:3, :3].T + camera.position
    image, depth = other.project(points, there.depth.shape[1], there.depth.shape[0])
    at = np.stack([image[:, 1] - 0.5, image[:, 0] - 0.5])
    limits = np.array(there.depth.shape)[:, None] - 1
    inside = ((at >= 0) & (at <= limits)).all(0)
    nearest = np.clip(np.rint(at), 0, limits).astype(int)
    with np.errstate(invalid="ignore"):
        same = np.abs(there.depth[nearest[0], nearest[1]] - depth) < _SAME
    solid = map_coordinates(there.rgba[..., 3], at, order=1, mode="nearest") > _SOLID
    both = inside & same & solid
    colours = np.ones((height, width, 3), dtype=np.float32)
    for channel in range(3):
        taken = map_coordinates(there.rgba[..., channel], at[:, both], order=1, mode="nearest")
        colours[row[both], column[both], channel] = taken
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[row[both], column[both]] = True
    return colours, mask


def hold(head: Head, codes: Codes, size: int, judges: Judges) -> Held:
    """Look at one neutral head from all bands."""
    pose = head.pose(codes, np.zeros(COUNT, dtype=np.float32))
    errors: dict[str, tuple[float, int]] = {}
    pictures: dict[str, Floats] = {}
    carried: Floats | None = None
    for band, (yaw, pitch) in BANDS.items():
        camera, other = orbit(yaw, pitch), orbit(yaw + STEP_DEG, pitch)
        here = head.render(pose, camera, size, size)
        there = head.render(pose, other, size, size)
        colours, mask = carry(here, camera, there, other)
        squared = (here.rgba[..., :3] - colours).astype(np.float64)[mask] ** 2
        errors[band] = float(squared.sum()), squared.size
        pictures[band] = on_white(here.rgba)
        carried = colours if carried is None else carried
    assert carried is not None
    return Held(errors, pictures, carried, _identity(head, pose, size, judges))


def _identity(head: Head, pose: Pose, size: int, judges: Judges) -> float | None:
    if judges.identity is None:
        return None
    faces = []
    for yaw in (0.0, 30.0):
        camera = orbit(yaw, 5.0)
        picture = on_white(head.render(pose, camera, size, size).rgba)
        faces.append(picture[face_window(head, pose, camera, size)])
    return identity_similarity(judges.identity, faces[0], faces[1], judges.device)


def figures_of(held: list[Held]) -> dict[str, Any]:
    """Consistency, diversity and identity of a group of heads; see the module's docstring."""

    def psnr(bands: tuple[str, ...]) -> float | None:
        total = sum(h.errors[band][0] for h in held for band in bands)
        count = sum(h.errors[band][1] for h in held for band in bands)
        return round(-10 * float(np.log10(max(total / count, 1e-12))), 2) if count else None

    pairs = itertools.combinations([h.pictures["front"] for h in held], 2)
    distances = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in pairs]
    result: dict[str, Any] = {
        "consistency_psnr": psnr(tuple(BANDS)),
        "by_band": {band: psnr((band,)) for band in BANDS},
        "diversity": round(float(np.mean(distances)), 4) if distances else None,
    }
    known = [h.identity for h in held if h.identity is not None]
    if known:
        result["identity"] = round(float(np.mean(known)), 4)
    return result


def evaluate_generated(
    head: Head,
    drawn: list[Codes],
    twins: Shots | None,
    size: int = 256,
    sheet: Path | None = None,
    judges: Judges | None = None,
    features: Features | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure heads that were drawn from seeds.

    Args:
        head: the model.
        drawn: the heads, from ``Head.random_codes``.
        twins: the studio's pictures of its cast with the shapes of ``drawn``, see
            :func:`twin_shapes`; None without the studio.
        size: pixels per side.
        sheet: write the picture table here.
        judges: optional networks.
        features: a network (B, 3, H, W) in [0, 255] → (B, D), for the FID.
        progress: called with (pictures done, pictures in all).

    Raises:
        BadInput: no heads, or an FID without the studio.
    """
    if not drawn:
        raise BadInput("There are no heads to measure: draw at least one.")
    if features is not None and twins is None:
        raise BadInput("The FID compares with the studio's pictures: it needs the raw assets.")
    start = time.monotonic()
    judges = judges or Judges()
    known = [head.codes(name) for name in head.subjects[: len(drawn)]]
    photographs = 0 if twins is None else len(twins) * twins.cameras.shape[1]
    total, done = len(drawn) + len(known) + photographs, 0

    def held(codes: Codes) -> Held:
        nonlocal done
        with as_photographed(head):  # the FID's other half is the studio's pictures
            found = hold(head, codes, size, judges)
        done += 1
        if progress is not None:
            progress(done, total)
        return found

    new, old = [held(codes) for codes in drawn], [held(codes) for codes in known]
    result: dict[str, Any] = {
        "heads": len(drawn),
        "generated": figures_of(new),
        "trained": figures_of(old),
    }
    samples: list[Sample] = []
    if twins is not None:
        before = done

        def tell(count: int, _: int) -> None:
            if progress is not None:
                progress(before + count, total)

        # Pictures are kept for the table and the FID only.
        keep = range(photographs if sheet is not None or features is not None else 0)
        samples = compare(head, twins, tell, keep, judges, strangers=True)
        result["twins"] = summarise(samples)
        if features is not None:
            ours = [picture for one in new for picture in one.pictures.values()]
            theirs = [sample.pictures[0] for sample in samples if sample.pictures is not None]
            sets = [embed(features, pictures, judges.device) for pictures in (ours, theirs)]
            result["fid"] = round(frechet(*sets), 2)
    result["seconds"] = round(time.monotonic() - start, 1)
    if sheet is not None:
        _write_sheet(new, twins, samples, sheet)
        result["sheet"] = str(sheet)
    return result


def twin_shapes(head: Head, drawn: list[Codes]) -> dict[str, Floats]:
    """Shapes for the studio: the drawn heads' on the first of the cast, one each."""
    return {name: codes.shape for name, codes in zip(head.subjects, drawn, strict=False)}


# --- FID ------------------------------------------------------------------------------------------


def load_features(path: Path, device: str = "cpu") -> Features:
    """A TorchScript network of picture features.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        net: nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"Cannot read the feature network {path}: give a TorchScript file that turns "
            "(B, 3, H, W) pictures in 0 to 255 into (B, D) features."
        ) from error
    return net.eval()


def embed(net: Features, pictures: list[Floats], device: str = "cpu") -> NDArray[np.float64]:
    """(N, D) features of (S, S, 3) float32 pictures in [0, 1].

    Raises:
        BadInput: the network does not take pictures, or gives no vector for each.
    """
    found = []
    for picture in pictures:
        x = torch.from_numpy(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        x = x.permute(2, 0, 1)[None].to(device)
        try:
            with torch.no_grad():
                y = net(x)
        except RuntimeError as error:
            raise BadInput(
                "The feature network does not take (1, 3, H, W) uint8 pictures: give another file."
            ) from error
        if not isinstance(y, torch.Tensor) or y.ndim != 2 or len(y) != 1:
            raise BadInput("The feature network must turn a picture into one vector.")
        found.append(y[0].double().cpu().numpy())
    return np.stack(found)


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Squared Fréchet distance of the Gaussians of two sets (N, D) and (M, D) (Heusel 2017).

    Raises:
        BadInput: a set of fewer than two has no covariance.
    """
    if min(len(first), len(second)) < 2:
        raise BadInput("The FID needs at least two pictures on both sides: draw more heads.")
    shift = first.mean(0) - second.mean(0)
    a, b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second))
    # tr √(ab) = tr √(√a b √a), which is symmetric: fewer pictures than features do no harm.
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(min=0)).sum()
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * shared)


# --- pictures -------------------------------------------------------------------------------------


def _write_sheet(new: list[Held], twins: Shots | None, samples: list[Sample], path: Path) -> None:
    """One row per head: three bands, the front carried and its error; then the twin's truth."""
    columns = [*BANDS, "front, carried", f"error x {_ERROR:.0f}"]
    if samples:
        columns += ["twin: studio", "twin: head", f"error x {_ERROR:.0f}"]
    rows = []
    for number, one in enumerate(new[:_ROWS]):
        front = one.pictures["front"]
        shown = np.any(one.carried < 1, -1, keepdims=True)
        row = [*one.pictures.values(), one.carried, _error(front, one.carried) * shown + ~shown]
        twin = _twin(number, twins, samples)
        if twin is not None:
            row += [*twin, _error(*twin)]
        rows.append((str(number + 1), [_bytes(picture) for picture in row]))
    with atomic_path(path) as temporary:
        table(rows, columns).save(temporary, "PNG")


def _twin(number: int, twins: Shots | None, samples: list[Sample]) -> tuple[Floats, Floats] | None:
    """Truth and prediction of the first picture of a drawn head's twin."""
    if twins is None or number not in twins.subject:
        return None
    group = int(np.flatnonzero(twins.subject == number)[0])
    return samples[group * twins.cameras.shape[1]].pictures


def _error(truth: Floats, predicted: Floats) -> Floats:
    return 1 - np.clip(np.abs(truth - predicted) * _ERROR, 0, 1)


def _bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return over(np.concatenate([picture, np.ones_like(picture[..., :1])], -1).astype(np.float32))
