"""Drawing sets of portraits in the studio, person by person; see ``training.portraits``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.arkit import COUNT, INDEX
from head360.errors import BadInput, Cancelled
from head360.files import sole_writer, writable_folder, write_text
from head360.geometry.assets import find_wardrobe
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, Camera, orbit
from head360.synthesis.hair import STYLES
from head360.synthesis.lights import LIGHTS
from head360.synthesis.people import person
from head360.synthesis.processes import Stopped, Tell, share_out
from head360.synthesis.shading import ShadeInput
from head360.synthesis.studio import Photograph, Studio
from head360.synthesis.styles import COLOURS, StyleSpec
from head360.synthesis.subjects import SubjectSpec
from head360.synthesis.wardrobe import Wardrobe, open_wardrobe
from head360.training.performances import draw_expression, supported
from head360.training.portraits import VERSION, PortraitSet, PortraitSpec

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]

_RESERVE = 64 << 20  # bytes that stay free beside the pictures
_STEP = 29  # through the styles; shares no divisor with their number, so all are met alike
_BACK, _WIDE = 0.12, 0.28  # shares of views from behind, and of any view from the front half


def draw_portraits(
    spec: PortraitSpec,
    folder: Path | str,
    workers: int = 1,
    progress: Progress | None = None,
    assets: Path | None = None,
) -> PortraitSet:
    """Draw a set into ``folder``, or what is missing of it.

    Args:
        spec: what.
        folder: created if needed.
        workers: processes; the pictures do not depend on it.
        progress: called with (people done, people in all).
        assets: folder or pack of raw assets; where they are usually found by default.

    Raises:
        BadInput: a number out of range, assets missing, the folder unwritable, another set's, or
            the disk too full.
        TryAgain: another process draws the same set, or a worker was killed.
    """
    spec, assets = spec.checked(), assets or find_wardrobe()
    folder = writable_folder(folder)
    with sole_writer(folder):
        done = _prepare(spec, folder)
        total, count = spec.people, int(done.sum())
        report = progress or (lambda done, total: None)
        report(count, total)

        def tell(message: tuple[int, int, str]) -> None:
            nonlocal count
            count += message[0]
            report(count, total)

        jobs = [(spec, int(number), folder, assets) for number in np.flatnonzero(~done)]
        for _ in share_out(draw_person, jobs, workers, tell):
            pass
    return PortraitSet.load(folder)


def _prepare(spec: PortraitSpec, folder: Path) -> NDArray[np.bool_]:
    """Make the arrays unless they are there; returns which people are drawn."""
    facts = {"version": VERSION, "spec": asdict(spec), "styles": [style.name for style in STYLES]}
    path = folder / "spec.json"
    if path.is_file():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == facts
            done = np.load(folder / "done.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder} holds a damaged set ({error}): choose another.") from error
        if not same:
            raise BadInput(f"{folder} holds a set of other portraits: choose another folder.")
        return np.asarray(done)
    needed = sum(
        int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        for shape, kind in spec.arrays().values()
    )
    # A mapped file on a full disk ends the process without a word, so look first.
    if shutil.disk_usage(folder).free < needed + _RESERVE:
        raise BadInput(f"The portraits need {needed >> 20} MiB in {folder}: free some space.")
    for name, (shape, kind) in spec.arrays().items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(kind), shape).flush()
    write_text(path, json.dumps(facts))
    return np.zeros(spec.people, dtype=np.bool_)


_wardrobe: tuple[Path, Wardrobe] | None = None


def draw_person(
    spec: PortraitSpec, order: int, folder: Path, assets: Path, tell: Tell, stopped: Stopped
) -> None:
    """Draw all pictures of one person into the arrays of ``folder``.

    Raises:
        Cancelled: ``stopped()`` said so; the person is drawn again another time.
    """
    global _wardrobe
    if _wardrobe is None or _wardrobe[0] != assets:
        _wardrobe = assets, open_wardrobe(assets)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in spec.arrays()}
    sitting = Sitting(spec, order, _wardrobe[1])
    for row, values in enumerate(sitting.pictures(stopped)):
        for name, value in values.items():
            arrays[name][order * spec.each + row] = value
    for array in arrays.values():
        array.flush()
    arrays["done"][order] = True
    arrays["done"].flush()
    tell((1, 0, str(sitting.person.name)))


class Sitting:
    """One person before the camera.

    Args:
        spec: of the set; order: of the person within it.
        wardrobe: shared by all sittings of a process.
    """

    def __init__(self, spec: PortraitSpec, order: int, wardrobe: Wardrobe) -> None:
        self.spec, self.number, self._wardrobe = spec, spec.first + order, wardrobe
        self.person: SubjectSpec = person(self.number)
        self.rng = np.random.default_rng([spec.seed, self.number, 21])
        self.styles = [
            STYLES[(self.number * spec.styles + k) * _STEP % len(STYLES)]
            for k in range(spec.styles)
        ]
        self.dyed = [draw_dye(style, self.person, self.rng) for style in self.styles]

    @cached_property
    def studio(self) -> Studio:
        """Holds this person and the dyed styles alone."""
        return Studio(
            BilinearModel.builtin(), self._wardrobe, (self.person,), tuple(self.dyed),
            samples=self.spec.samples,
        )  # fmt: skip

    def pictures(self, stopped: Stopped = lambda: False) -> list[dict[str, NDArray | int]]:
        """The values of every row.

        Raises:
            Cancelled: ``stopped()`` said so.
        """
        spec, out = self.spec, []
        plan: list[tuple[StyleSpec | None, int]] = [
            (style, spec.views) for style in self.dyed for _ in range(spec.moments)
        ]
        for style, views in plan + [(None, 1)] * spec.bald:
            blendshapes = draw_face(self.rng)
            vertices = self.studio.pose(self.person.name, blendshapes)
            scene = self.studio.scene(
                self.person.name, None if style is None else style.name, vertices
            )
            for _ in range(views):
                if stopped():
                    raise Cancelled("Stopped while drawing portraits; the others are kept.")
                out.append(self._picture(scene, style, blendshapes))
        return out

    def _picture(
        self, scene: tuple[ShadeInput, raster.Cutout], style: StyleSpec | None, blendshapes: Floats
    ) -> dict[str, NDArray | int]:
        camera, size = draw_view(self.rng), self.spec.size
        lights = [str(name) for name in self.rng.choice(list(LIGHTS), 2, replace=False)]
        share = float(self.rng.choice([0.0, self.rng.uniform(0.2, 0.8)]))
        shot = self.studio.photograph(*scene, camera, size, size, lights=lights, passes=True)
        assert shot.dense is not None
        assert shot.visible is not None
        assert shot.labels is not None
        names = [known.name for known in STYLES]
        return {
            "rgba": _mixed(shot, lights, share),
            "labels": shot.labels,
            "hair": (shot.hair * 255 + 0.5).astype(np.uint8),
            "points": np.concatenate([shot.landmarks, shot.dense]),
            "visible": shot.visible,
            "style": -1 if style is None else names.index(style.name),
            "hair_colour": np.array((style and style.dye) or (0, 0, 0), dtype=np.uint8),
            "person": self.number,
            "blendshapes": blendshapes,
            "camera": camera.flat25(),
        }


def _mixed(shot: Photograph, lights: list[str], share: float) -> NDArray[np.uint8]:
    """(S, S, 4) uint8: two lights at once, ``share`` of the second, mixed in linear light."""
    first, second = (shot.lit[name] for name in lights)
    colour = (1 - share) * first[..., :3] ** 2.2 + share * second[..., :3] ** 2.2
    out = np.concatenate([colour ** (1 / 2.2), first[..., 3:]], 2)
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_dye(style: StyleSpec, who: SubjectSpec, rng: np.random.Generator) -> StyleSpec:
    """``style`` in the person's hair colour, another natural one, or now and then a loud one."""
    kind = rng.random()
    if kind < 0.5 and who.hair_colour is not None:
        return style.dyed(who.hair_colour)
    if kind < 0.92:
        return style.dyed(str(rng.choice(list(COLOURS))))
    red, green, blue = (int(channel) for channel in rng.integers(10, 246, 3))
    return style.dyed((red, green, blue))


def draw_face(rng: np.random.Generator) -> Floats:
    """(52,) float32 expression: four in ten smile as people do in portraits, the others do
    anything."""
    if rng.random() > 0.4:
        return draw_expression(rng)
    weights = np.zeros(COUNT, dtype=np.float32)
    smile = rng.uniform(0.15, 1.0)
    teeth = rng.uniform(0, 0.7) * float(rng.random() < 0.6)
    for name, value in (
        ("mouthSmile", smile), ("cheekSquint", 0.7 * smile), ("eyeSquint", 0.5 * smile),
        ("mouthUpperUp", teeth), ("mouthLowerDown", teeth), ("mouthStretch", 0.4 * teeth),
        ("browOuterUp", rng.uniform(0, 0.3)), ("eyeBlink", rng.uniform(0, 0.3)),
    ):  # fmt: skip
        for side in ("Left", "Right"):
            weights[INDEX[name + side]] = np.clip(value * rng.uniform(0.8, 1.2), 0, 1)
    weights[INDEX["jawOpen"]] = rng.uniform(0, 0.3) * float(rng.random() < 0.5)
    sideways, up = rng.normal(0, 0.25, 2)
    for side, inwards in (("Left", sideways), ("Right", -sideways)):
        weights[INDEX[f"eyeLook{'In' if inwards > 0 else 'Out'}{side}"]] = min(abs(inwards), 1)
        weights[INDEX[f"eyeLook{'Up' if up > 0 else 'Down'}{side}"]] = min(abs(up), 1)
    return supported(weights)


def draw_view(rng: np.random.Generator) -> Camera:
    """A camera that sees the whole head: mostly from the front, now and then from behind."""
    kind = rng.random()
    if kind < _BACK:
        yaw = 180 + rng.uniform(-80, 80)
    elif kind < _BACK + _WIDE:
        yaw = rng.uniform(-95, 95)
    else:
        yaw = float(np.clip(rng.normal(0, 26), -90, 90))
    pitch = float(np.clip(rng.normal(0, 11), -28, 28))
    fov = float(np.exp(rng.uniform(np.log(8), np.log(58))))
    distance = BOX_HALF * rng.uniform(0.98, 1.18) / np.tan(np.radians(fov) / 2)
    return orbit(
        yaw, pitch, fov_deg=fov, distance=distance, target=BOX_CENTRE + rng.normal(0, 0.012, 3)
    )
