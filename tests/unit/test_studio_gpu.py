"""The torch shading draws what the numba kernel draws, on the CPU and on CUDA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from head360.arkit import INDEX
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster
from head360.rendering.cameras import orbit
from head360.rendering.raster_gpu import fragments_torch
from head360.synthesis.lights import LIGHTS
from head360.synthesis.looks import FIRST_LOOK, LATEST_LOOK, Look
from head360.synthesis.shading import shade
from head360.synthesis.shading_torch import shade_torch
from head360.synthesis.studio import Studio
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import open_wardrobe

SIZE, SAMPLES = 80, 3
CAMERAS = [orbit(15.0, 0.0), orbit(160.0, 20.0)]
pytestmark = pytest.mark.assets


def make_studio(look: Look, device: str = "cpu") -> Studio:
    try:
        wardrobe = open_wardrobe(find_assets())
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    return Studio(BilinearModel.builtin(), wardrobe, cast(1), look=look, device=device)


def smiling(studio: Studio) -> np.ndarray:
    blendshapes = np.zeros(52, dtype=np.float32)
    blendshapes[[INDEX["jawOpen"], INDEX["mouthSmileLeft"]]] = 0.5
    return studio.pose("felix", blendshapes)


@pytest.mark.parametrize("look", [FIRST_LOOK, LATEST_LOOK], ids=["first", "latest"])
def test_torch_shades_like_numba(look: Look) -> None:
    studio = make_studio(look)
    scene, cutout = studio.scene("felix", "short02", smiling(studio))
    wide = SIZE * SAMPLES
    screens = np.stack(
        [raster.perspective_screen(scene.positions, camera, wide, wide) for camera in CAMERAS]
    )
    face, bary, _ = fragments_torch(screens, scene.faces, wide, wide, cutout, "cpu")
    views = shade_torch(scene, face, bary, CAMERAS, SAMPLES, tuple(LIGHTS), True)
    for number, camera in enumerate(CAMERAS):
        seen = raster.rasterize(screens[number : number + 1], scene.faces, wide, wide, cutout)
        ours = shade(scene, seen, camera, SAMPLES, tuple(LIGHTS), True)
        theirs = views.view(number)
        np.testing.assert_allclose(theirs.lit, ours.lit, atol=2 / 255)
        np.testing.assert_allclose(theirs.albedo, ours.albedo, atol=2 / 255)
        np.testing.assert_allclose(theirs.hair, ours.hair, atol=1e-6)
        np.testing.assert_allclose(theirs.depth, ours.depth, atol=1e-6)
        np.testing.assert_allclose(theirs.normals, ours.normals, atol=1e-4)
        np.testing.assert_array_equal(theirs.labels, ours.labels)


def test_torch_without_passes_makes_none() -> None:
    studio = make_studio(FIRST_LOOK)
    scene, cutout = studio.scene("felix", None, smiling(studio))
    screen = raster.perspective_screen(scene.positions, CAMERAS[0], SIZE, SIZE)[None]
    face, bary, _ = fragments_torch(screen, scene.faces, SIZE, SIZE, cutout, "cpu")
    views = shade_torch(scene, face, bary, CAMERAS[:1], 1, ("soft",), False)
    assert views.lit.shape == (1, 1, SIZE, SIZE, 4)
    assert views.albedo is None
    assert views.labels is None
    assert float(views.hair.sum()) == 0.0


@pytest.mark.gpu
@pytest.mark.parametrize("look", [FIRST_LOOK, LATEST_LOOK], ids=["first", "latest"])
def test_cuda_draws_like_the_cpu(look: Look) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu, gpu = make_studio(look), make_studio(look, "cuda")
    pictures = []
    for studio in (cpu, gpu):
        scene, cutout = studio.scene("felix", "short02", smiling(studio))
        pictures.append(
            studio.photograph_batch(
                scene, cutout, CAMERAS, SIZE, SIZE, lights=tuple(LIGHTS), passes=True
            )
        )
    for ours, theirs in zip(*pictures, strict=True):
        # A sample on the very edge of a triangle may fall to its neighbour.
        assert (np.abs(theirs.rgba - ours.rgba) > 2 / 255).mean() < 0.002
        for name in LIGHTS:
            assert (np.abs(theirs.lit[name] - ours.lit[name]) > 2 / 255).mean() < 0.002
        assert (theirs.labels != ours.labels).mean() < 0.002
        assert (theirs.visible == ours.visible).mean() > 0.98
        near = np.isfinite(ours.depth) & np.isfinite(theirs.depth)
        assert np.median(np.abs(theirs.depth - ours.depth)[near]) < 1e-6
