"""Losses of the Gaussian head: L1, structural similarity, matte, features of a given network.

L = 0.8·mean|I − Î| + 0.2·(1 − SSIM) + 0.01·L_features (method notes §5), and ours: the matte is
compared with the rendered alpha, the background changes at random so that nothing white can hide
before white, and offsets of the expression are kept small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from head360.errors import BadInput

_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the defaults are the preset ``corrected``.

    Attributes:
        l1, dssim: of the picture.
        features: of the perceptual term; counts only where a feature network is given.
        matte: mean |alpha − matte|.
        offsets: mean square of what the expression adds to geometry.
        random_background: a new plain colour behind each frame, else white.
        window, sigma: of the structural similarity.
    """

    l1: float = 0.8
    dssim: float = 0.2
    features: float = 0.01
    matte: float = 0.1
    offsets: float = 1e-2
    random_background: bool = True
    window: int = 11
    sigma: float = 1.5


LOSSES: dict[str, LossWeights] = {
    "paper": LossWeights(matte=0.0, offsets=0.0, random_background=False),
    "released": LossWeights(matte=0.0, offsets=0.0, random_background=False),
    "corrected": LossWeights(),
    "tiny": LossWeights(),
}

Features = Callable[[Tensor], list[Tensor]]


def background(weights: LossWeights, generator: torch.Generator) -> Tensor:
    """(3,) colour to lay behind a frame and its target, sRGB."""
    return torch.rand(3, generator=generator) if weights.random_background else torch.ones(3)


def over(rgb: Tensor, matte: Tensor, ground: Tensor) -> Tensor:
    """Target (H, W, 3): matte·rgb + (1 − matte)·ground, blended as encoded; matte (H, W)."""
    return rgb * matte[..., None] + ground * (1 - matte[..., None])


def gaussian_loss(
    predicted: Tensor,
    target: Tensor,
    weights: LossWeights,
    alpha: Tensor | None = None,
    matte: Tensor | None = None,
    offsets: Tensor | None = None,
    features: Features | None = None,
) -> dict[str, Tensor]:
    """Weighted terms by name; their sum is the loss.

    Args:
        predicted, target: (H, W, 3) sRGB over the same background.
        weights: see there; terms of weight zero are left out.
        alpha, matte: (H, W) rendered and wanted coverage.
        offsets: mean square offset, see ``Offsets.power``.
        features: (1, 3, H, W) sRGB in [0, 1] → list of feature maps.
    """
    terms = {"l1": weights.l1 * (predicted - target).abs().mean()}
    if weights.dssim:
        first, second = (picture.permute(2, 0, 1)[None] for picture in (predicted, target))
        similarity = ssim(first, second, weights.window, weights.sigma)
        terms["dssim"] = weights.dssim * (1 - similarity)
    if weights.matte and alpha is not None and matte is not None:
        terms["matte"] = weights.matte * (alpha - matte).abs().mean()
    if weights.offsets and offsets is not None:
        terms["offsets"] = weights.offsets * offsets
    if weights.features and features is not None:
        first, second = (picture.permute(2, 0, 1)[None] for picture in (predicted, target))
        with torch.no_grad():
            wanted = features(second)
        distances = [F.l1_loss(a, b) for a, b in zip(features(first), wanted, strict=True)]
        terms["features"] = weights.features * torch.stack(distances).sum()
    return terms


def ssim(
    a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5, padding: str = "zero"
) -> Tensor:
    """Mean structural similarity (Wang et al. 2004) of pictures (B, C, H, W) in [0, 1]; a scalar.

    Gaussian window, population covariance. With ``padding="valid"`` it is the number that
    scikit-image gives for ``gaussian_weights=True, use_sample_covariance=False``; "zero", the
    release's, has windows that reach over the border into black.

    Raises:
        ValueError: the picture is smaller than the window.
    """
    channels, (height, width) = a.shape[1], a.shape[-2:]
    if padding == "valid" and min(height, width) < window:
        raise ValueError(f"a picture of {width}×{height} pixels is smaller than the window")
    margin = 0 if padding == "valid" else window // 2
    kernel = _window(window, sigma, a)
    stack = torch.cat([a, b, a * a, b * b, a * b], 1)
    row = kernel.view(1, 1, 1, -1).expand(5 * channels, 1, 1, -1)
    blurred = F.conv2d(stack, row, padding=(0, margin), groups=5 * channels)
    blurred = F.conv2d(blurred, row.transpose(2, 3), padding=(margin, 0), groups=5 * channels)
    ma, mb, aa, bb, ab = blurred.chunk(5, 1)
    va, vb, vab = aa - ma * ma, bb - mb * mb, ab - ma * mb
    similarity = ((2 * ma * mb + _C1) * (2 * vab + _C2)) / (
        (ma * ma + mb * mb + _C1) * (va + vb + _C2)
    )
    return similarity.mean()


def _window(size: int, sigma: float, like: Tensor) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return (weights / weights.sum()).to(like)


class VggFeatures(nn.Module):
    """relu1_2, relu2_2, relu3_3 and relu4_3 of a VGG-16 whose weights the user has.

    Pictures are resized to 224 × 224 and normalised as for ImageNet. Widths follow the weights.
    """

    mean: Tensor
    deviation: Tensor

    _BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21))  # convolutions in torchvision's count

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        blocks = []
        for layers in self._BLOCKS:
            block = nn.ModuleList()
            for layer in layers:
                kernel = weights[f"features.{layer}.weight"]
                conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                conv.load_state_dict({"weight": kernel, "bias": weights[f"features.{layer}.bias"]})
                block.append(conv)
            blocks.append(block)
        self.blocks = nn.ModuleList(blocks)
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    @classmethod
    def load(cls, path: Path | str) -> VggFeatures:
        """Read ``features.N.weight`` and ``features.N.bias`` from a safetensors file.

        Raises:
            BadInput: it cannot be read, or lacks a layer.
        """
        try:
            return cls(load_file(str(path)))
        except (OSError, SafetensorError, KeyError, RuntimeError, IndexError) as error:
            raise BadInput(
                f"{path} holds no VGG-16 weights ({error}): convert torchvision's vgg16 to "
                "safetensors, or train without a perceptual loss."
            ) from error

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) sRGB in [0, 1] → four feature maps."""
        x = F.interpolate(picture, size=(224, 224), mode="bilinear", align_corners=False)
        x = (x - self.mean) / self.deviation
        seen = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleList)
            if index:
                x = F.max_pool2d(x, 2)
            for conv in block:
                x = F.relu(conv(x))
            seen.append(x)
        return seen
