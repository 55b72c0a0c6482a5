"""Codes of a hex-plane head: each of texture, shape and hair moves alone; new heads by seed."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from head360 import heads
from head360.arkit import COUNT, INDEX
from head360.errors import BadInput
from head360.geometry.bilinear import BilinearModel
from head360.heads.base import Codes
from head360.heads.codes import family_weights, gaussian_weights, interpolate, mix, recoloured
from head360.heads.hexplane import HexPlaneHead
from head360.networks.banks import Blend, CodeConfig, CodedPlanes, PlaneBank
from head360.networks.hexplane import PRESETS, HexPlaneConfig, HexPlaneNet
from head360.rendering.cameras import orbit
from head360.rendering.volume import GRID

FREE = HexPlaneConfig(
    texture_size=32, texture_channels=4, plane_size=48, hair_size=16, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip
SMALL_CODES = CodeConfig(latent=6, w=8, base=64, most=8, residual=8)
CODED = dataclasses.replace(FREE, texture_codes=SMALL_CODES, hair_codes=SMALL_CODES)
NEUTRAL = np.zeros(COUNT, dtype=np.float32)


def make_head(config: HexPlaneConfig) -> HexPlaneHead:
    torch.manual_seed(0)
    model = BilinearModel.builtin()
    net = HexPlaneNet(config, 2, 2)
    # Hair and subjects that can be told apart without any training.
    with torch.no_grad():
        net.hair_decoder.out.bias[0] = 2.0
        net.head_decoder.out.weight[1:4] *= 10.0
        for entry in net.textures.entries:
            entry.mul_(10.0)
    rng = np.random.default_rng(0)
    subjects = OrderedDict(
        (name, {"shape": model.sample_shape(rng), "style": style})
        for name, style in (("one", "cap"), ("two", "crest"))
    )
    occupancy = np.zeros((2, GRID, GRID, GRID), dtype=np.uint8)
    low, high, floor = GRID // 3, 2 * GRID // 3, 3 * GRID // 4
    occupancy[0, low:high, floor:, low:high] = 1
    occupancy[1, :, floor:, GRID // 2 - 4 : GRID // 2 + 4] = 1
    return HexPlaneHead("test", model, net, subjects, ("cap", "crest"), occupancy, {})


@pytest.fixture(scope="module", params=[FREE, CODED], ids=["free", "coded"])
def head(request: pytest.FixtureRequest) -> HexPlaneHead:
    return make_head(request.param)


def picture(head: HexPlaneHead, codes: Codes, yaw: float = 20.0) -> np.ndarray:
    return head.render(head.pose(codes, NEUTRAL), orbit(yaw, 5), 64, 64).rgba


# --- blends ---------------------------------------------------------------------------------------


def test_the_ends_of_an_interpolation_are_the_heads_themselves(head: HexPlaneHead) -> None:
    a, b = head.codes("one"), head.codes("two")
    np.testing.assert_array_equal(picture(head, interpolate(a, b)), picture(head, a))
    there = interpolate(a, b, texture=1, shape=1, hair=1)
    np.testing.assert_array_equal(picture(head, there), picture(head, b))


def test_each_code_moves_alone(head: HexPlaneHead) -> None:
    a, b = head.codes("one"), head.codes("two")
    texture = interpolate(a, b, texture=0.5)
    assert texture.textures == (("one", 0.5), ("two", 0.5))
    assert texture.style == a.style
    np.testing.assert_array_equal(texture.shape, a.shape)
    shape = interpolate(a, b, shape=0.25)
    np.testing.assert_allclose(shape.shape, 0.75 * a.shape + 0.25 * b.shape, rtol=1e-6)
    assert (shape.subject, shape.textures, shape.style) == ("one", (), "cap")
    hair = interpolate(a, b, hair=0.75)
    assert hair.hairs == (("cap", 0.25), ("crest", 0.75))
    assert hair.style == "crest"


def test_texture_blends_leave_the_outline(head: HexPlaneHead) -> None:
    a, b = head.codes("one", None), head.codes("two", None)
    between = picture(head, interpolate(a, b, texture=0.5))
    outline = (between[..., 3] > 0.5) != (picture(head, a)[..., 3] > 0.5)
    assert outline.mean() < 0.03
    assert np.abs(between[..., :3] - picture(head, a)[..., :3]).max() > 0.01


def test_hair_blends_leave_the_face_and_blend_again() -> None:
    first = (("cap", 0.5), ("crest", 0.5))
    assert mix(first, (("cap", 1.0),), 0.5) == (("cap", 0.75), ("crest", 0.25))
    assert mix(first, (("bob", 1.0),), 1.0) == (("bob", 1.0),)


def test_bald_heads_do_not_fade_into_hair(head: HexPlaneHead) -> None:
    bald, haired = head.codes("one", None), head.codes("one", "cap")
    assert interpolate(bald, haired, hair=0.4).style is None
    assert interpolate(bald, haired, hair=0.6).style == "cap"


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_amounts_outside_are_refused(head: HexPlaneHead, amount: float) -> None:
    with pytest.raises(BadInput, match="0 to 1"):
        interpolate(head.codes(), head.codes(), texture=amount)


def test_free_planes_blend_linearly_and_coded_ones_through_their_codes() -> None:
    torch.manual_seed(1)
    half = Blend(((0, 0.5), (1, 0.5)))
    free = PlaneBank(2, 1, 16, 3)
    mean = (free(Blend.of(0)) + free(Blend.of(1))) / 2
    assert torch.allclose(free(half), mean, atol=1e-6)
    coded = CodedPlanes(2, 3, 16, 4, SMALL_CODES)
    with torch.no_grad():
        for entry in coded.entries:
            entry.normal_()
    own = coded(half)
    assert own.shape == (3, 16, 16, 4)
    with torch.no_grad():
        coded.codes[0] = coded.codes[1] = coded.codes.mean(0)
        entries = (coded.entries[0] + coded.entries[1]) / 2
        coded.entries[0].copy_(entries)
    assert torch.allclose(coded(Blend.of(0)), own, atol=1e-5)


def test_generators_learn_codes_mapping_and_residuals() -> None:
    torch.manual_seed(1)
    coded = CodedPlanes(2, 1, 16, 4, SMALL_CODES)
    coded(Blend.of(1)).square().sum().backward()
    for name, parameter in coded.named_parameters():
        if name == "entries.0":
            assert parameter.grad is None  # another subject's own planes are not touched
        else:
            assert parameter.grad is not None, name
    assert coded.codes.grad is not None
    assert float(coded.codes.grad[0].abs().max()) == 0


# --- new heads ------------------------------------------------------------------------------------


def test_a_seed_is_a_head(head: HexPlaneHead) -> None:
    first, again, other = (head.random_codes(seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(picture(head, first), picture(head, again))
    assert np.abs(first.shape - other.shape).max() > 0
    assert np.abs(picture(head, first) - picture(head, other)).max() > 0.01
    trained = {name: picture(head, head.codes(name)) for name in head.subjects}
    assert all(np.abs(picture(head, first) - known).max() > 0.01 for known in trained.values())
    with pytest.raises(BadInput, match="seed"):
        head.random_codes(-1)


def test_families_are_small_and_positive() -> None:
    weights = dict(family_weights(np.random.default_rng(5), 6))
    assert sum(weights.values()) == pytest.approx(1.0)
    assert len(weights) == 3
    assert min(weights.values()) > 0


def test_drawn_codes_have_the_mean_and_covariance_of_the_trained_ones() -> None:
    rng = np.random.default_rng(2)
    codes = rng.normal(size=(5, 3)) @ np.diag([1.0, 2.0, 0.5]) + [3.0, 0.0, -1.0]
    drawn = np.array(
        [sum(w * codes[k] for k, w in gaussian_weights(rng, len(codes))) for _ in range(20000)]
    )
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.06)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), atol=0.15)
    assert sum(w for _, w in gaussian_weights(rng, 5)) == pytest.approx(1.0)


# --- hair colour ----------------------------------------------------------------------------------


def test_dyed_hair_takes_the_colour_and_keeps_the_outline(head: HexPlaneHead) -> None:
    own = picture(head, head.codes("one"))
    red = picture(head, recoloured(head.codes("one"), (0.9, 0.1, 0.1)))
    np.testing.assert_array_equal(own[..., 3], red[..., 3])
    bald = picture(head, head.codes("one", None))
    changed = np.abs(red[..., :3] - own[..., :3]).max(-1) > 0.05
    assert changed.sum() > 20
    # Only where there is hair.
    hair_only = (bald[..., 3] < 0.01) & (own[..., 3] > 0.9)
    assert hair_only.sum() > 10
    assert (red[hair_only, 0] - red[hair_only, 1]).mean() > 0.2


def test_hair_colours_are_checked(head: HexPlaneHead) -> None:
    with pytest.raises(BadInput, match="bald"):
        recoloured(head.codes("one", None), (1, 0, 0))
    with pytest.raises(BadInput, match="0 to 1"):
        recoloured(head.codes("one"), (255, 0, 0))
    assert recoloured(head.codes("one"), None).hair_colour is None


# --- disentanglement ------------------------------------------------------------------------------


def test_expressions_leave_hair_behind_the_head_alone(head: HexPlaneHead) -> None:
    weights = NEUTRAL.copy()
    weights[[INDEX["mouthSmileLeft"], INDEX["browInnerUp"]]] = 1.0
    codes, camera = head.codes("one"), orbit(180, 10)
    still = head.render(head.pose(codes, NEUTRAL), camera, 64, 64).rgba
    moved = head.render(head.pose(codes, weights), camera, 64, 64).rgba
    bald = head.render(head.pose(head.codes("one", None), NEUTRAL), camera, 64, 64).rgba
    hair = np.abs(still - bald).max(-1) > 0.05
    assert hair.sum() > 50
    assert np.abs(still - moved)[hair].mean() < 2 / 255


def test_hair_leaves_the_face_alone(head: HexPlaneHead) -> None:
    bald = picture(head, head.codes("one", None), 0.0)
    haired = picture(head, head.codes("one", "cap"), 0.0)
    face = np.s_[34:50, 24:40]
    assert np.abs(bald - haired).max() > 0.05
    assert np.abs(bald - haired)[face].max() < 2 / 255


# --- packages and presets -------------------------------------------------------------------------


def test_generators_travel_in_packages(tmp_path: Path) -> None:
    head = make_head(CODED)
    with torch.no_grad():
        for entry in (*head.net.textures.entries, *head.net.hair_planes.entries):
            entry.normal_(std=0.1)
    head._look = None
    head.save(tmp_path / "coded")
    loaded = heads.load(tmp_path / "coded")
    assert isinstance(loaded, HexPlaneHead)
    assert loaded.net.config == CODED
    for codes in (head.codes("two"), head.random_codes(3)):
        # Half precision for the networks, eight bits for residuals.
        assert np.abs(picture(head, codes) - picture(loaded, codes)).max() < 0.02


@pytest.mark.parametrize("switch", [{"merge": "add"}, {"views": "tri"}, {"views": "none"},
                                    {"guided": False}])  # fmt: skip
def test_every_ablation_renders_and_learns(switch: dict) -> None:
    head = make_head(dataclasses.replace(FREE, **switch))
    rgba = picture(head, head.codes("one"))
    assert (rgba[..., 3] > 0.05).sum() > 300
    assert np.isfinite(rgba).all()
    points = torch.rand(16, 3) - 0.5
    planes = head.pose(head.codes("one"), NEUTRAL).state["planes"]
    density, colour = head.net.head_field(planes, points)
    (density.sum() + colour.sum()).backward()
    assert head.net.head_decoder.hidden1.weight.grad is not None


def test_added_planes_do_not_know_front_from_back_but_concatenated_ones_do() -> None:
    planes = {}
    for merge in ("add", "concat"):
        head = make_head(dataclasses.replace(FREE, merge=merge))
        planes[merge] = head.net.head_decoder.hidden1.in_features
    channels = FREE.texture_channels
    assert planes["concat"] - planes["add"] == 3 * channels


def test_unknown_switches_are_refused() -> None:
    with pytest.raises(ValueError, match="octo"):
        dataclasses.replace(FREE, views="octo")


PARAMETERS = {"tiny": 1.013, "tiny-codes": 2.027, "small": 3.916, "paper": 57.75}  # millions


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_build_with_the_size_they_are_known_for(preset: str) -> None:
    net = HexPlaneNet(PRESETS[preset], 1, 1)
    count = sum(p.numel() for p in net.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[preset], rel=0.005), f"{preset}: {count:.3f} M"
    assert HexPlaneConfig.from_facts(dataclasses.asdict(PRESETS[preset])) == PRESETS[preset]
