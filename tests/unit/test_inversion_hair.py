"""Hair in the inversion: what a photograph tells about it, and what the planes make of that."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch

from head360.arkit import COUNT
from head360.datasets import labels as classes
from head360.fitting import inversion, strands, targets
from head360.fitting.package import single_head
from head360.fitting.sights import Sight
from head360.fitting.surface import MOUTH_PARTS, skin_graph
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lashes import solid_faces
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs, pose_inputs
from head360.networks.banks import Blend
from head360.networks.hexplane import HexPlaneConfig, HexPlaneNet
from head360.rendering.cameras import from_normalised, orbit
from head360.rendering.volume import GRID

CONFIG = HexPlaneConfig(
    texture_size=48, texture_channels=4, plane_size=48, hair_size=24, hair_channels=4,
    decoder_width=16, features=4, superres_width=8, head_samples=4, hair_samples=6, raw_size=32,
)  # fmt: skip
NEUTRAL = np.zeros(COUNT, dtype=np.float32)
SIDE = 64


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    torch.manual_seed(0)
    model = BilinearModel.builtin()
    net = HexPlaneNet(CONFIG, 1, 1)
    with torch.no_grad():
        net.head_decoder.out.bias[0] = 3.0
        # The density of hair follows the sum of the first channel over the three planes.
        decoder, channels = net.hair_decoder, CONFIG.hair_channels
        for layer in (decoder.hidden1, decoder.hidden2, decoder.out):
            layer.weight[0] = 0.0
            layer.bias[0] = 0.0
            layer.weight[0, : 3 * channels if layer is decoder.hidden1 else 1 : channels] = 1.0
        decoder.out.bias[0] = -2.5
        net.hair_planes.entries[0][..., 0] = 1.2
        net.superres.leave.bias[:12] = 0.7
    subjects = OrderedDict(one={"shape": model.mean_shape, "style": "bob01"})
    occupancy = np.zeros((1, GRID, GRID, GRID), dtype=np.uint8)
    # A block from the forehead upwards, from front to back.
    occupancy[0, 16:80, 62:90, 24:72] = 1
    facts = {"licence": "GPL-3.0-or-later", "notices": ["made in a test"]}
    made = HexPlaneHead("test", model, net, subjects, ("bob01",), occupancy, facts)
    made.net.requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def pose(head: HexPlaneHead) -> PoseInputs:
    vertices = head.identity(head.codes().shape)[0].pose(NEUTRAL)
    return pose_inputs(vertices, head.model.topology, CONFIG.plane_size)


def wearing_of(head: HexPlaneHead) -> inversion.Wearing:
    codes = head.codes()
    look, (_, lattice) = head.look(codes), head.identity(codes.shape)
    return inversion.Wearing(
        head.net, head.model.topology, look.hair, look.dye, head.hair_box(codes, lattice), lattice,
        "cpu",
    )  # fmt: skip


def photograph(hair: np.ndarray, yaw: float = 0.0) -> Sight:
    """A grey picture, from the front by default, with the given (S, S) share of hair."""
    size = len(hair)
    names = np.where(hair > 0.5, classes.HAIR, classes.BACKGROUND).astype(np.uint8)
    ones = np.ones((size, size), dtype=np.float32)
    grey = np.full((size, size, 3), 0.5, dtype=np.float32)
    return Sight(
        grey, ones > 0, names, ones, hair.astype(np.float32), orbit(yaw, 0.0), NEUTRAL
    )  # fmt: skip


def test_an_outline_tells_only_what_is_sure() -> None:
    hair = np.zeros((128, 128))
    hair[20:80, 30:90] = 1.0
    hair[40:42, 50:52] = 0.0  # a hole and a crumb of the parser's
    hair[110, 110] = 1.0
    hair[30:70, 94:124] = 1.0  # bright background that passed for hair, and a thin lock
    hair[80:120, 40:44] = 1.0
    told = np.ones((128, 128), dtype=np.bool_)
    told[:40] = False
    sight = photograph(hair)
    sight.pixels[:, :92] *= 0.2
    seen = strands.outline(sight, told)
    assert seen.none[45:65, 100:120].all()
    assert seen.none[100:115, 38:46].all()
    assert not (seen.hair & seen.none).any()
    assert not seen.none[:40].any(), "a hat may hide hair"
    assert not (seen.hair & ~(hair > 0))[:40].any()
    assert seen.hair[40:42, 50:52].all()
    assert not seen.hair[110, 110]
    assert seen.none[100, 20]
    assert not (seen.hair | seen.none)[60, 28:32].any(), "the rim is open"


def test_a_style_of_another_kind_is_not_torn() -> None:
    worn = np.zeros((64, 64), dtype=np.float32)
    worn[:32] = 1.0
    some, most = (np.arange(64)[:, None] + np.zeros((64, 64)) > edge for edge in (24, 10))
    for none, kept in ((some, True), (most, False)):
        found = strands.believed(strands.Outline(~none, none), worn)
        assert found.none.any() == kept
        assert found.hair.any()


def test_a_hull_loses_what_the_photograph_shows_without_hair(
    head: HexPlaneHead, pose: PoseInputs
) -> None:
    hair = np.zeros((256, 256))
    hair[:, :128] = 1.0
    sight = photograph(hair)
    topology = head.model.topology
    hull = head._hulls(head.codes())
    _, lattice = head.identity(head.codes().shape)
    solid = topology.faces[solid_faces(topology)]
    seen = strands.outline(sight)
    left = strands.carved(hull, lattice, pose, solid, sight, seen)
    assert not (left & ~hull & 1).any()
    cells = np.argwhere(hull)
    points = from_normalised((cells[:, ::-1] + 0.5) / GRID * 2 - 1)
    kept = left[tuple(cells.T)] > 0
    pixel, _ = sight.camera.project(points, 256, 256)
    assert kept[pixel[:, 0] < 128].all(), "hair is where the photograph has some"
    bare = pixel[:, 0] > 145
    above = points[:, 1] > pose.vertices[:, 1].max() + 0.02
    assert not kept[bare & above].any()
    behind = bare & (points[:, 2] < -0.08) & (points[:, 1] < 0.04) & (pixel[:, 0] < 155)
    assert behind.any()
    assert kept[behind].all(), "nothing is known of the back of the head"


def test_planes_lose_hair_where_it_is_unwanted_and_keep_the_rest(
    head: HexPlaneHead, pose: PoseInputs
) -> None:
    wearing = wearing_of(head)
    texture = head.net.textures(Blend.of(0))
    view = wearing.window(pose, orbit(0.0, 0.0), SIDE)
    with torch.no_grad():
        out, raw, _ = wearing.draw(texture, pose, [view])
    before = raw[:, -1:].float()
    half = before.shape[-1] // 2
    wanted = before.clone()
    wanted[..., half:] = 0.0
    picture, ones = targets.on_white(out), torch.ones_like(before)
    nothing = torch.zeros(1, 1, SIDE, SIDE)
    front = inversion.Target(pose, view, picture, nothing, True, wanted, ones)
    found = inversion.invert(
        wearing, texture, [front], 40, np.random.default_rng(0), lambda *_: None,
        inversion.Gains(rate=0.2, hair=1.0), invert_planes=True,
    )  # fmt: skip
    assert found.hair is not None
    with torch.no_grad():
        after = wearing.draw(texture, pose, [view], hair=found.hair)[1][:, -1:].float()
    full = before > 0.8
    gone, stay = full.clone(), full.clone()
    gone[..., : half + 2] = False
    stay[..., half - 2 :] = False
    assert gone.sum() > 20
    assert stay.sum() > 20
    assert float(after[gone].mean()) < 0.5 * float(before[gone].mean())
    assert float(after[stay].mean()) > 0.8
    # Without the switch hair is not asked.
    still = inversion.invert(
        wearing, texture, [front], 10, np.random.default_rng(0), lambda *_: None
    )  # fmt: skip
    assert still.hair is None


def test_references_hold_the_hair_that_no_photograph_sees(
    head: HexPlaneHead, pose: PoseInputs
) -> None:
    wearing = wearing_of(head)
    texture = head.net.textures(Blend.of(0))
    sight = photograph(np.ones((SIDE, SIDE)))
    seen = strands.outline(sight)
    ratios = torch.zeros(1, 48, 48, 6)
    light = np.zeros((9, 3), dtype=np.float32)
    composite = targets.photo_composite(
        wearing, texture, ratios, pose, sight, light, 1.0, seen.none
    )  # fmt: skip
    (wanted, trust), (cover, _), shown = strands.photo_hair(
        wearing, texture, pose, sight, light, 1.0, seen, composite
    )
    worn = torch.from_numpy(shown.alpha.repeat(2, 0).repeat(2, 1) > 0.9)[None, None]
    worn = worn & (trust > 0)
    assert worn.sum() > 100
    assert (wanted[worn.expand(-1, 3, -1, -1)] - 0.5).abs().max() < 1e-5, "the photograph's colour"
    assert float(cover.mean()) > 0.95
    trusts = []
    for yaw in (0.0, 180.0):
        target = strands.reference_hair(wearing, texture, ratios, pose, yaw, SIDE, [shown])
        assert target.hair is not None
        full = torch.nn.functional.interpolate(target.hair, scale_factor=2) > 0.9
        trusts.append(float(target.weight[full].mean()))
    front, back = trusts
    assert front < 0.3, "the photograph has the say where it sees hair"
    assert back > 0.8, "nobody else knows the back"


def test_hair_of_several_photographs_is_one(head: HexPlaneHead, pose: PoseInputs) -> None:
    wearing = wearing_of(head)
    texture, ratios = head.net.textures(Blend.of(0)), torch.zeros(1, 48, 48, 6)
    light = np.zeros((9, 3), dtype=np.float32)
    pictures, trusts, told = [], [], []
    for yaw, gain in ((0.0, 1.0), (0.0, 0.6), (60.0, 1.0)):
        sight = photograph(np.ones((SIDE, SIDE)), yaw)
        sight = dataclasses.replace(sight, pixels=sight.pixels * np.float32(gain))
        seen = strands.outline(sight)
        exposure = np.full(3, np.log(gain), dtype=np.float32)
        composite = targets.photo_composite(
            wearing, texture, ratios, pose, sight, light, 1.0, seen.none
        )  # fmt: skip
        (wanted, trust), _, shown = strands.photo_hair(
            wearing, texture, pose, sight, light, 1.0, seen, composite, exposure
        )
        pictures.append(wanted)
        trusts.append(trust)
        told.append(shown)
    hair = (trusts[0] > 0)[0, 0]
    assert hair.sum() > 100
    assert (pictures[0] - pictures[1])[:, :, hair].abs().max() < 1e-5, "one exposure"
    # What two show alike counts once.
    pair = [strands.divided(trusts[k], told[:2], k)[0, 0] for k in range(2)]
    assert torch.allclose(pair[0] + pair[1], trusts[0][0, 0], atol=1e-4)
    assert torch.allclose(pair[0], pair[1], atol=1e-4)
    assert torch.equal(strands.divided(trusts[0], told[:1], 0), trusts[0])
    # From another side each has the say on its own.
    front = strands.divided(trusts[0], [told[0], told[2]], 0)[0, 0]
    side = torch.arange(SIDE) < SIDE // 2
    turned = [float(front[:, half][hair[:, half]].mean()) for half in (side, ~side)]
    assert min(turned) < 0.9 * max(turned)
    assert float(front[hair].mean()) > 0.5


def test_the_inside_of_the_mouth_stays_unless_it_is_shown(
    head: HexPlaneHead, pose: PoseInputs
) -> None:
    graph = skin_graph(head.model, CONFIG.texture_size)
    inside = np.flatnonzero(graph.of(*MOUTH_PARTS))
    shown = np.zeros(graph.count, dtype=np.bool_)
    shown[inside[0]] = True
    free = targets.freedom(graph, shown, "cpu")
    assert graph.gather(free[0].numpy())[inside].sum() == 1
    wearing = dataclasses.replace(wearing_of(head), hair=None, box=None)
    texture = head.net.textures(Blend.of(0))
    view = wearing.window(pose, orbit(0.0, 0.0), SIDE)
    target = inversion.Target(
        pose, view, torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE), True
    )
    found = inversion.invert(
        wearing, texture, [target], 12, np.random.default_rng(0), lambda *_: None,
        inversion.Gains(rate=0.1), free=free,
    )  # fmt: skip
    change = graph.gather((found.texture - texture)[0].numpy())
    assert np.abs(change[inside[1:]]).max() == 0.0
    assert np.abs(change[graph.skin]).mean() > 0.01


def test_a_package_shows_the_hair_as_it_was_inverted(head: HexPlaneHead) -> None:
    codes = dataclasses.replace(head.codes(), hair_colour=(0.4, 0.3, 0.2))
    before = head.look(codes).dye
    planes = head.net.hair_planes(Blend.of(0)) + 0.5
    hull = head._hulls(codes).copy()
    hull[:, :, : GRID // 2] = 0
    made = single_head(head, "x", head.net.textures(Blend.of(0)), codes, NEUTRAL, {}, planes, hull)
    assert np.array_equal(made._hulls(made.codes()), hull)
    after = made.look(made.codes()).dye
    assert before is not None
    assert after is not None
    assert abs(after.mean - before.mean) > 1e-3
    strand = torch.full((1, 3), before.mean)
    assert torch.allclose(before(strand), after(strand), atol=2e-3)
