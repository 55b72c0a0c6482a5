"""The synthetic studio: photographs of posed, textured, haired heads from any camera.

Every picture is computed from the same bilinear mesh that the neural head poses, so geometry,
landmarks and masks agree with the model to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.datasets import labels
from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel, IdentityMesh
from head360.geometry.lashes import lash_mask
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.rendering import raster
from head360.rendering.cameras import Camera
from head360.synthesis import hair as hair_cards
from head360.synthesis import parsing
from head360.synthesis.hair_light import HairLight, hair_light
from head360.synthesis.lights import DEFAULT_LIGHT
from head360.synthesis.looks import LATEST_LOOK, Look
from head360.synthesis.photography import Photograph, draw, finish
from head360.synthesis.posing import HeadSurface, PosedSurface
from head360.synthesis.recent import Recent
from head360.synthesis.shading import EYE, GUMS, HAIR, LASH, SKIN, TEETH, ShadeInput
from head360.synthesis.skin_detail import flat_map, skin_map, skin_regions
from head360.synthesis.subjects import SubjectSpec
from head360.synthesis.wardrobe import Wardrobe

Floats = NDArray[np.float32]

_MATERIAL_OF_PART = {
    "eyeball": EYE,
    "teeth": TEETH,
    "gums_tongue": GUMS,
    "mouth_socket": GUMS,
    "eyelashes": LASH,
}

# How many a studio keeps, so that a cast of a thousand fits into memory.
_KEPT_SITTERS = 24  # about 6 MB each
_KEPT_STYLES = 64  # about 2 MB each: every style there is
_KEPT_WORN = 64  # subjects times styles, about 2 MB each
_KEPT_SHADOWS = 32  # subjects times styles, about 2 MB each


@dataclass
class _Sitter:
    spec: SubjectSpec
    shape: Floats
    identity: IdentityMesh
    atlas: NDArray[np.uint8]
    lattice: Lattice
    labels: NDArray[np.uint8]
    skin_map: NDArray[np.uint8]


class _Maps:
    """What all studios of one model share: nobody's face changes it.

    Attributes:
        average: (N, 3) float32 the neutral average head, metres.
        face_labels, label_atlas: see ``parsing``.
        regions: see ``skin_detail.skin_regions``.
        lashes: mask of the lashes, see ``geometry.lashes``.
    """

    def __init__(self, model: BilinearModel) -> None:
        topology = model.topology
        self.average = model.neutral(model.mean_shape)
        texels = parsing.skin_positions(topology, self.average)
        self.face_labels = parsing.face_labels(topology)
        self.label_atlas = parsing.label_atlas(topology, texels)
        self.regions = skin_regions(topology, self.average, texels)
        self.lashes = lash_mask()


_maps: tuple[BilinearModel, _Maps] | None = None


def _maps_of(model: BilinearModel) -> _Maps:
    """The maps of a model; the last model's are kept."""
    global _maps
    if _maps is None or _maps[0] is not model:
        _maps = model, _Maps(model)
    return _maps[1]


class Studio:
    """Subjects, styles and lights in one place.

    Args:
        model: the bilinear mesh.
        wardrobe: skins, eyes, brows and hair.
        subjects: who can sit.
        styles: which hair they can wear.
        samples: supersampling per axis; 3 gives ten levels of coverage.
        shapes: identity coefficients by subject, where they are not the cast's own.
        look: what pictures look like; the first is what the first heads were trained on.
        device: "cpu" or a torch device such as "cuda", which draws the pictures.
    """

    def __init__(
        self,
        model: BilinearModel,
        wardrobe: Wardrobe,
        subjects: tuple[SubjectSpec, ...],
        styles: tuple[hair_cards.StyleSpec, ...] = hair_cards.STYLES,
        samples: int = 3,
        shapes: dict[str, Floats] | None = None,
        look: Look = LATEST_LOOK,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.wardrobe = wardrobe
        self.subjects = {spec.name: spec for spec in subjects}
        self.styles = {spec.name: spec for spec in styles}
        self.samples = samples
        self._shapes = shapes or {}
        self.look = look
        self.device = device
        topology = model.topology
        self._generic = wardrobe.generic(topology)
        self._skin_faces = topology.part_faces(*ANCHOR_PARTS)
        self._skin_vertices = topology.part_vertices(*ANCHOR_PARTS)
        self._materials = np.full(len(topology.faces), SKIN, dtype=np.uint8)
        for name, material in _MATERIAL_OF_PART.items():
            self._materials[topology.part_faces(name)] = material
        self._corner_uvs = topology.uvs[topology.face_uvs].astype(np.float32)
        self._maps = _maps_of(model)
        self._mask = self._maps.lashes
        self._surface = HeadSurface(topology, look.fine_skin)
        self._last: PosedSurface | None = None
        self._to_average: Lattice | None = None
        self._sitters: Recent[str, _Sitter] = Recent(_KEPT_SITTERS)
        self._style_cache: Recent[str, hair_cards.Style] = Recent(_KEPT_STYLES)
        self._worn: Recent[tuple[str, str], hair_cards.WornHair] = Recent(_KEPT_WORN)
        self._lights: Recent[tuple[str, str], HairLight] = Recent(_KEPT_SHADOWS)

    def sitter(self, name: str) -> _Sitter:
        """Shape, texture and warp of one subject; the last ones are kept.

        Raises:
            BadInput: nobody of that name is in the cast.
        """
        if name not in self.subjects:
            known = ", ".join(self.subjects)
            raise BadInput(f"There is no subject {name!r}: choose one of {known}.")
        return self._sitters.get(name, lambda: self._dress(self.subjects[name]))

    def _dress(self, spec: SubjectSpec) -> _Sitter:
        shape = self._shapes.get(spec.name)
        if shape is None:
            shape = spec.shape(self.model)
        topology, maps = self.model.topology, self._maps
        identity = self.model.identity(shape)
        atlas = self.wardrobe.atlas(topology, spec, self.look.detailed_atlas)
        skin = self._skin_vertices
        lattice = Lattice.between(identity.neutral[skin], maps.average[skin])
        relief = flat_map()
        if self.look.fine_skin:
            relief = skin_map(atlas, maps.regions, spec.seed)
        brows = self.wardrobe.brow_strength(topology, spec)
        parsed = parsing.with_brows(maps.label_atlas, brows)
        return _Sitter(spec, shape, identity, atlas, lattice, parsed, relief)

    def style(self, name: str) -> hair_cards.Style:
        """A hair style in canonical space.

        Raises:
            BadInput: no such style.
        """
        if name not in self.styles:
            known = ", ".join(self.styles)
            raise BadInput(f"There is no hair style {name!r}: choose one of {known}.")
        return self._style_cache.get(name, lambda: self._hair(self.styles[name]))

    def _hair(self, spec: hair_cards.StyleSpec) -> hair_cards.Style:
        if self._to_average is None:
            skin = self._skin_vertices
            self._to_average = Lattice.between(self._generic[skin], self._maps.average[skin])
        return self.wardrobe.style(spec, self._to_average)

    def pose(self, subject: str, blendshapes: Floats) -> Floats:
        """(N, 3) float32 posed vertices of ``subject``, metres, head space."""
        return self.sitter(subject).identity.pose(blendshapes)

    def worn(self, subject: str, style: str) -> hair_cards.WornHair:
        """``style`` on ``subject``; the last ones are kept."""

        def wear() -> hair_cards.WornHair:
            sitter = self.sitter(subject)
            skin = self.model.topology.faces[self._skin_faces]
            return hair_cards.wear(self.style(style), sitter.lattice, sitter.identity.neutral, skin)

        return self._worn.get((subject, style), wear)

    def scene(
        self, subject: str, style: str | None, vertices: Floats
    ) -> tuple[ShadeInput, raster.Cutout]:
        """Head and hair of one moment as one mesh, ready for any number of cameras."""
        sitter = self.sitter(subject)
        topology = self.model.topology
        surface = self._posed(vertices)
        light = None
        if style is not None and self.look.hair_shadows:
            light = self._hair_light(subject, style)
        shadows = self._surface.shadows(surface, None if light is None else light.behind)
        tangents = np.zeros_like(vertices)
        layers = np.where(self._materials == LASH, 0, -1).astype(np.int32)
        if style is None:
            scene = ShadeInput(
                vertices, surface.normals, tangents, shadows, topology.faces, self._corner_uvs,
                self._materials, sitter.atlas, np.zeros((2, 2, 3), dtype=np.uint8),
                surface.true_normals, self._maps.face_labels, sitter.labels, sitter.skin_map,
            )  # fmt: skip
            return scene, raster.Cutout(self._corner_uvs, layers, self._mask[None])
        cards, worn = self.style(style), self.worn(subject, style)
        strands = worn.positions
        if self.look.hair_follows:
            skin = topology.faces[self._skin_faces]
            strands = hair_cards.follow(worn, sitter.identity.neutral, vertices, skin)
        own = worn.occlusion[:, None].repeat(shadows.shape[1], 1) if light is None else light.own
        size = len(self._mask) // len(cards.mask)
        corner_uvs = np.concatenate([self._corner_uvs, cards.corner_uvs])
        count = len(cards.faces)
        scene = ShadeInput(
            np.concatenate([vertices, strands]),
            np.concatenate([surface.normals, worn.normals]),
            np.concatenate([tangents, worn.tangents]),
            np.concatenate([shadows, own]),
            np.concatenate([topology.faces, cards.faces + len(vertices)]),
            corner_uvs,
            np.concatenate([self._materials, np.full(count, HAIR, dtype=np.uint8)]),
            sitter.atlas,
            cards.texture,
            np.concatenate([surface.true_normals, worn.normals]),
            np.concatenate([self._maps.face_labels, np.full(count, labels.HAIR, dtype=np.uint8)]),
            sitter.labels,
            sitter.skin_map,
        )
        masks = np.stack([self._mask, cards.mask.repeat(size, 0).repeat(size, 1)])
        layers = np.concatenate([layers, np.full(count, 1, dtype=np.int32)])
        return scene, raster.Cutout(corner_uvs, layers, masks)

    def _hair_light(self, subject: str, style: str) -> HairLight:
        """Shadows of ``style`` on ``subject``; the last ones are kept."""

        def cast_shadows() -> HairLight:
            head = self.sitter(subject).identity.neutral
            normals, _ = self._surface.normals(head)
            worn = self.worn(subject, style)
            return hair_light(self.style(style), worn, head, normals, self._surface.casters)

        return self._lights.get((subject, style), cast_shadows)

    def _posed(self, vertices: Floats) -> PosedSurface:
        """The head's surface; the last pose's is kept for its bald twin."""
        if self._last is None or self._last.vertices is not vertices:
            self._last = self._surface.posed(vertices)
        return self._last

    def photograph(
        self,
        scene: ShadeInput,
        cutout: raster.Cutout,
        camera: Camera,
        width: int,
        height: int,
        *,
        lights: Sequence[str] = (),
        passes: bool = False,
    ) -> Photograph:
        """Take one picture of a prepared scene.

        Args:
            scene, cutout: from :meth:`scene`.
            camera: where from.
            width, height: pixels.
            lights: names of ``lights.LIGHTS`` to light it with beside the default.
            passes: whether depth, normals, albedo, labels and visibility are wanted.

        Raises:
            BadInput: there is no such light.
        """
        return self.photograph_batch(
            scene, cutout, [camera], width, height, lights=lights, passes=passes
        )[0]

    def photograph_batch(
        self,
        scene: ShadeInput,
        cutout: raster.Cutout,
        cameras: Sequence[Camera],
        width: int,
        height: int,
        *,
        lights: Sequence[str] = (),
        passes: bool = False,
    ) -> list[Photograph]:
        """One picture from each camera, see :meth:`photograph`; on CUDA all at once."""
        names = (DEFAULT_LIGHT, *(name for name in lights if name != DEFAULT_LIGHT))
        shots = draw(
            scene,
            cutout,
            list(cameras),
            width,
            height,
            names,
            passes,
            self.samples,
            self.model.vertex_count,
            self.device,
        )
        topology = self.model.topology
        return [
            finish(scene, camera, shaded, depth, tuple(lights), passes, self.samples, topology)
            for camera, (shaded, depth) in zip(cameras, shots, strict=True)
        ]
