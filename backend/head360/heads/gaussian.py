"""The Gaussian head behind the common door: one person, learned from one video.

A head whose Gaussians are carried by the mesh, or one whose expressions are ARKit's, is driven by
the 52 blendshapes. One that was trained on other numbers is driven by those alone
(:meth:`GaussianHead.pose_expression`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.arkit import COUNT
from head360.errors import BadInput, ModelInvalid
from head360.geometry.bilinear import BilinearModel
from head360.heads import package
from head360.heads.base import Codes, Frame, Head, HeadMesh, Pose, Surface
from head360.heads.gaussian_facts import Expression, Filling, ViewCone
from head360.heads.gaussian_files import arrays_of, state_of
from head360.networks.gaussian import GaussianConfig, GaussianNet, Looks, Posed, RenderInputs
from head360.rendering import sh
from head360.rendering.cameras import Camera, orbit
from head360.rendering.splats import render_splats

Floats = NDArray[np.float32]

KIND = "gaussian"
SIZES = (8, 4096)
_FACTS = (
    "schema",
    "files",
    "config",
    "subjects",
    "styles",
    "kind",
    "name",
    "expression",
    "cameras",
)


class GaussianHead(Head):
    """Gaussians that an expression moves.

    Args:
        name: of the model.
        net: trained network.
        subject: name of the one person.
        shape: (S,) identity coefficients of the person's parametric mesh.
        expression: see there.
        manifest: facts to keep when saving (training data, licences, recipe).
        device: torch device.
        cone: of the cameras.
    """

    kind = KIND

    def __init__(
        self,
        name: str,
        net: GaussianNet,
        subject: str,
        shape: Floats,
        expression: Expression,
        manifest: dict[str, Any],
        device: str = "cpu",
        cone: ViewCone | None = None,
    ) -> None:
        self.name = name
        self.cone = cone or ViewCone()
        self.filling: Filling | None = None
        self.net = net.to(device).eval()
        self.subject, self.shape, self.expression = subject, shape, expression
        self.manifest = manifest
        self.device = device
        self.model = BilinearModel.builtin()
        self.identity = self.model.identity(shape)
        self._looks: Looks | None = None

    # -- who ---------------------------------------------------------------------------------

    @property
    def subjects(self) -> tuple[str, ...]:
        """See base; there is one."""
        return (self.subject,)

    @property
    def styles(self) -> tuple[str, ...]:
        """See base; the hair is part of the person."""
        return ()

    def codes(self, subject: str | None = None, style: str | None = "") -> Codes:
        """See base."""
        if subject not in (None, "", self.subject):
            raise BadInput(f"{self.name} has no subject {subject!r}: choose {self.subject}.")
        if style:
            raise BadInput(
                f"{self.name} has no hair style {style!r}: its hair is part of it, leave it out."
            )
        return Codes(self.subject, self.shape, None)

    def mesh(self, codes: Codes) -> HeadMesh:
        """See base."""
        topology = self.model.topology
        return HeadMesh(
            self.identity.neutral, topology.faces, topology.uvs, topology.face_uvs,
            self.identity.rig_deltas(), topology.parts, topology.part_names,
        )  # fmt: skip

    # -- render ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Forget what was computed from weights that have changed since."""
        self._looks = None

    def pose(self, codes: Codes, blendshapes: Floats) -> Pose:
        """See base.

        Raises:
            BadInput: not 52 finite numbers, or the head was trained on other expressions.
        """
        weights = np.asarray(blendshapes, dtype=np.float32).reshape(-1)
        if len(weights) != COUNT or not np.isfinite(weights).all():
            raise BadInput(f"A pose needs {COUNT} finite blendshape weights.")
        if not self.expression.arkit:
            raise BadInput(
                f"{self.name} was trained on {self.net.expression} numbers an expression that are "
                "not ARKit's blendshapes: train it again on a video with blendshapes to drive it."
            )
        return self.pose_expression(np.clip(weights, 0.0, 1.0))

    def pose_expression(self, numbers: Floats) -> Pose:
        """A pose from the E numbers that the head was trained on.

        Raises:
            BadInput: not E finite numbers.
        """
        numbers = np.asarray(numbers, dtype=np.float32).reshape(-1)
        if len(numbers) != self.net.expression or not np.isfinite(numbers).all():
            raise BadInput(f"An expression of {self.name} is {self.net.expression} finite numbers.")
        weights = numbers if self.expression.arkit else np.zeros(COUNT, np.float32)
        vertices = self.identity.pose(weights)
        with torch.no_grad():
            carried = None
            if self.net.rig is not None:
                carried = torch.from_numpy(vertices).to(self.device)
            posed = self.net.pose(
                torch.from_numpy(numbers).to(self.device), carried, looks=self._appearance()
            )
        return Pose(self.codes(), weights, vertices, {"posed": posed})

    def _appearance(self) -> Looks | None:
        """Looks that no expression changes; kept while the weights are frozen."""
        if self.net.config.texture_space != "canonical" or self.net.training:
            return None
        if self._looks is None:
            self._looks = self.net.appearance()
        return self._looks

    def render(self, pose: Pose, camera: Camera, width: int, height: int) -> Frame:
        """See base."""
        if not SIZES[0] <= min(width, height) <= max(width, height) <= SIZES[1]:
            raise BadInput(f"Cannot render {width} × {height} pixels: use 8 to 4096 per side.")
        posed: Posed = pose.state["posed"]
        with torch.no_grad():
            out, colours = self.coloured(posed, camera.position)
            try:
                frame = render_splats(
                    out.means, out.quaternions, out.scales, out.opacities, colours, camera,
                    width, height,
                )  # fmt: skip
            except ValueError as error:
                raise BadInput(f"{self.name} cannot be drawn like this: {error}.") from error
        light, alpha, depth = (t.cpu().numpy() for t in (frame.rgb, frame.alpha, frame.depth))
        return Frame(straight(light, alpha), np.where(alpha < 2 / 255, np.inf, depth))

    def coloured(self, posed: Posed, position: NDArray) -> tuple[RenderInputs, Tensor]:
        """Gaussians and their colours (N, 3) as seen from ``position`` (3,), metres.

        From outside the cone of the training cameras, colours are those of its edge.
        """
        centre = self.net.centre.double().cpu().numpy()
        place = centre + self.cone.nearest(position - centre)
        out = self.net.view(posed, torch.tensor(place, dtype=torch.float32, device=self.device))
        out = self._filled(out)
        return out, sh.colours(out.sh, out.means, place, out.sh_degree)

    def _filled(self, out: RenderInputs) -> RenderInputs:
        """The same with the colours of what nobody saw."""
        if self.filling is None:
            return out
        harmonics = out.sh.clone()
        harmonics[self.filling.index] = 0.0
        harmonics[self.filling.index, 0] = sh.from_rgb(self.filling.colours)
        return dataclasses.replace(out, sh=harmonics)

    # -- surface -----------------------------------------------------------------------------

    def surface(
        self,
        pose: Pose,
        resolution: int,
        texture: int = 0,
        progress: Callable[[float, str], None] | None = None,
    ) -> Surface:
        """See base. Raises BadInput outside 32…512 cells, and for a texture, which splats lack."""
        from head360.heads.gaussian_surface import extract_surface

        if texture:
            raise BadInput(f"{self.name} has no textures: ask for vertex colours alone.")
        with torch.no_grad():
            out = self._filled(self.net.view(pose.state["posed"]))
        return extract_surface(out, resolution, progress)

    # -- files -------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """See base. Float16, linear bases as int8 with a scale per number."""
        manifest = {
            **self.manifest,
            "name": self.name,
            "kind": KIND,
            "config": dataclasses.asdict(self.net.config),
            "subjects": {
                self.subject: {"shape": [round(float(v), 6) for v in self.shape], "style": None}
            },
            "styles": [],
            "expression": {
                "numbers": self.net.expression,
                "names": list(self.expression.names),
                **{
                    name: [round(float(v), 6) for v in values]
                    for name in ("low", "high", "neutral")
                    if (values := getattr(self.expression, name)) is not None
                },
            },
            "gaussians": self.net.count,
            "cameras": {
                "axis": [round(v, 6) for v in self.cone.axis],
                "angle": round(self.cone.angle, 6),
            },
            "mesh": mesh_digest(self.model),
        }
        files = {"thumbnail.png": package.png_bytes(self._thumbnail())}
        arrays = arrays_of(self.net)
        if self.filling is not None:
            arrays["filling.index"] = self.filling.index.cpu().numpy().astype(np.int32)
            arrays["filling.colours"] = self.filling.colours.cpu().numpy().astype(np.float16)
        package.write_package(path, manifest, files, {"head.safetensors": arrays})

    def _thumbnail(self) -> NDArray[np.uint8]:
        neutral = np.clip(np.zeros(self.net.expression), self.expression.low, self.expression.high)
        pose = self.pose_expression(neutral.astype(np.float32))
        centre = self.net.centre.double().cpu().numpy()
        raw = self.net.config.coordinates == "raw"
        half = 0.19 if raw else float(self.net.half_size)
        distance = 1.08 * half / np.tan(np.radians(9.0))
        tiles = []
        for yaw in (-25, 0, 25):
            camera = orbit(yaw, 5, fov_deg=18, distance=distance, target=centre)
            rgba = self.render(pose, camera, 128, 128).rgba
            white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
            tiles.append((white * 255 + 0.5).astype(np.uint8))
        return np.concatenate(tiles, 1)

    @staticmethod
    def load(path: Path, device: str = "cpu") -> GaussianHead:
        """Load a package written by :meth:`save`.

        Raises:
            ModelInvalid: missing, damaged or inconsistent.
        """
        manifest = package.read_manifest(path)
        try:
            config = GaussianConfig.from_mapping(manifest["config"])
            ((subject, entry),) = manifest["subjects"].items()
            shape = np.asarray(entry["shape"], dtype=np.float32)
            facts = manifest["expression"]
            count = int(facts["numbers"])
            rest = facts.get("neutral")
            span = Expression(
                tuple(facts["names"]), np.asarray(facts["low"], dtype=np.float32),
                np.asarray(facts["high"], dtype=np.float32),
                None if rest is None else np.asarray(rest, dtype=np.float32),
            )  # fmt: skip
            if rest is not None and len(rest) != count:
                raise ValueError("the neutral expression's numbers are not as many as it says")
            if not len(span.low) == len(span.high) == count or len(span.names) not in (0, count):
                raise ValueError("the expression's numbers are not as many as it says")
            arrays = package.read_arrays(path, manifest, "head.safetensors")
            mesh = _mesh(config, shape, manifest["mesh"])
            nothing = np.zeros((1, 3), dtype=np.float32)  # room is made for what comes
            index = arrays.pop("filling.index", None)
            colours = arrays.pop("filling.colours", None)
            state: dict[str, Tensor] = state_of(arrays)
            # The mesh is kept in the box's coordinates: the box comes first.
            centre, half = state["centre"].numpy(), float(state["half_size"])
            net = GaussianNet(config, count, centre, half, nothing, mesh)
            net.make_room(state)
            net.load_state_dict(state)
            if net.rig is not None and not -1 <= int(net.face.min()) <= int(net.face.max()) < len(
                net.rig.faces
            ):
                raise ValueError("a Gaussian sits on a triangle that the mesh does not have")
            if index is not None and (
                colours is None
                or colours.shape != (len(index), 3)
                or not 0 <= index.min(initial=0) <= index.max(initial=0) < net.count
            ):
                raise ValueError("colours of what nobody saw belong to no Gaussians")
            name = str(manifest["name"])
            views = manifest["cameras"]
            x, y, z = (float(value) for value in views["axis"])
            cone = ViewCone((x, y, z), float(views["angle"]))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelInvalid(
                f"The model {path} does not fit this version ({reason}): reinstall the model."
            ) from error
        rest = {key: value for key, value in manifest.items() if key not in _FACTS}
        head = GaussianHead(name, net, subject, shape, span, rest, device, cone)
        if index is not None and colours is not None:
            head.filling = Filling(
                torch.from_numpy(index.astype(np.int64)).to(device),
                torch.from_numpy(colours.astype(np.float32)).to(device),
            )
        return head


def straight(light: Floats, alpha: Floats) -> Floats:
    """Premultiplied (H, W, 3) and alpha (H, W) → (H, W, 4) straight, faint traces taken away."""
    alpha = np.clip(alpha, 0.0, 1.0)[..., None]
    kept = np.where(alpha < 2 / 255, 0.0, np.where(alpha > 253 / 255, 1.0, alpha))
    colour = np.clip(light / np.maximum(alpha, 1 / 255), 0.0, 1.0) * (kept > 0)
    return np.concatenate([colour, kept], -1).astype(np.float32)


def mesh_digest(model: BilinearModel) -> str:
    """SHA-256 of the triangles that Gaussians are bound to, by number."""
    return hashlib.sha256(np.ascontiguousarray(model.topology.faces).tobytes()).hexdigest()


def _mesh(
    config: GaussianConfig, shape: Floats, digest: str
) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """Neutral vertices and faces of the person where Gaussians are carried by them."""
    model = BilinearModel.builtin()
    if shape.shape != (model.shape_size,):
        raise ValueError("the subject's shape has the wrong length")
    if config.rig != "mesh":
        return None
    if digest != mesh_digest(model):
        raise ValueError("its Gaussians sit on another head mesh than this version's")
    return model.neutral(shape), model.topology.faces
