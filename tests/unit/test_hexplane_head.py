"""The hex-plane head behind its door: poses, pictures, surfaces, packages. Untrained weights."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from head360 import heads
from head360.arkit import COUNT, INDEX
from head360.errors import BadInput, ModelInvalid
from head360.geometry.bilinear import BilinearModel
from head360.heads import hexplane
from head360.heads.hexplane import HexPlaneHead
from head360.networks.hexplane import PRESETS, HexPlaneConfig, HexPlaneNet
from head360.rendering import raster
from head360.rendering.cameras import orbit
from head360.rendering.volume import GRID

CONFIG = HexPlaneConfig(
    texture_size=32, texture_channels=4, plane_size=48, hair_size=16, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip


def make_head() -> HexPlaneHead:
    torch.manual_seed(0)
    model = BilinearModel.builtin()
    net = HexPlaneNet(CONFIG, 2, 1)
    rng = np.random.default_rng(0)
    subjects = OrderedDict(
        (name, {"shape": model.sample_shape(rng), "style": style})
        for name, style in (("one", "cap"), ("two", None))
    )
    occupancy = np.zeros((1, GRID, GRID, GRID), dtype=np.uint8)
    low, high, floor = GRID // 3, 2 * GRID // 3, 3 * GRID // 4
    occupancy[:, low:high, floor:, low:high] = 1
    facts = {"licence": "GPL-3.0-or-later", "notices": ["made in a test"]}
    return HexPlaneHead("test", model, net, subjects, ("cap",), occupancy, facts)


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    return make_head()


def test_codes_name_subjects_and_styles(head: HexPlaneHead) -> None:
    assert head.codes().subject == "one"
    assert head.codes().style == "cap"
    assert head.codes("two").style is None
    assert head.codes("two", "cap").style == "cap"
    assert head.codes("one", None).style is None
    with pytest.raises(BadInput, match="one, two"):
        head.codes("three")
    with pytest.raises(BadInput, match="cap"):
        head.codes("one", "mohawk")


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (31, 45), (100, 128), (66, 200)])
def test_any_picture_size_renders(head: HexPlaneHead, size: tuple[int, int]) -> None:
    pose = head.pose(head.codes(), np.zeros(COUNT, dtype=np.float32))
    width, height = size
    frame = head.render(pose, orbit(30, 10, aspect=width / height), width, height)
    assert frame.rgba.shape == (height, width, 4)
    assert frame.depth.shape == (height, width)
    assert np.isfinite(frame.rgba).all()
    assert frame.rgba.min() >= 0
    assert frame.rgba.max() <= 1
    assert np.isinf(frame.depth[0, 0])


def test_bald_alpha_is_the_mesh_silhouette(head: HexPlaneHead) -> None:
    # Before any training the guided super-resolution already shows the mesh's own coverage.
    pose = head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32))
    camera = orbit(40, 0)
    alpha = head.render(pose, camera, 128, 128).rgba[..., 3]
    screen = raster.perspective_screen(pose.vertices, camera, 128, 128)
    mesh = raster.rasterize(screen[None], head.model.topology.faces, 128, 128).face[0] >= 0
    both = ((alpha > 0.5) & mesh).sum()
    assert both / ((alpha > 0.5) | mesh).sum() > 0.97


def test_depth_is_planar_metres_near_the_mesh(head: HexPlaneHead) -> None:
    pose = head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32))
    camera = orbit(0, 0)
    frame = head.render(pose, camera, 64, 64)
    screen = raster.perspective_screen(pose.vertices, camera, 64, 64)
    mesh = raster.rasterize(screen[None], head.model.topology.faces, 64, 64).depth[0]
    seen = np.isfinite(mesh) & np.isfinite(frame.depth)
    assert seen.sum() > 500
    assert np.median(np.abs(frame.depth[seen] - mesh[seen])) < 0.01


def test_views_that_miss_head_or_hair_are_empty_not_errors(head: HexPlaneHead) -> None:
    weights = np.zeros(COUNT, dtype=np.float32)
    away = orbit(0, 0, distance=1.0, target=(3.0, 0.0, 0.0))
    for style in (None, "cap"):
        frame = head.render(head.pose(head.codes("one", style), weights), away, 64, 64)
        assert (frame.rgba[..., 3] == 0).all()
        assert np.isinf(frame.depth).all()
    chin = orbit(0, 0, fov_deg=5, distance=0.6, target=(0.0, -0.08, 0.09))
    close = head.render(head.pose(head.codes("one", "cap"), weights), chin, 64, 64)
    assert close.rgba[32, 32, 3] == 1


def test_rendering_twice_gives_the_same_bytes(head: HexPlaneHead) -> None:
    weights = np.full(COUNT, 0.2, dtype=np.float32)
    first = head.render(head.pose(head.codes(), weights), orbit(10, 5), 64, 64)
    second = head.render(head.pose(head.codes(), weights), orbit(10, 5), 64, 64)
    np.testing.assert_array_equal(first.rgba, second.rgba)
    np.testing.assert_array_equal(first.depth, second.depth)


def test_a_window_equals_its_part_of_the_whole_raw_picture(head: HexPlaneHead) -> None:
    from head360.heads.inputs import view_inputs
    from head360.heads.windows import render_window

    pose = head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32))
    camera = orbit(-20, 0)
    inputs, topology = pose.state["inputs"], head.model.topology

    def raw(window: tuple[int, int, int, int]) -> torch.Tensor:
        doubled = tuple(2 * value for value in window)
        view = view_inputs(inputs, topology, camera, (64, 64), doubled, (32, 32), window)
        with torch.no_grad():
            return render_window(
                head.net,
                pose.state["look"].texture,
                None,
                pose.state["planes"],
                [view],
                None,
                pose.state["lattice"],
                None,
            )[1][0]

    whole, part = raw((0, 0, 32, 32)), raw((8, 6, 24, 30))
    # Beside the mesh the soft rim looks one ray further, which a window cannot see at its border.
    np.testing.assert_allclose(part[:, 1:-1, 1:-1], whole[:, 7:29, 9:23], atol=1e-5)


def test_poses_reject_what_is_no_expression(head: HexPlaneHead) -> None:
    with pytest.raises(BadInput, match="52"):
        head.pose(head.codes(), np.zeros(51, dtype=np.float32))
    broken = np.zeros(COUNT, dtype=np.float32)
    broken[3] = np.nan
    with pytest.raises(BadInput, match="finite"):
        head.pose(head.codes(), broken)


def test_rig_mesh_moves_with_its_deltas(head: HexPlaneHead) -> None:
    mesh = head.mesh(head.codes())
    weights = np.zeros(COUNT, dtype=np.float32)
    weights[INDEX["jawOpen"]] = 1.0
    posed = head.pose(head.codes(), weights).vertices
    np.testing.assert_allclose(mesh.vertices + mesh.deltas[INDEX["jawOpen"]], posed, atol=1e-6)
    assert mesh.face_uvs.shape == mesh.faces.shape
    assert mesh.uvs.min() >= 0
    assert mesh.uvs.max() <= 1


def test_hair_changes_nothing_but_hair_rays(head: HexPlaneHead) -> None:
    weights = np.zeros(COUNT, dtype=np.float32)
    with_hair = head.render(head.pose(head.codes("one"), weights), orbit(0, 0), 64, 64)
    without = head.render(head.pose(head.codes("one", None), weights), orbit(0, 0), 64, 64)
    changed = np.abs(with_hair.rgba - without.rgba).max(-1) > 1e-6
    assert changed.any()
    # The cap's hull lies in the upper half of the box: the bust stays as it is.
    assert not changed[48:].any()


def test_surface_is_closed_round_the_mesh_and_coloured(head: HexPlaneHead) -> None:
    pose = head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32))
    surface = head.surface(pose, 48)
    assert surface.colours.shape == surface.vertices.shape
    assert surface.colours.min() >= 0
    assert surface.colours.max() <= 1
    low, high = pose.vertices.min(0), pose.vertices.max(0)
    assert (surface.vertices.min(0) > low - 0.03).all()
    assert (surface.vertices.max(0) < high + 0.03).all()
    corners = surface.vertices[surface.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume > 0.001  # counter-clockwise outside: positive volume, about a litre and more
    with pytest.raises(BadInput, match="512"):
        head.surface(pose, 4096)


def test_super_resolution_stays_within_its_budget() -> None:
    for name in ("tiny", "tiny-codes", "small"):  # "paper" is the published scale, far beyond it
        assert HexPlaneNet(PRESETS[name], 1, 1).superres.flops(512, 512) <= 4e9


def test_package_round_trip(head: HexPlaneHead, tmp_path: Path) -> None:
    head.save(tmp_path / "model")
    back = heads.load(tmp_path / "model")
    assert back.name == head.name
    assert back.subjects == head.subjects
    assert back.styles == head.styles
    weights = np.zeros(COUNT, dtype=np.float32)
    camera = orbit(20, 0)
    before = head.render(head.pose(head.codes(), weights), camera, 64, 64).rgba
    after = back.render(back.pose(back.codes(), weights), camera, 64, 64).rgba
    # int8 planes and float16 networks: a few grey levels.
    assert np.abs(before - after).mean() < 0.01
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "model")
    zipped = heads.load(tmp_path / "zipped.zip")
    np.testing.assert_array_equal(
        zipped.render(zipped.pose(zipped.codes(), weights), camera, 64, 64).rgba, after
    )


@pytest.mark.parametrize("damage", ["missing", "flipped", "schema", "json", "kind", "no folder"])
def test_damaged_packages_say_what_is_wrong(
    head: HexPlaneHead, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    head.save(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    if damage == "missing":
        (folder / "head.safetensors").unlink()
    elif damage == "flipped":
        data = bytearray((folder / "head.safetensors").read_bytes())
        data[-1] ^= 0xFF
        (folder / "head.safetensors").write_bytes(data)
    elif damage == "schema":
        (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    elif damage == "json":
        (folder / "manifest.json").write_text("{")
    elif damage == "kind":
        (folder / "manifest.json").write_text(json.dumps({**manifest, "kind": "teapot"}))
    else:
        folder = tmp_path / "nowhere"
    with pytest.raises(ModelInvalid) as caught:
        heads.load(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_loaded_head_has_a_lid_under_its_bust(head: HexPlaneHead, tmp_path: Path) -> None:
    from head360.heads.hexplane_bust import bottom_rim, put_lid

    head.save(tmp_path / "package")
    loaded = heads.load(tmp_path / "package")
    assert isinstance(loaded, HexPlaneHead)
    assert head.open_bust
    assert not loaded.open_bust
    weights = np.zeros(COUNT, dtype=np.float32)
    pose = loaded.pose(loaded.codes("two"), weights)
    topology = loaded.model.topology
    rim = bottom_rim(topology, pose.vertices)
    ends = pose.vertices[rim]
    assert ends[:, 1].max() < pose.vertices[:, 1].min() + 0.1  # below the shoulders, all around
    assert np.ptp(ends[:, 0]) > 0.2
    lid = put_lid(pose.vertices, topology.faces, rim, np.full(3, 0.5, np.float32))
    below, above = orbit(0, -40), orbit(0, 30)
    assert lid.faces_towards(below)
    assert not lid.faces_towards(above)
    # From below it hides the hollow, from above nothing changes.
    closed, opened = (loaded.render(pose, camera, 96, 96) for camera in (below, above))
    drafts = [loaded.draft(pose, camera, 96, 96) for camera in (below, above)]
    np.testing.assert_array_equal(opened.rgba, drafts[1].rgba)
    middle, _ = below.project(ends.mean(0, keepdims=True), 96, 96)
    column, row = middle[0].astype(int)
    assert closed.depth[row, column] < drafts[0].depth[row, column] - 0.01
    shades = closed.rgba[row - 1 : row + 2, column - 1 : column + 2, :3] / pose.state["lid"].skin
    assert 0.6 < shades.min() <= shades.max() < 0.83
    assert np.ptp(shades, -1).max() < 1e-3  # the skin's own colour, darker


def test_hair_in_front_of_the_lid_stays() -> None:
    from head360.heads.base import Frame
    from head360.heads.hexplane_bust import cover, put_lid

    square = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], dtype=np.float32) * 0.1
    faces = np.zeros((0, 3), dtype=np.int32)
    lid = put_lid(square, faces, [0, 1, 2, 3], np.array([0.8, 0.6, 0.5], np.float32))
    camera = orbit(0, -80, target=(0, 0, 0), distance=1.0)
    if not lid.faces_towards(camera):  # a rim the other way round
        lid = put_lid(square, faces, [3, 2, 1, 0], np.array([0.8, 0.6, 0.5], np.float32))
    green = np.zeros((40, 40, 4), dtype=np.float32)
    green[..., 1:] = [1.0, 0.0, 1.0]
    behind = cover(Frame(green, np.full((40, 40), 1.3, np.float32)), lid, camera)
    front = cover(Frame(green, np.full((40, 40), 0.7, np.float32)), lid, camera)
    assert behind.rgba[20, 20, 0] > 0.4
    assert behind.depth[20, 20] == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(front.rgba, green, atol=1e-6)
    empty = cover(Frame(np.zeros((40, 40, 4), np.float32), np.full((40, 40), np.inf, np.float32)),
                  lid, camera)  # fmt: skip
    assert empty.rgba[20, 20, 3] == 1
    assert empty.rgba[2, 2, 3] == 0


def test_a_large_lid_is_drawn_in_bands_that_cannot_be_told(
    head: HexPlaneHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    from head360.heads import hexplane_bust
    from head360.heads.base import Frame

    lid = head._lid(head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32)))
    assert lid is not None
    rng = np.random.default_rng(0)
    below = Frame(
        rng.random((240, 240, 4), dtype=np.float32),
        rng.uniform(0.9, 1.4, (240, 240)).astype(np.float32),  # hair before and behind it
    )
    camera = orbit(10, -40)
    most: list[int] = []
    rasterize = raster.rasterize

    def counted(screens: Any, faces: Any, width: int, height: int) -> Any:
        most.append(width * height)
        return rasterize(screens, faces, width, height)

    monkeypatch.setattr(raster, "rasterize", counted)
    whole = hexplane_bust.cover(below, lid, camera)
    assert len(most) == 1
    monkeypatch.setattr(hexplane_bust, "_BAND", 100)
    bands = hexplane_bust.cover(below, lid, camera)
    assert len(most) > 3
    assert max(most[1:]) < most[0] / 2
    np.testing.assert_allclose(bands.rgba, whole.rgba, atol=1e-5)
    np.testing.assert_allclose(bands.depth, whole.depth, atol=1e-5)
    assert (whole.rgba != below.rgba).any(-1).mean() > 0.02
    # A large picture gets fewer samples, all the same place and colour.
    monkeypatch.setattr(hexplane_bust, "_LARGE", 100)
    monkeypatch.setattr(hexplane_bust, "_BAND", 10**6)
    fewer = hexplane_bust.cover(below, lid, camera)
    assert most[-1] == pytest.approx(most[0] * 4 / 9)
    assert np.abs(fewer.rgba - whole.rgba).mean() < 0.01


def test_a_mesh_without_a_rim_is_shown_as_it_is(
    head: HexPlaneHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hexplane, "bottom_rim", lambda *_: [])
    monkeypatch.setattr(head, "_rim", None)
    monkeypatch.setattr(head, "open_bust", False)
    pose = head.pose(head.codes("two"), np.zeros(COUNT, dtype=np.float32))
    camera = orbit(0, -40)
    shown = head.render(pose, camera, 48, 48)
    np.testing.assert_array_equal(shown.rgba, head.draft(pose, camera, 48, 48).rgba)


def test_the_head_is_solid_where_its_mesh_is_met() -> None:
    from head360.heads.windows import solid

    optical = torch.tensor([[0.02, 0.04], [0.0, 0.0], [0.02, 0.04], [9.0, 1.0], [0.02, 0.04]])
    hit = torch.tensor([True, True, True, True, False])
    inner = torch.tensor([True, True, False, True, False])
    filled = solid(optical, hit, inner)
    assert filled[:2].sum(1).min() >= 2.9
    assert 0.2 < float(filled[2].sum()) < 1
    torch.testing.assert_close(filled[3:], optical[3:])
    torch.testing.assert_close(filled[0, 1] / filled[0, 0], torch.tensor(2.0))
