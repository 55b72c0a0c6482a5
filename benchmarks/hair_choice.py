"""Which hair style a fit chooses, by how much the outline counts beside the classifier.

    python benchmarks/hair_choice.py PORTRAITS [--model starter] [--pictures 40]

PORTRAITS is a folder of people whom neither networks nor base have seen, such as
``portraits_held_out`` of a ``head360 train portrait`` run. Shape, expression and camera are the
true ones, hair is parsed and ranked by the networks that come along. Two groups: people in a style
that the base wears (``right``: share that got it), and people in others (``like``: mean likeness of
the chosen style's cut to the true one, 1 is the same style, see ``fitting.wearable``). Prints one
JSON object with both by weight; 0 is the classifier alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from tqdm import tqdm

from head360 import heads
from head360.fitting.hair import agreement, score, style_outline
from head360.fitting.hairstyle import style_ranker
from head360.fitting.parsing import parser as open_parser
from head360.fitting.sights import cut
from head360.fitting.wearable import closeness, wearable
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import pose_inputs
from head360.rendering.cameras import Camera
from head360.server.heads_table import resolve
from head360.synthesis.people import person
from head360.synthesis.styles import STYLES
from head360.training.portraits import PortraitSet

WEIGHTS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0)
_FRONT = 45.0  # degrees to either side
_SIZE = 256


def evidence(
    base: HexPlaneHead, data: PortraitSet, row: int, grey: float
) -> dict[str | None, tuple[float, float]]:
    """Each style of the base, None for bald → likelihood by the classifier, agreement of outline.

    Args:
        base: whose styles are tried on.
        data: held-out portraits; row: of the one to read.
        grey: of the plain background, 0…1.
    """
    rgba = data.rgba[row].astype(np.float32) / 255
    plain = rgba[..., :3] * rgba[..., 3:] + grey * (1 - rgba[..., 3:])
    pixels = (plain * 255 + 0.5).astype(np.uint8)
    face = SimpleNamespace(landmarks=data.points[row, :68])
    parsing = open_parser().parse(pixels, face)
    ranking = style_ranker().rank(pixels, parsing, face)
    shape = person(int(data.person[row])).shape(base.model)
    vertices = base.identity(shape)[0].pose(data.blendshapes[row])
    sight = cut(
        pixels, parsing.labels, parsing.matte, parsing.hair, Camera.from_flat25(data.camera[row]),
        data.blendshapes[row], vertices, _SIZE,
    )  # fmt: skip
    pose = pose_inputs(vertices, base.model.topology, base.net.config.plane_size, base.device)
    bald = Codes(base.subjects[0], shape, None)
    found = {}
    for style, likely in wearable(ranking, base.styles):
        outline = style_outline(base, dataclasses.replace(bald, style=style), sight, pose)
        found[style] = likely, agreement(outline, sight.hair, sight.face(), sight.known)
    return found


def best(found: dict[str | None, tuple[float, float]], weight: float) -> str | None:
    """The style that most speaks for."""
    return max(found, key=lambda style: score(*found[style], weight=weight))


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("portraits", type=Path)
    options.add_argument("--model", default="starter")
    options.add_argument("--pictures", type=int, default=40, help="of each group")
    arguments = options.parse_args()
    base = heads.load(resolve(arguments.model).path, "cpu")
    if not isinstance(base, HexPlaneHead):
        options.error(f"{arguments.model} is no hex-plane head")
    data = PortraitSet.load(arguments.portraits)
    cuts = {style.name: style.category for style in STYLES}
    rng = np.random.default_rng(0)
    places = data.camera[data.rows][:, [3, 11]]  # x and z of the camera
    turned = np.degrees(np.abs(np.arctan2(places[:, 0], places[:, 1])))
    rows = rng.permutation(data.rows[(turned <= _FRONT) & (data.style[data.rows] >= 0)])
    result: dict[str, object] = {"model": base.name, "weights": WEIGHTS}
    for group, worn in (("right", True), ("like", False)):
        own = [r for r in rows if (data.style_names[data.style[r]] in base.styles) == worn]
        marks = []
        for row in tqdm(own[: arguments.pictures], desc=group):
            found = evidence(base, data, int(row), float(rng.uniform(0.2, 0.9)))
            truth = data.style_names[data.style[row]]
            chosen = [best(found, weight) for weight in WEIGHTS]
            marks.append([closeness(truth, name, cuts) if name else 0.0 for name in chosen])
        values = np.array(marks) == 1.0 if worn else np.array(marks)
        result[group] = {
            "pictures": len(marks), "mean": [round(float(v), 3) for v in values.mean(0)],
        }  # fmt: skip
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
