"""How well the networks that come along read portraits, and what a fit makes of it.

    python benchmarks/portraits.py PORTRAITS [--pictures 60] [--landmarks-weights F]
                                   [--parsing-weights F]

PORTRAITS is a folder of people whom no network has seen, such as ``portraits_held_out`` of a
``head360 train portrait`` run. Prints one JSON object:

* ``parsing``: mean intersection over union and that of each label, under moderate augmentation and
  ``plain`` (before a background and in clothes, nothing else), landmarks 2 to 4 % off.
* ``landmarks``: mean distance to the true ones over that of the outer corners of the eyes, of the
  68, of these without the jaw, and of the dense ones; ``first`` look and ``second``.
* ``rotation``: degrees between the camera that is fitted to either look alone and the true one.
* ``shape``: millimetres between the fitted face and the true one, sizes aligned and not (metric),
  from landmarks alone and with the edges of the parsed face, beside those of the average head.

Pictures within 35° of the front, one a person for landmarks and shape.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from head360.evaluation_fitting import shape_error
from head360.fitting.faces import Face
from head360.fitting.own_finder import OwnFinder
from head360.fitting.parsing import Parser
from head360.fitting.parsing import parser as open_parser
from head360.fitting.shape import View, fit_shape
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera
from head360.synthesis.people import person
from head360.training import portrait_camera, portrait_scenery
from head360.training.portrait_figures import portrait_figures
from head360.training.portrait_scenes import PLAIN, SceneSettings
from head360.training.portraits import PortraitSet

FRONT = 35.0  # degrees to either side
FAULTS = 0.2  # of the pictures that landmarks are found in


def parsing(folder: Path, own: Parser, count: int) -> dict[str, Any]:
    """Figures of a parser, augmented and plain."""
    plain = dataclasses.replace(PLAIN, background=1.0, clothes=SceneSettings().clothes)
    return {
        name: portrait_figures(
            folder, lambda pixels, at: own.parse(pixels, SimpleNamespace(landmarks=at)),
            None, count, settings, miss,
        )
        for name, settings, miss in (("augmented", None, 0.04), ("plain", plain, 0.02))
    }  # fmt: skip


def pictures(data: PortraitSet, count: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Row and (S, S, 3) of one picture a person, before a wall or a drawn background."""
    seen: set[int] = set()
    for row in data.rows:
        place = Camera.from_flat25(data.camera[row]).position
        who = int(data.person[row])
        if who in seen or abs(np.degrees(np.arctan2(place[0], place[2]))) > FRONT:
            continue
        if len(seen) == count:
            return
        seen.add(who)
        rng = np.random.default_rng([5, row])
        rgba = data.rgba[row].astype(np.float32) / 255
        wall = np.full(rgba[..., :3].shape, rng.uniform(0.3, 0.9), dtype=np.float32)
        if rng.random() < 0.5:
            wall = portrait_scenery.background(rng, len(wall), None).astype(np.float32)
        alpha = rgba[..., 3:]
        yield (
            int(row),
            portrait_camera.take(rng, rgba[..., :3] * alpha + wall * (1 - alpha), FAULTS),
        )


def distances(face: Face, truth: NDArray[np.floating]) -> list[float]:
    """Of the 68, of those without the jaw, of the dense ones; eye distances."""
    assert face.dense is not None
    eyes = np.linalg.norm(truth[36] - truth[45])
    low = np.linalg.norm(face.landmarks - truth[:68], axis=1) / eyes
    dense = np.linalg.norm(face.dense - truth[68:], axis=1) / eyes
    return [float(low.mean()), float(low[17:].mean()), float(dense.mean())]


def seen_by(face: Face, size: int) -> View:
    """A face in a square picture, by its landmarks alone."""
    return View(face.landmarks, face.deviation, face.dense, size, size)


def degrees(camera: Camera, flat: NDArray[np.floating]) -> float:
    """Between the axes of a camera and of one from ``Camera.flat25``."""
    between = camera.cam2world[:3, :3].T @ Camera.from_flat25(flat).cam2world[:3, :3]
    return float(np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1))))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("portraits", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--landmarks-weights", type=Path)
    parser.add_argument("--parsing-weights", type=Path)
    arguments = parser.parse_args()
    own = open_parser(arguments.parsing_weights)
    data, model = PortraitSet.load(arguments.portraits), BilinearModel.builtin()
    finder = OwnFinder(arguments.landmarks_weights)
    closer = finder.closer
    looks: dict[str, list[list[float]]] = {"first": [], "second": []}
    errors: dict[str, list[float]] = {}
    turned: dict[str, list[float]] = {"first": [], "second": []}
    missed = 0
    shown = tqdm(pictures(data, arguments.pictures), "faces")
    for row, pixels in shown:
        truth = data.points[row]
        for name, look in (("first", None), ("second", closer))[: 1 if closer is None else 2]:
            finder.closer = look
            faces = finder.find(pixels)
            if faces:
                face = max(faces, key=lambda found: found.side)
                looks[name].append(distances(face, truth))
                alone = fit_shape([seen_by(face, len(pixels))], model)
                turned[name].append(degrees(alone.views[0].camera, data.camera[row]))
        if not faces:
            missed += 1
            continue
        size = len(pixels)
        labels = own.parse(pixels, face).labels
        true = person(int(data.person[row])).shape(model)
        shapes = {"average": model.mean_shape}
        for name, edges in (("landmarks", None), ("with edges", labels)):
            view = dataclasses.replace(seen_by(face, size), labels=edges)
            shapes[name] = fit_shape([view], model).shape
        for name, shape in shapes.items():
            for scaled, kind in ((True, ""), (False, ", metric")):
                error = shape_error(model, shape, true, scaled)["mean"]
                errors.setdefault(name + kind, []).append(error)
    figures = {
        "parsing": parsing(arguments.portraits, own, arguments.pictures),
        "landmarks": {
            name: dict(
                zip(("all68", "inner51", "dense"), np.mean(rows, 0).round(4).tolist(), strict=True)
            )
            for name, rows in looks.items() if rows
        },
        "rotation": {k: round(float(np.mean(v)), 2) for k, v in turned.items() if v},
        "shape": {name: round(float(np.mean(values)), 3) for name, values in errors.items()},
        "faces": len(looks["first"]), "missed": missed,
    }  # fmt: skip
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
