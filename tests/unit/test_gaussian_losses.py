"""Losses of the Gaussian head against scikit-image and by hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skimage.metrics import structural_similarity  # noqa: E402

from head360.errors import BadInput  # noqa: E402
from head360.training import gaussian_losses as losses  # noqa: E402


def test_ssim_agrees_with_scikit_image():
    rng = np.random.default_rng(0)
    a = rng.random((40, 33, 3))
    b = np.clip(a + 0.2 * rng.normal(size=a.shape), 0, 1)
    wanted = structural_similarity(
        a, b, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    first, second = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b))
    assert losses.ssim(first, second, padding="valid").item() == pytest.approx(wanted, abs=1e-9)
    padded = losses.ssim(first, second).item()
    assert padded != pytest.approx(wanted, abs=1e-5)
    assert losses.ssim(first, first).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="smaller than the window"):
        losses.ssim(first[..., :8, :8], second[..., :8, :8], padding="valid")


def test_ssim_gradcheck():
    a, b = (torch.rand(1, 1, 7, 6, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: losses.ssim(x, b, window=5), (a.requires_grad_(),))


def test_terms_of_the_loss_by_hand():
    rgb, matte = torch.rand(16, 16, 3), torch.rand(16, 16)
    ground = torch.tensor([0.2, 0.4, 0.6])
    target = losses.over(rgb, matte, ground)
    assert target[3, 4, 1] == pytest.approx(
        (matte[3, 4] * rgb[3, 4, 1] + (1 - matte[3, 4]) * 0.4).item(), abs=1e-6
    )
    predicted, alpha = torch.rand(16, 16, 3), torch.rand(16, 16)
    terms = losses.gaussian_loss(
        predicted, target, losses.LOSSES["corrected"], alpha, matte, torch.tensor(4.0)
    )
    assert terms["l1"].item() == pytest.approx(0.8 * (predicted - target).abs().mean().item())
    assert terms["matte"].item() == pytest.approx(0.1 * (alpha - matte).abs().mean().item())
    assert terms["offsets"].item() == pytest.approx(0.04)
    released = losses.gaussian_loss(
        predicted, target, losses.LOSSES["released"], alpha, matte, torch.tensor(4.0)
    )
    assert set(released) == {"l1", "dssim"}, "no features without a network for them"


def test_backgrounds_are_random_where_wanted_and_repeatable():
    draw = [losses.background(losses.LossWeights(), torch.Generator().manual_seed(s)) for s in
            (1, 1, 2)]  # fmt: skip
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    white = losses.background(losses.LOSSES["paper"], torch.Generator())
    assert torch.equal(white, torch.ones(3))


def vgg_weights(width=4):
    sizes = {0: (3, 1), 2: (1, 1), 5: (1, 2), 7: (2, 2), 10: (2, 4), 12: (4, 4), 14: (4, 4),
             17: (4, 8), 19: (8, 8), 21: (8, 8)}  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, (inputs, outputs) in sizes.items():
        a = inputs if layer == 0 else inputs * width
        kernel = torch.randn(outputs * width, a, 3, 3, generator=generator) * (2 / (9 * a)) ** 0.5
        tensors[f"features.{layer}.weight"] = kernel
        tensors[f"features.{layer}.bias"] = torch.zeros(outputs * width)
    return tensors


def test_perceptual_loss_with_given_weights(tmp_path):
    from safetensors.torch import save_file

    save_file(vgg_weights(), str(tmp_path / "vgg.safetensors"))
    net = losses.VggFeatures.load(tmp_path / "vgg.safetensors")
    picture = torch.rand(32, 32, 3)
    shapes = [tuple(x.shape[1:]) for x in net(picture.permute(2, 0, 1)[None])]
    assert shapes == [(4, 224, 224), (8, 112, 112), (16, 56, 56), (32, 28, 28)]
    same = losses.gaussian_loss(picture, picture, losses.LOSSES["corrected"], features=net)
    assert same["features"].item() == 0
    other = torch.rand(32, 32, 3).requires_grad_()
    terms = losses.gaussian_loss(other, picture, losses.LOSSES["corrected"], features=net)
    terms["features"].backward()
    assert other.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="no VGG-16 weights"):
        losses.VggFeatures.load(tmp_path / "broken.safetensors")
