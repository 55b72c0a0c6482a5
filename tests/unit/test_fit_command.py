"""``head360 fit`` from a picture to a package, with early stages that know the truth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_fit_texture import NEUTRAL, make_head

from head360 import cli, heads
from head360.arkit import COUNT, INDEX
from head360.datasets import labels as classes
from head360.errors import BadInput, Cancelled, ModelInvalid
from head360.evaluation_fitting import summary
from head360.fitting import inversion, pictures, pipeline
from head360.fitting.faces import Face, choose_face, make_face
from head360.fitting.parsing import Parsing
from head360.fitting.pipeline import fit
from head360.fitting.shape import FittedShape, FittedView
from head360.fitting.stages import STAGES, FitSettings, Stage
from head360.fitting.tools import Tools
from head360.heads.hexplane import HexPlaneHead
from head360.rendering import raster
from head360.rendering.cameras import Camera, orbit

SIZE = 224
FAST = FitSettings(steps=10)


@pytest.fixture(scope="module")
def base() -> HexPlaneHead:
    return make_head()


@pytest.fixture(scope="module")
def scene(base: HexPlaneHead) -> tuple[np.ndarray, Tools]:
    """A photograph of subject "two" smiling, and tools that know everything about it."""
    codes = base.codes("two", None)
    smile = NEUTRAL.copy()
    smile[INDEX["mouthSmileLeft"]] = smile[INDEX["mouthSmileRight"]] = 0.5
    camera = orbit(8.0, 2.0)
    posed = base.pose(codes, smile)
    rgba = base.render(posed, camera, SIZE, SIZE).rgba
    pixels = (rgba[..., :3] * rgba[..., 3:] + 0.4 * (1 - rgba[..., 3:])) * 255
    topology = base.model.topology
    screen = raster.perspective_screen(posed.vertices, camera, SIZE, SIZE)
    covered = raster.rasterize(screen[None], topology.faces, SIZE, SIZE).face[0] >= 0
    names = np.where(covered, classes.SKIN, classes.BACKGROUND).astype(np.uint8)
    hair = np.zeros((SIZE, SIZE), dtype=np.float32)
    parsing = Parsing(names, covered.astype(np.float32), hair)
    marks, _ = camera.project(posed.vertices[topology.landmarks68], SIZE, SIZE)
    marks = marks.astype(np.float32)
    face = make_face(marks, None, np.ones(68), 1.0, "truth")
    fitted = FittedShape(codes.shape, (FittedView(camera, smile, 0.5, 40.0),))
    tools = Tools(
        "truth", lambda _: [face], choose_face, lambda *_: parsing,
        lambda *_: [("bald", 0.8), ("short02", 0.15), ("bob01", 0.05)], lambda *_: None,
        lambda *_: fitted,
    )  # fmt: skip
    return pixels.astype(np.uint8), tools


@pytest.fixture
def photo(tmp_path: Path, scene: tuple[np.ndarray, Tools]) -> Path:
    path = tmp_path / "Anna Smiles.png"
    Image.fromarray(scene[0]).save(path)
    return path


def test_every_stage_is_shown_and_the_head_is_driven(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stages: list[Stage] = []
    shares: list[float] = []
    grads = [parameter.requires_grad for parameter in base.net.parameters()]
    result = fit(
        [photo], base, FAST, out, stages.append, lambda share, _: shares.append(share),
        tools=scene[1],
    )  # fmt: skip
    assert tuple(stage.name for stage in stages) == STAGES
    pictures = sorted(path.name for path in (out / "stages").iterdir())
    assert pictures == [f"{k + 1:02d}_{name}.png" for k, name in enumerate(STAGES)]
    assert all(stage.text and stage.picture is not None for stage in stages)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [p.requires_grad for p in base.net.parameters()] == grads, "the base was changed"
    head = heads.load(result.head_path)
    assert isinstance(head, HexPlaneHead)
    assert head.subjects == ("anna_smiles",) == (result.name,)
    assert head.styles == base.styles
    assert head.codes().style is None, "80 % bald and no hair in the picture"
    facts = head.manifest["provenance"]
    assert facts["from"] == ["Anna Smiles.png"]
    assert facts["made_by"] == "head360 fit"
    assert "consent" in facts["consent"]
    assert "before" not in facts
    assert str(tmp_path) not in json.dumps(head.manifest), "a manifest tells no paths"
    wide = np.zeros(COUNT, dtype=np.float32)
    wide[INDEX["jawOpen"]] = 0.8
    for style in (None, "bob01"):
        moved = [
            head.render(head.pose(head.codes(style=style), b), orbit(0, 0), 48, 48).rgba
            for b in (NEUTRAL, wide)
        ]
        assert np.abs(moved[0] - moved[1]).max() > 0.1
    document = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    assert {"seconds", "landmark_px", "psnr_front", "style_top3"} <= set(document)
    best, chance = document["style_top3"][0]
    assert (best, chance >= 0.8) == ("bald", True), "the outline agrees with the classifier"
    assert len(document["cameras"][0]) == 25
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 7 * 256
    # A second fit into the same folder replaces the first; a stranger's file stops it.
    (out / "notes.txt").touch()
    with pytest.raises(BadInput, match=r"notes\.txt"):
        fit([photo], base, FAST, out, tools=scene[1])


def test_cancel_leaves_finished_pictures_alone(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stages: list[str] = []
    with pytest.raises(Cancelled):
        fit(
            [photo], base, FAST, out, lambda stage: stages.append(stage.name),
            cancelled=lambda: "parse" in stages, tools=scene[1],
        )  # fmt: skip
    assert stages == list(STAGES[:4])
    assert [path.name for path in out.iterdir()] == ["stages"]
    assert len(list((out / "stages").iterdir())) == 4
    assert all(p.requires_grad for p in base.net.parameters())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 3}, "--steps 3"),
        ({"seed": -1}, "--seed"),
        ({"face": 0}, "counted from 1"),
        ({"delight": float("nan")}, "--delight"),
        ({"style": "mohawk"}, "short02, bob01, or bald"),
    ],
)
def test_settings_that_make_no_sense(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path,
    changes: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    with pytest.raises(BadInput, match=sentence):
        fit([photo], base, dataclasses.replace(FAST, **changes), tmp_path / "o", tools=scene[1])
    assert not (tmp_path / "o").exists()


def _none(_: Any) -> list[Face]:
    return []


def test_pictures_that_cannot_be_fitted(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path
) -> None:
    tools = scene[1]
    veiled = Parsing(
        np.zeros((SIZE, SIZE), dtype=np.uint8), np.zeros((SIZE, SIZE), dtype=np.float32),
        np.zeros((SIZE, SIZE), dtype=np.float32),
    )  # fmt: skip
    cases: list[tuple[list[Path], Tools, str]] = [
        ([tmp_path / "missing.png"], tools, "no picture"),
        ([], tools, "name 1 to"),
        ([photo] * 9, tools, "9 photographs"),
        ([photo], dataclasses.replace(tools, find=_none), "Anna Smiles.png: No face"),
        ([photo], dataclasses.replace(tools, parse=lambda *_: veiled), "bare skin"),
    ]
    # What is true of the first photograph is true of every other one.
    side = photo.with_name("side.png")
    side.write_bytes(photo.read_bytes())
    good = tools.fit([], base.model).views[0]
    lens = np.diag([60.0, 60.0, 1.0]) @ good.camera.intrinsics
    near = dataclasses.replace(good, camera=Camera(good.camera.cam2world, lens))
    both = FittedShape(tools.fit([], base.model).shape, (good, near))
    plain_parse, parsed = tools.parse, []

    def second_veiled(pixels: Any, face: Any) -> Parsing:
        parsed.append(face)
        return veiled if len(parsed) == 2 else plain_parse(pixels, face)

    pair = FittedShape(both.shape, (good, good))
    cases += [
        (
            [photo, side],
            dataclasses.replace(tools, fit=lambda *_: both),
            "side.png: the face fills",
        ),
        (
            [photo, side],
            dataclasses.replace(tools, fit=lambda *_: pair, parse=second_veiled),
            "side.png: no bare skin",
        ),
    ]
    for photos, broken, sentence in cases:
        with pytest.raises(BadInput, match=sentence):
            fit(photos, base, FAST, tmp_path / "o", tools=broken)
    plain = make_head()
    plain.net.config = dataclasses.replace(plain.net.config, views="none")
    with pytest.raises(ModelInvalid, match="hex-planes"):
        fit([photo], plain, FAST, tmp_path / "o", tools=tools)


def test_people_alike_are_shown_with_their_numbers(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path
) -> None:
    face = scene[1].find(scene[0])[0]
    # One is cut by the left and upper rim, of one nearly nothing is left at the right.
    shifts = -face.box[:2] - 20, np.array([SIZE - face.box[0] - 4, 0])
    marks = [face.landmarks + shift for shift in shifts]
    pair = [make_face(places, None, np.ones(68), 1.0, "truth") for places in marks]
    tools = dataclasses.replace(scene[1], find=lambda _: pair)
    stages: list[Stage] = []
    with pytest.raises(BadInput, match=r"--face N.*detect stage shows their numbers"):
        fit([photo], base, FAST, tmp_path / "o", stages.append, tools=tools)
    assert [path.name for path in (tmp_path / "o" / "stages").iterdir()] == ["01_detect.png"]
    assert [(stage.name, stage.facts["faces"]) for stage in stages] == [("detect", 2)]
    for chosen in (None, pair[1]):
        shown = pictures.boxes(scene[0], pair, chosen)
        for number, label in enumerate((shown[:21, :19], shown[:, -19:])):
            colour = (150, 150, 160) if chosen is not None and number == 0 else (64, 220, 120)
            filled = (label == np.array(colour, dtype=np.uint8)).all(-1).sum()
            assert filled > 0.6 * 19 * 21, "the number lies in the picture"


def test_every_photograph_reaches_the_inversion(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    known = scene[1].fit([], base.model)
    tools = dataclasses.replace(
        scene[1], fit=lambda *_: FittedShape(known.shape, (known.views[0],) * 2)
    )
    weights: list[float] = []

    def weighed(wearing: Any, texture: Any, targets: list[inversion.Target], *_: Any, **__: Any):
        weights.extend(float(target.weight.sum()) for target in targets if target.photograph)
        raise Cancelled("far enough")

    monkeypatch.setattr(inversion, "invert", weighed)
    stages: list[Stage] = []
    with pytest.raises(Cancelled, match="far enough"):
        fit([photo, photo], base, FAST, tmp_path / "o", stages.append, tools=tools)
    half = len(weights) // 2
    assert half > 0, "photographs that show the same must not cancel each other"
    assert weights[:half] == pytest.approx(weights[half:])
    shapes = [np.shape(stage.picture) for stage in stages if stage.name == "parse"]
    assert shapes == [(896, 896, 3)]


def test_the_command_reports_one_object(
    base: HexPlaneHead, photo: Path, scene: tuple[np.ndarray, Tools], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[FitSettings] = []

    def opened(settings: FitSettings) -> Tools:
        asked.append(settings)
        return scene[1]

    monkeypatch.setattr(pipeline, "open_tools", opened)
    loaded = heads.load
    monkeypatch.setattr(heads, "load", lambda path, device="cpu": base)
    before = {"made_by": "head360 edit", "before": {"made_by": "head360 fit"}}
    monkeypatch.setitem(base.manifest, "provenance", before)
    torch.manual_seed(0)
    words = ["fit", str(photo), "--out", str(tmp_path / "out"), "--style", "bald", "--steps", "10"]
    assert cli.main([*words, "--name", "Anna", "--device", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "anna"
    assert report["style"] is None
    how = loaded(Path(report["head"])).manifest["provenance"]
    assert how["made_by"] == "head360 fit"
    assert how["before"] == before  # the base had been made from somebody, too
    assert asked[0].style is None
    assert asked[0].steps == 10
    assert cli.main(["fit", str(photo), "--out", str(tmp_path / "new"), "--steps", "1"]) == 2


def test_figures_are_averaged_over_people() -> None:
    rows = [
        {"person": "a", "style_right": True, "psnr_unseen": 20.0, "made": {}},
        {"person": "b", "style_right": False, "psnr_unseen": 24.0, "made": {}},
    ]
    found = summary(rows)
    assert found["people"] == 2
    assert found["psnr_unseen"] == 22.0
    assert found["style_right"] == 0.5
    assert found["paper"]["psnr"] == 17.41
