"""Training pictures for the networks that read a window around the head.

The studio photographs bare busts before nothing. Here they get a room behind them, shoulders,
clothes, beards, make-up, spectacles, hats and things that hide them, then the light, the colours
and the faults of photographs. Labels follow: clothes and bare shoulders are "neck", since they
belong to the person; hats and whatever stands in front are background; beards are skin.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.nn import functional as F

from head360.datasets.labels import BACKGROUND, BROWS, HAIR, LABELS, LIPS, NECK, SKIN
from head360.networks.face_window import FaceFrame, window_grid
from head360.training import portrait_camera, portrait_props, portrait_scenery
from head360.training.portrait_augment import cut
from head360.training.portraits import PortraitSet

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneSettings:
    """How far pictures are taken from the studio; shares are probabilities.

    Attributes:
        background, clothes, beard, spectacles, hat, occluder: what is painted.
        recolour: of hair, lips, brows and skin.
        faults: blur, noise, compression, exposure; 0 leaves them out, 1 is what training uses.
        cut: of a picture's border running through the window.
        shift, scale, turn: standard deviation of the window's place (units), size (logarithm) and
            angle (radians): landmarks are never exact.
    """

    background: float = 1.0
    clothes: float = 0.85
    beard: float = 0.15
    spectacles: float = 0.12
    hat: float = 0.2
    occluder: float = 0.12
    recolour: float = 0.7
    faults: float = 1.0
    cut: float = 0.25
    shift: float = 0.1
    scale: float = 0.08
    turn: float = 0.08

    def half(self) -> SceneSettings:
        """Moderate: half as probable and half as strong; backgrounds and clothes stay."""
        values = dataclasses.asdict(self)
        same = {"background", "clothes"}
        return SceneSettings(**{k: v if k in same else v / 2 for k, v in values.items()})


PLAIN = SceneSettings(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Bust:
    """One studio picture, see ``training.portraits``.

    Attributes:
        rgba: (H, W, 4) uint8. labels, hair: (H, W) uint8. landmarks: (68, 2) pixels.
    """

    rgba: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    hair: NDArray[np.uint8]
    landmarks: Floats


@dataclass(frozen=True)
class Scene:
    """One window, ready to learn from.

    Attributes:
        pixels: (3, S, S) float32 sRGB in [0, 1].
        shares: (8, S, S) float32 shares of the labels, which sum to 1.
        side: of the window in units of the face, as far as landmarks tell.
        centre: of the window, units right of and below the face's, likewise.
        points: (68, 2) landmarks in window coordinates [−1, 1].
    """

    pixels: Floats
    shares: Floats
    side: float
    centre: tuple[float, float]
    points: Floats


class Scenes:
    """Turns busts into photographs.

    Args:
        data: hair and skin of these may be part of backgrounds.
        settings: how far to go.
    """

    def __init__(self, data: PortraitSet | None, settings: SceneSettings) -> None:
        self.data, self.settings = data, settings

    def draw(
        self,
        bust: Bust,
        side: float,
        size: int,
        rng: np.random.Generator,
        centre: tuple[float, float] = (0.0, 0.0),
    ) -> Scene:
        """One window.

        Args:
            bust: the picture.
            side: of the window in units of the face, on average.
            size: pixels.
            rng: of everything.
            centre: of the window, units right of and below the face's, on average.
        """
        s = self.settings
        frame = FaceFrame.of(bust.landmarks)
        side = float(side * np.exp(rng.normal(0, s.scale)))
        moved = dataclasses.replace(
            frame,
            x=frame.x + rng.normal(0, s.shift) * frame.unit,
            y=frame.y + rng.normal(0, s.shift) * frame.unit,
            unit=frame.unit * float(np.exp(rng.normal(0, s.scale))),
            angle=frame.angle + rng.normal(0, s.turn),
        ).beside(centre)
        front, shares = cut_out(bust, moved, side, size)
        points = (bust.landmarks @ moved.inverse(side)[:, :2].T) + moved.inverse(side)[:, 2]
        if s.shift and rng.random() < 0.5:
            front, shares = front[:, :, ::-1], shares[:, :, ::-1]
            points, centre = points[MIRROR] * (-1, 1), (-centre[0], centre[1])
        whole = np.ascontiguousarray
        canvas = _Canvas(whole(front), whole(shares), points.astype(np.float32), side)
        if rng.random() < s.recolour:
            _recolour(canvas, rng)
        if rng.random() < s.beard:
            _beard(canvas, rng)
        _room(canvas, self.data, rng, s)
        if rng.random() < s.spectacles:
            _spectacles(canvas, rng)
        if rng.random() < s.hat:
            named = canvas.bust.argmax(0).astype(np.uint8)
            cover = portrait_props.beanie(rng, named, canvas.places())
            cloth = _stuff(rng, size)
            if rng.random() < 0.7:
                plain = _colour(rng) * rng.uniform(0.1, 1.0)
                cloth = plain[:, None, None] * (0.85 + 0.3 * _noise(rng, size, size // 2))
            ink = portrait_props.wool(rng, cloth.transpose(1, 2, 0), cover, canvas.places())
            canvas.paint(_planes(ink), cover, BACKGROUND)
        if rng.random() < s.occluder:
            cover = portrait_props.patches(rng, size)
            canvas.paint(_stuff(rng, size), cover, BACKGROUND)
        if rng.random() < s.cut:
            _cut(canvas, rng)
        taken = portrait_camera.take(rng, canvas.picture.transpose(1, 2, 0), s.faults)
        picture = _planes(taken / np.float32(255))
        shares = np.ascontiguousarray(canvas.labels, dtype=np.float32)
        return Scene(picture, shares, side, centre, points.astype(np.float32))


def _planes(picture: NDArray[np.floating]) -> Floats:
    """(S, S, 3) → (3, S, S)."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)


def _stuff(rng: np.random.Generator, size: int) -> Floats:
    """(3, size, size) of anything: cloth, or a piece of some background."""
    if rng.random() < 0.6:
        return _planes(portrait_scenery.fabric(rng, size))
    return _planes(portrait_scenery.background(rng, size))


def _colour(rng: np.random.Generator) -> Floats:
    """(3,) float32 sRGB in [0, 1]."""
    return (portrait_scenery.colour(rng) / 255).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, cells: int) -> Floats:
    """(size, size) float32 in [0, 1], smooth, about ``cells`` bumps per side."""
    grey = portrait_scenery.clouds(rng, size, cells)[..., 0]
    return np.asarray(grey / 255, dtype=np.float32)


def _mirror() -> NDArray[np.int64]:
    """(68,) which landmark each becomes in a mirror, Multi-PIE order."""
    order = np.arange(68)
    order[:17] = order[16::-1]
    order[17:27] = order[26:16:-1]
    order[31:36] = order[35:30:-1]
    twins = (
        (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53), (50, 52),
        (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),
    )  # fmt: skip
    for left, right in twins:
        order[left], order[right] = right, left
    return order


MIRROR = _mirror()


class _Canvas:
    """A picture in the making.

    Attributes:
        front: (4, S, S) premultiplied sRGB of the bust.
        bust: (8, S, S) shares of the labels; background is what the bust leaves free.
        points: (68, 2) landmarks in window coordinates [−1, 1].
        x, y: (S, S) units of the face from the middle of the window.
        picture, labels: the result so far, (3, S, S) and (8, S, S).
    """

    def __init__(self, front: Floats, bust: Floats, points: Floats, side: float) -> None:
        self.front, self.bust, self.points = front, bust, points
        self.size, self.side = front.shape[-1], side
        grid = window_grid(self.size).numpy() * (side / 2)
        self.x, self.y = grid[..., 0], grid[..., 1]
        self.picture, self.labels = front[:3].copy(), bust

    def places(self) -> Floats:
        """(68, 2) landmarks in pixels."""
        return ((self.points + 1) * (self.size / 2)).astype(np.float32)

    def paint(self, ink: Floats, cover: Floats, label: int) -> None:
        """Lay (3, S, S) ink over the picture where (S, S) ``cover`` says so."""
        self.picture = self.picture * (1 - cover) + ink * cover
        self.labels = self.labels * (1 - cover)
        self.labels[label] += cover

    def soft(self, distance: NDArray[np.floating]) -> Floats:
        """Coverage of what lies at positive ``distance`` (units) from an edge, a pixel soft."""
        return np.clip(0.5 + distance * self.size / self.side, 0, 1).astype(np.float32)

    def polygon(self, corners: NDArray[np.floating]) -> Floats:
        """(S, S) coverage of a polygon in window coordinates [−1, 1]."""
        drawn = Image.new("L", (2 * self.size, 2 * self.size))
        places = (corners + 1) * self.size
        ImageDraw.Draw(drawn).polygon([tuple(place) for place in places], fill=255)
        return np.asarray(np.asarray(drawn.reduce(2)) / 255, dtype=np.float32)


def cut_out(bust: Bust, frame: FaceFrame, side: float, size: int) -> tuple[Floats, Floats]:
    """A window of a studio picture, nothing where the picture ends.

    Returns:
        (4, size, size) premultiplied sRGB, and (8, size, size) shares of the labels.
    """
    turn = frame.matrix(side)
    pixel = np.column_stack([turn[:, :2] * (2 / size), turn[:, 2] - turn[:, :2].sum(1)])
    matrix = pixel.astype(np.float32)
    straight = Image.fromarray(bust.rgba).convert("RGBa")
    seen = np.asarray(cut(straight, matrix, size), dtype=np.float32) / 255
    soft = np.concatenate([_planes(seen), seen[None, ..., 0]])
    soft[4] = np.asarray(cut(Image.fromarray(bust.hair), matrix, size), dtype=np.float32) / 255
    label = np.asarray(cut(Image.fromarray(bust.labels), matrix, size, smooth=False))
    shares = (label == np.arange(len(LABELS))[:, None, None]).astype(np.float32)
    alpha, hair = np.clip(soft[3], 0, 1), np.minimum(soft[4], soft[3])
    # Hair and alpha are known to the strand; the other classes share what is left.
    rest = shares.copy()
    rest[[BACKGROUND, HAIR]] = 0
    total = rest.sum(0)
    rest *= (alpha - hair) / np.maximum(total, 1e-6)
    out = np.where(total > 0, rest, 0)
    out[HAIR] = np.where((total > 0) | (shares[HAIR] == 0), hair, alpha)
    out[BACKGROUND] = 1 - out.sum(0)
    return soft[:4], np.clip(out, 0, 1).astype(np.float32)


def _recolour(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Make-up, brows, dyed hair and light of another colour on one side of the bust."""
    colours = canvas.front[:3]
    for label, share, strength in ((HAIR, 0.4, 0.5), (LIPS, 0.4, 0.7), (BROWS, 0.4, 0.6)):
        if rng.random() > share:
            continue
        mask = canvas.bust[label] * rng.uniform(0.2, strength)
        ink = _colour(rng) if label != BROWS else _colour(rng) * 0.3
        if label == LIPS:
            ink = np.array([rng.uniform(0.3, 0.95), rng.uniform(0, 0.4), rng.uniform(0, 0.5)])
        light = colours.mean(0) if rng.random() < 0.5 else np.float32(0.6)
        tinted = ink[:, None, None] * (0.4 + light) * canvas.front[3]
        colours = colours * (1 - mask) + tinted * mask
    gain = 1 + rng.uniform(0, 0.8) * (_noise(rng, canvas.size, int(rng.integers(1, 4))) - 0.5)
    tint = 1 + rng.normal(0, 0.06, 3)
    canvas.front[:3] = np.clip(colours * gain * tint[:, None, None], 0, canvas.front[3])


def _beard(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Noise in the colour of hair on cheeks, chin and upper lip; still skin."""
    p = canvas.points
    kind = rng.random()
    nose = p[31:36]
    if kind < 0.6:  # full
        low = p[8] + (p[2:15] - p[8]) * rng.uniform(0.95, 1.08)
        cheek = rng.uniform(0.35, 0.7)
        left, right = p[2] + (p[31] - p[2]) * cheek, p[14] + (p[35] - p[14]) * cheek
        corners = np.concatenate([low, [right], nose[::-1], [left]])
    elif kind < 0.8:  # chin
        around = p[48:60].mean(0)
        corners = around + (np.concatenate([p[6:11], p[[54, 35, 33, 31, 48]]]) - around) * 1.1
    else:  # moustache
        corners = np.concatenate([p[[48]], nose, p[[54, 53, 52, 51, 50, 49]]])
    cover = canvas.polygon(corners)
    blurred = F.avg_pool2d(
        torch.from_numpy(cover)[None, None], 5, 1, 2, count_include_pad=False
    )[0, 0].numpy()  # fmt: skip
    grain = 0.75 + 0.5 * _noise(rng, canvas.size, canvas.size // 2)
    dense = np.clip(blurred * grain * rng.uniform(0.4, 1.4), 0, 0.95)
    mask = dense * (canvas.bust[SKIN] + canvas.bust[NECK])
    dark = _colour(rng) * rng.uniform(0.1, 0.6) if rng.random() < 0.2 else np.array(
        [1.0, 0.75, 0.6]) * rng.uniform(0.05, 0.4)  # fmt: skip
    lit = 0.75 + 0.5 * _noise(rng, canvas.size, canvas.size // 2)
    ink = dark[:, None, None].astype(np.float32) * lit * canvas.front[3]
    canvas.front[:3] = canvas.front[:3] * (1 - mask) + ink * mask


def _room(
    canvas: _Canvas, data: PortraitSet | None, rng: np.random.Generator, settings: SceneSettings
) -> None:
    """What is behind the bust, the rest of the body, and clothes over both."""
    size = canvas.size
    behind = np.full((3, size, size), 1.0, dtype=np.float32)
    if rng.random() < settings.background:
        behind = _planes(portrait_scenery.background(rng, size, data))
    own, front = canvas.bust, canvas.front
    canvas.picture = behind
    canvas.labels = np.zeros_like(own)
    canvas.labels[BACKGROUND] = 1
    cloth = None
    if rng.random() < settings.clothes:
        cloth = _body(canvas, rng)
    canvas.picture = front[:3] + canvas.picture * (1 - front[3])
    # At a rim that the studio calls background all is what lies behind.
    canvas.labels = own + canvas.labels * own[BACKGROUND]
    canvas.labels[BACKGROUND] = 0
    canvas.labels[BACKGROUND] = 1 - canvas.labels.sum(0)
    if cloth is not None:
        ink, cover = cloth
        canvas.paint(ink, cover * own[NECK], NECK)


def _body(canvas: _Canvas, rng: np.random.Generator) -> tuple[Floats, Floats] | None:
    """Shoulders and clothes behind the bust; returns the cloth, which goes over the neck, too."""
    neck = canvas.bust[NECK] > 0.5
    if neck.sum() < 0.004 * neck.size:
        return None
    heights, places = canvas.y[neck], canvas.x[neck]
    low = heights >= np.quantile(heights, 0.2)
    middle = float(np.median(places[low]))
    top, mid, end = (float(q) for q in np.quantile(heights, (0.1, 0.45, 0.9)))
    away = np.abs(canvas.x - middle + rng.normal(0, 0.1))
    wide = rng.uniform(0.8, 1.3)  # of the neck's foot
    broad = rng.uniform(1.9, 3.6)  # of the shoulders
    slope, curve = rng.uniform(0.12, 0.6), rng.uniform(0.5, 2.0)
    start = rng.uniform(mid, end)
    beyond = np.maximum(away - wide, 0)
    line = start + slope * beyond + curve * np.maximum(away - broad, 0) ** 2 * 4
    # Bare skin first: what a neckline leaves open.
    tone = np.median(canvas.front[:3][:, neck], axis=1)[:, None, None]
    shade = (0.75 + 0.4 * _noise(rng, canvas.size, 3)).astype(np.float32)
    canvas.paint(tone * shade, canvas.soft(canvas.y - line), NECK)
    if rng.random() < 0.12:
        return None
    # Round, pointed, straight, or up to the chin as a scarf is.
    side = start + rng.uniform(-0.35, 0.25)
    if rng.random() < 0.12:
        side = rng.uniform(top, mid)
    deep = side + rng.uniform(-0.05, 1.1)
    inner = np.clip(1 - (away / wide) ** rng.choice([1.0, 2.0, 4.0]), 0, 1)
    collar = side + (deep - side) * inner + slope * beyond
    collar = np.maximum(collar, line - 0.25) if rng.random() < 0.7 else collar
    collar = collar + curve * np.maximum(away - broad, 0) ** 2 * 4
    cover = canvas.soft(canvas.y - collar)
    if rng.random() < 0.12:  # straps
        strap = np.abs(away - rng.uniform(0.9, 1.6)) < rng.uniform(0.08, 0.3)
        cover = cover * np.maximum(strap, canvas.y > deep + 0.5)
    ink = _stuff(rng, canvas.size)
    rim = rng.random()
    if rim < 0.5:  # a hem, a collar, lapels
        edge = canvas.soft(rng.uniform(0.05, 0.4) - (canvas.y - collar))
        ink = ink * (1 - edge) + np.clip(ink * rng.uniform(0.4, 1.5), 0, 1) * edge
    ink = np.clip(ink, 0, 1).astype(np.float32)
    canvas.paint(ink, cover, NECK)
    return ink, cover


def _spectacles(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Rims and panes; what they cover keeps its name."""
    worn, _ = portrait_props.glasses(rng, canvas.picture.transpose(1, 2, 0), canvas.places())
    canvas.picture = _planes(worn)


def _cut(canvas: _Canvas, rng: np.random.Generator) -> None:
    """The photograph ends within the window; there its border goes on, as at inference."""
    size = canvas.size
    for edge in range(4):
        if rng.random() < 0.65:
            continue
        rim = int(rng.integers(1, size // 5))
        keep = np.arange(size)
        keep = np.maximum(keep, rim) if edge < 2 else np.minimum(keep, size - 1 - rim)
        for name in ("picture", "labels"):
            array = getattr(canvas, name)
            setattr(canvas, name, array[:, keep] if edge % 2 == 0 else array[:, :, keep])
