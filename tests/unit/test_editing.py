"""Editing: looks are learned from edited pictures, and nothing else of a head changes."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_codes import CODED, FREE, make_head

from head360 import heads
from head360.arkit import COUNT, INDEX
from head360.cli import main
from head360.commands import edit as command
from head360.commands.progress import Progress
from head360.editing import sheet
from head360.editing.alone import alone
from head360.editing.editors import list_editors, open_editor
from head360.editing.filters import FILTERS, FilterEditor
from head360.editing.guides import Guide
from head360.editing.run import EditProgress, EditResult, edit
from head360.editing.settings import EditSettings
from head360.editing.views import GROUND, Tones, View, make_guide, measure_tones, plan, take
from head360.errors import BadInput, Cancelled, Checkpointed
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import view_inputs
from head360.networks.banks import PlaneBank
from head360.rendering.cameras import orbit

SETTINGS = EditSettings(steps=50, views=9, size=64, patch=64, rate=0.03)
NEUTRAL = np.zeros(COUNT, dtype=np.float32)


@pytest.fixture(autouse=True, scope="module")
def small_sheets() -> Iterator[None]:
    """One row of two pictures: what a sheet shows is looked at, not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet, "_ROWS", {"neutral": {}, "jaw open": {"jawOpen": 0.8}})
        patch.setattr(sheet, "_VIEWS", {"left": orbit(40, 4)})
        yield


def painted_head(config: Any = FREE) -> HexPlaneHead:
    """An untrained head whose pictures show its texture, so that a texture can be learned."""
    head = make_head(config)
    with torch.no_grad():
        head.net.superres.leave.bias[:12] = 1.0  # gain of the texture's colour, 2 × 2 pixels
        head.net.head_decoder.out.weight[1:4] = 0.0
        head.net.head_decoder.out.bias[1:4] = -6.0
        if isinstance(head.net.textures, PlaneBank):
            rng = np.random.default_rng(0)
            for entry, tone in zip(
                head.net.textures.entries, ((0.8, 0.6, 0.5), (0.4, 0.3, 0.2)), strict=True
            ):
                noise = torch.from_numpy(rng.normal(0, 0.03, entry.shape[:3])).float()
                entry[..., :3] = torch.tensor(tone) + noise[..., None]
    return head


def picture(head: HexPlaneHead, subject: str, weights: np.ndarray = NEUTRAL) -> np.ndarray:
    return head.render(head.pose(head.codes(subject), weights), orbit(15, 5), 64, 64).rgba


def state(head: HexPlaneHead) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in head.net.state_dict().items()}


@pytest.fixture(scope="module")
def head() -> HexPlaneHead:
    return painted_head()


@pytest.fixture(scope="module")
def views(head: HexPlaneHead) -> list[View]:
    return take(head, head.codes("one"), plan(6, 0, bald=2), 64)


@pytest.fixture(scope="module")
def guides(head: HexPlaneHead, views: list[View]) -> list[Guide]:
    from head360.editing.guides import Places

    places = Places.of(head.model)
    return [make_guide(view, places, measure_tones(views, places)) for view in views]


# --- the loop -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edited(
    head: HexPlaneHead, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EditResult, list[EditProgress], dict[str, np.ndarray]]:
    progress: list[EditProgress] = []
    before = state(head)
    result = edit(
        head, head.codes("one"), FilterEditor("cooler"), SETTINGS,
        tmp_path_factory.mktemp("edit") / "out", progress.append, lambda: False,
    )  # fmt: skip
    return result, progress, before


def test_the_head_comes_to_look_like_the_edited_pictures(edited: Any) -> None:
    result = edited[0]
    assert result.distance_before > 0.02
    assert result.distance_after < result.distance_before / 3
    # Views that nothing was learned from follow, an unseen expression among them.
    assert result.held_out_after < result.held_out_before / 3


def test_nothing_but_texture_and_worn_hair_changes(head: HexPlaneHead, edited: Any) -> None:
    result, _, before = edited
    after = state(head)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    new = heads.load(result.head_path)
    assert isinstance(new, HexPlaneHead)
    assert new.subjects == ("one",)
    assert new.styles == head.styles
    one = alone(head, head.codes("one"), "x", free_hair=False)[0]
    one.save(result.head_path.parent / "plain")
    plain = heads.load(result.head_path.parent / "plain")
    assert isinstance(plain, HexPlaneHead)
    for name, value in state(plain).items():
        same = np.array_equal(value, state(new)[name])
        assert same == (name not in ("textures.entries.0", "hair_planes.entries.0")), name


def test_an_edited_head_keeps_its_shape_and_is_driven_as_before(
    head: HexPlaneHead, edited: Any
) -> None:
    new = heads.load(edited[0].head_path)
    assert isinstance(new, HexPlaneHead)
    jaw = NEUTRAL.copy()
    jaw[INDEX["jawOpen"]] = 1.0
    for weights in (NEUTRAL, jaw):
        old = head.pose(head.codes("one"), weights).vertices
        np.testing.assert_allclose(new.pose(new.codes(), weights).vertices, old, atol=1e-5)
        alphas = [picture(h, "one", weights)[..., 3] for h in (head, new)]
        assert np.abs(alphas[0] - alphas[1]).mean() < 0.01
    assert np.abs(picture(new, "one", jaw) - picture(new, "one")).max() > 0.2


def test_an_edit_says_how_it_was_made_and_how_far_it_is(edited: Any) -> None:
    result, progress, _ = edited
    manifest = json.loads((result.head_path / "manifest.json").read_text())
    how = manifest["provenance"]
    assert how["made_by"] == "head360 edit"
    assert how["from"] == ["test"]
    assert how["settings"]["editor"] == "filter:cooler"
    assert manifest["name"] == result.name == "test-one-cooler"
    fractions = [item.fraction for item in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert progress[-1].step == SETTINGS.steps
    assert sorted(p.name for p in result.head_path.parent.iterdir() if p.name != "plain") == [
        "head", "sheet.png"
    ]  # fmt: skip


def test_a_stopped_edit_goes_on_to_the_same_bytes(head: HexPlaneHead, tmp_path: Path) -> None:
    settings = EditSettings(steps=6, views=6, size=64, patch=32)
    codes = head.codes("two")
    editor = FilterEditor("warmer")
    whole = edit(head, codes, editor, settings, tmp_path / "whole")
    stop = threading.Event()

    def watch(progress: EditProgress) -> None:
        if progress.step == 3:
            stop.set()

    parts = tmp_path / "parts"
    with pytest.raises(Checkpointed) as caught:
        edit(head, codes, editor, settings, parts, watch, stop=stop.is_set)
    assert caught.value.exit_code == 85
    assert [path.name for path in parts.iterdir()] == ["checkpoint.safetensors"]
    with pytest.raises(BadInput, match="--resume"):
        edit(head, codes, editor, settings, parts)
    on = EditSettings(steps=6, views=6, size=64, patch=32, resume=True)
    with pytest.raises(BadInput, match="strength"):
        edit(head, codes, FilterEditor("warmer", 0.5), on, parts)
    with pytest.raises(BadInput, match="another head"):
        edit(head, head.codes("one"), editor, on, parts)
    resumed = edit(head, codes, editor, on, parts)
    files = [r.head_path / "head.safetensors" for r in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (parts / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("when", ["views", "learning", "sheet"])
def test_a_cancelled_edit_leaves_nothing(head: HexPlaneHead, tmp_path: Path, when: str) -> None:
    settings = EditSettings(steps=4, views=3, size=64, patch=32)
    cancel = threading.Event()

    def watch(progress: EditProgress) -> None:
        texts = {"views": "photographing", "learning": "learning", "sheet": "sheet, jaw"}
        if texts[when] in progress.text and (when != "sheet" or progress.step):
            cancel.set()

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("kept")
    for out in (tmp_path / "new", mine):
        cancel.clear()
        with pytest.raises(Cancelled):
            edit(head, head.codes(), FilterEditor("tan"), settings, out, watch, cancel.is_set)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_hair_stays_when_it_shall(head: HexPlaneHead, tmp_path: Path) -> None:
    settings = EditSettings(steps=3, views=3, size=64, patch=32, hair=False)
    result = edit(head, head.codes(), FilterEditor("bronze"), settings, tmp_path / "out")
    new = heads.load(result.head_path)
    assert isinstance(new, HexPlaneHead)
    alone(head, head.codes(), "x", free_hair=False)[0].save(tmp_path / "plain")
    plain = heads.load(tmp_path / "plain")
    assert isinstance(plain, HexPlaneHead)
    for index in range(len(head.styles)):
        name = f"hair_planes.entries.{index}"
        np.testing.assert_array_equal(state(new)[name], state(plain)[name])


@pytest.mark.parametrize("config", [FREE, CODED], ids=["free", "coded"])
@pytest.mark.parametrize("free_hair", [True, False])
def test_a_person_alone_looks_as_before(config: Any, free_hair: bool) -> None:
    head = make_head(config)
    codes = head.random_codes(3)
    single, own = alone(head, codes, "single", free_hair=free_hair)
    for yaw in (20, 170):
        pictures = [
            h.render(h.pose(c, NEUTRAL), orbit(yaw, 5), 64, 64).rgba
            for h, c in ((head, codes), (single, own))
        ]
        np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-5)
    assert isinstance(single.net.textures, PlaneBank)


class _Broken:
    name, once = "broken", True

    def edit(
        self, pictures: Any, originals: Any, guides: Sequence[Guide], prompt: str, seed: int
    ) -> np.ndarray:
        return pictures[:, :8]

    def facts(self) -> dict[str, Any]:
        return {"editor": "broken"}


def test_what_cannot_be_edited_is_said_in_a_sentence(head: HexPlaneHead, tmp_path: Path) -> None:
    codes, small = head.codes(), EditSettings(steps=2, views=3, size=64)
    with pytest.raises(BadInput, match="gave no picture"):
        edit(head, codes, _Broken(), small, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    for settings, words in (
        (EditSettings(size=63), "--size"), (EditSettings(views=1), "--views"),
        (EditSettings(steps=-1), "--steps"), (EditSettings(resume=True), "leave --resume out"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            edit(head, codes, FilterEditor("tan"), settings, tmp_path / "b")
    gaussian: Any = SimpleNamespace(name="avatar", kind="gaussian")
    with pytest.raises(BadInput, match="hex-plane"):
        edit(gaussian, codes, FilterEditor("tan"), small, tmp_path / "c")
    for name in ("tan", "filter:", "filter:nothing", "paint:tan"):
        with pytest.raises(BadInput):
            open_editor(name)
    for strength in (0.0, 1.5, float("nan")):
        with pytest.raises(BadInput, match="strength"):
            open_editor("filter:tan", strength=strength)


# --- views ----------------------------------------------------------------------------------------


def test_a_window_of_a_view_is_what_rasterising_the_window_gives(
    head: HexPlaneHead, views: list[View]
) -> None:
    view = views[1]
    window = view.window(8, 5, 16)
    direct = view_inputs(
        view.moment.inputs, head.model.topology, view.camera, (64, 64), (16, 10, 48, 42),
        (32, 32), (8, 5, 24, 21),
    )  # fmt: skip
    np.testing.assert_allclose(window.rays.directions, direct.rays.directions, atol=1e-6)
    np.testing.assert_allclose(window.mesh_depth, direct.mesh_depth, atol=1e-5)
    np.testing.assert_array_equal(window.index, direct.index)
    np.testing.assert_allclose(window.uv, direct.uv, atol=1e-5)
    np.testing.assert_allclose(window.normals, direct.normals, atol=1e-4)
    assert np.abs(window.coverage - direct.coverage).mean() < 1e-3


def test_plans_are_seeded_and_mostly_frontal() -> None:
    shots = plan(42, 5, bald=3)
    again = plan(42, 5, bald=3)
    assert all((a.camera.cam2world == b.camera.cam2world).all() for a, b in zip(shots, again))  # noqa: B905
    assert (plan(42, 6, bald=3)[0].camera.cam2world != shots[0].camera.cam2world).any()
    forward = [shot.camera.position[2] / np.linalg.norm(shot.camera.position) for shot in shots]
    assert np.mean(np.array(forward) > 0.3) > 0.6
    assert np.min(forward) < -0.6
    assert 0.2 < np.mean([shot.bald for shot in shots]) < 0.5
    assert len({shot.blendshapes.tobytes() for shot in shots}) >= 6


# --- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FILTERS))
def test_filters_change_the_head_and_nothing_beside_it(
    views: list[View], guides: list[Guide], name: str
) -> None:
    originals = np.stack([view.original for view in views])
    editor = FilterEditor(name)
    edited = editor.edit(originals, originals, guides, "", 3)
    np.testing.assert_array_equal(edited, editor.edit(originals, originals, guides, "", 3))
    assert edited.shape == originals.shape
    assert edited.dtype == np.float32
    assert np.isfinite(edited).all()
    assert edited.min() >= 0
    assert edited.max() <= 1
    for before, after, view in zip(originals, edited, views, strict=True):
        np.testing.assert_allclose(after[view.alpha == 0], before[view.alpha == 0], atol=1e-6)
    alphas = np.stack([view.alpha for view in views])
    change = np.abs(edited - originals).mean(-1)[alphas > 0.9].mean()
    assert change > 0.003
    half = FilterEditor(name, 0.5).edit(originals, originals, guides, "", 3)
    assert 0.2 * change < np.abs(half - originals).mean(-1)[alphas > 0.9].mean() < 0.8 * change


@pytest.mark.parametrize("name", ["freckles", "aged", "makeup", "undead", "tan"])
def test_what_is_painted_on_skin_agrees_between_views(
    head: HexPlaneHead, guides: list[Guide], name: str
) -> None:
    # The same evenly coloured skin from two sides: a point of it must get the same colour in both.
    codes = head.codes("one", None)
    shots = [s for s in plan(3, 0, bald=0)]
    shots[0] = type(shots[0])(0, NEUTRAL, False, orbit(-12, 0, fov_deg=11, distance=1.2))
    shots[1] = type(shots[0])(0, NEUTRAL, False, orbit(14, 8, fov_deg=11, distance=1.2))
    tones = Tones(np.array([0.7, 0.55, 0.45], np.float32), None)
    colours: list[dict[tuple[int, int], np.ndarray]] = []
    for view in take(head, codes, shots[:2], 256):
        guide = make_guide(view, guides[0].places, tones)
        flat = np.broadcast_to(tones.skin, view.original.shape).copy()
        after = FilterEditor(name).edit(flat[None], flat[None], [guide], "", 0)[0]
        solid = (guide.skin > 0.999) & (view.inputs.normals[..., 2] > 0.5)
        cells = (guide.uv[solid] * 256).astype(int)
        found: dict[tuple[int, int], list[np.ndarray]] = {}
        for cell, value in zip(map(tuple, cells), after[solid], strict=True):
            found.setdefault(cell, []).append(value)
        colours.append({cell: np.mean(values, 0) for cell, values in found.items()})
    both = sorted(colours[0].keys() & colours[1].keys())
    assert len(both) > 2000
    a, b = (np.array([side[cell] for cell in both]).mean(-1) for side in colours)
    assert a.std() > 0.004
    assert np.corrcoef(a, b)[0, 1] > 0.85


def test_ground_is_what_editors_see_behind_the_head(views: list[View]) -> None:
    for view in views:
        np.testing.assert_allclose(view.original[view.alpha == 0], GROUND, atol=1e-6)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_lists_edits_and_explains(
    head: HexPlaneHead, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head.save(tmp_path / "model")
    assert main(["edit", "--list-editors", "--json"]) == 0
    listed = [entry["name"] for entry in json.loads(capsys.readouterr().out)["editors"]]
    assert listed == list(list_editors())
    assert len(listed) >= 8
    out = str(tmp_path / "out")
    words = ["edit", str(tmp_path / "model"), "--subject", "two", "--out", out, "--json"]
    tiny = ["--steps", "3", "--views", "3", "--size", "64", "--device", "cpu"]
    assert main([*words, "--editor", "filter:pale", *tiny]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["subject"] == "two"
    assert report["seconds"] > 0
    assert Path(report["sheet"]).is_file()
    assert heads.load(report["head"]).subjects == ("two",)
    for wrong in (
        ["--prompt", "older"], ["--editor", "filter:no"], ["--editor", "diffusers:/no/such"],
        ["--editor", "filter:tan", "--subject", "nobody"],
        ["--editor", "filter:tan", "--views", "0"],
    ):  # fmt: skip
        assert main([*words, *wrong]) == 2
        error = json.loads(capsys.readouterr().out)["error"]["message"]
        assert error.count("\n") == 0
        assert error.endswith(".")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_edit_with_the_code_that_is_documented(
    head: HexPlaneHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], number: signal.Signals,
) -> None:  # fmt: skip
    head.save(tmp_path / "model")
    out = tmp_path / "out"
    words = ["edit", str(tmp_path / "model"), "--editor", "filter:tan", "--out", str(out)]
    words += ["--steps", "3", "--views", "3", "--size", "64", "--device", "cpu", "--json"]

    def stopped(*more: str) -> dict[str, Any]:
        code = main([*words, *more])
        error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
        assert error["exit_code"] == code
        return error

    with monkeypatch.context() as patch:  # the first line of progress: no view is taken yet
        patch.setattr(command, "say", lambda text: signal.raise_signal(number))
        error = stopped()
    assert (error["exit_code"], error["code"]) == (128 + number, "CANCELLED")
    assert "run the same command again" in error["message"]
    assert not out.exists()
    if number == signal.SIGTERM:
        return  # the rest does not depend on it
    with monkeypatch.context() as patch:  # the first step
        patch.setattr(Progress, "update", lambda *_: signal.raise_signal(number))
        error = stopped()
    assert (error["exit_code"], error["code"]) == (85, "CHECKPOINTED")
    assert "--resume" in error["message"]
    with monkeypatch.context() as patch:  # a checkpoint is there, though nothing was added to it
        patch.setattr(command, "say", lambda text: signal.raise_signal(number))
        assert stopped("--resume")["exit_code"] == 85
    assert [path.name for path in out.iterdir()] == ["checkpoint.safetensors"]
