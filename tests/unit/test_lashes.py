"""The lashes' cut-out belongs to one topology, and only to it."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest

from head360.geometry import lashes
from head360.geometry.bilinear import BilinearModel
from head360.rendering import raster


def test_a_cutout_goes_with_its_topology() -> None:
    topology = dataclasses.replace(BilinearModel.builtin().topology)
    key = id(topology)
    cutout = lashes.lash_cutout(topology)
    assert lashes.lash_cutout(topology) is cutout
    assert len(cutout.layers) == len(topology.faces)
    del topology
    gc.collect()
    assert key not in lashes._cutouts


def test_a_cutout_of_other_faces_is_refused() -> None:
    cutout = lashes.lash_cutout(BilinearModel.builtin().topology)
    screens = np.zeros((1, 3, 4), np.float32)
    with pytest.raises(ValueError, match="triangles"):
        raster.rasterize(screens, np.array([[0, 1, 2]], np.int32), 8, 8, cutout)
