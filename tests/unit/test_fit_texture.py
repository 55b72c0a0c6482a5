"""The texture of a fit: light, blend, reference, inversion, package. Untrained weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from head360.arkit import COUNT, INDEX
from head360.datasets import labels as classes
from head360.errors import BadInput
from head360.evaluation_fitting import carried, shape_error
from head360.fitting import inversion, targets
from head360.fitting.gaze import find_gaze, looking
from head360.fitting.light import harmonics, light_of, shading, two_faced
from head360.fitting.package import check_out, safe_name, save_head, single_head
from head360.fitting.reference import complete
from head360.fitting.sights import Sight, cut, seen
from head360.fitting.start import Look, Start, _weights
from head360.fitting.surface import SkinGraph, skin_graph
from head360.geometry.alignment import aligned
from head360.geometry.bilinear import BilinearModel
from head360.geometry.gaze import eye_rotations
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import pose_inputs
from head360.networks.banks import Blend
from head360.networks.hexplane import HexPlaneConfig, HexPlaneNet
from head360.rendering import raster
from head360.rendering.cameras import orbit
from head360.rendering.volume import GRID

CONFIG = HexPlaneConfig(
    texture_size=48, texture_channels=4, plane_size=48, hair_size=16, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=4, raw_size=32,
)  # fmt: skip
NEUTRAL = np.zeros(COUNT, dtype=np.float32)


def make_head() -> HexPlaneHead:
    torch.manual_seed(0)
    model = BilinearModel.builtin()
    net = HexPlaneNet(CONFIG, 2, 2)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        # Opaque, and the colour of the picture is that of the texture.
        net.head_decoder.out.bias[0] = 3.0
        net.superres.leave.bias[:12] = 0.7
        tones = (0.6, 0.4, 0.3), (0.3, 0.5, 0.7)
        for entry, tone in zip(net.textures.entries, tones, strict=True):
            entry[..., :3] = torch.tensor(tone)
    subjects = OrderedDict(
        (name, {"shape": model.sample_shape(rng), "style": style})
        for name, style in (("one", "short02"), ("two", None))
    )
    occupancy = np.zeros((2, GRID, GRID, GRID), dtype=np.uint8)
    third = GRID // 3
    occupancy[:, third : 2 * third, 3 * GRID // 4 :, third : 2 * third] = 1
    facts = {"licence": "GPL-3.0-or-later", "notices": ["made in a test"]}
    return HexPlaneHead("test", model, net, subjects, ("short02", "bob01"), occupancy, facts)


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    made = make_head()
    made.net.requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def graph(head: HexPlaneHead) -> SkinGraph:
    return skin_graph(head.model, 64)


# --- the skin -------------------------------------------------------------------------------------


def test_the_skin_is_one_piece_and_mirrors_itself(head: HexPlaneHead, graph: SkinGraph) -> None:
    from scipy.sparse.csgraph import connected_components

    inside = np.flatnonzero(graph.skin)
    _, piece = connected_components(graph.laplacian()[inside][:, inside])
    # Scalp and face lie in charts of their own: colours must cross the seam.
    assert np.bincount(piece).max() > 0.98 * len(inside)
    points, normals = graph.placed(head.model.neutral(head.model.mean_shape))
    twins = inside[graph.twin[inside] >= 0]
    assert len(twins) > 0.9 * len(inside)
    off = points[graph.twin[twins]] * (-1, 1, 1) - points[twins]
    assert np.abs(off).max() < 0.009
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)


def test_a_photograph_lands_on_the_texels_that_it_shows(
    head: HexPlaneHead, graph: SkinGraph
) -> None:
    vertices = head.model.neutral(head.model.mean_shape)
    camera, size = orbit(25.0, 0.0), 384
    # Every point is painted with its own place, so a wrong texel has a wrong colour.
    colour = (vertices - vertices.min(0)) / np.ptp(vertices, axis=0)
    screen = raster.perspective_screen(vertices, camera, size, size)
    found = raster.rasterize(screen[None], graph.faces, size, size)
    painted = raster.interpolate(found, 0, graph.faces, colour.astype(np.float32))
    covered = found.face[0] >= 0
    names = np.where(covered, classes.SKIN, classes.BACKGROUND).astype(np.uint8)
    hair = np.zeros((size, size), dtype=np.float32)
    hair[: size // 4] = 1.0
    sight = cut(
        (painted * 255).astype(np.uint8), names, covered.astype(np.float32), hair, camera, NEUTRAL,
        vertices, 192,
    )  # fmt: skip
    shown = seen(sight, graph, vertices)
    points, normals = graph.placed(vertices)
    wanted = (points - vertices.min(0)) / np.ptp(vertices, axis=0)
    used = shown.weight > 0.3
    assert used.sum() > 0.15 * graph.count
    assert np.abs(shown.colour - wanted)[used].mean() < 0.012
    towards = camera.position - points
    cosine = (normals * towards).sum(1) / np.linalg.norm(towards, axis=1)
    assert not used[cosine < 0].any()
    pixel, _ = camera.project(points, size, size)
    assert not used[pixel[:, 1] < size / 4 - 2].any(), "hair was taken for skin"


# --- light and blend ------------------------------------------------------------------------------


def test_light_is_told_from_the_person() -> None:
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((4000, 3)).astype(np.float32)
    normals[:, 2] = np.abs(normals[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    truth = np.zeros((9, 3), dtype=np.float32)
    truth[0], truth[1], truth[2] = (0.2, 0.1, -0.1), (0.3, 0.3, 0.28), (-0.1, -0.1, -0.12)
    person = np.where(rng.random((4000, 1)) < 0.1, -0.8, 0.0)  # brows, lips
    ratio = (harmonics(normals) @ truth + person).astype(np.float32)
    found = light_of(ratio, normals, np.ones(4000, dtype=np.float32))
    assert np.abs(found[1:4] - truth[1:4]).max() < 0.04
    assert two_faced(found) == pytest.approx(two_faced(truth), rel=0.05)
    assert two_faced(np.zeros((9, 3), dtype=np.float32)) == 1.0
    ahead = np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    assert np.abs(shading(found, ahead)).max() < 1e-6, "complexion must stay"


def test_the_blend_finds_who_it_was_mixed_from() -> None:
    rng = np.random.default_rng(1)
    people = rng.uniform(0.2, 0.9, (4, 600, 3)).astype(np.float32)
    normals = np.tile(np.array([[0.0, 0.0, 1.0]], dtype=np.float32), (600, 1))
    weights = np.array([0.0, 0.6, 0.4, 0.0], dtype=np.float32)
    photo = np.einsum("k,kmc->mc", weights, people)
    look = Look(photo, np.ones(600, dtype=np.float32), normals, np.zeros(600, dtype=np.bool_))
    found, _ = _weights(people, [look])
    assert np.abs(found - weights).max() < 0.08
    assert found.sum() == pytest.approx(1.0, abs=1e-5)


# --- reference ------------------------------------------------------------------------------------


def _flat_start(graph: SkinGraph) -> Start:
    grey = np.full((graph.count, 3), 0.5, dtype=np.float32)
    return Start(
        np.ones(1, dtype=np.float32), torch.zeros(1, 4, 4, 4), grey,
        (np.zeros((9, 3), dtype=np.float32),), np.eye(3, 4, dtype=np.float32), "one",
    )  # fmt: skip


def test_the_seam_solves_poissons_equation(graph: SkinGraph) -> None:
    rng = np.random.default_rng(2)
    model = BilinearModel.builtin()
    points, normals = graph.placed(model.neutral(model.mean_shape))
    weight = ((points[:, 2] > 0.05) & graph.skin).astype(np.float32)
    colour = np.clip(0.5 + 0.1 * rng.standard_normal((graph.count, 3)), 0.1, 0.9)
    no_neck = np.zeros(graph.count, dtype=np.bool_)
    look = Look(colour.astype(np.float32), weight, normals, no_neck)
    ratio = complete(graph, _flat_start(graph), [look])
    # An independent reference: the same energy, minimised densely.
    from head360.fitting import reference as module

    inside = np.flatnonzero(graph.skin)
    pull = module.tone_pull(graph.texels.size)
    known = np.log(colour / 0.5)
    twin = np.where(graph.twin >= 0, weight[graph.twin], 0.0) * module._TWIN
    tone = np.median(known[graph.skin & (weight > 0.2)], 0)
    matrix = np.diag((weight + twin + pull)[inside])
    rows = {texel: row for row, texel in enumerate(inside)}
    for a, b in graph.edges:
        one, other = rows[a], rows[b]
        matrix[one, one] += module._FLOW
        matrix[other, other] += module._FLOW
        matrix[one, other] -= module._FLOW
        matrix[other, one] -= module._FLOW
    right = weight[:, None] * known + twin[:, None] * known[graph.twin] + pull * tone
    dense = np.linalg.solve(matrix, right[inside])
    assert np.abs(ratio[inside] - dense).max() < 1e-4
    back = graph.skin & (points[:, 2] < -0.05)
    assert ratio[back].std() < 0.05 * known[weight > 0].std() + 0.02, "the unseen takes no noise"


def test_a_beard_does_not_colour_the_neck(graph: SkinGraph) -> None:
    model = BilinearModel.builtin()
    points, normals = graph.placed(model.neutral(model.mean_shape))
    chin, mouth = (
        model.neutral(model.mean_shape)[model.topology.landmarks68[k], 1] for k in (8, 48)
    )
    face = graph.skin & (points[:, 2] > 0.05) & (points[:, 1] > chin)
    colour = np.full((graph.count, 3), 0.6, dtype=np.float32)
    colour[points[:, 1] < mouth] = 0.2
    no_neck = np.zeros(graph.count, dtype=np.bool_)
    look = Look(colour, face.astype(np.float32), normals, no_neck)
    ratio = complete(graph, _flat_start(graph), [look])
    tone = np.log(0.6 / 0.5)
    beard = face & (points[:, 1] < mouth - 0.01)
    neck = graph.skin & (points[:, 1] < chin - 0.04)
    assert np.median(ratio[beard]) < tone - 0.8
    assert np.abs(ratio[neck] - tone).max() < 0.25


# --- inversion ------------------------------------------------------------------------------------


def _wearing(head: HexPlaneHead, style: str | None) -> inversion.Wearing:
    codes = head.codes("one", style)
    look, (_, lattice) = head.look(codes), head.identity(codes.shape)
    return inversion.Wearing(
        head.net, head.model.topology, look.hair, look.dye, head.hair_box(codes, lattice), lattice,
        "cpu",
    )  # fmt: skip


def test_inversion_finds_a_texture_and_leaves_the_rest_alone(head: HexPlaneHead) -> None:
    codes = head.codes("one", None)
    vertices = head.identity(codes.shape)[0].pose(NEUTRAL)
    pose = pose_inputs(vertices, head.model.topology, CONFIG.plane_size)
    wearing = _wearing(head, None)
    start, other = head.net.textures(Blend.of(0)), head.net.textures(Blend.of(1))
    view = wearing.window(pose, orbit(0.0, 0.0), 32)
    with torch.no_grad():
        wanted = targets.on_white(wearing.render(other, pose, [view])[0])
        before = targets.on_white(wearing.render(start, pose, [view])[0])
    weight = torch.from_numpy((view.coverage > 0.5).astype(np.float32))[None, None]
    target = inversion.Target(pose, view, wanted, weight, True)
    phases: list[float] = []
    found = inversion.invert(
        wearing, start, [target], 24, np.random.default_rng(0),
        lambda share, _: phases.append(share), inversion.Gains(rate=0.16, smooth=0.02),
    )  # fmt: skip
    with torch.no_grad():
        after = targets.on_white(wearing.render(found.texture, pose, [view])[0])
    first = float(((before - wanted) * weight).abs().mean())
    last = float(((after - wanted) * weight).abs().mean())
    assert last < 0.4 * first
    assert found.loss < 0.7 * found.first
    assert phases == sorted(phases)
    assert len(phases) == 24
    assert all(parameter.grad is None for parameter in head.net.parameters())


def test_toning_follows_the_atlas_and_leaves_hair(head: HexPlaneHead, graph: SkinGraph) -> None:
    codes = head.codes("one", None)
    pose = pose_inputs(
        head.identity(codes.shape)[0].pose(NEUTRAL), head.model.topology, CONFIG.plane_size
    )
    view = _wearing(head, None).window(pose, orbit(0.0, 0.0), 64)
    both = np.concatenate(
        [np.full((graph.count, 3), np.log(0.5)), np.full((graph.count, 3), 0.5)], 1
    )
    ratios = targets.ratio_texture(graph, both.astype(np.float32), "cpu")
    picture = torch.ones(1, 4, 64, 64)
    bare = targets.toned(picture, torch.zeros(1, 1, 64, 64), view, ratios)[0, 0].numpy()
    covered = view.coverage > 0.99
    assert np.median(bare[covered]) == pytest.approx(0.5, abs=0.02)
    worn = targets.toned(picture, torch.ones(1, 1, 64, 64), view, ratios)
    assert torch.equal(worn[:, :3], picture[:, :3])
    # A bright pixel on a texel that has to become brighter does not burn out.
    both[:, :3] = np.log(3.0)
    ratios = targets.ratio_texture(graph, both.astype(np.float32), "cpu")
    pale = targets.toned(picture * 0.4, torch.zeros(1, 1, 64, 64), view, ratios)[0, 0].numpy()
    assert pale.max() <= 0.51


# --- package --------------------------------------------------------------------------------------


def test_a_single_head_wears_and_moves_like_its_base(head: HexPlaneHead, tmp_path: Path) -> None:
    codes = head.codes("two", "bob01")
    facts = {"provenance": {"made_by": "a test"}}
    texture = head.net.textures(Blend.of(1))
    made = single_head(head, "somebody", texture, codes, NEUTRAL, facts)
    loaded = HexPlaneHead.load(save_head(made, tmp_path / "head"))
    assert loaded.subjects == ("somebody",)
    assert loaded.styles == head.styles
    assert loaded.manifest["provenance"] == facts["provenance"]
    assert loaded.codes().style == "bob01"
    smile = NEUTRAL.copy()
    smile[INDEX["jawOpen"]] = 0.6
    for style in (None, "short02"):
        pictures: list[NDArray] = []
        for one, name in ((head, "two"), (loaded, "somebody")):
            pose = one.pose(one.codes(name, style), smile)
            pictures.append(one.render(pose, orbit(30, 0), 48, 48).rgba)
        assert np.abs(pictures[0] - pictures[1]).mean() < 0.01, style
    assert not list(tmp_path.glob(".*.tmp"))


def test_inverted_hair_planes_replace_one_style_alone(head: HexPlaneHead) -> None:
    planes = [head.net.hair_planes(Blend.of(k)) for k in range(2)]
    made = single_head(
        head, "x", head.net.textures(Blend.of(0)), head.codes("one", "bob01"), NEUTRAL, {},
        planes[1] + 1.0,
    )  # fmt: skip
    assert torch.equal(made.net.hair_planes(Blend.of(0)), planes[0])
    assert torch.allclose(made.net.hair_planes(Blend.of(1)), planes[1] + 1.0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Woman Hair-Up", "woman_hair_up"), ("IMG_0042", "img_0042"), ("42", "person_42"),
        ("Zoë.jpg", "zoe_jpg"), ("照片", "person"), ("../x", "x"),
    ],
)  # fmt: skip
def test_names_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_a_folder_of_somebody_is_refused(tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "01_detect.png").touch()
    (tmp_path / "sheet.png").touch()
    check_out(tmp_path)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        check_out(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        check_out(tmp_path / "thesis.txt")


# --- figures --------------------------------------------------------------------------------------


def test_shape_errors_ignore_where_a_head_stands(head: HexPlaneHead) -> None:
    model = head.model
    rng = np.random.default_rng(3)
    one, other = model.sample_shape(rng), model.sample_shape(rng)
    assert shape_error(model, one, one)["mean"] < 1e-3
    assert 0.5 < shape_error(model, one, other)["mean"] < 8.0
    points = model.neutral(one)
    angle = 0.3
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    moved = (points @ turn.T + (0.01, -0.02, 0.03)).astype(np.float32)
    found = aligned(points, moved)
    assert found.scale == pytest.approx(1, abs=1e-5)
    assert np.abs(found.turn - turn).max() < 1e-4
    assert np.abs(found.of(points) - moved).max() < 1e-5
    # A head a tenth larger: the same shape, unless its size counts.
    larger = aligned(points, moved * np.float32(1.1))
    assert larger.scale == pytest.approx(1.1, abs=1e-4)
    assert np.abs(larger.of(points) - moved * 1.1).max() < 1e-5
    strict = aligned(points, moved * np.float32(1.1), scaled=False)
    assert strict.scale == 1
    assert 0.005 < np.linalg.norm(strict.of(points) - moved * 1.1, axis=1).mean() < 0.02
    # Through the camera that is carried along, the head is seen where the other one is.
    camera = orbit(30.0, 10.0)
    there, _ = camera.project(larger.of(points)[:50].astype(np.float32), 64, 64)
    here, _ = carried(camera, larger).project(points[:50], 64, 64)
    assert np.abs(there - here).max() < 1e-3


def test_a_sight_knows_what_lies_outside_the_photograph(head: HexPlaneHead) -> None:
    vertices = head.model.neutral(head.model.mean_shape)
    pixels = np.full((80, 60, 3), 90, dtype=np.uint8)
    plain = np.ones((80, 60), dtype=np.float32)
    skin = np.full((80, 60), classes.SKIN, dtype=np.uint8)
    # The head is larger than the picture.
    camera = orbit(0.0, 0.0, distance=0.5, fov_deg=20.0, aspect=60 / 80)
    sight: Sight = cut(pixels, skin, plain, plain * 0, camera, NEUTRAL, vertices, 64)
    assert 0.02 < sight.known.mean() < 0.9
    assert sight.pixels[0, 0] == pytest.approx(1.0)
    assert not sight.bare()[~sight.known].any()
    middle = sight.camera.project(np.zeros((1, 3)), 64, 64)[0][0]
    whole = camera.project(np.zeros((1, 3)), 60, 80)[0][0]
    assert 0 < middle[0] < 64
    assert 0 < whole[0] < 60


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (16.0, 0.0), (-12.0, 7.0)])
def test_the_gaze_is_read_from_the_irises(head: HexPlaneHead, yaw: float, pitch: float) -> None:
    identity = head.model.identity(head.model.mean_shape)
    camera, size = orbit(10.0, -4.0, fov_deg=22.0), 900
    weights = looking(NEUTRAL, yaw, pitch)
    vertices = identity.pose(weights)
    marks, _ = camera.project(vertices[head.model.topology.landmarks68], size, size)
    # Bright eyes with dark discs where the mesh's own eyeballs look.
    picture = Image.new("RGB", (size, size), (180, 140, 120))
    draw = ImageDraw.Draw(picture)
    for eye in (marks[36:42], marks[42:48]):
        draw.polygon([(float(x), float(y)) for x, y in eye], fill=(235, 235, 235))
    for side, turn in enumerate(eye_rotations(weights)):
        front = identity.eye_centres[side] + turn @ (0.0, 0.0, 0.0158)
        (x, y), depth = (value[0] for value in camera.project(front[None], size, size))
        radius = 0.0058 * camera.intrinsics[1, 1] * size / depth
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(70, 50, 40))
    found = find_gaze(np.asarray(picture), marks, camera, identity)
    assert found is not None
    assert found == pytest.approx((yaw, pitch), abs=4.5)
    blank = np.full((size, size, 3), 128, dtype=np.uint8)
    assert find_gaze(blank, marks, camera, identity) is None
