"""OBJ, PLY and GLB, read back by small parsers of their own; decimation; iso-surfaces."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from head360.errors import BadInput
from head360.geometry.decimate import decimate
from head360.geometry.isosurface import extract, signed_volume, vertex_normals
from head360.geometry.meshfile import read_obj, write_glb, write_obj, write_ply

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
COLOURS = np.array([[0, 0.5, 1], [1, 1, 1], [0.2, 0.2, 0.2], [0.04, 0.0, 1]], dtype=np.float32)


def parse_glb(path: Path) -> tuple[dict, list[np.ndarray]]:
    data = path.read_bytes()
    magic, version, total = struct.unpack_from("<4sII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    assert binary_size % 4 == 0
    binary = data[28 + size :]
    assert len(binary) == binary_size
    arrays = []
    types = {5126: "<f4", 5123: "<u2", 5125: "<u4"}

    def read(view: int, component: int, count: int, width: int) -> np.ndarray:
        offset = document["bufferViews"][view]["byteOffset"]
        assert offset % 4 == 0
        values = np.frombuffer(binary, types[component], count * width, offset)
        return values.reshape(-1, width)

    for accessor in document["accessors"]:
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
        component, count = accessor["componentType"], accessor["count"]
        values = np.zeros((count, width), types[component])
        if "bufferView" in accessor:
            values = read(accessor["bufferView"], component, count, width)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            indices = sparse["indices"]
            rows = read(indices["bufferView"], indices["componentType"], sparse["count"], 1)[:, 0]
            assert (np.diff(rows.astype(int)) > 0).all()
            values[rows] = read(sparse["values"]["bufferView"], component, len(rows), width)
        if "min" in accessor:
            np.testing.assert_array_equal(values.min(axis=0), np.float32(accessor["min"]))
            np.testing.assert_array_equal(values.max(axis=0), np.float32(accessor["max"]))
        arrays.append(values)
    assert document["buffers"][0]["byteLength"] <= binary_size
    return document, arrays


def test_glb(tmp_path: Path) -> None:
    morphs = np.zeros((2, 4, 3), dtype=np.float32)
    morphs[1, 2] = (0, 0.5, 0)
    path = write_glb(
        tmp_path / "a.glb", VERTICES, FACES, COLOURS, 3 * VERTICES, morphs, ["one", "two"]
    )
    document, arrays = parse_glb(path)
    primitive = document["meshes"][0]["primitives"][0]
    attributes = primitive["attributes"]
    np.testing.assert_array_equal(arrays[attributes["POSITION"]], VERTICES)
    np.testing.assert_array_equal(arrays[primitive["indices"]].reshape(-1, 3), FACES)
    assert "min" in document["accessors"][attributes["POSITION"]]
    linear = arrays[attributes["COLOR_0"]]
    np.testing.assert_allclose(linear[0], [0, 0.2140, 1], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(arrays[attributes["NORMAL"]], axis=1), 1, atol=1e-6)
    assert document["meshes"][0]["extras"]["targetNames"] == ["one", "two"]
    np.testing.assert_array_equal(arrays[primitive["targets"][1]["POSITION"]], morphs[1])


def test_glb_with_many_vertices_uses_wide_indices(tmp_path: Path) -> None:
    many = np.random.default_rng(0).random((70_000, 3)).astype(np.float32)
    document, arrays = parse_glb(write_glb(tmp_path / "b.glb", many, [[0, 1, 69_999]]))
    primitive = document["meshes"][0]["primitives"][0]
    assert document["accessors"][primitive["indices"]]["componentType"] == 5125
    assert arrays[primitive["indices"]].max() == 69_999


@pytest.mark.parametrize("faces", [[[0, 1, 4]], [[0, 1, -1]], [[0, 1]]])
def test_bad_faces_are_refused(tmp_path: Path, faces: list[list[int]]) -> None:
    for write in (write_glb, write_obj, write_ply):
        with pytest.raises(ValueError):
            write(tmp_path / "bad", VERTICES, faces)
    assert list(tmp_path.iterdir()) == []


def test_obj_round_trip(tmp_path: Path) -> None:
    uvs = np.random.default_rng(0).random((5, 2))
    face_uvs = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 2, 4]])
    mesh = read_obj(write_obj(tmp_path / "a.obj", VERTICES, FACES, uvs, face_uvs, COLOURS))
    np.testing.assert_allclose(mesh.vertices, VERTICES)
    np.testing.assert_allclose(mesh.uvs, uvs, atol=1e-6)
    faces, corners = mesh.triangles()
    np.testing.assert_array_equal(faces, FACES)
    np.testing.assert_array_equal(corners, face_uvs)


def test_obj_of_others(tmp_path: Path) -> None:
    path = tmp_path / "quad.obj"
    path.write_text(
        "# c\nmtllib x.mtl\nv 0 0 0\nv 1 0 0 0.5 0.5 0.5\nv 1 1 0\nv 0 1 0\nvt 0 0 0\nvn 0 0 1\n"
        "usemtl m\nf 1/1/1 2/1/1 3/1/1 4/1/1\nf -4//1 -3//1 -2//1\n"
    )
    mesh = read_obj(path)
    assert mesh.polygons == [(0, 1, 2, 3), (0, 1, 2)]
    assert mesh.polygon_uvs[1] == (-1, -1, -1)
    assert mesh.triangles()[0].tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    for text, line in (("v 0 0 x\n", 1), ("v 0 0 0\nf 1 2 3\n", 2), ("v 0 0 0\nf 1 1\n", 2)):
        path.write_text(text)
        with pytest.raises(BadInput, match=f"line {line}"):
            read_obj(path)
    with pytest.raises(BadInput):
        read_obj(tmp_path / "absent.obj")


def test_ply_round_trip(tmp_path: Path) -> None:
    data = write_ply(tmp_path / "a.ply", VERTICES, FACES, COLOURS, VERTICES).read_bytes()
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert "element vertex 4" in lines
    assert "element face 4" in lines
    names = [line.split()[-1] for line in lines if line.startswith("property")]
    assert names == ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "vertex_indices"]
    offset = 0
    for vertex, colour in zip(VERTICES, COLOURS, strict=True):
        row = struct.unpack_from("<6f3B", body, offset)
        offset += 27
        np.testing.assert_array_equal(row[:3], vertex)
        np.testing.assert_allclose(np.array(row[6:]) / 255, colour, atol=0.002)
    for face in FACES:
        assert struct.unpack_from("<B3i", body, offset) == (3, *face)
        offset += 13
    assert offset == len(body)


def test_sphere_is_extracted_closed_and_outward() -> None:
    def density(points: np.ndarray) -> np.ndarray:
        floater = 0.05 - np.linalg.norm(points - (0.8, 0.8, 0.8), axis=1)
        return np.maximum(0.5 - np.linalg.norm(points, axis=1), floater)

    vertices, faces = extract(density, 0.0, resolution=48)
    assert np.linalg.norm(vertices, axis=1).max() < 0.51  # the floater is gone
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)
    normals = vertex_normals(vertices, faces)
    assert (normals * vertices).sum(axis=1).min() > 0.4
    edges = np.sort(np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    everything, _ = extract(density, 0.0, resolution=48, keep_fraction=0.0)
    assert len(everything) > len(vertices)
    below, turned = extract(lambda p: -density(p), 0.0, resolution=48, inside_above=False)
    assert len(below) == len(vertices)
    assert signed_volume(below, turned) > 0


def test_extraction_at_the_box_and_of_nothing() -> None:
    grid = np.ones((8, 9, 10), dtype=np.float32)
    vertices, faces = extract(grid, 0.5, lower=(0, 0, 0), upper=(1, 2, 3))
    np.testing.assert_allclose(vertices.min(axis=0), 0)
    np.testing.assert_allclose(vertices.max(axis=0), (1, 2, 3))
    assert signed_volume(vertices, faces) == pytest.approx(6, rel=0.05)
    empty, none = extract(grid, 2.0)
    assert empty.shape == none.shape == (0, 3)


def test_decimation_keeps_seams_borders_and_locks() -> None:
    n = 15
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    points = np.stack([x, y, 0.05 * np.sin(5 * x)], axis=-1).reshape(-1, 3)
    ids = np.arange(n * n).reshape(n, n)
    a, b, c, d = ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    uvs = np.concatenate([points[:, :2], points[:, :2] + (2, 0)])
    right = points[faces].mean(axis=1)[:, 0] > 0.5
    face_uvs = faces + n * n * right[:, None]  # a seam along x = 0.5
    locked = np.array([ids[4, 4]])
    arguments = (
        points[None],
        faces,
        face_uvs,
        uvs,
        np.zeros(len(faces), int),
        np.zeros(n * n, int),
        np.array([60]),
        np.ones(n * n),
        locked,
    )
    result = decimate(*arguments)
    assert len(result.kept) == 60
    assert locked[0] in result.kept
    new = points[result.kept][result.triangles]
    cross = np.cross(new[:, 1] - new[:, 0], new[:, 2] - new[:, 0])
    assert (cross[:, 2] > 0).all()
    # Area is that of the unit square: no holes, no overlaps; every triangle stays on its side.
    assert cross[:, 2].sum() / 2 == pytest.approx(1.0)
    side = result.triangle_uvs >= n * n
    assert (side.all(axis=1) | ~side.any(axis=1)).all()
    np.testing.assert_allclose(
        uvs[result.triangle_uvs] - side[..., None] * np.array([2.0, 0.0]), new[..., :2]
    )
    again = decimate(*arguments)
    np.testing.assert_array_equal(again.triangles, result.triangles)
