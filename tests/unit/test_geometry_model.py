"""The shipped bilinear model: linearity, eyes, tongue, topology, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.errors import ModelInvalid
from head360.geometry.atlas import ATLAS_TILES, SOURCES, from_atlas, material_to_atlas, to_atlas
from head360.geometry.bilinear import BilinearModel, effective_blendshapes
from head360.geometry.gaze import EYE_LOOKS


@pytest.fixture(scope="module")
def model() -> BilinearModel:
    return BilinearModel.builtin()


def one_hot(*names: str, weight: float = 1.0) -> np.ndarray:
    b = np.zeros(len(NAMES), dtype=np.float32)
    b[[INDEX[name] for name in names]] = weight
    return b


def test_one_hot_is_neutral_plus_delta(model: BilinearModel) -> None:
    s = model.shape_factors[3]
    mesh = model.identity(s)
    skin = np.setdiff1d(np.arange(model.vertex_count), np.concatenate(model.eyeballs))
    for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileRight", "eyeLookUpLeft"):
        expected = mesh.neutral + mesh.deltas[INDEX[name]]
        for posed in (model.vertices(s, one_hot(name)), mesh.pose(one_hot(name))):
            np.testing.assert_allclose(posed[skin], expected[skin], atol=1e-6)
    np.testing.assert_allclose(model.vertices(s, one_hot()), mesh.neutral, atol=1e-6)
    many = np.random.default_rng(0).random(52).astype(np.float32)
    np.testing.assert_allclose(model.vertices(s, many), mesh.pose(many), atol=2e-6)


def test_linear_in_shape_and_equal_to_the_core(model: BilinearModel) -> None:
    a, b = model.shape_factors[:2]
    mixed = model.neutral(0.25 * a + 0.75 * b)
    np.testing.assert_allclose(mixed, 0.25 * model.neutral(a) + 0.75 * model.neutral(b), atol=1e-6)
    # A small cut of the core, so that the test does not need hundreds of megabytes.
    some = np.arange(0, model.vertex_count, 97)
    units = np.eye(model.shape_size, dtype=np.float32)
    core = np.stack([model.deltas(unit)[:, some] for unit in units])
    np.testing.assert_allclose(np.tensordot(a, core, axes=1), model.deltas(a)[:, some], atol=2e-6)


def test_eyeballs_stay_rigid_and_centred(model: BilinearModel) -> None:
    s = model.shape_factors[5]
    mesh = model.identity(s)
    b = one_hot("eyeLookOutLeft", "eyeLookUpLeft", "eyeLookInRight", "eyeLookDownRight", weight=0.7)
    posed = mesh.pose(b)
    for side, ids in enumerate(model.eyeballs):
        pick = ids[:: max(1, len(ids) // 60)]

        def distances(points: np.ndarray) -> np.ndarray:
            return np.linalg.norm(points[:, None] - points, axis=2)

        np.testing.assert_allclose(distances(posed[pick]), distances(mesh.neutral[pick]), atol=1e-6)
        radius = np.linalg.norm(posed[pick] - mesh.eye_centres[side], axis=1)
        before = np.linalg.norm(mesh.neutral[pick] - mesh.eye_centres[side], axis=1)
        np.testing.assert_allclose(radius, before, atol=1e-6)
    assert np.linalg.norm(posed - mesh.neutral, axis=1)[model.eyeballs[0]].max() > 5e-3


def test_gaze_goes_where_the_name_says(model: BilinearModel) -> None:
    s = model.mean_shape
    mesh = model.identity(s)
    rig = model.rig_deltas(s)
    for side, name, _, _ in EYE_LOOKS:
        ids = model.eyeballs[side]
        front = ids[mesh.neutral[ids, 2].argmax()]
        moved = mesh.pose(one_hot(name))[front] - mesh.neutral[front]
        outwards = 1.0 if side == 0 else -1.0
        amount = {
            "Out": moved[0] * outwards,
            "In": -moved[0] * outwards,
            "Up": moved[1],
            "Dow": -moved[1],
        }
        key = next(k for k in amount if name.removeprefix("eyeLook").startswith(k))
        assert amount[key] > 4e-3, name
        posed = mesh.pose(one_hot(name))
        np.testing.assert_allclose(mesh.neutral[ids] + rig[INDEX[name], ids], posed[ids], atol=1e-6)
    # The two centres lie about an inter-eye distance apart, left is +x.
    assert 0.055 < mesh.eye_centres[0, 0] - mesh.eye_centres[1, 0] < 0.072


def test_tongue_needs_an_open_jaw(model: BilinearModel) -> None:
    s = model.shape_factors[0]
    closed = one_hot("tongueOut")
    np.testing.assert_array_equal(model.vertices(s, closed), model.vertices(s, one_hot()))
    half = closed + one_hot("jawOpen", weight=0.175)
    assert effective_blendshapes(half)[INDEX["tongueOut"]] == pytest.approx(0.5)
    wide = model.vertices(s, closed + one_hot("jawOpen"))
    jaw = model.vertices(s, one_hot("jawOpen"))
    assert (wide - jaw)[:, 2].max() > 0.02


def test_teeth_stay_rigid_when_the_jaw_opens(model: BilinearModel) -> None:
    mesh = model.identity(model.shape_factors[8])
    teeth = model.topology.part_vertices("teeth")
    open_jaw = mesh.pose(one_hot("jawOpen"))
    lower = teeth[np.linalg.norm((open_jaw - mesh.neutral)[teeth], axis=1) > 5e-3]
    assert len(lower) > 100
    pick = lower[::20]

    def distances(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - points, axis=2)

    difference = distances(open_jaw[pick]) - distances(mesh.neutral[pick])
    assert np.sqrt((difference**2).mean()) < 1.5e-3


def test_topology_is_sound(model: BilinearModel) -> None:
    t = model.topology
    assert 8_000 < model.vertex_count < 12_000
    assert t.faces.min() >= 0
    assert set(np.unique(t.faces)) == set(range(model.vertex_count))
    corners = model.neutral(model.mean_shape)[t.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(cross, axis=1).min() > 1e-12
    directed = np.concatenate([t.faces[:, [0, 1]], t.faces[:, [1, 2]], t.faces[:, [2, 0]]])
    _, counts = np.unique(directed, axis=0, return_counts=True)
    assert counts.max() == 1  # oriented and manifold along every edge
    # The welded skin has one boundary loop: the shoulder cut.
    skin_parts = [
        t.part_names.index(name)
        for name in ("face", "head_neck", "mouth_socket", "eye_socket_left", "eye_socket_right")
    ]
    skin = t.faces[np.isin(t.parts, skin_parts)]
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    _, counts = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    open_edges = int((counts == 1).sum())
    assert 10 <= open_edges <= 54
    assert counts.max() == 2
    assert t.landmarks68.max() < model.vertex_count
    # Eyeballs, teeth and skin face outwards.
    for name in ("eyeball_left", "teeth"):
        faces = t.faces[t.part_faces(name)]
        p = model.neutral(model.mean_shape)[faces].astype(np.float64)
        p -= p.mean(axis=(0, 1))
        assert np.einsum("fc,fc->", p[:, 0], np.cross(p[:, 1], p[:, 2])) > 0


def test_uvs_stay_in_their_tiles(model: BilinearModel) -> None:
    t = model.topology
    tiles = {
        "face": ("face",),
        "head_neck": ("back_head",),
        "teeth": ("teeth",),
        "gums_tongue": ("gums_tongue",),
        "mouth_socket": ("back_head",),
        "eyeball_left": ("sclera_left", "iris_left"),
        "eyeball_right": ("sclera_right", "iris_right"),
        "eyelashes_left": ("lashes_left",),
        "eyelashes_right": ("lashes_right",),
    }
    for part, names in tiles.items():
        uv = t.uvs[t.face_uvs[t.part_faces(part)]]
        inside = np.zeros(len(uv), dtype=bool)
        for name in names:
            x, y, w, h = np.array(ATLAS_TILES[name]) / 256
            low, high = (x, y), (x + w, y + h)
            inside |= ((uv >= low) & (uv <= high)).all(axis=(1, 2))
        assert inside.all(), part


def test_atlas_tiles_do_not_overlap_and_invert() -> None:
    covered = np.zeros((256, 256), dtype=int)
    for x, y, w, h in ATLAS_TILES.values():
        covered[y : y + h, x : x + w] += 1
    assert covered.max() == 1
    rng = np.random.default_rng(0)
    for tile, (material, first, last) in SOURCES.items():
        uv = rng.random((20, 2)) * (last - first, 1.0) + (first, 0.0)
        np.testing.assert_allclose(from_atlas(tile, to_atlas(tile, uv)), uv, atol=1e-12)
        np.testing.assert_allclose(material_to_atlas(material, uv), to_atlas(tile, uv))


def test_sampled_heads_are_plausible_and_repeatable(model: BilinearModel) -> None:
    rng = np.random.default_rng(4)
    heads = [model.neutral(model.sample_shape(rng)) for _ in range(20)]
    again = model.neutral(model.sample_shape(np.random.default_rng(4)))
    np.testing.assert_array_equal(heads[0], again)
    mean = model.neutral(model.mean_shape)
    face = model.topology.part_vertices("face")
    spread = np.sqrt(np.mean([((h - mean)[face] ** 2).sum(axis=1).mean() for h in heads]))
    assert 2e-3 < spread < 12e-3


def test_figures_are_within_the_promises(model: BilinearModel) -> None:
    figures = model.metadata["figures"]
    assert figures["rms_mm"] <= 1.01 * figures["optimum_rms_mm"]
    assert figures["shipped_added_rms_mm"] <= 0.2
    assert "MIT" in model.metadata["licence"]


def test_save_and_load(model: BilinearModel, tmp_path: Path) -> None:
    path = model.save(tmp_path / "again.safetensors")
    assert path.stat().st_size <= 4.5 * 2**20
    again = BilinearModel.load(path)
    b = np.random.default_rng(1).random(52).astype(np.float32)
    s = model.shape_factors[0]
    np.testing.assert_allclose(again.vertices(s, b), model.vertices(s, b), atol=5e-5)
    np.testing.assert_array_equal(again.topology.faces, model.topology.faces)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other", "missing"])
def test_damaged_files_are_refused(model: BilinearModel, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "geometry.safetensors"
    if damage != "missing":
        model.save(path)
        data = path.read_bytes()
        path.write_bytes(
            {
                "cut": data[: len(data) // 2],
                "noise": b"\xff" * 4096,
                "empty": b"",
                "other": data.replace(b"schema", b"sch3ma", 1),
            }[damage]
        )
    with pytest.raises(ModelInvalid):
        BilinearModel.load(path)


def test_wrong_shapes_are_told(model: BilinearModel) -> None:
    with pytest.raises(ValueError, match="52"):
        model.vertices(model.mean_shape, np.zeros(51))
    with pytest.raises(ValueError, match="shape coefficients"):
        model.neutral(np.zeros(7))
