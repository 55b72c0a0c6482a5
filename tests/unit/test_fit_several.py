"""Several photographs of one person: exposure, say, and pictures that show them all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_fit_texture import CONFIG, NEUTRAL, _wearing, make_head

from head360.datasets import labels as classes
from head360.fitting import pictures, targets
from head360.fitting.light import harmonics, light_of, shading
from head360.fitting.sights import Sight, seen
from head360.fitting.start import Look, _strangeness, exposures
from head360.fitting.surface import skin_graph
from head360.heads.inputs import pose_inputs
from head360.networks.banks import Blend
from head360.rendering import raster
from head360.rendering.cameras import orbit
from head360.server.crafts import thumbnail


def test_photographs_from_other_sides_are_brought_to_one_exposure() -> None:
    rng = np.random.default_rng(4)
    normals = rng.standard_normal((3000, 3)).astype(np.float32)
    normals[:, 2] = np.abs(normals[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    base = rng.uniform(0.3, 0.5, (3000, 3)).astype(np.float32)
    light = np.zeros((9, 3), dtype=np.float32)
    light[3] = 0.3
    no_neck = np.zeros(3000, dtype=np.bool_)
    looks, lights = [], []
    for side, gain in ((0.0, 1.0), (1.0, 1.3)):
        weight = (normals[:, 2] + side * normals[:, 0] > 0.7).astype(np.float32)
        colour = base * np.exp(harmonics(normals) @ light) * gain
        looks.append(Look(colour.astype(np.float32), weight, normals, no_neck))
        lights.append(light_of(np.log(colour / base).astype(np.float32), normals, weight))
    found = exposures(base, looks, tuple(lights))
    assert not found[0].any()
    assert found[1] == pytest.approx(np.log(1.3), abs=0.03)
    plain = [
        look.colour * np.exp(-shading(one, normals) - exposure)
        for look, one, exposure in zip(looks, lights, found, strict=True)
    ]
    both = (looks[0].weight > 0) & (looks[1].weight > 0)
    assert np.abs(plain[0] - plain[1])[both].max() < 0.03


def test_skin_of_a_darker_photograph_is_not_taken_for_hair() -> None:
    rng = np.random.default_rng(5)
    normals = np.tile(np.array([[0.0, 0.0, 1.0]], dtype=np.float32), (600, 1))
    blend = rng.uniform(0.3, 0.8, (600, 3)).astype(np.float32)
    weight, no_neck = np.ones(600, dtype=np.float32), np.zeros(600, dtype=np.bool_)
    skin = np.arange(600) >= 60
    off = []
    shots = [np.where(skin[:, None], blend * 1.1, 0.1).astype(np.float32)]
    shots.append(shots[0] * 0.6)
    looks = [Look(shot, weight, normals, no_neck) for shot in shots]
    lights = tuple(light_of(np.log(shot / blend), normals, weight) for shot in shots)
    for look, light, exposure in zip(looks, lights, exposures(blend, looks, lights), strict=True):
        plain = look.colour * np.exp(-shading(light, normals) - exposure)
        off.append(_strangeness(plain, blend, light, exposure))
    assert off[0][skin].max() < 0.1
    assert off[1][skin].max() < 0.1
    assert off[1][~skin].mean() > 0.8


def test_photographs_that_show_the_same_share_the_say() -> None:
    head = make_head()
    head.net.requires_grad_(False)
    graph, codes = skin_graph(head.model, 64), head.codes("one", None)
    vertices = head.identity(codes.shape)[0].pose(NEUTRAL)
    topology, size = head.model.topology, 128
    pose = pose_inputs(vertices, topology, CONFIG.plane_size)
    wearing, texture = _wearing(head, None), head.net.textures(Blend.of(0))
    ratios, light = torch.zeros(1, 48, 48, 6), np.zeros((9, 3), dtype=np.float32)

    def told(*yaws: float) -> list[float]:
        sights, looks = [], []
        for yaw in yaws:
            screen = raster.perspective_screen(vertices, orbit(yaw, 0.0), size, size)
            covered = raster.rasterize(screen[None], topology.faces, size, size).face[0] >= 0
            names = np.where(covered, classes.SKIN, classes.BACKGROUND).astype(np.uint8)
            sights.append(Sight(
                np.full((size, size, 3), 0.4, np.float32), covered | True, names,
                covered.astype(np.float32), np.zeros((size, size), np.float32), orbit(yaw, 0.0),
                NEUTRAL,
            ))  # fmt: skip
            shown = seen(sights[-1], graph, vertices)
            normals = graph.placed(vertices)[1]
            no_neck = np.zeros(graph.count, dtype=np.bool_)
            looks.append(Look(shown.colour, shown.weight, normals, no_neck))
        trusts = []
        for sight, owned in zip(sights, targets.shares(graph, looks, "cpu"), strict=True):
            wanted, trust = targets.photo_composite(
                wearing, texture, ratios, pose, sight, light, 1.0, owned=owned
            )
            # A share does not make the picture itself half a photograph.
            own = (wanted - 0.4).abs().amax(1, keepdim=True) < 1e-4
            trusts.append(float(trust[own].sum()))
            assert targets.photo_targets(wearing, pose, sight, wanted, trust, 64)
        return trusts

    (alone,) = told(0.0)
    assert alone > 500
    twice = told(0.0, 0.0)
    assert twice[0] == pytest.approx(twice[1])
    assert 0.8 * alone < sum(twice) < 1.1 * alone
    assert 0.8 * alone < sum(told(0.0, 4.0)) < 1.2 * alone


def test_pictures_of_several_photographs_stay_readable() -> None:
    def tile(grey: int, columns: int = 1) -> np.ndarray:
        return np.full((pictures.SIDE, columns * pictures.SIDE, 3), grey, dtype=np.uint8)

    for count, least in ((1, 128), (2, 128), (3, 128), (4, 128), (8, 80)):
        strips = [np.concatenate([tile(0, 1), tile(20 * k + 20)], 1) for k in range(count)]
        small = thumbnail(pictures.brief(strips))
        assert max(small.shape) == 256
        for k in range(count):
            area = int((np.abs(small.astype(int) - (20 * k + 20)).max(-1) < 2).sum())
            assert area > 0.9 * least**2, (count, k)
        whole = pictures.grid(strips)
        assert 0.3 < whole.shape[0] / whole.shape[1] <= 2
        assert {20 * k + 20 for k in range(count)} <= set(np.unique(whole))
    # Upright photographs stand beside each other, lying ones above.
    assert pictures.grid([tile(0)[:, :200]] * 2).shape[:2] == (pictures.SIDE, 400)
    assert pictures.grid([tile(0)[:200], tile(9)[:150]]).shape[:2] == (400, pictures.SIDE)
