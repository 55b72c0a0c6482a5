"""The synthetic studio: photographs of posed, textured, haired heads from any camera.

Every picture is computed from the same bilinear mesh that the neural head poses, so geometry,
landmarks and masks agree with the model to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        self._mask = lash_mask()
        self._surface = HeadSurface(topology, look.fine_skin)
        self._average = model.neutral(model.mean_shape)
        self._face_labels = parsing.face_labels(topology)
        self._label_atlas = parsing.label_atlas(topology, self._average)
        self._regions = skin_regions(topology, self._average) if look.fine_skin else None
        self._brows: dict[str, Floats] = {}
        self._last: PosedSurface | None = None
        self._sitters: dict[str, _Sitter] = {}
        self._style_cache: dict[str, hair_cards.Style] = {}
        self._worn: dict[tuple[str, str], hair_cards.WornHair] = {}
        self._lights: dict[tuple[str, str], HairLight] = {}

    def sitter(self, name: str) -> _Sitter:
        """Shape, texture and warp of one subject, made on first use.

        Raises:
            BadInput: nobody of that name is in the cast.
        """
        if name not in self._sitters:
            if name not in self.subjects:
                known = ", ".join(self.subjects)
                raise BadInput(f"There is no subject {name!r}: choose one of {known}.")
            spec = self.subjects[name]
            shape = self._shapes.get(name)
            if shape is None:
                shape = spec.shape(self.model)
            identity = self.model.identity(shape)
            atlas = self.wardrobe.atlas(self.model.topology, spec, self.look.detailed_atlas)
            lattice = Lattice.between(
                identity.neutral[self._skin_vertices], self._average[self._skin_vertices]
            )
            relief = flat_map()
            if self._regions is not None:
                relief = skin_map(atlas, self._regions, spec.seed)
            parsed = parsing.with_brows(self._label_atlas, self._brow_cover(spec))
            self._sitters[name] = _Sitter(spec, shape, identity, atlas, lattice, parsed, relief)
        return self._sitters[name]

    def _brow_cover(self, spec: SubjectSpec) -> Floats:
        """(1024, 1024) float32 in [0, 1] where brows like those of ``spec`` are painted.

        Found by painting them twice, so that any wardrobe serves.
        """
        if spec.brow not in self._brows:
            light, dark = (
                self.wardrobe.atlas(
                    self.model.topology, replace(spec, brow_colour=(value, value, value))
                )[..., 0]
                for value in (255, 0)
            )
            self._brows[spec.brow] = (light.astype(np.float32) - dark) / np.float32(255)
        return self._brows[spec.brow]

    def style(self, name: str) -> hair_cards.Style:
        """A hair style in canonical space.

        Raises:
            BadInput: no such style.
        """
        if name not in self._style_cache:
            if name not in self.styles:
                known = ", ".join(self.styles)
                raise BadInput(f"There is no hair style {name!r}: choose one of {known}.")
            to_average = Lattice.between(
                self._generic[self._skin_vertices], self._average[self._skin_vertices]
            )
            self._style_cache[name] = self.wardrobe.style(self.styles[name], to_average)
        return self._style_cache[name]

    def pose(self, subject: str, blendshapes: Floats) -> Floats:
        """(N, 3) float32 posed vertices of ``subject``, metres, head space."""
        return self.sitter(subject).identity.pose(blendshapes)

    def worn(self, subject: str, style: str) -> hair_cards.WornHair:
        """``style`` on ``subject``; cached."""
        if (subject, style) not in self._worn:
            sitter = self.sitter(subject)
            self._worn[subject, style] = hair_cards.wear(
                self.style(style),
                sitter.lattice,
                sitter.identity.neutral,
                self.model.topology.faces[self._skin_faces],
            )
        return self._worn[subject, style]

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
                surface.true_normals, self._face_labels, sitter.labels, sitter.skin_map,
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
            np.concatenate([self._face_labels, np.full(count, labels.HAIR, dtype=np.uint8)]),
            sitter.labels,
            sitter.skin_map,
        )
        masks = np.stack([self._mask, cards.mask.repeat(size, 0).repeat(size, 1)])
        layers = np.concatenate([layers, np.full(count, 1, dtype=np.int32)])
        return scene, raster.Cutout(corner_uvs, layers, masks)

    def _hair_light(self, subject: str, style: str) -> HairLight:
        """Shadows of ``style`` on ``subject``; the last ones are kept."""
        key = (subject, style)
        if key not in self._lights:
            surface = self._surface.posed(self.sitter(subject).identity.neutral)
            self._lights[key] = hair_light(
                self.style(style), self.worn(*key), surface.vertices, surface.normals,
                self._surface.casters,
            )  # fmt: skip
            while len(self._lights) > _KEPT_SHADOWS:
                del self._lights[next(iter(self._lights))]
        return self._lights[key]

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
