"""What rendering Gaussians costs: frames and training steps at several counts and sizes.

    python benchmarks/splats.py [--counts 10000 30000 60000] [--sizes 256 512] [--repeats 7]
                                [--device auto|cpu|cuda] [--picture FILE.png]

The Gaussians lie on the built-in head, as those of a trained avatar do: flat, as wide as their
spacing, nearly opaque. Each row of the JSON object gives medians in milliseconds of the forward
pass and of forward plus backward (to all five inputs), and the same for the plain torch tiles of
the same run, which compute each tile twice in a step to bound their memory; "times_torch" is how
many times faster the rasteriser is. On CUDA the rasteriser is gsplat where it runs, and "numba"
compares it with this machine's CPU. Machines are shared and noisy, so all contestants take turns
and only the ratios should be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
import torch
from torch import Tensor

from head360.geometry.attach import vertex_normals
from head360.geometry.bilinear import BilinearModel
from head360.rendering import sh, splats, splats_gpu
from head360.rendering.cameras import Camera, orbit

Scene = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def head_scene(count: int, device: str, seed: int = 0) -> Scene:
    """Means, quaternions, scales, opacities and colours (normals as RGB) of Gaussians on a head."""
    model = BilinearModel.builtin()
    vertices = model.neutral(model.shape_factors.mean(axis=0)).astype(np.float64)
    faces = model.topology.faces
    normals = vertex_normals(vertices.astype(np.float32), faces).astype(np.float64)
    rng = np.random.default_rng(seed)
    corners = vertices[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    chosen = rng.choice(len(faces), count, p=area / area.sum())
    weights = rng.dirichlet(np.ones(3), count)
    means = np.einsum("nk,nkc->nc", weights, corners[chosen])
    normal = np.einsum("nk,nkc->nc", weights, normals[faces[chosen]])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # The rotation that carries +z to the normal: half-way quaternion (1 + cos, z × n).
    quaternions = np.stack(
        [1 + normal[:, 2] + 1e-6, -normal[:, 1], normal[:, 0], np.zeros(count)], 1
    )
    width = np.sqrt(area.sum() / 2 / count) * rng.lognormal(0, 0.25, (count, 1))
    scales = width * np.array([0.9, 0.9, 0.15])
    opacities = rng.uniform(0.6, 0.98, count)
    arrays = means, quaternions, scales, opacities, normal / 2 + 0.5
    return tuple(torch.as_tensor(a, dtype=torch.float32, device=device) for a in arrays)  # type: ignore[return-value]


def torch_tiles(scene: Scene, camera: Camera, size: int) -> splats.Layers:
    """The plain torch route on any device."""
    pinhole = splats.pinhole_of(camera, size, size, splats.NEAR)
    return splats_gpu.rasterize_torch(splats.Gaussians(*scene), pinhole, False)


def timed(scene: Scene, draw: Callable[[Scene], Tensor], backward: bool) -> float:
    """Milliseconds of one frame, or of one frame and its gradients."""
    leaves = tuple(t.detach().requires_grad_(backward) for t in scene)
    cuda = leaves[0].is_cuda
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        picture = draw(leaves)  # type: ignore[arg-type]
        if backward:
            picture.square().mean().backward()
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def measure(count: int, size: int, repeats: int, device: str) -> dict[str, object]:
    """One row: all contestants in turn, medians over ``repeats`` rounds."""
    scene = head_scene(count, device)
    cameras = [orbit(11.0 * k, 5) for k in range(repeats + 1)]

    def render(camera: Camera) -> Callable[[Scene], Tensor]:
        return lambda g: splats.render_splats(*g, camera, size, size).rgb

    def plain(camera: Camera) -> Callable[[Scene], Tensor]:
        return lambda g: torch_tiles(g, camera, size).colour

    contestants = {"rasteriser": (scene, render), "torch": (scene, plain)}
    if device == "cuda":
        contestants["numba"] = (tuple(t.cpu() for t in scene), render)  # type: ignore[assignment]
    times: dict[str, list[float]] = {}
    for k, camera in enumerate(cameras):
        for name, (gaussians, draw) in contestants.items():
            for step, backward in (("frame", False), ("step", True)):
                elapsed = timed(gaussians, draw(camera), backward)
                if k:  # the first round compiles
                    times.setdefault(f"{name}_{step}", []).append(elapsed)
    ms = {key: statistics.median(values) for key, values in times.items()}
    return {
        "gaussians": count,
        "size": size,
        "ms": {key: round(value, 2) for key, value in ms.items()},
        "fastest_ms": {key: round(min(values), 2) for key, values in times.items()},
        "frames_per_second": round(1e3 / ms["rasteriser_frame"], 1),
        "times_torch": {
            step: round(ms[f"torch_{step}"] / ms[f"rasteriser_{step}"], 1)
            for step in ("frame", "step")
        },
    }


def write_picture(path: Path, count: int, size: int, device: str) -> None:
    """Colour, alpha and depth of the benchmark's head side by side, sRGB PNG."""
    from PIL import Image

    means, quaternions, scales, opacities, colours = head_scene(count, device)
    coefficients = sh.from_rgb(colours)[:, None]
    grey = torch.full((3,), 0.85, device=device)
    frame = splats.render_splats(
        means, quaternions, scales, opacities, coefficients, orbit(30, 8), size, size, grey
    )
    near, far = frame.depth.min(), frame.depth[frame.alpha > 0].max()
    nearness = torch.where(frame.alpha > 0, (far - frame.depth) / (far - near), 0.0)
    panels = [frame.rgb, *(layer[..., None].expand(-1, -1, 3) for layer in (frame.alpha, nearness))]
    pixels = (torch.cat(panels, 1).clamp(0, 1) * 255).round().byte().cpu().numpy()
    Image.fromarray(pixels).save(path)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 30_000, 60_000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--picture", type=Path, help="also write this PNG of the scene")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.picture:
        write_picture(arguments.picture, max(arguments.counts), max(arguments.sizes), device)
    rows = [
        measure(count, size, arguments.repeats, device)
        for size in arguments.sizes
        for count in arguments.counts
    ]
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "rasteriser": splats_gpu.implementation(device) if device == "cuda" else "numba",
        "threads": numba.get_num_threads(),
        "rows": rows,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
