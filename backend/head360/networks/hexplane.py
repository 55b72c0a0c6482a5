"""The hex-plane head as a network: texture bank, dual hex-planes, two decoders, super-resolution.

After Head360 (Chen et al., ECCV 2024), §3: a neural texture is carried by the posed mesh into six
orthographic views, opposite views share a plane; hair lives in static planes of its own. Where the
paper and its release disagree the method notes choose; here: opposite views are concatenated,
empty pixels are zero, head and hair have separate decoders and add their densities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from head360.networks.decoder import FieldDecoder
from head360.networks.planes import lookup
from head360.networks.superres import GuidedSuperResolution
from head360.rendering.raster import PLANES

Floats = NDArray[np.float32]

_CUE_RANGE = 0.1  # normalised units at which a depth cue saturates


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


PRESETS: dict[str, HexPlaneConfig] = {
    "tiny": HexPlaneConfig(),
    "small": HexPlaneConfig(
        texture_channels=16, plane_size=256, hair_size=160, decoder_width=96, features=16,
        superres_width=20, head_samples=12, hair_samples=24,
    ),
}  # fmt: skip


@dataclass
class PosePlanes:
    """The head's hex-planes of one moment.

    Attributes:
        planes: (3, R, R, 2·C + 2) float32: features of both opposite views, then their depths.
    """

    planes: Tensor


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
        size, channels = config.texture_size, config.texture_channels
        self.textures = nn.ParameterList(
            nn.Parameter(torch.randn(1, size, size, channels) * 0.1) for _ in range(subjects)
        )
        self.hair_planes = nn.ParameterList(
            nn.Parameter(
                torch.randn(3, config.hair_size, config.hair_size, config.hair_channels) * 0.1
            )
            for _ in range(styles)
        )
        width, features = config.decoder_width, config.features
        self.head_decoder = FieldDecoder(6 * channels + 9, width, features, density_bias=-0.5)
        self.hair_decoder = FieldDecoder(3 * config.hair_channels + 3, width, features, -1.5)
        self.superres = GuidedSuperResolution(
            raw_channels=3 + features + 2,
            guide_channels=channels + 4,
            width=config.superres_width,
        )

    def set_albedo(self, subject: int, atlas: NDArray[np.uint8]) -> None:
        """Start a texture's first three channels from an albedo atlas (S, S, 3) uint8 sRGB."""
        picture = torch.from_numpy(atlas.astype(np.float32) / 255).permute(2, 0, 1)[None]
        small = nn.functional.interpolate(picture, size=self.config.texture_size, mode="area")
        with torch.no_grad():
            # Texture rows grow with v, pictures run top row first.
            self.textures[subject][..., :3] = small.flip(2).permute(0, 2, 3, 1)

    def head_planes(self, subject: int, uv: Tensor, index: Tensor, depths: Tensor) -> PosePlanes:
        """Carry a subject's texture into the six views of a posed mesh.

        Args:
            subject: index of the texture.
            uv: (M, 2) float32 in [0, 1], v up, at the covered pixels of the six views.
            index: (M,) int64 flat pixel indices into (6, R, R).
            depths: (3, R, R, 2) float32 depths of both views of each plane (2 where empty).
        """
        resolution, channels = self.config.plane_size, self.config.texture_channels
        sampled = lookup(self.textures[subject], (uv * 2 - 1)[None])[0]
        views = torch.zeros(6 * resolution * resolution, channels, device=sampled.device)
        views = views.index_copy(0, index, sampled)
        planes = views.view(3, 2, resolution, resolution, channels).permute(0, 2, 3, 1, 4)
        planes = planes.reshape(3, resolution, resolution, 2 * channels)
        return PosePlanes(torch.cat([planes, depths], 3).contiguous())

    def head_field(self, pose: PosePlanes, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density and colour of the head at (M, 3) normalised points; see ``FieldDecoder``."""
        channels = 2 * self.config.texture_channels
        sampled = lookup(pose.planes, plane_positions(points))
        depth = sampled[..., channels:].detach()  # (3, M, 2)
        cues = []
        for plane, (_, _, view) in enumerate(PLANES):
            coordinate = points[:, view]
            cues.append((1 - coordinate) - depth[plane, :, 0])
            cues.append((1 + coordinate) - depth[plane, :, 1])
        cue = (torch.stack(cues, 1) / _CUE_RANGE).clamp(-1, 1)
        features = sampled[..., :channels].permute(1, 0, 2).flatten(1)
        return self.head_decoder(torch.cat([features, cue, points], 1))  # type: ignore[no-any-return]

    def hair_field(self, style: int, canonical: Tensor) -> tuple[Tensor, Tensor]:
        """Density and colour of hair at (M, 3) canonical points."""
        sampled = lookup(self.hair_planes[style], plane_positions(canonical))
        features = sampled.permute(1, 0, 2).flatten(1)
        return self.hair_decoder(torch.cat([features, canonical], 1))  # type: ignore[no-any-return]

    def guide(
        self, subject: int, uv: Tensor, index: Tensor, normals: Tensor, coverage: Tensor
    ) -> Tensor:
        """Screen-space guidance of a batch of windows.

        Args:
            subject: index of the texture.
            uv: (M, 2) at covered output pixels; index: (M,) flat into (B, H, W).
            normals: (B, 3, H, W) head-space normals, 0 outside; coverage: (B, 1, H, W).

        Returns:
            (B, C + 4, H, W) float32.
        """
        batch, _, height, width = normals.shape
        channels = self.config.texture_channels
        sampled = lookup(self.textures[subject], (uv * 2 - 1)[None])[0]
        screen = torch.zeros(batch * height * width, channels, device=sampled.device)
        screen = screen.index_copy(0, index, sampled)
        screen = screen.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return torch.cat([screen, normals, coverage], 1)


def plane_positions(points: Tensor) -> Tensor:
    """(M, 3) points → (3, M, 2) positions on the three planes, (column, row) as in ``PLANES``."""
    return torch.stack([points[:, [column, row]] for column, row, _ in PLANES])
