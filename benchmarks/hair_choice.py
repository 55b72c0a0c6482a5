"""Which hair style a fit chooses, by how much outlines count beside the classifier.

    python benchmarks/hair_choice.py PORTRAITS [--model starter] [--pictures 40]

PORTRAITS is a folder of people whom neither networks nor base have seen, such as
``portraits_held_out`` of a ``head360 train portrait`` run. Shape, expression and camera are the
true ones, hair is parsed and ranked by the networks that come along. Prints one JSON object:
``studio``, top-1 and top-3 of all styles by the weight of their outlines; and by two weights (of
the studio's outlines, of the base's) ``right``, the share of people in styles of the base who got
theirs, and ``like``, the mean likeness of the chosen cut to the true one for people in other styles
(1 is the same style, see ``fitting.wearable``). Weights of 0 leave the classifier alone.
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
from head360.fitting.hair import (
    agreement,
    by_outline,
    score,
    skin_depth,
    style_outline,
    veiled,
)
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

STUDIO = (0.0, 6.0, 12.0, 20.0)
PAIRS = tuple((studio, own) for studio in (0.0, 6.0, 12.0) for own in (0.0, 1.0, 3.0, 12.0))
_FRONT = 45.0  # degrees to either side
_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for which style.

    Attributes:
        truth: style of the studio.
        rankings: weight of the outlines → all styles of the studio, best first.
        alike: style of the base, None for bald → agreement of its outline, and what it veils.
    """

    truth: str
    rankings: dict[float, list[tuple[str, float]]]
    alike: dict[str | None, tuple[float, float]]

    def chosen(self, studio: float, own: float) -> str | None:
        """The base's style that most speaks for, None for bald."""
        likely = dict(wearable(self.rankings[studio], [s for s in self.alike if s is not None]))
        return max(likely, key=lambda style: score(likely[style], *self.alike[style], own))


def evidence(base: HexPlaneHead, data: PortraitSet, row: int, grey: float) -> Evidence:
    """Read one portrait.

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
    identity, lattice = base.identity(shape)
    vertices = identity.pose(data.blendshapes[row])
    sight = cut(
        pixels, parsing.labels, parsing.matte, parsing.hair, Camera.from_flat25(data.camera[row]),
        data.blendshapes[row], vertices, _SIZE,
    )  # fmt: skip
    topology = base.model.topology
    pose = pose_inputs(vertices, topology, base.net.config.plane_size, base.device)
    skin = skin_depth(sight, pose, topology)
    rankings = {
        weight: by_outline(ranking, lattice, sight, skin, sight.known, weight) for weight in STUDIO
    }
    bald = Codes(base.subjects[0], shape, None)
    alike = {}
    for style in (*base.styles, None):
        outline = style_outline(base, dataclasses.replace(bald, style=style), sight, pose)
        alike[style] = (
            agreement(outline, sight.hair, sight.face(), sight.known), veiled(outline, sight),
        )  # fmt: skip
    return Evidence(data.style_names[data.style[row]], rankings, alike)


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
    result: dict[str, object] = {"model": base.name}
    places_of: dict[float, list[int]] = {weight: [] for weight in STUDIO}
    for group, worn in (("right", True), ("like", False)):
        own = [r for r in rows if (data.style_names[data.style[r]] in base.styles) == worn]
        marks = []
        for row in tqdm(own[: arguments.pictures], desc=group):
            found = evidence(base, data, int(row), float(rng.uniform(0.2, 0.9)))
            for weight, ranking in found.rankings.items():
                places_of[weight].append([name for name, _ in ranking].index(found.truth))
            names = [found.chosen(*pair) for pair in PAIRS]
            marks.append([closeness(found.truth, n, cuts) if n else 0.0 for n in names])
        values = (np.array(marks) == 1.0 if worn else np.array(marks)).mean(0)
        result[group] = {
            f"{studio:g}, {mine:g}": round(float(value), 3)
            for (studio, mine), value in zip(PAIRS, values, strict=True)
        } | {"pictures": len(marks)}
    result["studio"] = {
        f"{weight:g}": [round(float(np.mean(np.array(at) < best)), 3) for best in (1, 3)]
        for weight, at in places_of.items()
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
