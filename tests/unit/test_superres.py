"""The super-resolution and the mending of raw renders."""

from __future__ import annotations

import torch

from head360.networks.superres import GuidedSuperResolution, despeckle


def test_crumbs_and_pinholes_are_mended_and_edges_kept() -> None:
    raw = torch.zeros(1, 5, 16, 16)
    raw[:, :, :, 8:] = 1.0  # hair in the right half
    clean = raw.clone()
    raw[0, :, 4, 3] = 1.0  # a crumb
    raw[0, :, 10, 12] = 0.0  # a pinhole
    mended = despeckle(raw)
    assert mended[0, -1, 4, 3] < 0.3
    assert mended[0, -1, 10, 12] > 0.7
    assert (mended[0, :, 10, 12] == mended[0, -1, 10, 12]).all(), "colour follows alpha"
    touched = torch.zeros(16, 16, dtype=torch.bool)
    touched[4, 3] = touched[10, 12] = True
    assert torch.equal(mended[..., ~touched], clean[..., ~touched])
    assert torch.equal(despeckle(clean), clean)


def test_untrained_network_shows_mesh_coverage_and_upsampled_colour() -> None:
    torch.manual_seed(0)
    net = GuidedSuperResolution(raw_channels=7, guide_channels=6, width=8)
    raw = torch.zeros(2, 7, 8, 8)
    raw[:, :3], raw[:, 5] = 0.4, 1.0  # a grey head that fills the view, no hair
    guide = torch.rand(2, 6, 32, 32)
    guide[:, -1] = 0.0
    guide[:, -1, :, :16] = 1.0
    out = net(raw, guide)
    assert out.shape == (2, 4, 32, 32)
    assert torch.equal(out[:, 3], guide[:, -1])
    torch.testing.assert_close(out[:, :3, :, :16], torch.full((2, 3, 32, 16), 0.4))
    assert (out[:, :3, :, 16:] == 0).all()


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    net = GuidedSuperResolution(raw_channels=7, guide_channels=6, width=8)
    torch.nn.init.normal_(net.leave.weight)
    net(torch.rand(1, 7, 8, 8), torch.rand(1, 6, 16, 16)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
