"""Photographs taken apart: windows, the guided filter, training, and real portraits."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from portrait_tools import landmarks, write_set
from scipy import ndimage

from head360.cli import main
from head360.datasets.labels import BACKGROUND, EYES, HAIR, LABELS, LIPS, NECK, SKIN
from head360.errors import BadInput, ModelInvalid
from head360.fitting import parsing
from head360.networks.face_window import FaceFrame, face_layout, sample_window, spread_window
from head360.networks.parsing_net import NEAR, WIDE, ParsingConfig, ParsingNet
from head360.networks.weights_file import save_network
from head360.training.portrait_parsing import ParsingLesson, ParsingSettings, bust
from head360.training.portrait_run import Run, RunSettings
from head360.training.portrait_scenes import MIRROR, PLAIN, Scenes, SceneSettings

TINY = ParsingConfig(size=32, near=48, widths=(8, 16, 24), depths=(1, 1, 1))
# Two coats of paint to learn: little augmentation, small windows.
EASY = ParsingSettings(batch=8, coarse=0, scenes=SceneSettings(hat=0, occluder=0, faults=0.2))


@dataclass(frozen=True)
class Face:
    landmarks: NDArray[np.float32]


def smooth_picture(height: int, width: int) -> NDArray[np.float32]:
    """(3, H, W) that bilinear look-ups read almost exactly."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / 9), np.cos(y / 11), np.sin((x + y) / 13)]
    return (0.5 + 0.4 * np.stack(waves)).astype(np.float32)


# ------------------------------------------------------------------ windows


def test_a_frame_moves_with_the_face() -> None:
    frame = FaceFrame.of(landmarks(40, 50, 12))
    moved = FaceFrame.of(landmarks(90, 20, 30, 0.4))
    assert (frame.x, frame.y, frame.unit, frame.angle) == pytest.approx((40, 50, 12, 0), abs=0.5)
    assert (moved.x, moved.y, moved.unit) == pytest.approx((90, 20, 30), abs=1.0)
    assert moved.angle == pytest.approx(0.4, abs=0.01)


def test_a_turned_or_nodding_face_keeps_its_unit() -> None:
    points = landmarks(0, 0, 10)
    turned, nodding = points * (0.5, 1), points * (1, 0.7)  # 60° to the side, 45° down
    for shape in (turned, nodding):
        assert FaceFrame.of(shape.astype(np.float32)).unit == pytest.approx(10, rel=0.06)


def test_a_window_shows_what_scipy_finds_there() -> None:
    picture = smooth_picture(90, 120)
    frame = FaceFrame(60.0, 45.0, 10.0, 0.3)
    window = sample_window(torch.from_numpy(picture), frame, 4.0, 48).numpy()
    line = (np.arange(48) + 0.5) / 24 - 1
    x, y = np.meshgrid(line, line)
    matrix = frame.matrix(4.0)
    px = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - 0.5
    py = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - 0.5
    for channel in range(3):
        wanted = ndimage.map_coordinates(picture[channel], [py, px], order=1, mode="nearest")
        assert np.abs(window[channel] - wanted).max() < 1e-3


def test_a_window_of_a_large_picture_does_not_alias() -> None:
    board = (np.indices((800, 800)).sum(0) % 2).astype(np.float32)
    window = sample_window(torch.from_numpy(board)[None], FaceFrame(400, 400, 100, 0.2), 6.8, 64)
    assert float((window - 0.5).abs().max()) < 0.05


def test_there_and_back() -> None:
    picture = smooth_picture(80, 100)
    frame = FaceFrame(52.0, 38.0, 9.0, -0.25)
    window = sample_window(torch.from_numpy(picture), frame, 5.0, 96)
    back = spread_window(window, frame, 5.0, 80, 100, [9.0, 9.0, 9.0]).numpy()
    inside = back[0] != 9.0
    assert 0.2 < inside.mean() < 0.35  # (5 · 9)² of 80 · 100
    assert np.abs(back - picture)[:, inside].max() < 0.02


def test_a_window_beside_the_face_is_a_part_of_one_around_it() -> None:
    picture = torch.from_numpy(smooth_picture(90, 120))
    frame = FaceFrame(60.0, 45.0, 10.0, 0.3)
    whole = sample_window(picture, frame, 4.0, 64)
    # Half as wide, and of the whole a quarter to the right and an eighth up.
    part = sample_window(picture, frame.beside((1.0, -0.5)), 2.0, 32)
    assert float((whole[:, 8:40, 32:] - part).abs().max()) < 1e-3


def test_a_part_knows_where_it_lies_in_a_mirror_too(tmp_path: Path) -> None:
    """The face's own middle, as landmarks have it, is where the centre says."""
    data = write_set(tmp_path, people=1)
    scenes = Scenes(data, dataclasses.replace(PLAIN, shift=1e-6))  # mirrored now and then
    kinds = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scene = scenes.draw(bust(data, 1), NEAR / 2, 48, rng, (0.5, -0.3))
        frame = FaceFrame.of(scene.points)
        middle = np.array([frame.x, frame.y]) * scene.side / 2
        assert middle + scene.centre == pytest.approx([0, 0], abs=0.03)
        kinds.add(scene.centre)
    assert kinds == {(0.5, -0.3), (-0.5, -0.3)}


def test_parts_of_the_near_window_are_seen_as_in_the_whole() -> None:
    """Without layers that look around, parts and the whole say the same: coordinates match."""
    config = ParsingConfig(size=32, near=64, widths=(8,), depths=(1,))
    torch.manual_seed(0)
    net = ParsingNet(config).eval()
    pixels = torch.rand(1, 3, 64, 64)
    layout = torch.rand(1, 5, 32, 32)
    side = torch.tensor([NEAR])
    with torch.no_grad():
        whole = net(pixels, side, layout)
        part = net(
            pixels[:, :, :32, 32:], side / 2, layout[:, :, :16, 16:],
            torch.tensor([[NEAR / 4, -NEAR / 4]]),
        )  # fmt: skip
    assert float((whole[:, :, 8:24, 40:56] - part[:, :, 8:24, 8:24]).abs().max()) < 1e-4


# ------------------------------------------------------------------ guided filter


def test_the_guided_filter_is_least_squares_in_every_window() -> None:
    rng = np.random.default_rng(0)
    guide = rng.random((14, 15, 3)).astype(np.float32)
    values = rng.random((1, 14, 15)).astype(np.float32)
    flat, reach = 0.01, 2
    found = parsing.guided(guide, values, reach, flat)[0]
    lines = np.zeros((14, 15, 4))
    for y in range(14):
        for x in range(15):
            ys = np.clip(np.arange(y - reach, y + reach + 1), -1, 14)
            xs = np.clip(np.arange(x - reach, x + reach + 1), -1, 15)
            # scipy mirrors at the border: −1 is 0 again.
            ys = np.array([k if 0 <= k < 14 else (-1 - k if k < 0 else 27 - k)
                           for k in range(y - reach, y + reach + 1)])  # fmt: skip
            xs = np.array([k if 0 <= k < 15 else (-1 - k if k < 0 else 29 - k)
                           for k in range(x - reach, x + reach + 1)])  # fmt: skip
            part = guide[np.ix_(ys, xs)].reshape(-1, 3).astype(np.float64)
            wanted = values[0][np.ix_(ys, xs)].ravel().astype(np.float64)
            # Ridge regression, its penalty on the slopes alone.
            rows = np.column_stack([part, np.ones(len(part))])
            rows = np.vstack([rows, np.sqrt(flat * len(part)) * np.eye(3, 4)])
            lines[y, x] = np.linalg.lstsq(rows, np.append(wanted, np.zeros(3)), rcond=None)[0]
    size = (2 * reach + 1, 2 * reach + 1, 1)
    mean = ndimage.uniform_filter(lines, size)
    wanted = (mean[..., :3] * guide).sum(-1) + mean[..., 3]
    assert np.abs(found - wanted).max() < 1e-4


def test_outlines_follow_the_photograph() -> None:
    """A blurred guess about a dark head before a bright wall becomes sharp where the head ends."""
    y, x = np.mgrid[0:160, 0:160]
    head = (x - 80) ** 2 + (y - 80) ** 2 < 40**2
    pixels = np.where(head[..., None], 40, 220).astype(np.uint8).repeat(3, 2)
    guess = ndimage.gaussian_filter(head.astype(np.float32), 2)
    shares = np.zeros((8, 160, 160), dtype=np.float32)
    shares[HAIR], shares[BACKGROUND] = guess, 1 - guess
    result = parsing.refine(pixels, shares, FaceFrame(80, 80, 24, 0))
    assert np.abs(result.matte - head).mean() < 0.5 * np.abs(guess - head).mean()
    assert ((result.labels == HAIR) == head).mean() > 0.99
    assert (result.hair <= result.matte).all()


# ------------------------------------------------------------------ scenes and training


def test_the_mirror_knows_every_landmark() -> None:
    points = landmarks(0, 0, 10)
    assert (MIRROR[MIRROR] == np.arange(68)).all()
    # The nose and the middle of the jaw stay; the rest crosses over.
    outer = [0, 17, 21, 36, 39, 31, 48, 60]
    assert np.abs(points[MIRROR][outer] * (-1, 1) - points[outer]).max() < 3.5
    assert (MIRROR[[8, 27, 33, 51, 57, 62, 66]] == [8, 27, 33, 51, 57, 62, 66]).all()


def test_scenes_share_every_pixel_out_and_repeat(tmp_path: Path) -> None:
    data = write_set(tmp_path, people=2)
    scenes = Scenes(data, SceneSettings(hat=0.5, occluder=0.5, beard=0.5, spectacles=0.5))
    for row in range(len(data)):
        first = scenes.draw(bust(data, row), WIDE, 48, np.random.default_rng(row))
        again = scenes.draw(bust(data, row), WIDE, 48, np.random.default_rng(row))
        for name in ("pixels", "shares", "points"):
            assert np.array_equal(getattr(first, name), getattr(again, name)), name
        assert first.pixels.shape == (3, 48, 48)
        assert 0 <= first.pixels.min() <= first.pixels.max() <= 1
        assert np.abs(first.shares.sum(0) - 1).max() < 1e-4
        assert first.shares.min() >= -1e-5
        assert 0.7 * WIDE < first.side < 1.4 * WIDE


def test_a_plain_scene_is_the_studio_picture(tmp_path: Path) -> None:
    data = write_set(tmp_path, people=1)
    scenes = Scenes(data, PLAIN)
    scene = scenes.draw(bust(data, 1), NEAR, 64, np.random.default_rng(0))
    assert scene.side == NEAR
    guess = scene.shares.argmax(0)
    # Eyes half a unit above the middle, the mouth half a unit below it, 64 pixels to 3 units.
    assert guess[32 - 11, 32 - 10] == EYES
    assert guess[32 + 11, 32] == LIPS
    assert guess[32, 32] == SKIN


def test_landmarks_stay_with_the_picture(tmp_path: Path) -> None:
    """Moved, turned, mirrored: the sketch of the eyes lies on the eyes."""
    data = write_set(tmp_path, people=1)
    still = {"hat": 0, "occluder": 0, "cut": 0, "beard": 0, "spectacles": 0, "recolour": 0}
    scenes = Scenes(data, SceneSettings(**still))
    for seed in range(6):
        scene = scenes.draw(bust(data, 1), NEAR, 64, np.random.default_rng(seed))
        layout = face_layout(scene.points, 64, scene.side)
        for channel, label in ((0, EYES), (1, LIPS)):
            truth, drawn = scene.shares[label], layout[channel]
            assert (truth * drawn).sum() > 0.5 * drawn.sum() > 0
        assert scene.points[45, 0] > scene.points[36, 0]


def test_clothes_belong_to_the_person(tmp_path: Path) -> None:
    data = write_set(tmp_path, people=1)
    dressed = Scenes(data, SceneSettings(hat=0, occluder=0, cut=0, shift=0, scale=0, turn=0,
                                         clothes=1.0))  # fmt: skip
    bare = Scenes(data, PLAIN)
    wide = [
        scenes.draw(bust(data, 2), WIDE, 64, np.random.default_rng(3)).shares[NECK].sum()
        for scenes in (dressed, bare)
    ]
    assert wide[0] > 2 * wide[1]


def test_the_lesson_is_learned_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = write_set(tmp_path / "set")
    settings = RunSettings(steps=24, rate=2e-2, warmup=3, memory=0.7)

    def lesson() -> ParsingLesson:
        return ParsingLesson(data, data, TINY, EASY)

    untaught = lesson()
    before = untaught.measure(untaught.net)["miou"]
    whole = Run(lesson(), settings, tmp_path / "whole")
    weights = whole.run()
    assert whole.lesson.measure(whole.average)["miou"] > before + 0.15

    halves = Run(lesson(), settings, tmp_path / "halves")
    for _ in range(12):
        halves._train_step()
        halves.step += 1
    halves._save()
    second = Run(lesson(), settings, tmp_path / "halves")
    second.resume()
    assert second.step == 12
    assert second.run().read_bytes() == weights.read_bytes()


# ------------------------------------------------------------------ weights


def tiny_weights(path: Path, config: ParsingConfig = TINY, kind: str = parsing.KIND) -> Path:
    torch.manual_seed(0)
    save_network(path, ParsingNet(config), kind, config.__dict__, {})
    return path


def test_other_weights_load_by_their_path(tmp_path: Path) -> None:
    path = tiny_weights(tmp_path / "mine.safetensors")
    pixels = np.full((70, 50, 3), 128, dtype=np.uint8)
    result = parsing.parser(path).parse(pixels, Face(landmarks(25, 35, 9)))
    assert result.labels.shape == result.matte.shape == result.hair.shape == (70, 50)
    assert result.labels.dtype == np.uint8
    assert result.matte.dtype == result.hair.dtype == np.float32


def test_a_parser_tells_its_weights_from_others_of_the_same_name(tmp_path: Path) -> None:
    digests = set()
    for folder, width in (("a", 8), ("b", 12)):
        (tmp_path / folder).mkdir()
        config = dataclasses.replace(TINY, widths=(width, 16, 24))
        opened = parsing.parser(tiny_weights(tmp_path / folder / "mine.safetensors", config))
        assert isinstance(opened, parsing.OwnParser)
        assert opened.name == "mine"
        digests.add(opened.digest)
    assert len(digests) == 2
    assert all(len(digest) == 16 for digest in digests)


def test_weights_that_cannot_serve_say_why(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="cannot be read"):
        parsing.parser(tmp_path / "absent.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelInvalid, match="cannot be read"):
        parsing.parser(tmp_path / "junk.safetensors")
    other = tiny_weights(tmp_path / "other.safetensors", kind="portrait-landmarks")
    with pytest.raises(ModelInvalid, match="portrait-landmarks"):
        parsing.parser(other)
    few = tiny_weights(tmp_path / "few.safetensors", ParsingConfig(32, 0, 3, (8, 16), (1, 1)))
    with pytest.raises(ModelInvalid, match="3 labels"):
        parsing.parser(few)
    with pytest.raises(BadInput, match="no parser 'x'"):
        parsing.parser(name="x")


def test_another_parser_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_PARSERS", dict(parsing._PARSERS))
    mine = object()
    parsing.register_parser("mine", lambda weights, device: mine)
    assert parsing.parser(name="mine") is mine


def test_the_shipped_weights_are_small() -> None:
    assert parsing.SHIPPED.stat().st_size <= 1.3 * 2**20


def test_the_command_trains_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.set_num_threads(1)
    write_set(tmp_path / "set", people=2)
    held_out = tmp_path / "held_out"
    write_set(held_out, people=1, seed=5)
    command = ["train", "portrait", "parsing", "--data", str(tmp_path / "set"), "--held-out",
               str(held_out), "--out", str(tmp_path / "run"), "--steps", "1", "--device", "cpu",
               "--json"]  # fmt: skip
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["weights"]).is_file()
    assert set(result["held_out"]["iou"]) == set(LABELS)
    assert result["held_out"]["pictures"] == 3
    assert main(command) == 2  # the folder holds a run


# ------------------------------------------------------------------ real portraits

# What a person sees in them, in shares of width and height: eyes and mouth, and some places.
SEEN = {
    "woman_hair_up.jpg": (
        (0.407, 0.480), (0.623, 0.480), (0.498, 0.670),
        {HAIR: [(0.45, 0.24), (0.50, 0.12), (0.60, 0.20)], SKIN: [(0.50, 0.40), (0.38, 0.60)],
         LIPS: [(0.50, 0.685)], NECK: [(0.50, 0.86)],
         BACKGROUND: [(0.06, 0.10), (0.95, 0.45), (0.10, 0.70)]},
    ),
    "man_outdoors.jpg": (
        (0.427, 0.292), (0.567, 0.284), (0.496, 0.447),
        {HAIR: [(0.45, 0.07), (0.55, 0.08)], SKIN: [(0.50, 0.20), (0.41, 0.40)],
         NECK: [(0.30, 0.75), (0.70, 0.80)], BACKGROUND: [(0.10, 0.20), (0.90, 0.20)]},
    ),
    "astronaut.png": (
        (0.394, 0.195), (0.474, 0.192), (0.440, 0.290),
        {HAIR: [(0.36, 0.10), (0.45, 0.06)], SKIN: [(0.43, 0.158), (0.40, 0.25)],
         BACKGROUND: [(0.25, 0.10), (0.62, 0.20)]},
    ),
}  # fmt: skip


@pytest.mark.assets
@pytest.mark.parametrize("name", SEEN)
def test_real_portraits_are_read_as_a_person_reads_them(name: str) -> None:
    root = Path(os.environ.get("HEAD360_ASSETS", Path(__file__).parents[3] / "shared/assets"))
    path = root / "portraits" / name
    if not path.is_file():
        pytest.skip("no real portraits here")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    left, right, mouth, places = SEEN[name]
    points = np.zeros((68, 2), dtype=np.float32)
    points[36:42], points[42:48], points[48:] = left, right, mouth
    points *= (width, height)
    result = parsing.parser().parse(pixels, Face(points))
    wrong = [
        f"{LABELS[label]} at {place} is {LABELS[result.labels[int(y * height), int(x * width)]]}"
        for label, where in places.items()
        for place in where
        for x, y in [place]
        if result.labels[int(y * height), int(x * width)] != label
    ]
    assert not wrong, wrong
