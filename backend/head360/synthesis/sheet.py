"""A contact sheet of the studio: who sits, how faces move, which hair, lights and passes exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from head360.arkit import COUNT, INDEX
from head360.datasets.labels import PALETTE
from head360.rendering.cameras import Camera, orbit
from head360.synthesis.lights import LIGHTS
from head360.synthesis.studio import Photograph, Studio

COLUMNS = 8
_PAPER, _INK, _FAINT, _ACCENT = (243, 241, 238), (38, 40, 46), (120, 122, 128), (176, 84, 62)
_CELL_TOP, _CELL_BOTTOM = (196, 200, 206), (164, 168, 176)
Weights = dict[str, float]


@dataclass(frozen=True)
class Moment:
    """What a person does in one column: ARKit weights, and from where they are seen.

    Attributes:
        name: of the column.
        weights: ARKit blendshapes; a name without its side stands for both.
        yaw, pitch: of the camera, degrees.
    """

    name: str
    weights: Weights
    yaw: float
    pitch: float = 0.0

    def blendshapes(self) -> NDArray[np.float32]:
        """(52,) float32."""
        values = np.zeros(COUNT, dtype=np.float32)
        for name, value in self.weights.items():
            for side in ("", "Left", "Right"):
                if name + side in INDEX:
                    values[INDEX[name + side]] = value
        return values


MOMENTS: tuple[Moment, ...] = (
    Moment("neutral", {}, 0.0),
    Moment("smile", {"mouthSmile": 0.85, "jawOpen": 0.12, "cheekSquint": 0.5, "eyeSquint": 0.3,
                     "mouthUpperUp": 0.3, "mouthLowerDown": 0.15}, 28.0, 4.0),
    Moment("surprise", {"jawOpen": 0.55, "browInnerUp": 1.0, "browOuterUp": 0.7, "eyeWide": 0.7},
           -22.0, -4.0),
    Moment("anger", {"browDown": 1.0, "noseSneer": 0.7, "mouthFrown": 0.6, "eyeSquint": 0.5,
                     "mouthPress": 0.4}, 42.0),
    Moment("kiss", {"mouthPucker": 0.9, "eyeBlink": 0.9, "browInnerUp": 0.3}, -62.0, 4.0),
    Moment("shout", {"jawOpen": 0.9, "mouthUpperUp": 0.5, "mouthLowerDown": 0.5, "browDown": 0.5,
                     "mouthStretch": 0.4}, -14.0, 3.0),
    Moment("tongue", {"jawOpen": 0.5, "tongueOut": 0.85, "eyeBlinkLeft": 0.95, "mouthSmile": 0.4},
           16.0),
    Moment("from behind", {}, 158.0, 10.0),
)  # fmt: skip
# Name, weights, what the camera looks at (metres, head space) and its angle of view.
_CLOSE_UPS: tuple[tuple[Moment, tuple[float, float, float], float], ...] = (
    (Moment("eyes", {"eyeLookOutLeft": 0.25, "eyeLookInRight": 0.25}, 10.0), (0, 0.022, 0.09), 7.0),
    (Moment("teeth", {"mouthSmile": 0.8, "mouthUpperUp": 0.7, "mouthLowerDown": 0.5,
                      "jawOpen": 0.15}, 8.0), (0, -0.05, 0.10), 5.0),
    (Moment("mouth", {"jawOpen": 0.8, "mouthUpperUp": 0.3, "mouthLowerDown": 0.4}, 6.0),
     (0, -0.06, 0.10), 6.0),
)  # fmt: skip

Progress = Callable[[int, int, str], None]


def contact_sheet(
    studio: Studio, styles: Sequence[str], cell: int = 200, progress: Progress | None = None
) -> Image.Image:
    """People × expressions × views in their own hair, all styles, the lights, and the passes.

    Args:
        studio: whose subjects and look are shown.
        styles: names of the hair styles to show.
        cell: pixels per side of one picture.
        progress: called with (pictures done, pictures in all, what).

    Returns:
        RGB, sRGB.
    """
    sheet = _Sheet(studio, list(styles), cell, progress)
    return sheet.draw()


class _Sheet:
    """One sheet while it is drawn, from the top down."""

    def __init__(
        self, studio: Studio, styles: list[str], cell: int, progress: Progress | None
    ) -> None:
        self.studio, self.styles, self.cell, self.progress = studio, styles, cell, progress
        self.people = list(studio.subjects)
        self.gap, self.margin = max(2, cell // 40), max(8, cell // 6)
        self.caption = max(12, cell // 8)
        self.heading = max(20, cell * 3 // 10)
        self.row = cell + self.caption + self.gap
        style_rows = -(-len(styles) // COLUMNS)
        rows = len(self.people) + style_rows + 2
        headings = 4 if styles else 3
        width = 2 * self.margin + COLUMNS * cell + (COLUMNS - 1) * self.gap
        height = 2 * self.margin + self.heading + headings * self.heading * 5 // 4 + rows * self.row
        self.image = Image.new("RGB", (width, height), _PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.top = self.margin
        self.done = 0
        self.total = len(self.people) * COLUMNS + len(styles) + 2 * COLUMNS

    def draw(self) -> Image.Image:
        """The whole sheet."""
        self._text(self.margin, self.top, "Head360 synthetic studio", self.heading * 2 // 3, _INK)
        facts = f"{len(self.people)} people · {len(self.styles)} hair styles · {len(LIGHTS)} lights"
        size = self.caption
        self._text(self._left(COLUMNS) - self.gap, self.top + self.heading // 4, facts, size,
                   _FAINT, "ra")  # fmt: skip
        self.top += self.heading
        self._head("People", "any expression, any view, in their own hair")
        for name in self.people:
            self._person(name)
        if self.styles:
            self._head("Hair", "every style fits every person")
            self._hair()
        self._head("Light and detail", "the same moment, lit anew")
        self._lights(self._model(0))
        self._head("Passes", "what every picture comes with")
        self._passes(self._model(1))
        return self.image

    # --- sections -----------------------------------------------------------------------------

    def _person(self, name: str) -> None:
        style = self._own_style(name)
        for column, moment in enumerate(MOMENTS):
            picture = self._take(name, style, moment, _portrait(moment))
            caption = name if column == 0 else moment.name
            self._place(column, self._backed(picture.rgba), caption, strong=column == 0)
        self.top += self.row

    def _hair(self) -> None:
        for number, style in enumerate(self.styles):
            column = number % COLUMNS
            name = self.people[(number * 3 + number // COLUMNS) % len(self.people)]
            yaw = (32.0, -40.0, 62.0, -24.0, 128.0)[number % 5]
            moment = Moment(style, {"mouthSmile": 0.25}, yaw, 4.0)
            picture = self._take(name, style, moment, _portrait(moment))
            label = self.studio.styles[style].label
            self._place(column, self._backed(picture.rgba), label)
            if column == COLUMNS - 1 or number == len(self.styles) - 1:
                self.top += self.row

    def _lights(self, name: str) -> None:
        style, moment = self._own_style(name), Moment("light", {"mouthSmile": 0.3}, 24.0, 2.0)
        scene, cutout = self._scene(name, style, moment)
        lit = self.studio.photograph(
            scene, cutout, _portrait(moment), self.cell, self.cell, lights=tuple(LIGHTS)
        ).lit
        column = 0
        for light, rgba in list(lit.items())[: COLUMNS - len(_CLOSE_UPS)]:
            self._tick(light)
            self._place(column, self._backed(rgba), f"{light} light")
            column += 1
        for close, target, fov in _CLOSE_UPS:
            camera = orbit(close.yaw, close.pitch, fov_deg=fov, distance=1.0,
                           target=np.array(target, dtype=np.float64))  # fmt: skip
            picture = self._take(name, style, close, camera)
            self._place(column, self._backed(picture.rgba), close.name)
            column += 1
        self.top += self.row

    def _passes(self, name: str) -> None:
        style, moment = self._own_style(name), MOMENTS[1]
        camera, cell = _portrait(moment), self.cell
        scene, cutout = self._scene(name, style, moment)
        full = self.studio.photograph(scene, cutout, camera, cell, cell, passes=True)
        scene, cutout = self._scene(name, None, moment)
        bald = self.studio.photograph(scene, cutout, camera, cell, cell)
        for column, (label, rgb) in enumerate(self._pass_pictures(full, bald)):
            self._tick(label)
            self._place(column, rgb, label)
        self.top += self.row

    def _pass_pictures(
        self, full: Photograph, bald: Photograph
    ) -> list[tuple[str, NDArray[np.uint8]]]:
        assert full.albedo is not None
        assert full.normals is not None
        assert full.depth is not None
        assert full.labels is not None
        alpha = full.rgba[..., 3]
        mask = np.stack([(alpha - full.hair).clip(0, 1), full.hair, np.zeros_like(alpha)], -1)
        near = np.isfinite(full.depth)
        depth = np.zeros_like(full.depth)
        if near.any():
            low, high = full.depth[near].min(), full.depth[near].max()
            depth[near] = 1 - 0.85 * (full.depth[near] - low) / max(float(high - low), 1e-6)
        normals = np.where(near[..., None], (full.normals + 1) / 2, 0)
        marked = self._backed(full.rgba).copy()
        self._mark(marked, full)
        return [
            ("picture", self._backed(full.rgba)),
            ("bald twin", self._backed(bald.rgba)),
            ("albedo", self._backed(full.albedo)),
            ("normals", _bytes(normals)),
            ("depth", _bytes(np.repeat(depth[..., None], 3, -1))),
            ("labels", PALETTE[full.labels]),
            ("mask: head, hair", _bytes(mask)),
            ("landmarks", marked),
        ]

    def _mark(self, rgb: NDArray[np.uint8], full: Photograph) -> None:
        """Draw visible landmarks: the dense ones small, the 68 large."""
        picture = Image.fromarray(rgb)
        pen = ImageDraw.Draw(picture)
        visible = full.visible if full.visible is not None else np.ones(536, dtype=np.bool_)
        dense = full.dense if full.dense is not None else np.zeros((0, 2), dtype=np.float32)
        small, large = self.cell / 400, self.cell / 160
        for points, seen, size, colour in (
            (dense, visible[68:], small, (255, 255, 255)),
            (full.landmarks, visible[:68], large, _ACCENT),
        ):
            for x, y in points[seen[: len(points)]]:
                pen.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        rgb[:] = np.asarray(picture)

    # --- pieces -------------------------------------------------------------------------------

    def _model(self, number: int) -> str:
        """Somebody for a row that shows one person."""
        return self.people[min(number, len(self.people) - 1)]

    def _own_style(self, name: str) -> str | None:
        style = self.studio.subjects[name].style
        return style if style in self.studio.styles else None

    def _scene(self, name: str, style: str | None, moment: Moment):  # type: ignore[no-untyped-def]
        vertices = self.studio.pose(name, moment.blendshapes())
        return self.studio.scene(name, style, vertices)

    def _take(self, name: str, style: str | None, moment: Moment, camera: Camera) -> Photograph:
        scene, cutout = self._scene(name, style, moment)
        picture = self.studio.photograph(scene, cutout, camera, self.cell, self.cell)
        self._tick(f"{name} {moment.name}")
        return picture

    def _tick(self, what: str) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, what)

    def _left(self, column: int) -> int:
        return self.margin + column * (self.cell + self.gap)

    def _backed(self, rgba: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Over a studio backdrop that darkens downwards."""
        ramp = np.linspace(0, 1, len(rgba), dtype=np.float32)[:, None, None]
        top, bottom = (np.array(c, dtype=np.float32) for c in (_CELL_TOP, _CELL_BOTTOM))
        backdrop = (top + (bottom - top) * ramp) / 255
        return _bytes(rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * backdrop)

    def _place(
        self, column: int, rgb: NDArray[np.uint8], caption: str, strong: bool = False
    ) -> None:
        left = self._left(column)
        self.image.paste(Image.fromarray(rgb), (left, self.top))
        size = self.caption * 3 // 4
        font = ImageFont.load_default(size)
        while len(caption) > 3 and font.getlength(caption) > self.cell:
            caption = caption[:-2].rstrip(" ,…") + "…"
        colour = _ACCENT if strong else _INK
        self._text(left + 1, self.top + self.cell + 1, caption, size, colour)

    def _head(self, title: str, remark: str) -> None:
        size = self.heading // 2
        self.top += self.heading // 3
        self._text(self.margin, self.top, title, size, _ACCENT)
        width = ImageFont.load_default(size).getlength(title + "  ")
        small = self.caption * 3 // 4
        self._text(self.margin + int(width), self.top + size - small, remark, small, _FAINT)
        self.top += self.heading * 11 // 12

    def _text(
        self,
        x: int,
        y: int,
        text: str,
        size: int,
        colour: tuple[int, int, int],
        anchor: str = "la",
    ) -> None:
        self.pen.text((x, y), text, colour, ImageFont.load_default(size), anchor)


def _portrait(moment: Moment) -> Camera:
    return orbit(moment.yaw, moment.pitch, fov_deg=20.0, distance=1.0)


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
