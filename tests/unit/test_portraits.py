"""Studio portraits, what training makes of them, and how the landmark net learns from that."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from portrait_tools import landmarks, write_set

from head360.arkit import INDEX
from head360.datasets import labels as classes
from head360.datasets.face_points import mirrors
from head360.errors import BadInput, Cancelled, Checkpointed
from head360.fitting import closer
from head360.fitting.closer import CloserLook
from head360.networks.closer_net import KIND, MARGIN, CloserConfig, CloserNet
from head360.networks.portrait import LandmarkConfig, PortraitNet, fold
from head360.networks.weights_file import save_network
from head360.rendering.crops import into_window, lean, window
from head360.training import portrait_studio
from head360.training.portrait_augment import Chances, draw_sample
from head360.training.portrait_closer import (
    CloserLesson,
    CloserMaker,
    CloserPortions,
    map_loss,
)
from head360.training.portrait_landmarks import LandmarkLesson, Portions, finder_losses
from head360.training.portrait_run import Run, RunSettings
from head360.training.portrait_samples import CANVAS, Maker, box_of, heat, view_angle
from head360.training.portrait_stream import Pool, Stream
from head360.training.portrait_studio import draw_face, draw_portraits
from head360.training.portraits import PortraitSet, PortraitSpec

CLEAN = Chances(flip=0, clothes=0, glasses=0, hat=0, patches=0, faults=0)
TINY = PortraitSpec(people=2, styles=1, moments=1, views=1, bald=1, size=64, samples=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PortraitSet:
    return write_set(tmp_path_factory.mktemp("portraits"))


# --- drawing -------------------------------------------------------------------------------------


@pytest.mark.assets
def test_the_studio_draws_the_same_again_and_only_what_is_missing(tmp_path, monkeypatch):
    first = draw_portraits(TINY, tmp_path / "a")
    assert len(first) == TINY.people * TINY.each
    done = np.load(tmp_path / "a" / "done.npy", mmap_mode="r+")
    rgba = np.load(tmp_path / "a" / "rgba.npy", mmap_mode="r+")
    whole = np.array(rgba)
    # The second person was interrupted: drawn again; the first is left alone, even if odd.
    done[1], rgba[2:], rgba[0] = False, 0, 7
    del done, rgba
    assert len(PortraitSet.load(tmp_path / "a")) == TINY.each
    again = draw_portraits(TINY, tmp_path / "a")
    assert np.array_equal(again.rgba[2:], whole[2:])
    assert (again.rgba[0] == 7).all()
    with pytest.raises(BadInput, match="other portraits"):
        draw_portraits(dataclasses.replace(TINY, seed=1), tmp_path / "a")


@pytest.mark.assets
def test_labels_points_and_pictures_agree(tmp_path):
    spec = dataclasses.replace(TINY, people=1, moments=2, views=2, size=128)
    drawn = draw_portraits(spec, tmp_path)
    for row in drawn.rows:
        seen = drawn.visible[row]
        places = drawn.points[row][seen].astype(int).clip(0, 127)
        covered = drawn.rgba[row][places[:, 1], places[:, 0], 3] > 0
        assert covered.mean() > 0.97
        assert ((drawn.labels[row] > 0) == (drawn.rgba[row][..., 3] >= 128)).mean() > 0.99
        bald = drawn.style[row] < 0
        assert ((drawn.labels[row] == classes.HAIR).sum() == 0) == bald
        if view_angle(drawn.camera[row]) < 30 and seen[36:48].all():
            for part in (slice(36, 42), slice(42, 48)):
                x, y = drawn.points[row, part].mean(0)
                around = drawn.labels[row][int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
                assert np.isin(around, (classes.EYES, classes.SKIN)).all()


def test_what_was_asked_for_is_read_and_checked(tmp_path, data):
    assert PortraitSpec.parse("synth:people=5,size=128") == PortraitSpec(people=5, size=128)
    assert PortraitSpec.parse("synth").each == 14
    for text in ("synth:face=3", "synth:people=many", "synth:people=0", "synth:first=2"):
        with pytest.raises(BadInput, match="synth:"):
            PortraitSpec.parse(text)
    with pytest.raises(BadInput, match="no set of portraits"):
        PortraitSet.load(tmp_path)
    (tmp_path / "spec.json").write_text(json.dumps({"version": 1, "spec": {"folks": 3}}))
    with pytest.raises(BadInput, match="no set of portraits"):
        PortraitSet.load(tmp_path)


def test_a_stopped_sitting_says_so(monkeypatch):
    monkeypatch.setattr(portrait_studio, "draw_dye", lambda style, who, rng: style)
    sitting = portrait_studio.Sitting(TINY, 0, None)  # type: ignore[arg-type]

    class Studio:
        def pose(self, *_):
            return None

        def scene(self, *_):
            return None

    sitting.__dict__["studio"] = Studio()
    with pytest.raises(Cancelled):
        sitting.pictures(lambda: True)


def test_portrait_faces_smile_on_both_sides():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_face(rng) for _ in range(300)])
    assert (drawn >= 0).all()
    assert (drawn <= 1).all()
    left, right = drawn[:, INDEX["mouthSmileLeft"]], drawn[:, INDEX["mouthSmileRight"]]
    smiling = (left > 0.1) & (right > 0.1)
    assert 0.3 < smiling.mean() < 0.6
    assert np.corrcoef(left[smiling], right[smiling])[0, 1] > 0.8
    assert (drawn[:, INDEX["mouthClose"]] <= drawn[:, INDEX["jawOpen"]] + 1e-6).all()


# --- what training makes of them -----------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_points_and_labels_follow_the_picture(data, flip):
    """In a turned and mirrored crop every landmark still lies on its own feature."""
    row = int(data.rows[0])
    centre, side = box_of(data.points[row, :68])
    matrix = window(centre, side * 1.6, 20, 96, flip)
    sample = draw_sample(data, row, matrix, 96, np.random.default_rng(0), CLEAN, mirrors())
    assert sample.mirrored == flip
    places = into_window(data.points[row, :68], matrix)
    assert np.allclose(sample.points[:68], places[mirrors()[0]] if flip else places, atol=1e-3)
    for part, label in ((slice(36, 42), classes.EYES), (slice(60, 68), classes.LIPS)):
        x, y = sample.points[part].mean(0).astype(int)
        assert sample.labels[y, x] == label
        expected = np.array({classes.EYES: (240,) * 3, classes.LIPS: (190, 70, 80)}[label])
        assert np.abs(sample.pixels[y, x].astype(int) - expected).max() < 25
    # The right eye stays the one on the left of an upright picture, mirrored or not.
    assert sample.points[36, 0] < sample.points[45, 0]
    assert (
        np.array_equal(sample.person > 0.5, sample.labels > 0)
        or ((sample.person > 0.5) != (sample.labels > 0)).mean() < 0.03
    )


def test_samples_are_what_their_number_says(data, tmp_path):
    folder = write_set(tmp_path).spec and tmp_path
    rows = data.rows
    one, two = (Maker(folder, 64, 5, rows) for _ in range(2))
    for number in (3, 8):
        assert np.array_equal(one.crop(number).pixels, two.crop(number).pixels)
        assert np.array_equal(one.canvas(number).boxes, two.canvas(number).boxes)
    assert not np.array_equal(one.crop(3).pixels, Maker(folder, 64, 6, rows).crop(3).pixels)
    crops = [one.crop(k) for k in range(60)]
    kinds = {crop.face for crop in crops}
    assert kinds >= {0.0, 1.0}
    for crop in crops:
        assert crop.pixels.shape == (64, 64, 3)
        assert (crop.weight > 0).any() == (crop.face != 0)
        if crop.face == 1:
            centre, side = box_of(crop.points[:68])
            assert np.abs(centre).max() < 0.6
            assert 0.7 < side < 2.2


def test_canvases_know_their_faces(tmp_path):
    """Where a box is said to be there is skin that the background alone has not."""
    write_set(tmp_path)
    maker = Maker(tmp_path, 64, 1, np.arange(24), calm=True)
    boxes = [maker.canvas(number).boxes for number in range(20)]
    counts = [len(found) for found in boxes]
    assert 0 in counts
    assert max(counts) >= 2
    for found in boxes:
        assert (found[:, :2] > -CANVAS * 0.2).all()
        assert (found[:, :2] < CANVAS * 1.2).all()


def test_heat_is_one_at_the_centre_and_the_finder_is_told_where():
    boxes = np.array([[40.0, 84.0, 32.0], [131.5, 20.25, 64.0]], dtype=np.float32)
    target, rows = heat(boxes, CANVAS // 8)
    assert target.shape == (20, 20)
    assert (target == 1).sum() == 2
    for (x, y, side), (row, column, size, right, down, _) in zip(boxes, rows, strict=True):
        assert target[int(row), int(column)] == 1
        assert ((column + right) * 8, (row + down) * 8) == pytest.approx((x, y))
        assert 32 * np.exp(size) == pytest.approx(side)
    assert (target > 0.3).sum() > 4
    empty, none = heat(np.zeros((0, 3), dtype=np.float32), 20)
    assert empty.sum() == 0
    assert none.shape == (0, 6)


def test_a_perfect_finder_has_less_to_lose_than_a_blind_one():
    boxes = [np.array([[60.0, 92.0, 40.0]], dtype=np.float32)]
    target, rows = heat(boxes[0], 20)

    class Said:
        def __init__(self, logits):
            self.out = torch.zeros(1, 4, 20, 20)
            self.out[0, 0] = logits
            row, column = rows[0, :2].astype(int)
            self.out[0, 1:, row, column] = torch.from_numpy(rows[0, 2:5])

        def finder(self, pixels):
            return self.out

    pixels = torch.zeros(1, 3, CANVAS, CANVAS)
    right = finder_losses(
        Said(torch.where(torch.from_numpy(target) == 1, 6.0, -6.0)), pixels, boxes
    )
    blind = finder_losses(Said(torch.full((20, 20), -6.0)), pixels, boxes)
    everywhere = finder_losses(Said(torch.full((20, 20), 6.0)), pixels, boxes)
    assert right["heat"] < 0.02 < blind["heat"] < everywhere["heat"]
    assert right["box"] == 0


# --- streams and runs ----------------------------------------------------------------------------


class Squares:
    def square(self, number: int) -> int:
        return number * number


def test_a_stream_does_not_depend_on_workers_or_on_when_it_starts():
    squares = Squares()
    pool = Pool(squares, 1)
    try:
        drawn = Stream(squares.square, 6, 2, 10, 4, pool)
        alone, late = (Stream(squares.square, 6, 2, 10, 4) for _ in range(2))
        steps = [drawn.batch(step) for step in range(12)]
        assert steps == [alone.batch(step) for step in range(12)]
        assert late.batch(11) == steps[11]
    finally:
        pool.close()
    assert all(steps[k][:2] == [(2 * k) ** 2, (2 * k + 1) ** 2] for k in range(12))
    assert max(steps[11]) <= 23**2
    assert min(steps[11]) >= 14**2
    assert len(alone._kept) <= 12


def test_folding_keeps_what_the_net_says():
    torch.manual_seed(0)
    net = PortraitNet(LandmarkConfig(size=64))
    pixels = torch.rand(4, 3, 64, 64)
    net.train()
    for _ in range(3):
        net.marks(pixels)
        net.finder(pixels)
    net.eval()
    folded = fold(net)
    with torch.no_grad():
        said, again = net.marks(pixels), folded.marks(pixels)
        assert torch.allclose(said.points, again.points, atol=1e-5)
        assert torch.allclose(said.face, again.face, atol=1e-5)
        assert torch.allclose(net.finder(pixels), folded.finder(pixels), atol=1e-4)
    assert not any("norm" in name for name in folded.state_dict())


PORTIONS = Portions(
    crops=4, fresh_crops=2, canvases=1, fresh_canvases=1, memory=12, workers=0, judged=8
)


def lesson(folder) -> LandmarkLesson:
    return LandmarkLesson(folder, None, LandmarkConfig(size=32), 3, PORTIONS)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    write_set(tmp_path / "data")
    settings = RunSettings(steps=4, warmup=2)
    whole = Run(lesson(tmp_path / "data"), settings, tmp_path / "whole")
    whole.run()
    broken = Run(lesson(tmp_path / "data"), settings, tmp_path / "broken")
    train_step = broken._train_step

    def stop_after_two():
        values = train_step()
        if broken.step == 1:
            broken._request_stop()
        return values

    broken._train_step = stop_after_two  # type: ignore[method-assign]
    with pytest.raises(Checkpointed, match="step 2"):
        broken.run()
    resumed = Run(lesson(tmp_path / "data"), settings, tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 2
    resumed.run()
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name
    ends = [tmp_path / name / "landmarks.safetensors" for name in ("whole", "broken")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert (tmp_path / "whole" / "previews").is_dir()
    other = Run(
        lesson(tmp_path / "data"), RunSettings(steps=4, warmup=2, seed=9), tmp_path / "broken"
    )
    with pytest.raises(BadInput, match="another settings"):
        other.resume()


def test_the_net_learns(tmp_path):
    """A few steps on a dozen simple heads bring the points nearer."""
    write_set(tmp_path)
    taught = LandmarkLesson(
        tmp_path, None, LandmarkConfig(size=32), 0,
        dataclasses.replace(PORTIONS, crops=12, fresh_crops=1, memory=12),
    )  # fmt: skip
    run = Run(taught, RunSettings(steps=100, warmup=5, rate=4e-3), tmp_path / "run")
    losses = []
    for run.step in range(50):
        losses.append(run._train_step())
    start, end = (np.mean([step["p68"] for step in part]) for part in (losses[:6], losses[-6:]))
    assert end < 0.9 * start
    assert losses[-1]["face"] < 0.7


CLOSER = CloserPortions(crops=4, fresh=2, memory=12, workers=0, judged=8)
SMALL = CloserConfig(size=32, widths=(8, 8, 12, 12, 16), maps=16)


def test_the_second_look_learns_and_goes_on_where_it_stopped(tmp_path):
    write_set(tmp_path / "data")
    settings = RunSettings(steps=24, warmup=3, rate=3e-2, memory=0.7)

    def lesson():
        return CloserLesson(tmp_path / "data", None, SMALL, 3, CLOSER)

    untaught = lesson()
    before = untaught.measure(untaught.net)["error68"]
    whole = Run(lesson(), settings, tmp_path / "whole")
    weights = whole.run()
    assert whole.lesson.measure(whole.average)["error68"] < 0.9 * before
    halves = Run(lesson(), settings, tmp_path / "halves")
    for _ in range(12):
        halves._train_step()
        halves.step += 1
    halves._save()
    second = Run(lesson(), settings, tmp_path / "halves")
    second.resume()
    assert second.run().read_bytes() == weights.read_bytes()
    # What was written says of a crop what the net says that was trained.
    look = CloserLook(weights)
    crops = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        said, again = whole.average.eval()(crops), look.net(crops)
    assert torch.allclose(said.points, again.points, atol=0.02)  # float16


def leaning_set(folder):
    """Faces that lean by 35° either way, their dense points within the face."""
    data = write_set(folder, people=2)
    points = np.array(data.points)
    for row in range(len(points)):
        middle = points[row, 27:31].mean(0)
        angle = 0.6 if row % 2 else -0.6
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        points[row, :68] = (points[row, :68] - middle) @ turn + middle
        points[row, 68:] = points[row, 27]
    np.save(folder / "points.npy", points)
    return PortraitSet.load(folder), points


def test_crops_of_the_second_look_are_upright_and_framed(tmp_path):
    """However the head leans, mirrored or not, every point goes where its pixel goes."""
    data, points = leaning_set(tmp_path)
    maker = CloserMaker(tmp_path, 64, 0, data.rows, calm=True)
    for number in range(12):
        flip = bool(number % 2)
        row = number % len(points)
        matrix = maker.framed(row, np.random.default_rng(number), flip)
        places = into_window(points[row, :68], matrix)
        upright = places if not flip else places[mirrors()[0]]
        assert abs(lean(upright)) < 15
        assert 0 < places.min() < places.max() < 64
        assert 0.7 < np.ptp(places, 0).max() * MARGIN / 64 < 1.2
        crop = maker.crop(number)
        assert np.abs(crop.points[:68]).max() < 1
        assert abs(lean(crop.points)) < 15


def test_the_second_look_finds_its_way_back_from_its_crops(tmp_path):
    """A net that knows the truth of each crop: what comes out is where it is in the picture."""
    size = 64
    rng = np.random.default_rng(2)
    truth = np.concatenate([landmarks(150, 110, 30, 0.5), rng.uniform(110, 190, (468, 2))])
    path = tmp_path / "closer.safetensors"
    config = dataclasses.replace(SMALL, size=size)
    save_network(path, fold(CloserNet(config)), KIND, dataclasses.asdict(config), {})
    look = CloserLook(path)
    seen = []

    def knows(pixels):
        matrix = seen.pop(0)
        rows = []
        for k in range(len(pixels)):
            order = np.concatenate([mirrors()[0], 68 + mirrors()[1]])
            flip = np.linalg.det(matrix[k][:, :2]) < 0
            rows.append(into_window(truth[order] if flip else truth, matrix[k]) / (size / 2) - 1)
        points = torch.from_numpy(np.stack(rows).astype(np.float32))
        return SimpleNamespace(points=points, log_deviation=torch.full((len(rows), 536), -4.0))

    def watched(*args):
        matrix = window(*args)
        if not seen or len(seen[-1]) == 4:
            seen.append([])
        seen[-1].append(matrix)
        return matrix

    look.net = knows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closer, "window", watched)
        start = truth + rng.normal(0, 3, truth.shape)
        found, expected = look.look(Image.new("RGB", (300, 240)), start)
    assert np.abs(found - truth).max() < 0.02
    assert expected.shape == (68,)
    assert 0 < expected.min() <= expected.max() < 5


def test_a_map_says_where_by_its_mean():
    """Against blobs and entropies written out in full."""
    torch.manual_seed(0)
    heat = torch.randn(2, 3, 5, 5).flatten(2).log_softmax(2).unflatten(2, (5, 5))
    points = torch.rand(2, 3, 2) - 0.5
    share = torch.rand(2, 3)
    wanted = 0.0
    middles = (np.arange(5) + 0.5) / 2.5 - 1
    for batch in range(2):
        for point in range(3):
            x, y = points[batch, point].tolist()
            away = (middles[None] - x) ** 2 + (middles[:, None] - y) ** 2
            blob = np.exp(-away / (2 * 0.4**2))
            blob /= blob.sum()
            wanted -= float(share[batch, point] * (blob * heat[batch, point].numpy()).sum())
    assert float(map_loss(heat, points, share)) == pytest.approx(wanted, rel=1e-5)
