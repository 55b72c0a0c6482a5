"""Albedo atlases: skin, eyes, teeth, brows and lashes of one subject in a single picture.

The layout is the bilinear model's UV atlas (``ATLAS_TILES``), so truth pictures, neural textures
and exported meshes all speak of the same texels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.errors import BadInput
from head360.geometry.atlas import ATLAS_TILES, INSET, UNIT
from head360.geometry.meshfile import read_obj
from head360.geometry.topology import Topology
from head360.rendering import raster
from head360.synthesis.blur import blur, window_of
from head360.synthesis.brows import BrowCards, brow_cover, paint_soft, paint_strands, soft_strength
from head360.synthesis.face_paint import LashLine, lip_mask, paint_face
from head360.synthesis.mouth_paint import MouthMap, find_teeth, paint_mouth
from head360.synthesis.skin_blend import SkinMap, blend_skins, mark_skin
from head360.synthesis.texel_map import SurfaceMap

if TYPE_CHECKING:
    from head360.synthesis.subjects import SubjectSpec

SKINS, EYES, BROWS = "appearance/ict_uv", "appearance/eyes", "hair/eyebrows"
SIZE = 1024  # texels per side of the truth atlas
Pixels = NDArray[np.uint8]

_TONGUE = (176, 84, 82)
_GUMS = (168, 72, 70)
_TEETH = (226, 214, 194)
_LASH = (28, 20, 18)


class Materials(Protocol):
    """Where the licensed pictures and brow cards come from."""

    def picture(self, name: str) -> Image.Image:
        """The RGB picture ``name``, a path relative to the asset folder.

        Raises:
            BadInput: it is missing.
        """

    def brow(self, name: str) -> BrowCards:
        """The brow style ``name``.

        Raises:
            BadInput: it is missing.
        """


class FolderMaterials:
    """Materials in the folder of raw assets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The file behind a name.

        Raises:
            BadInput: it is missing.
        """
        path = self.folder / name
        if not path.is_file():
            raise BadInput(f"The asset {path} is missing: restore the asset folder and try again.")
        return path

    def picture(self, name: str) -> Image.Image:
        """See :class:`Materials`."""
        return Image.open(self.path(name)).convert("RGB")

    def brow(self, name: str) -> BrowCards:
        """See :class:`Materials`."""
        mesh = read_obj(self.path(f"{BROWS}/{name}.obj"))
        with Image.open(self.path(f"{BROWS}/{name}.png")) as picture:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        return BrowCards(mesh.vertices, mesh.uvs, *mesh.triangles(), alpha)


def _tile_box(tile: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in texels of a tile without its one-unit inset, top row first."""
    x, y, w, h = ATLAS_TILES[tile]
    scale = SIZE // UNIT
    return (
        (x + INSET) * scale,
        SIZE - (y + h - INSET) * scale,
        (x + w - INSET) * scale,
        SIZE - (y + INSET) * scale,
    )


def _paste(atlas: Pixels, tile: str, picture: Image.Image) -> None:
    left, top, right, bottom = _tile_box(tile)
    inner = np.asarray(picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS))
    margin = INSET * SIZE // UNIT
    atlas[top - margin : bottom + margin, left - margin : right + margin] = np.pad(
        inner, ((margin, margin), (margin, margin), (0, 0)), mode="edge"
    )


def _flat(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


@dataclass
class Canvas:
    """What all atlases of one head topology share; made once, used for every subject.

    Attributes:
        topology: of the bilinear model.
        generic: (N, 3) float32 the generic head in metres, on which the brow cards were fitted.
        tongue: (N,) which vertices belong to the tongue.
    """

    topology: Topology
    generic: NDArray[np.float32]
    tongue: NDArray[np.bool_]
    _brows: dict[str, tuple[tuple[slice, slice], NDArray[np.float32]]] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def surface(self) -> SurfaceMap:
        """The generic head spread over the atlas."""
        return SurfaceMap.of(self.topology, self.generic, SIZE)

    @cached_property
    def mouth(self) -> MouthMap:
        """Teeth, gums and tongue."""
        teeth = find_teeth(self.topology, self.generic, self.tongue)
        return MouthMap.of(self.surface, self.topology, teeth, self.tongue)

    @cached_property
    def skin(self) -> SkinMap:
        """Where marks gather."""
        return SkinMap(self.surface, self.lips)

    @cached_property
    def lashes(self) -> LashLine:
        """Where lashes root."""
        return LashLine.of(self.surface, self.generic[self.topology.part_vertices("eyelashes")])

    @cached_property
    def lips(self) -> NDArray[np.float32]:
        """(SIZE, SIZE) share of each texel that is lip."""
        return lip_mask(self.surface, self.surface.on("face"))

    @cached_property
    def plain_tongue(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(SIZE, SIZE, 1) share and (SIZE, SIZE, 3) colour of the first look's tongue."""
        faces = np.asarray(self.tongue[self.topology.faces].all(1), dtype=np.bool_)
        share = blur(_paint_faces(faces, self.topology).astype(np.float32), 2.0)[..., None]
        noise = np.random.default_rng(0).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
        bumps = 1 + 0.05 * blur(noise, 1.5)[..., None] / 0.19
        return share, np.clip(np.array(_TONGUE, dtype=np.float32) * bumps, 0, 255)

    def brow(self, materials: Materials, name: str) -> NDArray[np.float32]:
        """(SIZE, SIZE) cover of a brow style, see ``brows.brow_cover``; found once."""
        if name not in self._brows:
            cover = brow_cover(self.topology, self.generic, materials.brow(name), SIZE)
            window = window_of(cover > 0, 0)
            self._brows[name] = window, cover[window].copy()
        window, share = self._brows[name]
        cover = np.zeros((SIZE, SIZE), dtype=np.float32)
        cover[window] = share
        return cover

    def brow_strength(self, materials: Materials, name: str) -> NDArray[np.float32]:
        """(SIZE, SIZE) float32 0…1 how much of the skin a brow style hides."""
        return soft_strength(self.brow(materials, name))


def head_atlas(canvas: Canvas, materials: Materials, spec: SubjectSpec, detail: bool) -> Pixels:
    """(1024, 1024, 3) uint8 sRGB albedo, top row first.

    Args:
        canvas: of the head.
        materials: pictures and brow cards.
        spec: whose.
        detail: False paints mouth, eyes and brows as in the first look.

    Raises:
        BadInput: a picture is missing.
    """
    atlas = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    face, back = _skin(materials, spec)
    _paste(atlas, "face", face)
    _paste(atlas, "back_head", back)
    sclera = materials.picture(f"{EYES}/sclera.jpg")
    iris = np.asarray(materials.picture(f"{EYES}/iris_{spec.iris}.jpg"), dtype=np.float32)
    pupil = Image.fromarray(np.clip(iris * spec.iris_gain, 0, 255).astype(np.uint8))
    for side in ("left", "right"):
        _paste(atlas, f"sclera_{side}", sclera)
        _paste(atlas, f"iris_{side}", pupil)
        _paste(atlas, f"lashes_{side}", _flat(_LASH))
    _paste(atlas, "teeth", _flat(_TEETH))
    _paste(atlas, "gums_tongue", _flat(_GUMS))
    if spec.touch.marks:
        mark_skin(atlas, canvas.skin, spec.touch, spec.brow_colour, spec.seed)
    cover = canvas.brow(materials, spec.brow)
    if not detail:
        _paint_tongue(atlas, *canvas.plain_tongue)
        paint_soft(atlas, cover, spec.brow_colour)
        return atlas
    darkness = float(np.clip((200 - np.asarray(face, dtype=np.float32).mean()) / 130, 0, 1))
    paint_mouth(atlas, canvas.mouth, spec.seed, darkness)
    lash = np.array(_LASH, dtype=np.float32)
    paint_face(atlas, canvas.surface, canvas.lips, canvas.lashes, spec.seed, lash)
    paint_strands(atlas, cover, canvas.surface, spec.brow_colour, spec.seed)
    return atlas


def _skin(materials: Materials, spec: SubjectSpec) -> tuple[Image.Image, Image.Image]:
    """Face and back-of-head pictures of a subject, before anything is painted on them."""

    def pair(name: str) -> tuple[Image.Image, Image.Image]:
        face = materials.picture(f"{SKINS}/{name}_face.jpg")
        return face, materials.picture(f"{SKINS}/{name}_backhead.jpg")

    face, back = pair(spec.skin)
    touch = spec.touch
    if not touch.mixes:
        return face, back
    sides = []
    for tile in ("face", "back_head"):
        left, _, right, _ = _tile_box(tile)
        sides.append(right - left)
    other = pair(touch.other) if touch.other is not None else None
    lines = pair(touch.lines) if touch.lines is not None else None
    return blend_skins(face, back, other, lines, touch, (sides[0], sides[1]), spec.seed)


def _paint_faces(faces: NDArray[np.bool_], topology: Topology) -> NDArray[np.bool_]:
    """(SIZE, SIZE) mask of the atlas texels that the chosen faces cover, top row first."""
    uvs = topology.uvs
    screen = np.stack(
        [uvs[:, 0] * SIZE, (1 - uvs[:, 1]) * SIZE, np.ones(len(uvs)), np.ones(len(uvs))], 1
    ).astype(np.float32)
    fragments = raster.rasterize(screen[None], topology.face_uvs[faces], SIZE, SIZE)
    return fragments.face[0] >= 0


def _paint_tongue(atlas: Pixels, share: NDArray[np.float32], paint: NDArray[np.float32]) -> None:
    window = window_of(share[..., 0] > 0, 0)
    part, share, paint = atlas[window], share[window], paint[window]
    part[:] = (part * (1 - share) + paint * share).astype(np.uint8)


def fill_transparent(picture: Image.Image) -> Pixels:
    """(H, W, 3) uint8 RGB whose transparent texels take the colour of their opaque neighbours."""
    rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32)
    alpha = rgba[..., 3:] / 255
    out = rgba[..., :3] * alpha
    weight = alpha.copy()
    for sigma in (2, 6, 24, 96):
        blurred, spread = blur(out, sigma), blur(weight, sigma)
        fill = blurred / np.maximum(spread, 1e-6)
        missing = 1 - np.clip(weight * 4, 0, 1)
        reach = np.clip(spread * 50, 0, 1) * missing
        out, weight = out + fill * reach, np.clip(weight + reach, 0, 1)
    return np.clip(out / np.maximum(weight, 1e-6), 0, 255).astype(np.uint8)
