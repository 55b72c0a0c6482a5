"""The synthetic studio: photographs of posed, textured, haired heads from any camera.

Every picture is computed from the same bilinear mesh that the neural head poses, so geometry,
landmarks and masks agree with the model to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.geometry.atlas import tile_rectangle
from head360.geometry.attach import vertex_normals
from head360.geometry.bilinear import BilinearModel, IdentityMesh
from head360.geometry.lashes import lash_mask
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.rendering import raster
from head360.rendering.cameras import Camera
from head360.synthesis import hair as hair_cards
from head360.synthesis.occlusion import occlusion
from head360.synthesis.shading import (
    EYE,
    GUMS,
    HAIR,
    LASH,
    SKIN,
    TEETH,
    Light,
    ShadeInput,
    encode_srgb,
    shade,
    soft_three_point,
)
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

_HAIR_LEAD = 0.003  # metres
_CORNEA = 0.9  # how much faster than the eyeball's the cornea's normals fan out


@dataclass(frozen=True)
class Photograph:
    """One picture of the studio.

    Attributes:
        rgba: (H, W, 4) float32 sRGB-encoded, straight alpha.
        hair: (H, W) float32 coverage by hair, 0…1.
        landmarks: (68, 2) float32 pixels, Multi-PIE order, visible or not.
    """

    rgba: Floats
    hair: Floats
    landmarks: Floats


@dataclass
class _Sitter:
    spec: SubjectSpec
    shape: Floats
    identity: IdentityMesh
    atlas: NDArray[np.uint8]
    lattice: Lattice


class Studio:
    """Subjects, styles and lights in one place.

    Args:
        model: the bilinear mesh.
        wardrobe: skins, eyes, brows and hair.
        subjects: who can sit.
        styles: which hair they can wear.
        samples: supersampling per axis; 3 gives ten levels of coverage.
        shapes: identity coefficients by subject, where they are not the cast's own.
    """

    def __init__(
        self,
        model: BilinearModel,
        wardrobe: Wardrobe,
        subjects: tuple[SubjectSpec, ...],
        styles: tuple[hair_cards.StyleSpec, ...] = hair_cards.STYLES,
        samples: int = 3,
        shapes: dict[str, Floats] | None = None,
    ) -> None:
        self.model = model
        self.wardrobe = wardrobe
        self.subjects = {spec.name: spec for spec in subjects}
        self.styles = {spec.name: spec for spec in styles}
        self.samples = samples
        self._shapes = shapes or {}
        self.light: Light = soft_three_point()
        topology = model.topology
        self._generic = wardrobe.generic(topology)
        self._skin_faces = topology.part_faces(*ANCHOR_PARTS)
        self._skin_vertices = topology.part_vertices(*ANCHOR_PARTS)
        self._materials = np.full(len(topology.faces), SKIN, dtype=np.uint8)
        for name, material in _MATERIAL_OF_PART.items():
            self._materials[topology.part_faces(name)] = material
        self._corner_uvs = topology.uvs[topology.face_uvs].astype(np.float32)
        self._mask = lash_mask()
        self._casters = topology.faces[self._materials != LASH]
        self._iris = {side: self._iris_of(side) for side in ("eyeball_left", "eyeball_right")}
        self._average = model.neutral(model.mean_shape)
        self._last: tuple[Floats, Floats, Floats] | None = None
        self._sitters: dict[str, _Sitter] = {}
        self._style_cache: dict[str, hair_cards.Style] = {}
        self._worn: dict[tuple[str, str], hair_cards.WornHair] = {}

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
            atlas = self.wardrobe.atlas(self.model.topology, spec)
            lattice = Lattice.between(
                identity.neutral[self._skin_vertices], self._average[self._skin_vertices]
            )
            self._sitters[name] = _Sitter(spec, shape, identity, atlas, lattice)
        return self._sitters[name]

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
        normals, shadows = self._surface(vertices)
        tangents = np.zeros_like(vertices)
        layers = np.where(self._materials == LASH, 0, -1).astype(np.int32)
        if style is None:
            scene = ShadeInput(
                vertices, normals, tangents, shadows, topology.faces, self._corner_uvs,
                self._materials, sitter.atlas, np.zeros((2, 2, 3), dtype=np.uint8),
            )  # fmt: skip
            return scene, raster.Cutout(self._corner_uvs, layers, self._mask[None])
        cards, worn = self.style(style), self.worn(subject, style)
        size = len(self._mask) // len(cards.mask)
        corner_uvs = np.concatenate([self._corner_uvs, cards.corner_uvs])
        scene = ShadeInput(
            np.concatenate([vertices, worn.positions]),
            np.concatenate([normals, worn.normals]),
            np.concatenate([tangents, worn.tangents]),
            np.concatenate([shadows, worn.occlusion[:, None].repeat(shadows.shape[1], 1)]),
            np.concatenate([topology.faces, cards.faces + len(vertices)]),
            corner_uvs,
            np.concatenate([self._materials, np.full(len(cards.faces), HAIR, dtype=np.uint8)]),
            sitter.atlas,
            cards.texture,
        )
        masks = np.stack([self._mask, cards.mask.repeat(size, 0).repeat(size, 1)])
        layers = np.concatenate([layers, np.full(len(cards.faces), 1, dtype=np.int32)])
        return scene, raster.Cutout(corner_uvs, layers, masks)

    def _surface(self, vertices: Floats) -> tuple[Floats, Floats]:
        """Normals (N, 3) and shadows (N, 1 + L); the last pose's are kept for its bald twin."""
        if self._last is None or self._last[0] is not vertices:
            normals = vertex_normals(vertices, self.model.topology.faces)
            normals = self._round_eyes(vertices, normals)
            self._last = (vertices, normals, self._shadows(vertices, normals))
        return self._last[1], self._last[2]

    def photograph(
        self, scene: ShadeInput, cutout: raster.Cutout, camera: Camera, width: int, height: int
    ) -> Photograph:
        """Take one picture of a prepared scene."""
        samples = self.samples
        screen = raster.perspective_screen(
            scene.positions, camera, width * samples, height * samples
        )
        # Cards are coarser than the skull they hug: a small lead in depth keeps it from piercing.
        screen[self.model.vertex_count :, 2] -= _HAIR_LEAD
        fragments = raster.rasterize(
            screen[None], scene.faces, width * samples, height * samples, cutout
        )
        linear, hair = shade(
            scene, fragments.face[0], fragments.bary[0], camera.position, samples, self.light
        )
        alpha = np.minimum(linear[..., 3:], 1.0)
        colour = encode_srgb(linear[..., :3] / np.maximum(alpha, 1e-6)) * (alpha > 0)
        points = scene.positions[self.model.topology.landmarks68]
        return Photograph(
            np.concatenate([colour, alpha], -1).astype(np.float32),
            np.minimum(hair, 1.0),
            camera.project(points, width, height)[0].astype(np.float32),
        )

    def _iris_of(self, eyeball: str) -> NDArray[np.bool_]:
        """Which vertices of an eyeball carry the iris, by its tile of the atlas."""
        topology = self.model.topology
        tile = "iris_" + eyeball.removeprefix("eyeball_")
        u0, v0, u1, v1 = tile_rectangle(tile)
        faces = topology.part_faces(eyeball)
        uv = topology.uvs[topology.face_uvs[faces]].mean(1)
        inside = (uv[:, 0] > u0) & (uv[:, 0] < u1) & (uv[:, 1] > v0) & (uv[:, 1] < v1)
        return np.isin(topology.part_vertices(eyeball), topology.faces[faces[inside]])

    def _round_eyes(self, vertices: Floats, normals: Floats) -> Floats:
        """Shade eyeballs as a sphere with a cornea: the inner iris disc would catch no light."""
        out = normals.copy()
        for name in ("eyeball_left", "eyeball_right"):
            index = self.model.topology.part_vertices(name)
            centre = (vertices[index].min(0) + vertices[index].max(0)) / 2
            direction = vertices[index] - centre
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            # The cornea bulges: its normals fan out faster, so lamps glint on the iris.
            gaze = direction[self._iris[name]].mean(0)
            gaze /= np.linalg.norm(gaze)
            cosine = (direction @ gaze)[:, None]
            aside = direction - cosine * gaze
            cornea = np.clip((cosine - 0.72) / 0.12, 0, 1)
            direction += _CORNEA * cornea * aside
            out[index] = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        return out

    def _shadows(self, vertices: Floats, normals: Floats) -> Floats:
        """(N, 1 + L) what each vertex sees of the sky and of the lights."""
        out = occlusion(vertices, normals, self._casters, self.light.directions)
        parts = self.model.topology
        # Light that bounces inside the mouth is not traced: lift the darkness, keep its shape.
        mouth = parts.part_vertices("teeth", "gums_tongue", "mouth_socket")
        out[mouth] = out[mouth] ** 0.75
        # The socket's triangles are too coarse for that: it darkens with its depth behind the lips.
        socket = parts.part_vertices("mouth_socket")
        lips = vertices[parts.landmarks68[60:68], 2].mean()
        behind = np.clip((lips - 0.004 - vertices[socket, 2:]) / 0.03, 0, 1)
        out[socket] *= 1 - 0.85 * behind**0.7
        # The lids' shadow on the eyeball is finer than the depth pictures: drawn by hand.
        for name in ("eyeball_left", "eyeball_right"):
            index = parts.part_vertices(name)
            low, high = vertices[index].min(0), vertices[index].max(0)
            centre, radius = (low + high) / 2, (high - low).max() / 2
            local = (vertices[index] - centre) / radius
            lid = np.clip((local[:, 1] - 0.12) / 0.42, 0, 1)
            corner = np.clip((np.abs(local[:, 0]) - 0.35) / 0.5, 0, 1)
            out[index] = ((1 - 0.55 * lid**1.5) * (1 - 0.35 * corner))[:, None]
        # What shows through the pupil is the back of the eye socket.
        for name, eyeball in (
            ("eye_socket_left", "eyeball_left"),
            ("eye_socket_right", "eyeball_right"),
        ):
            index = parts.part_vertices(name)
            centre = vertices[parts.part_vertices(eyeball), 2].max() - 0.014
            out[index] *= np.clip((vertices[index, 2:] - centre) / 0.006, 0, 1)
        return out
