"""Teach a trained head more hair styles; everything it knows stays as it is.

Networks and textures are frozen, so a style is three planes and a hull: a few of the head's own
people wear it in the studio, its planes start as those of the known style that looks most like it
there, and only they are learned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.heads.hexplane import HexPlaneHead
from head360.heads.hexplane_files import write_extended
from head360.networks.banks import Blend, PlaneBank
from head360.networks.hexplane import HexPlaneNet
from head360.synthesis.hair import STYLES
from head360.synthesis.subjects import cast
from head360.training.hexplane import Trainer
from head360.training.metrics import on_white
from head360.training.settings import TrainSettings
from head360.training.shoot import CAST_SEARCHED
from head360.training.shots import Moment, Shots

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)

_LOOKS, _SMALL = 6, 64  # pictures, and pixels a side, by which the style to begin with is chosen


def check_styles(base: HexPlaneHead, styles: tuple[str, ...]) -> None:
    """Whether ``base`` can learn ``styles`` from the studio.

    Raises:
        BadInput: its hair comes from a generator, the studio does not know a style, the base wears
            it already, one is named twice, or none is named.
    """
    if not isinstance(base.net.hair_planes, PlaneBank):
        raise BadInput(
            f"{base.name} makes all its hair with one generator, which a new style would change: "
            "extend the model that the generator was made from, or one of the preset tiny."
        )
    known = [style.name for style in STYLES]
    if not styles:
        raise BadInput("Say which styles: add --styles A+B (head360 synth --list-styles).")
    for name in styles:
        if name in base.styles:
            raise BadInput(f"{base.name} has the style {name} already: leave it out.")
        if name not in known:
            raise BadInput(
                f"The studio has no hair style {name!r}: head360 synth --list-styles shows all."
            )
    if len(set(styles)) < len(styles):
        raise BadInput("--styles names a style twice: name each once.")


def sitters(base: HexPlaneHead, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who of the base's people wears the new styles, and who judges them: evenly chosen names.

    Args:
        base: whose people.
        count: how many may sit; the judges are as many others, or the same if there are no others.

    Raises:
        BadInput: the studio knows none of them.
    """
    known = {subject.name for subject in cast(max(CAST_SEARCHED, len(base.subjects)))}
    able = [name for name in base.subjects if name in known]
    if not able:
        raise BadInput(
            f"The studio knows none of the people of {base.name}: extend the model that it was "
            "made from."
        )
    chosen = _spread(able, count)
    others = _spread([name for name in able if name not in chosen], count)
    return chosen, others or chosen


def _spread(names: list[str], count: int) -> tuple[str, ...]:
    """At most ``count`` of ``names``, evenly."""
    count = min(count, len(names))
    return tuple(names[place * len(names) // count] for place in range(count))


class StyleTrainer(Trainer):
    """A run that adds hair styles to a trained head; its folder is that of any other run.

    Args:
        base: the head, loaded from ``path``; its hair planes are free.
        path: of its package.
        shots: people of the base in the new styles.
        settings: schedule; nothing but hair planes is learned, whatever it says.
        out, device, held_out, name, recipe: as for ``Trainer``.

    Raises:
        BadInput: the pictures show people whom the base does not know, or with other faces.
    """

    def __init__(
        self,
        base: HexPlaneHead,
        path: Path,
        shots: Shots,
        settings: TrainSettings,
        out: Path,
        device: str = "cpu",
        held_out: Shots | None = None,
        name: str | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self.base, self.path = base, path
        net = _net_for(base, shots)
        settings = dataclasses.replace(settings, trainable="styles")
        super().__init__(
            shots, net.config, settings, out, device, held_out, name, recipe, start=net
        )
        self.begun_as = {style: self._begin(style) for style in shots.styles if base.styles}

    def _begin(self, style: str) -> str:
        """Start a style's planes as those of the base that look most like its pictures."""
        shots, index = self.shots, self.shots.styles.index(style)
        entry = self.net.hair_planes.entries[index]
        known = self.base.net.hair_planes.entries
        errors = np.zeros(len(known))
        groups = np.flatnonzero(shots.style == index)
        with torch.no_grad(), self._showing():
            for group in groups[:: max(1, len(groups) // _LOOKS)]:
                truth = _small(shots.rgba[group, 0])
                codes = self.head.codes(shots.subjects[shots.subject[group]], style)
                pose = self.head.pose(codes, shots.blendshapes[group])
                for number, planes in enumerate(known):
                    entry.copy_(planes)
                    self.head.refresh()
                    pose.state["look"] = self.head.look(codes)
                    frame = self.head.render(pose, shots.camera(group, 0), *truth.shape[:2])
                    errors[number] += float(((on_white(frame.rgba) - truth) ** 2).mean())
            best = int(np.argmin(errors))
            entry.copy_(known[best])
        log.info("%s begins as %s", style, self.base.styles[best])
        return self.base.styles[best]

    def _interest(self, moment: Moment, view: int) -> NDArray[np.uint8]:
        """Windows lie where there is hair: elsewhere there is nothing to learn."""
        hair = moment.hair[view, ::8, ::8]
        return hair if hair.any() else super()._interest(moment, view)

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"base model": fingerprint(self.base)}

    def save_head(self) -> None:
        """Write the base with its new styles to ``head/``; see ``write_extended``."""
        styles = {
            style: (
                self.net.hair_planes.entries[index].detach().cpu().numpy(),
                self.head._occupancy[index],
            )
            for index, style in enumerate(self.shots.styles)
        }
        facts = {
            "styles": list(self.shots.styles),
            "begun_as": self.begun_as,
            "people": list(self.shots.subjects),
            "pictures": int(np.prod(self.shots.rgba.shape[:2])),
            **self.head.manifest["training"],
            "steps": self.step,
            "seconds": round(self.seconds),
        }
        write_extended(self.path, self.out / "head", self.head.name, styles, facts)


def _small(rgba: NDArray[np.uint8]) -> Floats:
    """(S, S, 4) → (s, s, 3) over white, s about _SMALL: enough to tell hair styles apart."""
    step = max(1, len(rgba) // _SMALL)
    size = len(rgba) // step
    plain = np.asarray(rgba[: size * step, : size * step] / 255, dtype=np.float32)
    white = on_white(plain)
    return np.asarray(white.reshape(size, step, size, step, 3).mean((1, 3)), dtype=np.float32)


def fingerprint(base: HexPlaneHead) -> str:
    """Of all that an extension builds on: networks, textures and hair planes."""
    digest = hashlib.sha256()
    for name, value in sorted(base.net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _net_for(base: HexPlaneHead, shots: Shots) -> HexPlaneNet:
    """The base's networks with the textures of the pictured people and fresh hair planes."""
    for name, shape in zip(shots.subjects, shots.shapes, strict=True):
        if name not in base.subjects or not np.allclose(
            base.codes(name, None).shape, shape, atol=1e-4
        ):
            raise BadInput(
                f"{base.name} does not know {name} as the pictures show them: choose another --out."
            )
    # Textures may come from a generator: what it makes is frozen here like any other.
    config = dataclasses.replace(base.net.config, texture_codes=None)
    net = HexPlaneNet(config, len(shots.subjects), len(shots.styles))
    who = [base.subjects.index(name) for name in shots.subjects]
    state = {
        name: value[who] if name == "identities" else value
        for name, value in base.net.state_dict().items()
        if not name.startswith(("textures.", "hair_planes."))
    }
    net.load_state_dict(state, strict=False)
    with torch.no_grad():
        for entry, index in zip(net.textures.entries, who, strict=True):
            entry.copy_(base.net.textures(Blend.of(index)))
    return net
