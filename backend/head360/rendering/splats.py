"""Gaussian splatting behind one interface: numba on the CPU, gsplat or torch on CUDA.

All implementations follow the same rules, those of gsplat (Ye et al. 2024), which are those of 3-D
Gaussian Splatting (Kerbl et al. 2023): EWA projection with the Jacobian clamped to 1.3 times the
field of view, 0.3 px² added to the projected covariance, splats sorted by the planar depth of their
centres, α = min(0.999, o·e^(−q)), nothing below 1/255, and a pixel that stops before its
transmittance falls to 1e-4. Pixel centres are at +0.5 and the principal point is honoured.

Everything is differentiable in means, quaternions, scales, opacities, colours and background.
Cameras are constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from head360.rendering import sh
from head360.rendering.cameras import Array, Camera

NEAR = 0.01  # metres


@dataclass(frozen=True)
class Pinhole:
    """A camera as the rasterisers want it.

    Attributes:
        world2cam: (4, 4) float64, rigid, OpenCV axes, metres.
        focal: fx, fy in pixels.
        centre: cx, cy in pixels from the top-left corner.
        width, height: pixels.
        near: metres; Gaussians whose centre is nearer are not drawn.
    """

    world2cam: Array
    focal: tuple[float, float]
    centre: tuple[float, float]
    width: int
    height: int
    near: float


@dataclass(frozen=True)
class Gaussians:
    """Checked inputs of a rasteriser: one dtype, one device, N Gaussians.

    Attributes:
        means: (N, 3) head space, metres.
        quaternions: (N, 4) scalar first, any length but zero.
        scales: (N, 3) standard deviations, metres.
        opacities: (N,) in [0, 1].
        colours: (N, 3).
    """

    means: Tensor
    quaternions: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor


@dataclass(frozen=True)
class Layers:
    """What a rasteriser returns, before background and normalisation.

    Attributes:
        colour: (H, W, 3) Σ w·colour.
        depth: (H, W) Σ w·z, metres.
        transmittance: (H, W) 1 − Σ w.
        means2d: pixels, (N, 2) or (1, N, 2); its gradient is retained.
        radii: (N,) pixels, 0 where a Gaussian is not drawn.
    """

    colour: Tensor
    depth: Tensor
    transmittance: Tensor
    means2d: Tensor
    radii: Tensor


@dataclass(frozen=True)
class SplatFrame:
    """One rendered view; all of the inputs' dtype and device.

    Attributes:
        rgb: (H, W, 3) colour over the background, or premultiplied where there is none; in the
            colour space of the inputs, not clamped.
        alpha: (H, W) in [0, 1): 1 − transmittance.
        depth: (H, W) expected planar depth Σ w·z / Σ w, metres; +inf where alpha is zero. Leave
            those pixels out of a loss: differences of infinities have no gradient.
        radii: (N,) half extent in pixels of what is drawn (α ≥ 1/255), 0 where nothing is; on
            CUDA rounded up to whole pixels.
        visible: (N,) bool, radii > 0.
        means2d: centres in pixels; :meth:`screen_gradient` reads its gradient.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    radii: Tensor
    visible: Tensor
    means2d: Tensor

    def screen_gradient(self) -> Tensor:
        """(N,) length of dL/d(centre in normalised device coordinates); call after ``backward``.

        The unit of the densification threshold of 3-D Gaussian Splatting: the gradient per pixel
        times half the image size.

        Raises:
            RuntimeError: no gradient has reached the frame yet.
        """
        if self.means2d.grad is None:
            raise RuntimeError("screen_gradient is known after backward() through the frame only")
        height, width = self.alpha.shape
        half = self.means2d.new_tensor([width / 2, height / 2])
        return (self.means2d.grad.reshape(-1, 2) * half).norm(dim=-1)


def render_splats(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    camera: Camera,
    width: int,
    height: int,
    background: Tensor | None = None,
    *,
    near: float = NEAR,
    antialiased: bool = False,
    sh_degree: int | None = None,
) -> SplatFrame:
    """Render N Gaussians; the device of the tensors chooses the implementation.

    Args:
        means: (N, 3) centres, head space, metres; float32, or float64 (which is slower).
        quaternions: (N, 4) scalar first, of any length; normalised inside.
        scales: (N, 3) standard deviations along the rotated axes, metres.
        opacities: (N,) in [0, 1].
        colours: (N, 3), or (N, K, 3) spherical harmonics with K = 1, 4, 9 or 16: then the colour
            is max(0, sh + ½) in the direction from the camera to the mean, whose gradient counts.
        camera: pinhole without skew.
        width, height: pixels.
        background: (3,) laid behind, or None.
        near: metres; Gaussians with a nearer centre are left out whole.
        antialiased: scale opacities by √(det Σ / det(Σ + 0.3·I)), so that splats smaller than a
            pixel fade instead of growing (as in Mip-Splatting, Yu et al. 2024).
        sh_degree: the highest degree to use, all that ``colours`` has by default.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, an input is NaN or infinite, an opacity
            lies outside [0, 1], a quaternion is zero, or the camera is skewed.
    """
    pinhole = pinhole_of(camera, width, height, near)
    _check(means, quaternions, scales, opacities, colours, background)
    if colours.ndim == 3:
        colours = sh.colours(colours, means, camera.position, sh_degree)
    gaussians = Gaussians(means, quaternions, scales, opacities, colours)
    if len(means) == 0:
        layers = _nothing(gaussians, pinhole)
    elif means.device.type == "cuda":
        from head360.rendering.splats_gpu import rasterize_gpu

        layers = rasterize_gpu(gaussians, pinhole, antialiased)
    else:  # MPS too: its tensors visit the CPU
        from head360.rendering.splats_cpu import rasterize_cpu

        layers = rasterize_cpu(gaussians, pinhole, antialiased)
    return _frame(layers, background)


def render_batch(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cameras: Iterable[Camera],
    width: int,
    height: int,
    background: Tensor | None = None,
    *,
    near: float = NEAR,
    antialiased: bool = False,
    sh_degree: int | None = None,
) -> list[SplatFrame]:
    """:func:`render_splats` for several cameras; gradients of all views add up."""
    return [
        render_splats(
            means,
            quaternions,
            scales,
            opacities,
            colours,
            camera,
            width,
            height,
            background,
            near=near,
            antialiased=antialiased,
            sh_degree=sh_degree,
        )
        for camera in cameras
    ]


def pinhole_of(camera: Camera, width: int, height: int, near: float) -> Pinhole:
    """The camera in pixels. Raises ValueError where it is not a plain pinhole."""
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width}×{height} pixels: both sides need at least one")
    if not near > 0:
        raise ValueError(f"near is {near}: it must be a positive distance in metres")
    K = np.asarray(camera.intrinsics, dtype=np.float64)
    if not (np.isfinite(K).all() and np.isfinite(camera.cam2world).all()):
        raise ValueError("the camera holds NaN or infinite numbers")
    if np.abs(K[[0, 1], [1, 0]]).max() > 1e-9 or not np.allclose(K[2], (0, 0, 1), atol=1e-9):
        raise ValueError("splats need a pinhole camera without skew")
    return Pinhole(
        np.asarray(camera.world2cam(), dtype=np.float64),
        (float(K[0, 0] * width), float(K[1, 1] * height)),
        (float(K[0, 2] * width), float(K[1, 2] * height)),
        width,
        height,
        near,
    )


def _check(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    background: Tensor | None,
) -> None:
    """Raise ValueError for anything that would render as garbage."""
    count = len(means)
    named: dict[str, tuple[Tensor, list[tuple[int, ...]]]] = {
        "means": (means, [(count, 3)]),
        "quaternions": (quaternions, [(count, 4)]),
        "scales": (scales, [(count, 3)]),
        "opacities": (opacities, [(count,)]),
        "colours": (colours, [(count, 3), *((count, k, 3) for k in sh.COUNTS)]),
    }
    if background is not None:
        named["background"] = (background, [(3,)])
    for name, (tensor, shapes) in named.items():
        if tuple(tensor.shape) not in shapes:
            wanted = " or ".join(str(shape) for shape in shapes)
            raise ValueError(f"{name} have shape {tuple(tensor.shape)}, not {wanted}")
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise ValueError(
                f"{name} are {tensor.dtype} on {tensor.device}, means {means.dtype} on "
                f"{means.device}: all must agree"
            )
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"splats are float32 or float64, not {means.dtype}")
    if count == 0:
        return
    with torch.no_grad():
        problems = {f"{name} hold NaN or infinite numbers": t for name, (t, _) in named.items()}
        # A sum is finite where all its terms are (or overflows: then they are absurd anyway), and
        # one transfer answers all questions on CUDA.
        answers = [~torch.isfinite(tensor.sum()) for tensor in problems.values()]
        answers.append((opacities < 0).any() | (opacities > 1).any())
        answers.append((quaternions == 0).all(dim=1).any())
        bad = torch.stack(answers).tolist()
    sentences = [*problems, "opacities lie outside [0, 1]", "a quaternion is zero: no rotation"]
    if any(bad):
        raise ValueError("; ".join(s for s, wrong in zip(sentences, bad, strict=True) if wrong))


def _nothing(gaussians: Gaussians, pinhole: Pinhole) -> Layers:
    """Layers of no Gaussians, still attached to their (empty) inputs so that backward() runs."""
    g, means = gaussians, gaussians.means
    inputs = (means, g.quaternions, g.scales, g.opacities, g.colours)
    blank = means.new_zeros(pinhole.height, pinhole.width) + sum(t.sum() for t in inputs)
    colour = blank[..., None].expand(-1, -1, 3)
    return Layers(colour, blank, 1.0 - blank, keep_gradient(means[:, :2]), means.new_zeros(0))


def keep_gradient(means2d: Tensor) -> Tensor:
    """Let autograd keep the gradient of an intermediate result, where there will be one."""
    if means2d.requires_grad and not means2d.is_leaf:
        means2d.retain_grad()
    return means2d


def _frame(layers: Layers, background: Tensor | None) -> SplatFrame:
    """Background and the division of depth by alpha."""
    alpha = 1.0 - layers.transmittance
    rgb = layers.colour
    if background is not None:
        rgb = rgb + layers.transmittance[..., None] * background
    hit = alpha > 0
    depth = torch.where(hit, layers.depth / torch.where(hit, alpha, 1.0), torch.inf)
    return SplatFrame(rgb, alpha, depth, layers.radii, layers.radii > 0, layers.means2d)
