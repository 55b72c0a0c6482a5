"""Evaluation beyond whole pictures: regions, hair swaps, LPIPS and identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_codes import FREE, make_head

from head360.arkit import COUNT, INDEX
from head360.errors import BadInput
from head360.evaluation import Judges, compare, seen_parts, summarise
from head360.heads.hexplane import HexPlaneHead
from head360.networks.perceptual import (
    Lpips,
    identity_similarity,
    load_identity,
    load_lpips,
    to_tensor,
)
from head360.rendering.cameras import orbit
from head360.training.shots import Shots

SIZE = 64


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    return make_head(FREE)


def shots_of(head: HexPlaneHead, styles: tuple[int, ...], offset: float = 0.0) -> Shots:
    """One front view of subject "one" for each style; truth = prediction + offset."""
    count = len(styles)
    rgba = np.zeros((count, 1, SIZE, SIZE, 4), dtype=np.uint8)
    camera = orbit(0, 5)
    for group, style in enumerate(styles):
        codes = head.codes("one", None if style < 0 else head.styles[style])
        picture = head.render(head.pose(codes, np.zeros(COUNT, dtype=np.float32)), camera, SIZE,
                              SIZE).rgba  # fmt: skip
        picture[..., :3] = np.clip(picture[..., :3] + offset, 0, 1)
        rgba[group, 0] = (picture * 255 + 0.5).astype(np.uint8)
    return Shots(
        head.subjects, head.styles,
        np.stack([head.codes(name).shape for name in head.subjects]), ("cap", "crest"),
        np.zeros(count, dtype=np.int32), np.array(styles, dtype=np.int32),
        np.zeros((count, COUNT), dtype=np.float32),
        np.repeat(camera.flat25()[None, None], count, 0), rgba,
        np.zeros((count, 1, SIZE // 2, SIZE // 2), dtype=np.uint8),
    )  # fmt: skip


def test_hair_swaps_are_those_of_another_style(head: HexPlaneHead) -> None:
    shots = shots_of(head, (0, 1, -1))
    shots.rgba[1, 0, ..., :3] = shots.rgba[1, 0, ..., :3] // 2  # only the swapped one is wrong
    samples = compare(head, shots)
    assert [sample.swapped for sample in samples] == [False, True, False]
    figures = summarise(samples)
    assert figures["hair_swap_psnr"] == pytest.approx(samples[1].psnr, abs=0.01)
    assert figures["hair_swap_psnr"] < figures["psnr_bald"] - 5


def test_without_swaps_there_is_no_figure(head: HexPlaneHead) -> None:
    assert summarise(compare(head, shots_of(head, (0, -1))))["hair_swap_psnr"] is None


def test_parts_are_seen_where_they_are(head: HexPlaneHead) -> None:
    weights = np.zeros(COUNT, dtype=np.float32)
    closed = head.pose(head.codes("one", None), weights)
    weights[INDEX["jawOpen"]] = 1.0
    opened = head.pose(head.codes("one", None), weights)
    front, back = orbit(0, 0), orbit(180, 0)
    assert seen_parts(head, opened, front, SIZE)["mouth"].sum() > 3
    assert seen_parts(head, closed, front, SIZE)["mouth"].sum() < 3
    assert seen_parts(head, closed, front, SIZE)["face"].sum() > 300
    assert seen_parts(head, closed, back, SIZE)["face"].sum() < 100  # ears, in profile
    lips = head.model.topology.landmarks68[48:60]
    middle = front.project(opened.vertices[lips], SIZE, SIZE)[0].mean(0)
    rows, columns = np.nonzero(seen_parts(head, opened, front, SIZE)["mouth"])
    assert np.hypot(columns.mean() - middle[0], rows.mean() - middle[1]) < 4


def test_region_figures_cover_the_face(head: HexPlaneHead) -> None:
    regions = summarise(compare(head, shots_of(head, (-1,), offset=0.1)))["by_region"]
    assert set(regions) == {"head", "face", "mouth", "hair"}
    assert regions["hair"] is None
    assert 15 < regions["face"] < 25  # an offset of a tenth: 20 dB, a little is clipped


# --- LPIPS ----------------------------------------------------------------------------------------


def lpips_by_hand(net: Lpips, a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 1 of Zhang et al. 2018 with explicit loops over layers."""
    total = 0.0
    x, y = ((p - net.shift) / net.scale for p in (a, b))
    tap = 0
    for index, layer in enumerate(net.features):
        x, y = layer(x), layer(y)
        if index not in net.taps:
            continue
        u = x / x.norm(dim=1, keepdim=True).clamp(min=1e-10)
        v = y / y.norm(dim=1, keepdim=True).clamp(min=1e-10)
        weight = net.linear[tap].flatten()
        height, width = u.shape[-2:]
        for channel in range(u.shape[1]):
            squares = (u[0, channel] - v[0, channel]).square().sum()
            total += float(weight[channel] * squares) / (height * width)
        tap += 1
    return total


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_lpips_is_its_equation(kind: str) -> None:
    torch.manual_seed(0)
    net = Lpips(kind).eval().requires_grad_(False)
    for weight in net.linear:
        weight.copy_(torch.rand_like(weight))
    a, b = torch.rand(1, 3, 48, 48) * 2 - 1, torch.rand(1, 3, 48, 48) * 2 - 1
    assert float(net(a, b)) == pytest.approx(lpips_by_hand(net, a, b), rel=1e-4)
    assert float(net(a, a)) == 0
    assert len(net.linear) == 5


def published_files(kind: str, folder: Path) -> tuple[list[Path], Lpips]:
    """Random weights in the two files and under the names in which they are published."""
    torch.manual_seed(1)
    net = Lpips(kind)
    backbone = {k: v for k, v in net.state_dict().items() if k.startswith("features.")}
    linear = {
        f"lin{k}.model.1.weight": torch.rand_like(weight) for k, weight in enumerate(net.linear)
    }
    torch.save(backbone, folder / "backbone.pth")
    save_file(linear, folder / "linear.safetensors")
    for k, weight in enumerate(net.linear):
        weight.data.copy_(linear[f"lin{k}.model.1.weight"])
    return [folder / "backbone.pth", folder / "linear.safetensors"], net.eval()


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_published_weights_load(kind: str, tmp_path: Path) -> None:
    paths, expected = published_files(kind, tmp_path)
    net = load_lpips(paths)
    a, b = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(net(a, b), expected(a, b))
    with pytest.raises(BadInput, match="lin0"):
        load_lpips(paths[:1])
    with pytest.raises(BadInput, match="features"):
        load_lpips(paths[1:])


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(BadInput, match=r"broken\.pth"):
        load_lpips([broken])
    with pytest.raises(BadInput, match=r"broken\.pth"):
        load_identity(broken)


# --- identity -------------------------------------------------------------------------------------


class MeanColour(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_identity_compares_embeddings(tmp_path: Path, head: HexPlaneHead) -> None:
    torch.jit.script(MeanColour()).save(str(tmp_path / "face.pt"))
    net = load_identity(tmp_path / "face.pt")
    red, blue = np.zeros((20, 30, 3), np.float32), np.zeros((20, 30, 3), np.float32)
    red[..., 0], blue[..., 2] = 1, 1
    assert identity_similarity(net, red, red) == pytest.approx(1.0)
    assert identity_similarity(net, red, blue) == pytest.approx(-1 / 3)
    judges = Judges(Lpips("alex").eval(), net)
    samples = compare(head, shots_of(head, (0,)), judges=judges)
    figures = summarise(samples)
    assert figures["identity"] > 0.99
    assert 0 <= figures["lpips"] < 0.05
    assert "lpips" not in summarise(compare(head, shots_of(head, (0,))))


def test_pictures_become_tensors() -> None:
    picture = np.zeros((2, 3, 3), dtype=np.float32)
    picture[0, 2] = [1.0, 0.5, 0.0]
    tensor = to_tensor(picture)
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor[0, :, 0, 2].tolist() == [1.0, 0.0, -1.0]
