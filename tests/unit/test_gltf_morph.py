"""The head as an animatable GLB: what the file says, by the rules of glTF 2.0."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from head360.arkit.names import INDEX, NAMES
from head360.geometry.bilinear import BilinearModel
from head360.geometry.gltf import GlbMesh, Section, write_scene
from head360.heads.base import HeadMesh, Surface
from head360.heads.portable import morph_mesh, split_corners, surface_mesh

TYPES = {5126: ("<f4", 4), 5123: ("<u2", 2), 5125: ("<u4", 4)}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


class Glb:
    """A reader of its own, strict where the specification is."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert (kind, size % 4) == (b"JSON", 0)
        self.document: dict[str, Any] = json.loads(data[20 : 20 + size])
        length, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert (kind, length % 4) == (b"BIN\0", 0)
        self.binary = data[28 + size :]
        assert len(self.binary) - self.document["buffers"][0]["byteLength"] in (0, 1, 2, 3)
        self._check_views()

    def _check_views(self) -> None:
        end = 0
        for view in self.document["bufferViews"]:
            assert view["byteOffset"] % 4 == 0
            assert view["byteOffset"] >= end
            end = view["byteOffset"] + view["byteLength"]
            assert view["byteLength"] > 0
        assert end <= self.document["buffers"][0]["byteLength"]

    def _read(self, index: int, component: int, count: int, width: int) -> np.ndarray:
        view = self.document["bufferViews"][index]
        dtype, size = TYPES[component]
        assert view["byteLength"] == count * width * size
        return np.frombuffer(self.binary, dtype, count * width, view["byteOffset"]).reshape(
            -1, width
        )

    def accessor(self, index: int) -> np.ndarray:
        a = self.document["accessors"][index]
        width, component = WIDTHS[a["type"]], a["componentType"]
        values = np.zeros((a["count"], width), TYPES[component][0])
        if "bufferView" in a:
            values = self._read(a["bufferView"], component, a["count"], width).copy()
        if "sparse" in a:
            s = a["sparse"]
            assert 0 < s["count"] <= a["count"]
            for part in ("indices", "values"):
                view = self.document["bufferViews"][s[part]["bufferView"]]
                assert "target" not in view  # not allowed for sparse views
            rows = self._read(s["indices"]["bufferView"], s["indices"]["componentType"],
                              s["count"], 1)[:, 0].astype(int)  # fmt: skip
            assert (np.diff(rows) > 0).all()
            assert rows[-1] < a["count"]
            values[rows] = self._read(s["values"]["bufferView"], component, s["count"], width)
        if "min" in a:
            np.testing.assert_array_equal(values.min(0), np.float32(a["min"]))
            np.testing.assert_array_equal(values.max(0), np.float32(a["max"]))
        assert np.isfinite(values).all()
        return values


@pytest.fixture(scope="module")
def mesh() -> HeadMesh:
    model = BilinearModel.builtin()
    t = model.topology
    shape = model.mean_shape
    return HeadMesh(
        model.neutral(shape), t.faces, t.uvs, t.face_uvs, model.rig_deltas(shape), t.parts,
        t.part_names,
    )  # fmt: skip


@pytest.fixture(scope="module")
def glb(mesh: HeadMesh, tmp_path_factory: pytest.TempPathFactory) -> Glb:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[..., 3] = 255
    picture[:8, :8] = (200, 30, 10, 0)
    path = tmp_path_factory.mktemp("glb") / "head.glb"
    return Glb(write_scene(path, [morph_mesh(mesh, picture)]))


def test_there_are_the_52_shapes_by_their_arkit_names(glb: Glb) -> None:
    (found,) = glb.document["meshes"]
    assert found["extras"]["targetNames"] == list(NAMES)
    assert len(found["weights"]) == 52
    for primitive in found["primitives"]:
        assert len(primitive["targets"]) == 52
        assert all(set(target) == {"POSITION", "NORMAL"} for target in primitive["targets"])


def test_every_accessor_keeps_the_rules_and_the_file_is_small(glb: Glb, mesh: HeadMesh) -> None:
    for index in range(len(glb.document["accessors"])):
        glb.accessor(index)
    (found,) = glb.document["meshes"]
    attributes = found["primitives"][0]["attributes"]
    for primitive in found["primitives"]:
        assert primitive["attributes"] == attributes
        for target in primitive["targets"]:
            assert "min" in glb.document["accessors"][target["POSITION"]]
    count = glb.document["accessors"][attributes["POSITION"]]["count"]
    normals = glb.accessor(attributes["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    uv = glb.accessor(attributes["TEXCOORD_0"])
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert len(glb.binary) < 0.6 * 52 * 2 * 12 * count  # sparse targets: well below dense ones


def test_targets_move_vertices_as_our_shapes_do(glb: Glb, mesh: HeadMesh) -> None:
    vertex, _, _ = split_corners(mesh.faces, mesh.face_uvs)
    targets = glb.document["meshes"][0]["primitives"][0]["targets"]
    for name in ("jawOpen", "eyeLookInLeft", "eyeBlinkRight", "tongueOut"):
        found = glb.accessor(targets[INDEX[name]]["POSITION"])
        np.testing.assert_allclose(found, mesh.deltas[INDEX[name], vertex], atol=2e-7)
    eye = [k for k, name in enumerate(mesh.part_names) if name == "eyeball_left"]
    on_eye = np.unique(mesh.faces[np.isin(mesh.parts, eye)])
    turned = np.flatnonzero(np.isin(vertex, on_eye))
    look = glb.accessor(targets[INDEX["eyeLookInLeft"]]["POSITION"])
    assert np.linalg.norm(look[turned], axis=1).max() > 0.005


def test_materials_cut_the_lashes_and_share_one_texture(glb: Glb) -> None:
    materials = {material["name"]: material for material in glb.document["materials"]}
    assert set(materials) == {"skin", "eyes and mouth", "lashes"}
    assert materials["lashes"]["alphaMode"] == "MASK"
    assert materials["lashes"]["doubleSided"]
    assert "alphaMode" not in materials["skin"]
    for material in materials.values():
        assert material["pbrMetallicRoughness"]["baseColorTexture"] == {"index": 0}
    view = glb.document["bufferViews"][glb.document["images"][0]["bufferView"]]
    start = view["byteOffset"]
    picture = Image.open(io.BytesIO(glb.binary[start : start + view["byteLength"]]))
    assert (picture.mode, picture.size) == ("RGBA", (64, 64))
    assert picture.getpixel((2, 2)) == (200, 30, 10, 0)


def test_uvs_are_turned_over_for_gltf(tmp_path: Path) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    uvs = np.array([[0.1, 0.2], [0.9, 0.2], [0.1, 0.8]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    picture = np.zeros((4, 4, 3), np.uint8)
    surface = Surface(corners, faces, corners, corners + 1, uvs, faces, picture)
    read = Glb(write_scene(tmp_path / "t.glb", [surface_mesh(surface, "head")]))
    attributes = read.document["meshes"][0]["primitives"][0]["attributes"]
    found = read.accessor(attributes["TEXCOORD_0"])
    np.testing.assert_allclose(found, [[0.1, 0.8], [0.9, 0.8], [0.1, 0.2]], atol=1e-6)
    assert "COLOR_0" not in attributes


def test_two_meshes_of_one_name_are_refused(tmp_path: Path) -> None:
    one = GlbMesh("head", np.eye(3), [Section("skin", [[0, 1, 2]])])
    with pytest.raises(ValueError, match="different names"):
        write_scene(tmp_path / "x.glb", [one, one])
    still = np.zeros((2, 3, 3))
    twice = GlbMesh("b", np.eye(3), one.sections, morph_targets=still, morph_names=["a", "a"])
    with pytest.raises(ValueError, match="different names"):
        write_scene(tmp_path / "x.glb", [twice])
    assert not list(tmp_path.iterdir())
