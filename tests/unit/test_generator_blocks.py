"""The StyleGAN2 family, the dual discriminator and the refine net, block by block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from head360.networks.discriminator import DualDiscriminator, r1_penalty
from head360.networks.refine import (
    MultiScaleDiscriminator,
    RefineConfig,
    RefineNet,
    feature_loss,
    patch_loss,
)
from head360.networks.stylegan import (
    EqualConv,
    EqualLinear,
    Mapping,
    ModulatedConv,
    StyleConfig,
    StyleSynthesis,
    StyleUNet,
    blur,
    downsample,
    upsample,
)

SMALL = StyleConfig(resolution=32, channels=5, base=256, most=16, least=4, latent=12)


def million(net: torch.nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


# --- modulation -----------------------------------------------------------------------------------


def by_the_book(layer: ModulatedConv, x: Tensor, w: Tensor) -> Tensor:
    """Equations 1 to 3 of the StyleGAN2 paper, sample by sample, on the weights themselves."""
    results = []
    style = layer.affine(w)
    for k in range(len(x)):
        weight = layer.weight * layer.scale * style[k][None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.up:
            y = F.conv_transpose2d(x[k : k + 1], weight.transpose(0, 1), stride=2)
            y = blur(y, 1, gain=4.0)
        else:
            y = F.conv2d(x[k : k + 1], weight, padding=layer.padding)
        results.append(y + layer.bias[:, None, None])
    return torch.cat(results)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulating_signals_equals_modulating_weights(up: bool, demodulate: bool) -> None:
    layer = ModulatedConv(6, 7, 3, 5, up=up, demodulate=demodulate).double()
    x, w = torch.randn(3, 6, 8, 8).double(), torch.randn(3, 5).double()
    assert torch.allclose(layer(x, w), by_the_book(layer, x, w), atol=1e-10)
    assert layer(x, w).shape == (3, 7, 16, 16) if up else (3, 7, 8, 8)


def test_demodulated_outputs_have_unit_variance_whatever_the_style() -> None:
    layer = ModulatedConv(64, 64, 3, 8)
    for size in (0.1, 10.0):
        y = layer(torch.randn(4, 64, 32, 32), size * torch.randn(4, 8))
        assert 0.8 < float(y[:, :, 2:-2, 2:-2].detach().std()) < 1.2


def test_gradients_of_a_modulated_convolution() -> None:
    layer = ModulatedConv(2, 3, 3, 4, up=True).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x, w))


# --- resampling -----------------------------------------------------------------------------------


def test_resampling_keeps_constants_and_positions() -> None:
    flat = torch.ones(1, 2, 8, 8)
    assert torch.allclose(upsample(flat)[:, :, 2:-2, 2:-2], torch.ones(1, 2, 12, 12))
    assert torch.allclose(downsample(flat)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 2, 2))
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    expected = F.interpolate(ramp, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(upsample(ramp)[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])
    inner = downsample(ramp)[0, 0, 2, 1:-1]
    assert torch.allclose(inner, torch.tensor([2.5, 4.5]))  # centres of the pairs


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_shrinking_convolution_halves_exactly(kernel: int) -> None:
    assert EqualConv(3, 4, kernel, down=True)(torch.randn(1, 3, 16, 8)).shape == (1, 4, 8, 4)


def test_the_rate_of_a_layer_scales_its_steps_not_its_output() -> None:
    slow, fast = EqualLinear(32, 32, rate=0.01), EqualLinear(32, 32)
    x = torch.randn(256, 32)
    assert float(slow(x).detach().std()) == pytest.approx(float(fast(x).detach().std()), rel=0.2)
    for layer in (slow, fast):
        layer(x).square().mean().backward()
    assert slow.weight.grad is not None
    assert fast.weight.grad is not None
    ratio = float(slow.weight.grad.std() / fast.weight.grad.std())
    assert ratio == pytest.approx(0.01, rel=0.2)


# --- networks -------------------------------------------------------------------------------------


def test_mapping_normalises_its_input_and_reads_its_label() -> None:
    mapping = Mapping(50, 25, w=16)
    z, label = torch.randn(4, 50), torch.randn(4, 25)
    assert torch.allclose(mapping(z, label), mapping(7 * z, label), atol=1e-5)
    assert not torch.allclose(mapping(z, label), mapping(z, -label))
    with pytest.raises(ValueError, match="label"):
        mapping(z)


def test_synthesis_is_deterministic_and_every_parameter_learns() -> None:
    w = torch.randn(2, 12)
    nets = []
    for _ in range(2):
        torch.manual_seed(11)
        nets.append(StyleSynthesis(SMALL))
    a, b = (net(w) for net in nets)
    assert a.shape == (2, 5, 32, 32)
    assert torch.equal(a, b)
    a.square().mean().backward()
    for name, parameter in nets[0].named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_a_style_unet_sees_its_input_at_every_scale() -> None:
    net = StyleUNet(SMALL, inputs=7, size=16)
    w = torch.randn(1, 12)
    planes = torch.randn(1, 7, 16, 16, requires_grad=True)
    out = net(planes, w)
    assert out.shape == (1, 5, 32, 32)
    out[0, 0, 0, 0].backward()
    assert planes.grad is not None
    assert float(planes.grad[..., -1, -1].abs().max()) > 0  # far corner, through the bottleneck
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("resolution", [6, 4, 48])
def test_resolutions_are_powers_of_two(resolution: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        StyleConfig(resolution=resolution)


def test_published_sizes_have_the_published_parameter_counts() -> None:
    # Method notes §2 and §6, counted on the releases.
    assert million(StyleSynthesis(StyleConfig(256, 32))) == pytest.approx(28.0, abs=0.05)
    assert million(RefineNet(RefineConfig(64))) == pytest.approx(182.4, abs=0.1)
    assert million(RefineNet(RefineConfig(32))) == pytest.approx(45.6, abs=0.1)


# --- adversaries ----------------------------------------------------------------------------------


def scores(net: DualDiscriminator) -> tuple[Tensor, list[Tensor]]:
    kind = net.score.weight.dtype
    g = torch.Generator().manual_seed(0)
    picture = torch.rand(4, 3, 32, 32, generator=g).to(kind).requires_grad_()
    raw = torch.rand(4, 3, 8, 8, generator=g).to(kind).requires_grad_()
    camera, b = torch.randn(4, 25, generator=g).to(kind), torch.rand(4, 52, generator=g).to(kind)
    return net(picture, raw, camera, b), [picture, raw]


def test_the_discriminator_reads_all_that_it_is_given() -> None:
    net = DualDiscriminator(32, base=256, most=16)
    values, pictures = scores(net)
    assert values.shape == (4,)
    values.sum().backward()
    for picture in pictures:
        assert picture.grad is not None
        assert float(picture.grad.abs().max()) > 0
    g = torch.Generator().manual_seed(0)
    fixed = [torch.rand(2, 3, 32, 32, generator=g), torch.rand(2, 3, 8, 8, generator=g)]
    camera, b = torch.randn(2, 25, generator=g), torch.rand(2, 52, generator=g)
    assert not torch.allclose(net(*fixed, camera, b), net(*fixed, -camera, b))
    assert not torch.allclose(net(*fixed, camera, b), net(*fixed, camera, 1 - b))


def test_r1_is_the_squared_gradient_on_both_inputs() -> None:
    net = DualDiscriminator(32, base=256, most=16).double()
    values, pictures = scores(net)
    penalty = r1_penalty(values, pictures)
    expected = 0.0
    for picture in pictures:
        (gradient,) = torch.autograd.grad(values.sum(), picture, retain_graph=True)
        expected += float(gradient.square().sum()) / len(values)
    assert float(penalty.detach()) == pytest.approx(expected)
    penalty.backward()  # a second derivative exists


def test_refining_starts_as_the_identity_and_can_learn() -> None:
    net = RefineNet(RefineConfig(width=4, downs=2, blocks=1))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(net(x), x)
    (net(x) - 0.1).square().mean().backward()
    last = net.layers[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.weight.grad is not None
    assert float(last.weight.grad.abs().max()) > 0
    published = RefineNet(RefineConfig(width=4, downs=2, blocks=1, residual=False))
    assert float(published(x).detach().abs().max()) <= 1


def test_patch_scores_separate_real_from_fake_and_features_match() -> None:
    net = MultiScaleDiscriminator(width=4)
    condition = torch.rand(2, 3, 32, 32)
    real, fake = net(condition, condition), net(condition, torch.rand(2, 3, 32, 32))
    assert [len(features) for features in real] == [5, 5]
    perfect = [[*features[:-1], torch.ones_like(features[-1])] for features in real]
    assert float(patch_loss(perfect, real=True)) == 0
    assert float(patch_loss(perfect, real=False)) == 1
    assert float(feature_loss(real, real).detach()) == 0
    assert float(feature_loss(fake, real).detach()) > 0
