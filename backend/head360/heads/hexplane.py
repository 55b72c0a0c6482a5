"""The hex-plane head behind the common door: poses, renders, extracts, saves."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.arkit import COUNT
from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel, IdentityMesh
from head360.geometry.lashes import solid_faces
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.heads import package, surfaces
from head360.heads.base import Codes, Frame, Head, HeadMesh, Pose, Surface
from head360.heads.codes import Weights, draw, hair_weights, texture_weights
from head360.heads.hexplane_bust import Lid, bottom_rim, cover, put_lid
from head360.heads.hexplane_files import geometry_bytes, read_parts, to_arrays
from head360.heads.inputs import PoseInputs, pose_inputs, view_inputs
from head360.heads.refining import refine_picture
from head360.heads.refining import to_arrays as refining_arrays
from head360.heads.windows import (
    LUMINANCE,
    Dye,
    autocast,
    closed,
    cross_fade,
    render_window,
    stretched,
    warp_occupancy,
)
from head360.networks.banks import Blend, CodedPlanes, PlaneBank
from head360.networks.hexplane import HexPlaneNet
from head360.networks.refine import RefineNet
from head360.rendering.cameras import Camera, orbit, to_normalised
from head360.rendering.volume import GRID

Floats = NDArray[np.float32]

KIND = "hexplane"
_POINTS = 1 << 16
_BOXES = 32  # warped hair hulls that are kept, 0.9 MB each


@dataclasses.dataclass(frozen=True)
class Look:
    """What the codes mean to the network.

    Attributes:
        texture: (1, S, S, C) neural texture; hair: (3, R, R, C) hair planes, None when bald.
        dye: of the hair, or None.
        blend: entries of the texture.
    """

    texture: Tensor
    hair: Tensor | None
    dye: Dye | None
    blend: Blend


class HexPlaneHead(Head):
    """Bilinear mesh + neural texture + dual hex-planes + guided super-resolution.

    Args:
        name: of the model.
        model: the bilinear mesh.
        net: trained network.
        subjects: name → {"shape": (S,), "style": default style or None}, in texture order.
        styles: names in hair-plane order.
        occupancy: (styles, GRID, GRID, GRID) uint8, canonical space: where hair can be.
        manifest: facts to keep when saving (training data, licences, recipe).
        device: torch device.
        geometry: the file that ``model`` was read from; saving keeps it to the byte.

    Attributes:
        open_bust: show the inside of the bust as the studio's pictures do. True while a head is
            trained or compared with them; heads that were loaded have a lid there.
    """

    kind = KIND

    def __init__(
        self,
        name: str,
        model: BilinearModel,
        net: HexPlaneNet,
        subjects: OrderedDict[str, dict[str, Any]],
        styles: tuple[str, ...],
        occupancy: NDArray[np.uint8],
        manifest: dict[str, Any],
        device: str = "cpu",
        geometry: bytes | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.net = net.to(device).eval()
        self.manifest = manifest
        self.device = device
        self._geometry = geometry
        self._subjects = subjects
        self._styles = styles
        self._occupancy = occupancy
        self._skin = model.topology.part_vertices(*ANCHOR_PARTS)
        self._average = model.neutral(model.mean_shape)[self._skin]
        self._identities: dict[bytes, tuple[IdentityMesh, Lattice]] = {}
        self._hair_boxes: dict[tuple[bytes, tuple[str, ...]], NDArray[np.uint8]] = {}
        self._look: tuple[Any, Look] | None = None
        self._rim: list[int] | None = None
        self.refine: RefineNet | None = None
        self.open_bust = True

    # -- who ---------------------------------------------------------------------------------

    @property
    def subjects(self) -> tuple[str, ...]:
        """See base."""
        return tuple(self._subjects)

    @property
    def styles(self) -> tuple[str, ...]:
        """See base."""
        return self._styles

    def codes(self, subject: str | None = None, style: str | None = "") -> Codes:
        """See base."""
        subject = subject or self.subjects[0]
        if subject not in self._subjects:
            known = ", ".join(self.subjects)
            raise BadInput(f"{self.name} has no subject {subject!r}: choose one of {known}.")
        entry = self._subjects[subject]
        if style == "":
            style = entry["style"]
        if style is not None and style not in self._styles:
            known = ", ".join(self._styles)
            raise BadInput(f"{self.name} has no hair style {style!r}: choose one of {known}.")
        # A colour belongs to the hair that it was chosen for.
        colour: tuple[float, float, float] | None = None
        if style is not None and style == entry["style"] and "hair_colour" in entry:
            red, green, blue = entry["hair_colour"]
            colour = float(red), float(green), float(blue)
        return Codes(
            subject, np.asarray(entry["shape"], dtype=np.float32), style, hair_colour=colour
        )

    def identity(self, shape: Floats) -> tuple[IdentityMesh, Lattice]:
        """The posed-mesh source and the hair warp of identity coefficients ``shape``; cached."""
        key = np.asarray(shape, dtype=np.float32).tobytes()
        if key not in self._identities:
            identity = self.model.identity(shape)
            lattice = Lattice.between(identity.neutral[self._skin], self._average)
            self._identities[key] = identity, lattice
        return self._identities[key]

    def mesh(self, codes: Codes) -> HeadMesh:
        """See base."""
        identity, _ = self.identity(codes.shape)
        topology = self.model.topology
        return HeadMesh(
            identity.neutral, topology.faces, topology.uvs, topology.face_uvs,
            self.model.rig_deltas(codes.shape), topology.parts, topology.part_names,
        )  # fmt: skip

    # -- render ------------------------------------------------------------------------------

    def pose(self, codes: Codes, blendshapes: Floats) -> Pose:
        """See base. Raises BadInput unless ``blendshapes`` holds 52 finite numbers."""
        weights = np.asarray(blendshapes, dtype=np.float32).reshape(-1)
        if len(weights) != COUNT or not np.isfinite(weights).all():
            raise BadInput(f"A pose needs {COUNT} finite blendshape weights.")
        weights = np.clip(weights, 0.0, 1.0)
        identity, lattice = self.identity(codes.shape)
        vertices = identity.pose(weights)
        inputs = pose_inputs(vertices, self.model.topology, self.net.config.plane_size, self.device)
        look = self.look(codes)
        with torch.no_grad():
            planes = self.net.head_planes(
                look.texture, inputs.uv, inputs.index, inputs.depths, look.blend,
                torch.from_numpy(weights).to(self.device),
            )  # fmt: skip
        state = {"inputs": inputs, "planes": planes, "lattice": lattice, "look": look}
        return Pose(codes, weights, vertices, state)

    def look(self, codes: Codes) -> Look:
        """Texture, hair planes and hair colour of ``codes``; the last one is kept while frozen."""
        key = codes.subject, codes.textures, codes.style, codes.hairs, codes.hair_colour
        if self._look is not None and self._look[0] == key and not self.net.training:
            return self._look[1]
        blend = self._texture_blend(codes)
        hairs = tuple((self._styles.index(name), w) for name, w in self._fused_hair(codes))
        with torch.no_grad():
            texture = self.net.textures(blend)
            hair = self.net.hair_planes(Blend(hairs)) if hairs else None
            dye = None
            if hair is not None and codes.hair_colour is not None:
                dye = Dye(codes.hair_colour, self._hair_luminance(codes, hair))
        look = Look(texture, hair, dye, blend)
        # Weights that still change would make any cache stale.
        self._look = None if self.net.training else (key, look)
        return look

    def _fused_hair(self, codes: Codes) -> Weights:
        """Styles that one set of planes holds: a generator blends them, free planes cannot.

        Halves of free planes mean nothing to the decoder: :meth:`_fades` shows something else.
        """
        weights = hair_weights(codes)
        if len(weights) > 1 and isinstance(self.net.hair_planes, PlaneBank):
            return ((codes.style or weights[0][0], 1.0),)
        return weights

    def _fades(self, pose: Pose) -> list[tuple[Pose, float]]:
        """Poses with a single style each, to be cross-faded; one pose where planes blend."""
        weights = hair_weights(pose.codes)
        if len(self._fused_hair(pose.codes)) == len(weights):
            return [(pose, 1.0)]
        fades = []
        for style, weight in weights:
            codes = dataclasses.replace(pose.codes, style=style, hairs=())
            state = {**pose.state, "look": self.look(codes)}
            fades.append((dataclasses.replace(pose, codes=codes, state=state), weight))
        return fades

    def _texture_blend(self, codes: Codes) -> Blend:
        return Blend(tuple((self.subjects.index(name), w) for name, w in texture_weights(codes)))

    def _hair_luminance(self, codes: Codes, hair: Tensor) -> float:
        """Mean sRGB luminance of the hair, by opacity."""
        cells = np.argwhere(self._hulls(codes))[:, ::-1]
        cells = cells[:: max(1, len(cells) // _POINTS)]
        points = ((cells + 0.5) / GRID * 2 - 1).astype(np.float32)
        if not len(points):
            return 0.5
        density, colour = self.net.hair_field(hair, torch.from_numpy(points).to(self.device))
        light = colour[:, :3].clamp(0, 1) @ colour.new_tensor(LUMINANCE)
        opacity = 1 - torch.exp(-density * (2.0 / GRID))
        return float((light * opacity).sum() / opacity.sum().clamp(min=1e-6))

    def _hulls(self, codes: Codes) -> NDArray[np.uint8]:
        """(GRID,)*3 canonical occupancy of all styles that the codes blend."""
        chosen = [self._styles.index(name) for name, _ in self._fused_hair(codes)]
        return np.asarray(self._occupancy[chosen].max(0))

    def refresh(self) -> None:
        """Forget what was computed from weights that have changed since."""
        self._look = None

    def exchange(self, net: HexPlaneNet) -> None:
        """Take another network for the same subjects and styles; nothing else changes."""
        self.net = net.to(self.device).eval()
        self.refresh()

    def adopt(self, codes: Codes) -> None:
        """Make style and hair colour of ``codes`` the subject's own; :meth:`save` keeps them."""
        entry = self._subjects[codes.subject]
        entry["style"] = codes.style
        entry.pop("hair_colour", None)
        if codes.hair_colour is not None:
            entry["hair_colour"] = [round(float(channel), 4) for channel in codes.hair_colour]

    def random_codes(self, seed: int) -> Codes:
        """See base."""
        generated = isinstance(self.net.textures, CodedPlanes)
        return draw(seed, self.model, self.subjects, self._styles, generated=generated)

    def hair_box(self, codes: Codes, lattice: Lattice) -> NDArray[np.uint8] | None:
        """(GRID,)*3 occupancy of the codes' hair around this identity, or None when bald."""
        if codes.style is None:
            return None
        key = codes.shape.tobytes(), tuple(name for name, _ in self._fused_hair(codes))
        if key not in self._hair_boxes:
            while len(self._hair_boxes) >= _BOXES:
                self._hair_boxes.pop(next(iter(self._hair_boxes)))
            self._hair_boxes[key] = warp_occupancy(self._hulls(codes), lattice)
        return self._hair_boxes[key]

    def render(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        """See base."""
        frame = self.draft(pose, camera, width, height)
        if self.refine is not None:
            frame = Frame(refine_picture(self.refine, frame.rgba, self.device), frame.depth)
        lid = None if self.open_bust else self._lid(pose)
        return frame if lid is None else cover(frame, lid, camera)

    def _lid(self, pose: Pose) -> Lid | None:
        """Closes the bust; kept with the pose. None where the mesh has no open rim."""
        if "lid" not in pose.state:
            topology = self.model.topology
            if self._rim is None:
                self._rim = bottom_rim(topology, self.model.neutral(self.model.mean_shape))
            if not self._rim:
                return None
            points = to_normalised(pose.vertices[self._rim]).astype(np.float32)
            with torch.no_grad():
                _, colour = self.net.head_field(
                    pose.state["planes"], torch.from_numpy(points).to(self.device)
                )
            skin = np.median(colour[:, :3].float().cpu().numpy(), 0)
            faces = topology.faces[solid_faces(topology)]
            pose.state["lid"] = put_lid(pose.vertices, faces, self._rim, skin)
        lid: Lid = pose.state["lid"]
        return lid

    def draft(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        """Like :meth:`render`, before the refine net and without a lid under the bust."""
        if not 8 <= min(width, height) <= max(width, height) <= 4096:
            raise BadInput(f"Cannot render {width} × {height} pixels: use 8 to 4096 per side.")
        fades = [(self._render(one, camera, width, height), w) for one, w in self._fades(pose)]
        return fades[0][0] if len(fades) == 1 else cross_fade(fades)

    def _render(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        canvas = (width + width % 2, height + height % 2)
        # Half as many rays as pixels, as in training, up to 512²; a quarter for what is larger.
        most = max(2 * self.net.config.raw_size, max(canvas) // 4)
        share = min(0.5, most / max(canvas))
        raw = (max(2, round(canvas[0] * share)), max(2, round(canvas[1] * share)))
        inputs: PoseInputs = pose.state["inputs"]
        view = view_inputs(
            inputs, self.model.topology, stretched(camera, width, height, *canvas), canvas,
            (0, 0, *canvas), raw, (0, 0, *raw), self.device,
        )  # fmt: skip
        look: Look = pose.state["look"]
        lattice: Lattice = pose.state["lattice"]
        with torch.no_grad(), autocast(self.device):
            out, raw_picture, depth = render_window(
                self.net, look.texture, look.hair, pose.state["planes"], [view],
                self.hair_box(pose.codes, lattice), lattice, rng=None, dye=look.dye,
            )  # fmt: skip
        if look.hair is not None:
            out = closed(out, raw_picture)
        picture = out[0].permute(1, 2, 0).cpu().numpy()[:height, :width]
        alpha = np.clip(picture[..., 3:], 0.0, 1.0)
        alpha = np.where(alpha < 2 / 255, 0.0, np.where(alpha > 253 / 255, 1.0, alpha))
        colour = np.clip(picture[..., :3] / np.maximum(alpha, 1 / 255), 0.0, 1.0) * (alpha > 0)
        rows = ((np.arange(height) + 0.5) * raw[1] / canvas[1]).astype(int)
        columns = ((np.arange(width) + 0.5) * raw[0] / canvas[0]).astype(int)
        full = depth[0][rows[:, None], columns[None, :]]
        full = np.where(alpha[..., 0] > 0, full, np.inf)
        return Frame(
            np.concatenate([colour, alpha], -1).astype(np.float32), full.astype(np.float32)
        )

    # -- surface -----------------------------------------------------------------------------

    def field(self, pose: Pose, points: Floats) -> tuple[Floats, Floats]:
        """Density (M,) and sRGB (M, 3) at (M, 3) normalised points; see ``surfaces.field``."""
        return surfaces.field(self, pose, points)

    def surface(
        self,
        pose: Pose,
        resolution: int,
        texture: int = 0,
        progress: surfaces.Progress | None = None,
    ) -> Surface:
        """See base. Raises BadInput outside 32…512 cells per axis."""
        return surfaces.extract_surface(self, pose, resolution, texture, progress)

    # -- files -------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """See base. Textures and planes packed (see ``heads.packing``), networks as float16."""
        arrays = to_arrays(self.net, self.model.topology, self._occupancy)
        manifest = dict(self.manifest)
        manifest.pop("refine", None)
        if self.refine is not None:
            manifest["refine"], refining = refining_arrays(self.refine)
            arrays |= refining
        subjects = {
            name: {**entry, "shape": [round(float(v), 6) for v in entry["shape"]]}
            for name, entry in self._subjects.items()
        }
        manifest = {
            **manifest,
            "name": self.name,
            "kind": KIND,
            "config": dataclasses.asdict(self.net.config),
            "subjects": subjects,
            "styles": list(self._styles),
        }
        thumbnail = package.png_bytes(self._thumbnail())
        geometry = self._geometry or geometry_bytes(self.model)
        files = {"thumbnail.png": thumbnail, "geometry.safetensors": geometry}
        package.write_package(path, manifest, files, {"head.safetensors": arrays})

    def _thumbnail(self) -> NDArray[np.uint8]:
        tiles = []
        for column, subject in enumerate(self.subjects[:4]):
            pose = self.pose(self.codes(subject), np.zeros(COUNT, dtype=np.float32))
            rgba = self.render(pose, orbit(-30 + 20 * column, 5, fov_deg=18), 128, 128).rgba
            white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
            tiles.append((white * 255 + 0.5).astype(np.uint8))
        return np.concatenate(tiles, 1)

    @staticmethod
    def load(path: Path, device: str = "cpu") -> HexPlaneHead:
        """Load a package written by :meth:`save`.

        Raises:
            ModelInvalid: missing, damaged or inconsistent.
        """
        parts = read_parts(path, device)
        head = HexPlaneHead(
            parts.name, parts.model, parts.net, parts.subjects, parts.styles, parts.occupancy,
            parts.facts, device, parts.geometry,
        )  # fmt: skip
        head.refine = parts.refine
        head.open_bust = False
        return head
