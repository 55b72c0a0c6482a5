"""The exported head in Blender's own importer: 52 shape keys that move as the file says."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from head360.arkit.names import NAMES
from head360.geometry.gltf import GlbMesh, Section, write_scene

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32) * 0.1
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def a_head(count: int = 400) -> GlbMesh:
    """Tetrahedra in a row; shape k moves one of them, so every target is sparse."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(count, 1, 3)).astype(np.float32)
    vertices = (VERTICES + places).reshape(-1, 3)
    faces = (FACES + 4 * np.arange(count)[:, None, None]).reshape(-1, 3)
    deltas = np.zeros((52, len(vertices), 3), np.float32)
    for k in range(52):
        deltas[k, 4 * k : 4 * k + 4] = 0.001 * (k + 1) * np.array([0.0, 0.6, 0.8])
    halves = np.array_split(faces, 2)
    sections = [Section("skin", halves[0]), Section("lashes", halves[1], "MASK", True)]
    normals = np.tile(np.float32([0, 0, 1]), (len(vertices), 1))
    return GlbMesh(
        "head", vertices, sections, normals,
        morph_targets=deltas, morph_normals=np.zeros_like(deltas), morph_names=NAMES,
    )  # fmt: skip


def stored_accessors(path: Path) -> list[dict]:
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size])["accessors"]


@pytest.fixture
def imported(bpy_scene, tmp_path):
    import bpy

    path = write_scene(tmp_path / "head.glb", [a_head()])
    assert sum("sparse" in accessor for accessor in stored_accessors(path)) == 104
    assert bpy.ops.import_scene.gltf(filepath=str(path)) == {"FINISHED"}
    (placed,) = [item for item in bpy.data.objects if item.type == "MESH"]
    return placed


def test_the_shape_keys_are_arkits(imported):
    keys = imported.data.shape_keys.key_blocks
    assert [key.name for key in keys][1:] == list(NAMES)
    assert all(key.value == 0.0 for key in keys[1:])


def test_each_key_moves_as_far_as_ours(imported):
    keys = imported.data.shape_keys.key_blocks
    count = len(imported.data.vertices)
    basis = np.empty(count * 3, np.float32)
    keys[0].data.foreach_get("co", basis)
    for number, key in enumerate(keys[1:]):
        moved = np.empty(count * 3, np.float32)
        key.data.foreach_get("co", moved)
        distance = np.linalg.norm((moved - basis).reshape(-1, 3), axis=1)
        assert distance.max() == pytest.approx(0.001 * (number + 1), abs=2e-6)
        assert (distance > 1e-5).sum() == 4


def test_two_materials_over_one_mesh(imported):
    names = {slot.material.name for slot in imported.material_slots}
    assert names == {"skin", "lashes"}
