"""The Gaussian head behind its door: poses, pictures, surfaces, packages. Untrained weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from head360 import heads  # noqa: E402
from head360.arkit import COUNT, INDEX, NAMES  # noqa: E402
from head360.cli import main  # noqa: E402
from head360.errors import BadInput, ModelInvalid  # noqa: E402
from head360.geometry.bilinear import BilinearModel  # noqa: E402
from head360.geometry.isosurface import open_edges  # noqa: E402
from head360.geometry.splatfile import read_splats, write_splats  # noqa: E402
from head360.heads.gaussian import GaussianHead, straight  # noqa: E402
from head360.heads.gaussian_bake import bake  # noqa: E402
from head360.heads.gaussian_facts import Expression, ViewCone  # noqa: E402
from head360.networks.gaussian import PRESETS, GaussianNet, mesh_bound  # noqa: E402
from head360.networks.meshrig import bind_surface  # noqa: E402
from head360.rendering.cameras import orbit  # noqa: E402
from head360.rendering.splats import render_splats  # noqa: E402
from head360.server.heads_table import read_model, resolve  # noqa: E402

RANGE = np.zeros(COUNT, np.float32), np.ones(COUNT, np.float32)


def make_head(rig: str = "mesh", count: int = 1500, **changes) -> GaussianHead:
    """Gaussians on the skin with random looks and, where there are any, random offsets."""
    model = BilinearModel.builtin()
    shape = model.sample_shape(np.random.default_rng(1))
    neutral, faces = model.neutral(shape), model.topology.faces
    config = dataclasses.replace(PRESETS["tiny"], plane_size=24, **changes)
    config = mesh_bound(config) if rig == "mesh" else config
    start = bind_surface(neutral, faces, count, np.random.default_rng(2))
    if rig == "free":
        start = start.points
    net = GaussianNet(config, COUNT, (0, -0.04, 0), 0.2, start, (neutral, faces), seed=3)
    with torch.no_grad():
        if rig == "mesh":
            net.bases.normal_(0, 0.02, generator=torch.Generator().manual_seed(4))
        net.log_scales += 0.5
    facts = {"licence": "GPL-3.0-or-later", "notices": ["made in a test"]}
    span = Expression(tuple(NAMES), *RANGE)
    return GaussianHead("test", net, "one", shape, span, facts)


@pytest.fixture(scope="module")
def head() -> GaussianHead:
    return make_head()


def neutral(head: GaussianHead):
    return head.pose(head.codes(), np.zeros(COUNT, np.float32))


def smile() -> np.ndarray:
    weights = np.zeros(COUNT, np.float32)
    weights[[INDEX["jawOpen"], INDEX["mouthSmileLeft"]]] = 0.8, 0.6
    return weights


def test_there_is_one_person_with_their_own_hair(head: GaussianHead) -> None:
    assert head.subjects == ("one",)
    assert head.styles == ()
    assert head.codes("one", None).style is None
    with pytest.raises(BadInput, match="choose one"):
        head.codes("two")
    with pytest.raises(BadInput, match="part of it"):
        head.codes("one", "afro01")
    with pytest.raises(BadInput, match="one identity"):
        head.random_codes(1)


def test_the_rig_shows_the_mesh_that_carries_the_gaussians(head: GaussianHead) -> None:
    mesh = head.mesh(head.codes())
    np.testing.assert_array_equal(mesh.vertices, BilinearModel.builtin().neutral(head.shape))
    assert mesh.deltas.shape == (COUNT, len(mesh.vertices), 3)
    pose = head.pose(head.codes(), smile())
    means = head.net.view(pose.state["posed"]).means.detach().numpy()
    rest = head.net.view(neutral(head).state["posed"]).means.detach().numpy()
    chin = rest[:, 1] < mesh.vertices[mesh.parts[0]][1] - 0.04
    assert (means - rest)[chin][:, 1].mean() < 0  # the chin goes down
    assert np.abs(means - rest).max() < 0.1


def test_a_pose_needs_52_finite_weights(head: GaussianHead) -> None:
    for wrong in (np.zeros(51), np.full(52, np.nan)):
        with pytest.raises(BadInput, match="52"):
            head.pose(head.codes(), wrong)


@pytest.mark.parametrize("size", [(96, 64), (33, 71)])
def test_frames_have_straight_alpha_and_planar_depth(head: GaussianHead, size) -> None:
    width, height = size
    camera = orbit(20, 10, aspect=width / height)
    frame = head.render(neutral(head), camera, width, height)
    assert frame.rgba.shape == (height, width, 4)
    assert frame.rgba.dtype == np.float32
    assert 0 <= frame.rgba.min() <= frame.rgba.max() <= 1
    covered = frame.rgba[..., 3] > 0
    assert covered.any()
    assert not covered.all()
    assert np.isinf(frame.depth[~covered]).all()
    distance = np.linalg.norm(camera.position - head.net.centre.numpy())
    assert np.abs(frame.depth[covered] - distance).max() < 0.3
    assert np.isfinite(frame.depth[covered]).all()
    for wrong in ((4, 64), (64, 5000)):
        with pytest.raises(BadInput, match="8 to 4096"):
            head.render(neutral(head), camera, *wrong)


def test_straight_alpha_over_a_background_is_what_splats_give(head: GaussianHead) -> None:
    light, alpha = np.full((1, 3, 3), 0.3, np.float32), np.array([[0.5, 0.003, 0.999]], np.float32)
    rgba = straight(light, alpha)
    np.testing.assert_allclose(rgba[0, 0], [0.6, 0.6, 0.6, 0.5], atol=1e-6)
    assert not rgba[0, 1].any()  # traces that nobody sees would be cut out of thin air
    assert rgba[0, 2, 3] == 1


def test_from_unseen_sides_colours_are_those_of_the_edge() -> None:
    cone = ViewCone.around(np.array([[np.sin(a), 0, np.cos(a)] for a in (-0.5, 0.5)]))
    assert cone.angle == pytest.approx(0.5)
    np.testing.assert_allclose(cone.nearest(np.array([0.2, 0.1, 2.0])), [0.2, 0.1, 2.0])
    edge = cone.nearest(np.array([3.0, 0, 0]))
    np.testing.assert_allclose(edge, 3 * np.array([np.sin(0.5), 0, np.cos(0.5)]), atol=1e-9)
    behind = cone.nearest(np.array([0, 0, -2.0]))
    assert behind[2] == pytest.approx(2 * np.cos(0.5))
    assert ViewCone.around(np.array([[1.0, 0, 0], [-1, 0, 0]])).angle == pytest.approx(np.pi)
    head = make_head()
    pose = neutral(head)
    _, free = head.coloured(pose.state["posed"], np.array([3.0, 0, 0]))
    head.cone = ViewCone((0.0, 0.0, 1.0), 0.2)
    _, held = head.coloured(pose.state["posed"], np.array([3.0, 0, 0]))
    assert not torch.allclose(free, held)
    _, near = head.coloured(pose.state["posed"], head.net.centre.numpy() + np.array([0, 0, 1.0]))
    head.cone = ViewCone()
    _, same = head.coloured(pose.state["posed"], head.net.centre.numpy() + np.array([0, 0, 1.0]))
    assert torch.equal(near, same)


@pytest.mark.parametrize("rig", ["mesh", "free"])
def test_a_saved_head_comes_back(rig: str, tmp_path: Path) -> None:
    head = make_head(rig)
    head.save(tmp_path / "model")
    back = heads.load(tmp_path / "model")
    assert isinstance(back, GaussianHead)
    assert back.manifest["notices"] == ["made in a test"]
    assert back.expression.arkit
    camera = orbit(-15, 0)
    for weights in (np.zeros(COUNT, np.float32), smile()):
        one = head.render(head.pose(head.codes(), weights), camera, 96, 96)
        other = back.render(back.pose(back.codes(), weights), camera, 96, 96)
        assert np.abs(one.rgba - other.rgba).mean() < 0.004
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["kind"] == "gaussian"
    found = read_model(tmp_path / "model")
    assert (found.info.kind, found.info.subjects, found.info.styles) == ("gaussian", ["one"], [])
    assert found.thumbnail() is not None


def test_a_tiny_head_of_ten_thousand_gaussians_fits_four_mebibytes(tmp_path: Path) -> None:
    make_head(
        count=PRESETS["tiny"].gaussians * 5 // 2,
    ).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 << 20


def test_damaged_packages_are_refused(head: GaussianHead, tmp_path: Path) -> None:
    head.save(tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    for name, change in {
        "mesh": {"mesh": "0" * 64},
        "shape": {"subjects": {"one": {"shape": [1.0], "style": None}}},
        "setting": {"config": {**whole["config"], "motion": "dance"}},
        "numbers": {"expression": {**whole["expression"], "numbers": 51}},
        "subjects": {"subjects": {}},
    }.items():
        place = tmp_path / name
        shutil.copytree(tmp_path / "whole", place)
        (place / "manifest.json").write_text(json.dumps({**whole, **change}))
        with pytest.raises(ModelInvalid, match="does not fit"):
            heads.load(place)


def test_the_surface_is_closed_and_near_the_skin(head: GaussianHead) -> None:
    told = []
    surface = head.surface(neutral(head), 64, progress=lambda f, phase: told.append((f, phase)))
    assert open_edges(surface.faces) == 0
    assert told[-1] == (1.0, "done")
    skin = head.identity.neutral
    assert np.abs(surface.vertices.min(0) - skin.min(0)).max() < 0.04
    assert np.abs(surface.vertices.max(0) - skin.max(0)).max() < 0.04
    assert 0 <= surface.colours.min() <= surface.colours.max() <= 1
    with pytest.raises(BadInput, match="32 to 512"):
        head.surface(neutral(head), 8)
    with pytest.raises(BadInput, match="textures"):
        head.surface(neutral(head), 64, texture=512)


def drawn(cloud, camera, size: int) -> np.ndarray:
    tensors = [torch.from_numpy(a.copy()) for a in (cloud.means, cloud.quaternions, cloud.scales)]
    frame = render_splats(
        *tensors, torch.from_numpy(cloud.opacities), torch.from_numpy(cloud.sh.copy()), camera,
        size, size, torch.ones(3),
    )  # fmt: skip
    return frame.rgb.numpy()


def test_exported_splats_look_like_the_head_from_anywhere(
    head: GaussianHead, tmp_path: Path
) -> None:
    """With harmonics of degree 1 nothing of the colour network is lost in degree 3."""
    pose = head.pose(head.codes(), smile())
    cloud = read_splats(write_splats(tmp_path / "a.ply", bake(head, pose)))
    for yaw in (0, 70, 180):
        camera = orbit(yaw, -10)
        rgba = head.render(pose, camera, 80, 80).rgba
        truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        error = np.abs(drawn(cloud, camera, 80).clip(0, 1) - truth)
        assert error.mean() < 0.004
        assert np.quantile(error, 0.99) < 0.05


def test_higher_harmonics_are_truest_from_the_chosen_side() -> None:
    head = make_head(sh_degree=3, sh_every=1)
    pose = neutral(head)
    errors = []
    for yaw in (0.0, 180.0):
        cloud = bake(head, pose, yaw)
        rgba = head.render(pose, orbit(0, 0), 64, 64).rgba
        truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        errors.append(np.abs(drawn(cloud, orbit(0, 0), 64).clip(0, 1) - truth).mean())
    assert errors[0] < errors[1] * 1.05
    assert errors[0] < 0.02


def test_commands_know_it(head: GaussianHead, tmp_path: Path, capsys) -> None:
    head.save(tmp_path / "model")
    model = str(tmp_path / "model")
    assert resolve(model).info.kind == "gaussian"
    out = str(tmp_path / "avatar.ply")
    export = ["export", model, "--to", "ply", "--out", out, "--device", "cpu", "--json"]
    assert main([*export, "--blend", "jawOpen=0.5", "--view", "20,5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gaussians"] == len(read_splats(out).means) == head.net.count
    assert main([*export, "--view", "20"]) == 2
    assert main(["export", model, "--to", "glb", "--out", str(tmp_path / "a.glb")]) == 2
    assert main(["export", model, "--to", "package", "--out", str(tmp_path / "a.zip")]) == 0
    assert heads.load(tmp_path / "a.zip").kind == "gaussian"
    assert main(["evaluate", model, "--json"]) == 2  # measured on a video only
    assert "--data" in capsys.readouterr().err


def test_an_animation_becomes_files_of_the_same_gaussians(
    head: GaussianHead, tmp_path: Path, capsys
) -> None:
    from head360.arkit.takes import write_take

    head.save(tmp_path / "model")
    take = write_take(tmp_path / "take.csv", None, np.linspace(np.zeros(COUNT), smile(), 4))
    out = tmp_path / "out"
    run = ["export", str(tmp_path / "model"), "--take", str(take), "--device", "cpu", "--json"]
    assert main([*run, "--to", "ply", "--frames", "1,4", "--out", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == ["0001.ply", "0004.ply"]
    first, last = (read_splats(out / name) for name in report["files"])
    assert len(first.means) == len(last.means) == report["gaussians"] == head.net.count
    # The same Gaussians in the same order: each is where the posed head has it.
    posed = head.net.view(head.pose(head.codes(), smile()).state["posed"]).means
    np.testing.assert_allclose(last.means, posed.detach().numpy(), atol=1e-3)
    moved = np.linalg.norm(last.means - first.means, axis=1)
    assert 0.005 < moved.max() < 0.1
    assert np.median(moved) < 0.01
    assert main([*run, "--to", "splat", "--frames", "2", "--out", str(out)]) == 0
    assert (out / "0002.splat").stat().st_size == 32 * head.net.count
    for wrong in (
        ["--to", "glb", "--out", str(out)],
        ["--to", "ply", "--blend", "jawOpen=1", "--out", str(out)],
        ["--to", "ply", "--frames", "5", "--out", str(out)],
    ):
        assert main([*run, *wrong]) == 2
    assert main(["export", str(tmp_path / "model"), "--to", "ply", "--frames", "1",
                 "--out", str(tmp_path / "a.ply")]) == 2  # fmt: skip
    assert "--take" in capsys.readouterr().err
