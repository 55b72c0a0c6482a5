"""The hex-plane head as a network: textures, dual hex-planes, two decoders, super-resolution.

After Head360 (Chen et al., ECCV 2024), §3: a neural texture is carried by the posed mesh into six
orthographic views, opposite views share a plane; hair lives in static planes of its own. Where the
paper and its release disagree the method notes choose; here: opposite views are concatenated,
empty pixels are zero, head and hair have separate decoders and add their densities. The published
ablations are switches of ``HexPlaneConfig``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from head360.arkit import COUNT
from head360.networks.banks import Bank, Blend, CodeConfig, CodedPlanes, PlaneBank
from head360.networks.decoder import FieldDecoder
from head360.networks.planes import lookup
from head360.networks.superres import GuidedSuperResolution
from head360.rendering.raster import PLANES

Floats = NDArray[np.float32]

_CUE_RANGE = 0.1  # normalised units at which a depth cue saturates
_FREQUENCIES = 6  # of the plain NeRF's positional encoding
_CONDITION = 32  # length of the plain NeRF's code per subject
MERGES = ("concat", "add")
VIEWS = ("hex", "tri", "none")


@dataclass(frozen=True)
class HexPlaneConfig:
    """Everything a preset fixes about the network; plain data, stored in the manifest.

    Attributes:
        texture_size, texture_channels: neural texture per subject; channels 0–2 start as albedo.
        plane_size: of the six orthographic views.
        hair_size, hair_channels: static hair planes per style.
        decoder_width: hidden width of both decoders.
        features: feature channels that decoders hand to the super-resolution.
        superres_width: hidden channels of the super-resolution.
        head_samples, hair_samples: per ray.
        raw_size: rays per side of the frames that were trained; they have ``2·raw_size`` pixels.
        texture_codes, hair_codes: generators of textures and hair planes; None learns them freely.
        merge: opposite views of a plane are put side by side ("concat") or added ("add", paper).
        views: "hex", or the ablations of the paper's Table 3: "tri" keeps the front, left and top
            view only, "none" is a plain NeRF of position, subject code and blendshapes.
        guided: the super-resolution sees what the mesh knows at output size.
    """

    texture_size: int = 256
    texture_channels: int = 8
    plane_size: int = 128
    hair_size: int = 96
    hair_channels: int = 16
    decoder_width: int = 64
    features: int = 8
    superres_width: int = 28
    head_samples: int = 8
    hair_samples: int = 12
    raw_size: int = 128
    texture_codes: CodeConfig | None = None
    hair_codes: CodeConfig | None = None
    merge: str = "concat"
    views: str = "hex"
    guided: bool = True

    def __post_init__(self) -> None:
        if self.merge not in MERGES or self.views not in VIEWS:
            raise ValueError(f"merge {self.merge!r} or views {self.views!r} is not known")

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> HexPlaneConfig:
        """Inverse of ``dataclasses.asdict``; what a manifest does not name has its default.

        Raises:
            TypeError, ValueError: an unknown key or value.
        """
        values = dict(facts)
        for key in ("texture_codes", "hair_codes"):
            if values.get(key) is not None:
                values[key] = CodeConfig(**values[key])
        return HexPlaneConfig(**values)


_TINY = HexPlaneConfig()
_SMALL = HexPlaneConfig(
    texture_channels=16, plane_size=256, hair_size=256, decoder_width=96, features=16,
    superres_width=20, head_samples=12, hair_samples=24,
    texture_codes=CodeConfig(base=8192, most=128), hair_codes=CodeConfig(base=4096, most=128),
)  # fmt: skip
PRESETS: dict[str, HexPlaneConfig] = {
    "tiny": _TINY,
    # tiny with generators: twice the time of a step on two cores, and heads that nobody has seen.
    "tiny-codes": dataclasses.replace(
        _TINY, hair_size=128, texture_codes=CodeConfig(), hair_codes=CodeConfig(base=1024, most=64)
    ),
    "small": _SMALL,
    # The published scale (method notes §2): 256², 32-channel views, StyleGAN2's full widths.
    "paper": HexPlaneConfig(
        texture_channels=32, plane_size=256, hair_size=256, hair_channels=64, decoder_width=64,
        features=29, superres_width=64, head_samples=48, hair_samples=48, raw_size=128,
        texture_codes=CodeConfig(latent=512, w=512, base=32768, most=512, residual=0),
        hair_codes=CodeConfig(latent=512, w=512, base=32768, most=512, residual=0),
    ),
}  # fmt: skip


@dataclass
class PosePlanes:
    """The head's hex-planes of one moment.

    Attributes:
        planes: (3, R, R, 2·C + 2) float32: features of both opposite views, then their depths.
        condition: (K,) what a plain NeRF knows of the moment instead; None otherwise.
    """

    planes: Tensor
    condition: Tensor | None = None


class HexPlaneNet(nn.Module):
    """All learned parts of a hex-plane head.

    Args:
        config: sizes.
        subjects: number of texture codes.
        styles: number of hair codes.
    """

    def __init__(self, config: HexPlaneConfig, subjects: int, styles: int) -> None:
        super().__init__()
        self.config = config
        channels = config.texture_channels
        self.textures: Bank = _bank(
            subjects, 1, config.texture_size, channels, config.texture_codes
        )
        self.hair_planes: Bank = _bank(
            styles, 3, config.hair_size, config.hair_channels, config.hair_codes
        )
        width, features = config.decoder_width, config.features
        if config.views == "none":
            self.identities = nn.Parameter(torch.randn(subjects, _CONDITION))
            inputs = 3 + 6 * _FREQUENCIES + _CONDITION + COUNT
        else:
            sides = 2 if config.views == "hex" and config.merge == "concat" else 1
            inputs = 3 * channels * sides + (6 if config.views == "hex" else 3) + 3
        self.head_decoder = FieldDecoder(inputs, width, features, density_bias=-0.5)
        self.hair_decoder = FieldDecoder(3 * config.hair_channels + 3, width, features, -1.5)
        self.superres = GuidedSuperResolution(
            raw_channels=3 + features + 2,
            guide_channels=channels + 4,
            width=config.superres_width,
        )

    def set_albedo(self, subject: int, atlas: NDArray[np.uint8]) -> None:
        """Start a free texture's first three channels from an albedo atlas (S, S, 3) uint8 sRGB."""
        if isinstance(self.textures, PlaneBank):
            with torch.no_grad():
                small = albedo_texture(atlas, self.config.texture_size)
                self.textures.entries[subject][..., :3] = small

    def head_planes(
        self,
        texture: Tensor,
        uv: Tensor,
        index: Tensor,
        depths: Tensor,
        blend: Blend | None = None,
        blendshapes: Tensor | None = None,
    ) -> PosePlanes:
        """Carry a neural texture into the six views of a posed mesh.

        Args:
            texture: (1, S, S, C) float32 of ``self.textures``.
            uv: (M, 2) float32 in [0, 1], v up, at the covered pixels of the six views.
            index: (M,) int64 flat pixel indices into (6, R, R).
            depths: (3, R, R, 2) float32 depths of both views of each plane (2 where empty).
            blend: of the subject, and
            blendshapes: (52,), which only a plain NeRF reads.
        """
        resolution, channels = self.config.plane_size, self.config.texture_channels
        sampled = lookup(texture, (uv * 2 - 1)[None])[0]
        views = torch.zeros(6 * resolution * resolution, channels, device=sampled.device)
        views = views.index_copy(0, index, sampled)
        planes = views.view(3, 2, resolution, resolution, channels).permute(0, 2, 3, 1, 4)
        planes = planes.reshape(3, resolution, resolution, 2 * channels)
        condition = None
        if self.config.views == "none":
            if blend is None or blendshapes is None:
                raise ValueError("a plain NeRF needs the subject and the blendshapes")
            identity = sum(
                (weight * self.identities[k] for k, weight in blend.weights),
                torch.zeros_like(self.identities[0]),
            )
            condition = torch.cat([identity, blendshapes.to(identity)])
        return PosePlanes(torch.cat([planes, depths], 3).contiguous(), condition)

    def head_field(self, pose: PosePlanes, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density and colour of the head at (M, 3) normalised points; see ``FieldDecoder``."""
        if self.config.views == "none":
            return self._plain_field(pose, points)
        channels = self.config.texture_channels
        sampled = lookup(pose.planes, plane_positions(points))
        depth = sampled[..., 2 * channels :].detach()  # (3, M, 2)
        both = self.config.views == "hex"
        cues = []
        for plane, (_, _, view) in enumerate(PLANES):
            coordinate = points[:, view]
            cues.append((1 - coordinate) - depth[plane, :, 0])
            if both:
                cues.append((1 + coordinate) - depth[plane, :, 1])
        cue = (torch.stack(cues, 1) / _CUE_RANGE).clamp(-1, 1)
        features = sampled[..., : 2 * channels]
        if not both:
            features = features[..., :channels]
        elif self.config.merge == "add":
            features = features[..., :channels] + features[..., channels:]
        features = features.permute(1, 0, 2).flatten(1)
        return self.head_decoder(torch.cat([features, cue, points], 1))  # type: ignore[no-any-return]

    def _plain_field(self, pose: PosePlanes, points: Tensor) -> tuple[Tensor, Tensor]:
        assert pose.condition is not None
        scale = math.pi * 2.0 ** torch.arange(_FREQUENCIES, device=points.device)
        angles = (points[:, :, None] * scale).flatten(1)
        condition = pose.condition.expand(len(points), -1)
        return self.head_decoder(  # type: ignore[no-any-return]
            torch.cat([points, angles.sin(), angles.cos(), condition], 1)
        )

    def hair_field(self, planes: Tensor, canonical: Tensor) -> tuple[Tensor, Tensor]:
        """Density and colour of hair ``planes`` (3, R, R, C) at (M, 3) canonical points."""
        sampled = lookup(planes, plane_positions(canonical))
        features = sampled.permute(1, 0, 2).flatten(1)
        return self.hair_decoder(torch.cat([features, canonical], 1))  # type: ignore[no-any-return]

    def guide(
        self, texture: Tensor, uv: Tensor, index: Tensor, normals: Tensor, coverage: Tensor
    ) -> Tensor:
        """Screen-space guidance of a batch of windows.

        Args:
            texture: (1, S, S, C) of the subject.
            uv: (M, 2) at covered output pixels; index: (M,) flat into (B, H, W).
            normals: (B, 3, H, W) head-space normals, 0 outside; coverage: (B, 1, H, W).

        Returns:
            (B, C + 4, H, W) float32; zeros where the configuration leaves guidance out.
        """
        batch, _, height, width = normals.shape
        channels = self.config.texture_channels
        if not self.config.guided:
            return torch.zeros(batch, channels + 4, height, width, device=normals.device)
        sampled = lookup(texture, (uv * 2 - 1)[None])[0]
        screen = torch.zeros(batch * height * width, channels, device=sampled.device)
        screen = screen.index_copy(0, index, sampled)
        screen = screen.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return torch.cat([screen, normals, coverage], 1)


def _bank(count: int, planes: int, size: int, channels: int, codes: CodeConfig | None) -> Bank:
    if codes is None:
        return PlaneBank(count, planes, size, channels)
    return CodedPlanes(count, planes, size, channels, codes)


def albedo_texture(atlas: NDArray[np.uint8], size: int) -> Tensor:
    """(1, size, size, 3) float32 sRGB of an atlas (S, S, 3) uint8; rows grow with v."""
    picture = torch.from_numpy(atlas.astype(np.float32) / 255).permute(2, 0, 1)[None]
    small = nn.functional.interpolate(picture, size=size, mode="area")
    # Texture rows grow with v, pictures run top row first.
    return small.flip(2).permute(0, 2, 3, 1)


def plane_positions(points: Tensor) -> Tensor:
    """(M, 3) points → (3, M, 2) positions on the three planes, (column, row) as in ``PLANES``."""
    return torch.stack([points[:, [column, row]] for column, row, _ in PLANES])
