"""Densification: who is doubled, who goes, and what happens to parameters and moments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from head360.networks import quaternions  # noqa: E402
from head360.networks.gaussian import PRESETS, GaussianNet, mesh_bound  # noqa: E402
from head360.networks.meshrig import Binding  # noqa: E402
from head360.training import densify, gaussian_optim  # noqa: E402
from head360.training.densify import Densifier, DensifyConfig  # noqa: E402

COUNT = 40
STEP = 1000
SMALL = dataclasses.replace(
    PRESETS["tiny"], gaussians=COUNT, plane_size=8, width=16, deform_warmup=0
)
LITTLE, LARGE, HUGE = 0.001, 0.05, 0.5  # scales beside an extent of 1


def trained(config=SMALL, seed=0, **start):
    """A network whose optimiser has moments everywhere."""
    torch.manual_seed(seed)
    net = GaussianNet(config, 3, half=0.2, seed=seed, **start)
    with torch.no_grad():
        net.log_scales.fill_(float(np.log(LITTLE)))
        net.quaternions.normal_()
    optimiser = gaussian_optim.build(net, gaussian_optim.RATES["tiny"])
    step(net, optimiser)
    return net, optimiser


def step(net, optimiser, times=2):
    for seed in range(times):
        generator = torch.Generator().manual_seed(seed)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-3
        optimiser.step()


def watch(densifier, count=COUNT, pulled=(), faint=(), unseen=()):
    """One frame: everybody visible and opaque, apart from those named."""
    gradient, opacities = torch.zeros(count), torch.full((count,), 0.5)
    visible = torch.ones(count, dtype=torch.bool)
    for rank, n in enumerate(pulled):
        gradient[n] = 1e-3 * (1 + rank)
    opacities[list(faint)] = 0.001
    visible[list(unseen)] = False
    densifier.observe(gradient, visible, opacities)


def densifier_of(**changes):
    return Densifier(DensifyConfig(**changes), COUNT, extent=1.0, seed=3)


def rows_of(net):
    return {name: p.detach().clone() for name, p in net.row_parameters().items()}


def moments_of(net, optimiser):
    return {
        (name, key): value.clone()
        for name, p in net.row_parameters().items()
        for key, value in optimiser.state[p].items()
        if key != "step"
    }


def test_counts_add_up_and_shared_parameters_stay():
    net, optimiser = trained()
    with torch.no_grad():
        net.log_scales[10:14] = float(np.log(LARGE))
        net.log_scales[20] = float(np.log(HUGE))
    planes = net.triplane.planes[0]
    d = densifier_of(large_after=0)
    watch(d, pulled=[1, 2, 3, 10, 11], faint=[30, 31])
    change = d.step(net, optimiser, STEP)
    assert (change.cloned, change.split, change.removed) == (3, 2, 3)
    assert change.count == net.count == COUNT + 3 + 2 - 3
    assert all(len(p) == net.count for p in net.row_parameters().values())
    assert net.triplane.planes[0] is planes
    assert len(d.pull) == net.count
    step(net, optimiser)  # the optimiser works on the new parameters
    known = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert known == {id(p) for p in net.parameters()}
    assert set(optimiser.state) == set(net.parameters()), "no state of parameters that are gone"


def test_survivors_keep_parameters_and_moments_bit_for_bit():
    net, optimiser = trained()
    rows, moments = rows_of(net), moments_of(net, optimiser)
    d = densifier_of(moments_child="zero")
    watch(d, pulled=[4], faint=[0, 7])
    d.step(net, optimiser, STEP)
    survivors = [n for n in range(COUNT) if n not in (0, 7)]
    for name, value in rows_of(net).items():
        assert torch.equal(value[: len(survivors)], rows[name][survivors]), name
    after = moments_of(net, optimiser)
    for key, value in after.items():
        assert torch.equal(value[: len(survivors)], moments[key][survivors]), key
        assert not value[len(survivors) :].any(), key
        assert moments[key][4].any()
    assert float(optimiser.state[net.means]["step"]) == 2


def test_children_inherit_derivation_and_moments():
    net, optimiser = trained()
    with torch.no_grad():
        net.log_scales[5] = float(np.log(LARGE))
    rows, moments = rows_of(net), moments_of(net, optimiser)
    d = densifier_of()
    watch(d, pulled=[4, 5])
    d.step(net, optimiser, STEP)
    clone, children = COUNT - 1, [COUNT, COUNT + 1]  # 5 itself is gone
    assert torch.equal(net.tau[clone], rows["tau"][4])
    assert torch.equal(net.means[clone], rows["means"][4])
    for child in children:
        assert torch.equal(net.tau[child], rows["tau"][5])
        torch.testing.assert_close(
            net.log_scales[child], rows["log_scales"][5] - np.log(1.6).astype(np.float32)
        )
        assert not torch.equal(net.means[child], rows["means"][5])
    after = moments_of(net, optimiser)
    for key, value in after.items():
        assert torch.equal(value[clone], moments[key][4]), key
        assert torch.equal(value[children[0]], moments[key][5]), key
    inner = (after["tau", "exp_avg"] * net.tau.detach()).sum(-1)
    assert inner.abs().max() < 1e-8, "inherited moments are tangent at the child"


@pytest.mark.parametrize("choice", ["random", "zero"])
def test_other_quaternions_for_children_start_without_moments(choice):
    net, optimiser = trained()
    d = densifier_of(tau_child=choice)
    watch(d, pulled=[4, 5])
    d.step(net, optimiser, STEP)
    new = net.tau[COUNT:].detach()
    assert (new.norm(dim=-1) - 1).abs().max() < 1e-6
    if choice == "zero":
        assert torch.equal(new, quaternions.identity((2, 4), new))
    else:
        assert not torch.equal(new[0], net.tau[4])
    assert not optimiser.state[net.tau]["exp_avg"][COUNT:].any()
    assert optimiser.state[net.means]["exp_avg"][COUNT:].any()


def test_the_release_forgets_all_moments_of_the_derivation():
    net, optimiser = trained()
    d = Densifier(densify.DENSIFY["released"], COUNT, 1.0)
    watch(d, pulled=[1])
    d.step(net, optimiser, STEP)
    assert not optimiser.state[net.tau]["exp_avg"].any()
    assert optimiser.state[net.means]["exp_avg"][0].any()


def test_children_of_a_split_scatter_like_their_parent():
    net, optimiser = trained()
    with torch.no_grad():
        net.log_scales[5] = torch.tensor([0.2, 0.02, 0.002]).log()
    centre, turn = net.means[5].detach().clone(), quaternions.matrices(net.quaternions[5].detach())
    d = densifier_of(children=4000, most=10**6, large_after=10**9)
    watch(d, pulled=[5])
    change = d.step(net, optimiser, STEP)
    assert change.count == COUNT - 1 + 4000
    offsets = (net.means[COUNT - 1 :].detach() - centre) @ turn
    np.testing.assert_allclose(offsets.std(0), [0.2, 0.02, 0.002], rtol=0.05)
    np.testing.assert_allclose(offsets.mean(0), 0, atol=0.012)


def test_same_seed_same_children():
    results = []
    for seed in (3, 3, 4):
        net, optimiser = trained()
        with torch.no_grad():
            net.log_scales.fill_(float(np.log(LARGE)))
        d = Densifier(DensifyConfig(), COUNT, 1.0, seed=seed)
        watch(d, pulled=[1, 2, 3])
        torch.rand(seed)  # the global generator has no say
        d.step(net, optimiser, STEP)
        results.append(net.means.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_largest_number_is_respected_and_the_hardest_pulled_come_first():
    net, optimiser = trained()
    with torch.no_grad():
        net.log_scales[9] = float(np.log(LARGE))
    d = densifier_of(most=COUNT + 2)
    watch(d, pulled=[1, 2, 3, 9])  # rising gradients
    change = d.step(net, optimiser, STEP)
    assert (change.cloned, change.split, net.count) == (1, 1, COUNT + 2)
    assert torch.equal(net.means[COUNT - 1], net.means[3]), "3 is cloned, 1 and 2 are not"
    watch(d, net.count, pulled=range(20))
    assert d.step(net, optimiser, STEP + 100).count == COUNT + 2


def test_gradients_are_averaged_over_frames_that_see_the_gaussian():
    net, optimiser = trained()
    d = densifier_of(gradient=1e-3)
    for frame in range(4):
        gradient = torch.zeros(COUNT)
        visible = torch.zeros(COUNT, dtype=torch.bool)
        visible[1] = frame == 0
        visible[2] = True
        gradient[1], gradient[2] = 1.5e-3, (1.5e-3 if frame == 0 else 0.0)
        d.observe(gradient, visible, torch.ones(COUNT))
    change = d.step(net, optimiser, STEP)
    assert change.cloned == 1
    assert torch.equal(net.means[-1], net.means[1])


@pytest.mark.parametrize(("memory", "removed"), [("recent", 1), ("last", 2)])
def test_teeth_survive_a_closed_mouth_where_recent_frames_are_remembered(memory, removed):
    net, optimiser = trained()
    d = densifier_of(opacity_memory=memory)
    watch(d, faint=[1])
    watch(d, faint=[1, 2])  # the mouth is closed now
    assert d.step(net, optimiser, STEP).removed == removed


def test_what_no_frame_has_shown_stays_and_a_head_never_vanishes():
    net, optimiser = trained()
    d = densifier_of()
    watch(d, faint=range(COUNT), unseen=[6])
    change = d.step(net, optimiser, STEP)
    assert change.count == 1
    watch(d, 1, faint=[0])
    assert d.step(net, optimiser, STEP + 100).count == 1


def test_it_is_due_inside_its_steps_only():
    config = DensifyConfig(start=500, interval=100, stop=1500)
    assert [s for s in range(0, 2000, 50) if config.due(s)] == list(range(600, 1500, 100))
    paper = densify.DENSIFY["paper"]
    assert [s for s in range(1, 4001) if paper.due(s)] == [3000, 3500, 4000]
    net, optimiser = trained()
    d = densifier_of()
    watch(d, faint=range(10))
    assert d.step(net, optimiser, STEP + 1) is None
    assert net.count == COUNT


def test_the_scheduled_number_of_doppelgangers_grows_by_repetition():
    config = dataclasses.replace(SMALL, copies_schedule=True)
    net, optimiser = trained(config)
    assert net.tau.shape[1] == 2
    d = Densifier(DensifyConfig(children=202, most=10**6, large_after=10**9), COUNT, 1.0)
    with torch.no_grad():
        net.log_scales[0] = float(np.log(LARGE))
    watch(d, pulled=[0])
    before, moment = net.tau.detach().clone(), optimiser.state[net.tau]["exp_avg"].clone()
    d.step(net, optimiser, STEP)
    assert net.count == COUNT - 1 + 202
    assert net.tau.shape == (net.count, 4, 4)
    assert torch.equal(net.tau[0], before[1].repeat_interleave(2, 0))
    assert torch.equal(optimiser.state[net.tau]["exp_avg"][0], moment[1].repeat_interleave(2, 0))
    net(torch.zeros(3))
    step(net, optimiser)


def test_a_reset_lowers_opacities_that_belong_to_the_gaussians_only():
    net, optimiser = trained(dataclasses.replace(SMALL, texture="direct"))
    assert densify.reset_opacity(net, optimiser)
    assert net.opacity_logits.sigmoid().max() <= 0.01 + 1e-6
    assert not optimiser.state[net.opacity_logits]["exp_avg"].any()
    decoded, other = trained()
    assert not densify.reset_opacity(decoded, other)


def test_bindings_to_the_mesh_follow_their_gaussians():
    vertices = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.1, 0.1, 0]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    rng = np.random.default_rng(0)
    start = Binding(
        rng.integers(0, 2, COUNT), rng.dirichlet(np.ones(3), COUNT).astype(np.float32),
        rng.uniform(0, 0.1, (COUNT, 3)).astype(np.float32),
    )  # fmt: skip
    net, optimiser = trained(mesh_bound(SMALL), start=start, mesh=(vertices, faces))
    face, bary = net.face.clone(), net.bary.clone()
    d = densifier_of()
    watch(d, pulled=[4, 5], faint=[0])
    d.step(net, optimiser, STEP)
    assert net.count == COUNT + 1
    assert torch.equal(net.face[-2:], face[[4, 5]])
    assert torch.equal(net.bary[:-2], bary[1:])
    assert torch.equal(net.bases[-1], net.bases[4])
    out = net(torch.rand(3), vertices=torch.from_numpy(vertices))
    assert len(out.means) == COUNT + 1


def test_collected_evidence_survives_a_checkpoint():
    results = []
    for interrupted in (False, True):
        net, optimiser = trained()
        d = densifier_of()
        watch(d, pulled=[1, 2])
        if interrupted:
            state = d.state_dict()
            d = densifier_of()
            d.load_state_dict(state)
        watch(d, faint=[7])
        d.step(net, optimiser, STEP)
        results.append(net.means.detach())
    assert torch.equal(*results)


def test_a_whole_run_goes_on_exactly_from_its_states_after_rows_have_changed():
    def densified():
        net, optimiser = trained()
        d = densifier_of()
        watch(d, pulled=[1, 2], faint=[9])
        d.step(net, optimiser, STEP)
        return net, optimiser

    whole, its = densified()
    step(whole, its, times=4)
    first, before = densified()
    second = GaussianNet(SMALL, 3, half=0.2, seed=99)
    second.make_room(first.state_dict())
    second.load_state_dict(first.state_dict())
    after = gaussian_optim.build(second, gaussian_optim.RATES["tiny"])
    after.load_state_dict(before.state_dict())
    step(second, after, times=4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_extent_of_cameras():
    positions = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]
    assert densify.scene_extent(positions) == pytest.approx(1.1)


def test_presets_and_wrong_settings():
    assert densify.DENSIFY["paper"].opacity == 0.0002
    assert densify.DENSIFY["released"].gradient == 2e-4
    with pytest.raises(ValueError, match="tau_child is 'adopt'"):
        DensifyConfig(tau_child="adopt")
