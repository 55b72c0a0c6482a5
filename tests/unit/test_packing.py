"""Packed textures and planes: what is looked up survives, the rest costs nothing."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from head360.geometry.bilinear import BilinearModel
from head360.heads import packing
from head360.networks.hexplane import plane_positions
from head360.networks.planes import lookup


def test_packing_rounds_to_six_bits_and_drops_what_is_not_used() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, [1.0, 10.0], (3, 8, 8, 2)).astype(np.float32)
    used = rng.random((3, 8, 8)) < 0.5
    packed, scale = packing.pack(values, used)
    back = packing.unpack(packed, scale, values.shape)
    assert packed.dtype == np.uint8
    assert (back[~used] == 0).all()
    peak = np.abs(values[used]).max(0)
    np.testing.assert_allclose(scale, peak / 31, rtol=1e-6)
    assert (np.abs(back - values)[used] <= scale / 2 * 1.001).all()


def test_first_packages_with_plain_bytes_are_still_read() -> None:
    whole = np.arange(-8, 8, dtype=np.int8).reshape(1, 2, 2, 4)
    scale = np.array([1, 2, 3, 4], dtype=np.float32)
    np.testing.assert_array_equal(packing.unpack(whole, scale, whole.shape), whole * scale)


@pytest.mark.parametrize("count", [15, 17, 1_000_000])
def test_bytes_of_another_size_are_refused(count: int) -> None:
    packed = np.frombuffer(zlib.compress(bytes(count)), dtype=np.uint8)
    with pytest.raises(ValueError, match="another size"):
        packing.unpack(packed, np.ones(4, dtype=np.float32), (1, 2, 2, 4))


def test_hair_cover_keeps_every_texel_that_the_hull_looks_up() -> None:
    rng = np.random.default_rng(1)
    grid, side = 24, 20
    occupancy = np.zeros((grid, grid, grid), dtype=np.uint8)
    occupancy[5:9, 12:20, 3:7] = 1  # [z, y, x], different on every axis
    used = packing.hair_cover(occupancy, side)
    cells = np.argwhere(occupancy)[:, ::-1] + rng.random((occupancy.sum(), 3))
    points = torch.from_numpy((cells / grid * 2 - 1).astype(np.float32))
    values = rng.normal(size=(3, side, side, 4)).astype(np.float32)
    whole, masked = (
        lookup(torch.from_numpy(v), plane_positions(points))
        for v in (values, values * used[..., None])
    )
    torch.testing.assert_close(whole, masked, rtol=0, atol=0)
    assert used.mean() < 0.5


def test_texture_cover_keeps_every_texel_that_the_mesh_looks_up() -> None:
    topology = BilinearModel.builtin().topology
    side = 64
    used = packing.texture_cover(topology, side)
    rng = np.random.default_rng(2)
    corners = topology.uvs[topology.face_uvs]
    weights = rng.dirichlet(np.ones(3), len(corners)).astype(np.float32)
    uv = torch.from_numpy((corners * weights[:, :, None]).sum(1).astype(np.float32))
    values = rng.normal(size=(1, side, side, 3)).astype(np.float32)
    whole, masked = (
        lookup(torch.from_numpy(v), (uv * 2 - 1)[None]) for v in (values, values * used[..., None])
    )
    torch.testing.assert_close(whole, masked, rtol=0, atol=0)
    assert 0.5 < used.mean() < 1.0
