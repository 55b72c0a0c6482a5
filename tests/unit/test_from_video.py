"""From a recording and its take to a monocular data set: clocks, cameras, what is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from head360.arkit.takes import read_take, synthetic_take, write_take
from head360.cli import main
from head360.datasets import labels
from head360.datasets.check import check
from head360.datasets.monocular_read import MonocularDataset
from head360.errors import BadInput
from head360.fitting.cameras import from_camera
from head360.fitting.footage import FootageSettings, make_footage, report_folder
from head360.fitting.footage_cut import Cut
from head360.fitting.footage_find import match_clocks
from head360.fitting.recording import (
    open_recording,
    read_frames,
    since,
    take_start,
    time_of_day,
    timecode_base,
)
from head360.fitting.steady import smooth, steady
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera, intrinsics_from_fov
from head360.synthesis.camera_path import sight

av = pytest.importorskip("av")

WIDTH, HEIGHT = 360, 480
MODEL = BilinearModel.builtin()
FACE = MODEL.topology.part_vertices("face")
FOV = 32.0
START = 13 * 3600 + 59 * 60 + 58.5  # time of day of the take's first row
BEFORE = 0.2  # seconds that the video begins before the take


# --- a recording without a studio -----------------------------------------------------------------


def code(number: int) -> NDArray[np.uint8]:
    """A frame that carries its number in twelve bright or dark fields, over fine detail."""
    rng = np.random.default_rng(1)
    grain = rng.integers(60, 190, (HEIGHT // 2, WIDTH // 2, 1), dtype=np.uint8)
    pixels = grain.repeat(2, 0).repeat(2, 1).repeat(3, 2)
    for bit in range(12):
        pixels[:24, bit * 30 : bit * 30 + 30] = 235 if number >> bit & 1 else 20
    return pixels


def decoded(pixels: NDArray[np.uint8]) -> int:
    return sum(int(pixels[12, bit * 30 + 15].mean() > 128) << bit for bit in range(12))


def encode(
    path: Path,
    seconds: Sequence[float],
    timecode: str = "",
    dull: Sequence[int] = (),
    rate: int = 60,
) -> Path:
    """A film whose frames come at ``seconds``; mpeg4 is in every build."""
    clock = 6000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, clock)
        if timecode:
            stream.metadata["timecode"] = timecode
        for number, second in enumerate(seconds):
            pixels = code(number)
            if number in dull:
                pixels[24:] = 120  # what is left of detail when the phone was shaken
                pixels[24:, ::40] = 126
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(second * clock), Fraction(1, clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@dataclass
class Truth:
    """Who stands before the camera, and the camera of every frame."""

    take: Any
    seconds: NDArray[np.float64]
    shape: NDArray[np.float32]
    cameras: list[Camera]
    late: float = 0.0  # seconds that the video is behind the take

    def mesh(self, number: int) -> NDArray[np.float32]:
        moment = self.seconds[number] - BEFORE - self.late
        return MODEL.vertices(self.shape, self.take.at(max(moment, 0.0)))


@dataclass
class TruthFinder:
    """Knows where the landmarks are, give or take ``noise`` pixels."""

    truth: Truth
    noise: float = 1.0
    blind: Sequence[int] = ()
    wild: Sequence[int] = ()
    jumps: Sequence[int] = ()
    stop_at: int = 10**6
    name: str = "truth"
    digest: str = ""
    asked: list[int] = field(default_factory=list)

    def find(self, pixels: NDArray[np.uint8]) -> list[Any]:
        number = decoded(pixels)
        if number >= self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(number)
        if number in self.blind:
            return []
        rng = np.random.default_rng([3, number])
        marks = self.truth.cameras[number].project(
            self.truth.mesh(number)[MODEL.topology.landmarks68], WIDTH, HEIGHT
        )[0]
        marks = marks + rng.normal(0, self.noise, marks.shape)
        if number in self.wild:
            marks = marks + rng.normal(0, 14, marks.shape)
        if number in self.jumps:
            marks = marks + np.array([14.0, 8.0])
        box = np.concatenate([marks.min(axis=0), marks.max(axis=0)])
        mine = SimpleNamespace(
            box=box, landmarks=marks, dense=None, deviation=np.full(68, self.noise)
        )
        # Somebody in the background, whom the finder thinks more of now and then.
        other = SimpleNamespace(
            box=box / 4, landmarks=marks / 4, dense=None, deviation=np.full(68, 1.0)
        )
        return [other, mine] if number % 7 == 3 else [mine, other]


class Halves:
    """A parser that calls the upper half head and the lower half clothes."""

    name = "halves"

    def __init__(self, digest: str = "") -> None:
        self.digest = digest
        self.seen: list[NDArray] = []

    def parse(self, pixels: NDArray[np.uint8], face: Any) -> Any:
        self.seen.append(np.asarray(face.landmarks))
        size = len(pixels)
        classes = np.full((size, size), labels.SKIN, dtype=np.uint8)
        classes[size // 2 :] = labels.NECK
        matte = np.zeros((size, size), dtype=np.float32)
        matte[:, size // 4 :] = 1.0
        return SimpleNamespace(labels=classes, matte=matte)


@pytest.fixture(scope="module")
def take_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    played = synthetic_take(3.0, 30.0)
    path = tmp_path_factory.mktemp("take") / "lively.csv"
    return write_take(path, played.seconds, played.weights, start=START)


@pytest.fixture(scope="module")
def truth(take_file: Path) -> Truth:
    rng = np.random.default_rng(8)
    # 30 frames a second that tremble, and one that was dropped.
    seconds = np.arange(84) / 30 + rng.uniform(0, 0.006, 84)
    seconds[0], seconds[50:] = 0.0, seconds[50:] + 1 / 30
    cameras = []
    for second in seconds:
        turn = (0.25 * np.sin(2.1 * second), 0.12 * np.sin(3.3 * second), 0.05 * np.sin(second))
        view = sight("handheld", 4, second, turn).camera
        place = view.cam2world.copy()
        place[:3, 3] *= 0.62  # nearer, through a shorter lens: a phone
        cameras.append(Camera(place, intrinsics_from_fov(FOV, WIDTH / HEIGHT)))
    shape = MODEL.sample_shape(np.random.default_rng(21))
    return Truth(read_take(take_file), seconds, shape, cameras)


@pytest.fixture(scope="module")
def video(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "My take 1.mov"
    # 0.2 s before the take, in a timecode that counts 60: 13:59:58.3 is frame 18.
    return encode(path, truth.seconds, "13:59:58:18", dull=(30, 31))


def error_of(camera: Camera, truth: Camera) -> tuple[float, float]:
    turn = Rotation.from_matrix(camera.cam2world[:3, :3].T @ truth.cam2world[:3, :3])
    return (
        float(np.degrees(turn.magnitude())),
        float(np.linalg.norm(camera.position - truth.position) * 1000),
    )


# --- the whole way --------------------------------------------------------------------------------


def test_recording_becomes_a_data_set(
    truth: Truth, video: Path, take_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "me"
    faults = {"blind": (12, 13), "wild": (40,), "jumps": (60,)}
    settings = FootageSettings(photos=8, size=96)

    # Interrupted in the middle: nothing that looks like a data set, and the search is not lost.
    finder = TruthFinder(truth, **faults, stop_at=45)
    with pytest.raises(KeyboardInterrupt):
        make_footage(video, take_file, out, finder, Halves(), settings)
    assert not (out / "manifest.json").exists()
    looked_at = len(finder.asked)
    finder, parser = TruthFinder(truth, **faults), Halves()
    stages: dict[str, int] = {}
    made = make_footage(
        video, take_file, out, finder, parser, settings,
        lambda done, total, what: stages.update({what: done}),
    )  # fmt: skip
    covered = [k for k, s in enumerate(truth.seconds) if s >= BEFORE - 0.01]
    assert finder.asked == covered[looked_at:]

    # What is left out, and why.
    told = json.loads((report_folder(out) / "report.json").read_text())
    by_reason: dict[str, list[int]] = {}
    for entry in told["rejected"]:
        by_reason.setdefault(entry["reason"], []).append(entry["frame"])
    assert by_reason.pop("no face") == [12, 13]
    assert by_reason.pop("landmarks do not fit") == [40]
    assert by_reason.pop("blurred") == [30, 31]
    assert by_reason.pop("jumpy") == [60]
    assert by_reason == {}
    assert made.kept == len(covered) - 6
    assert told["matched"]["by"] == "timecode"
    assert told["matched"]["offset"] == pytest.approx(-BEFORE, abs=0.002)
    assert abs(told["matched"]["lag"]) <= 0.03
    assert told["notes"] == []
    assert made.sheet.stat().st_size > 10_000

    # The data set is whole, and its cameras are the true ones.
    assert check(out) == []
    data = MonocularDataset.open(out)
    assert len(data.frames) == made.kept
    fov = 2 * np.degrees(np.arctan(0.5 / truth.cameras[0].intrinsics[1, 1]))
    assert told["person"]["fov_deg"] == pytest.approx(fov, rel=0.25)
    turns, offs, pictures = [], [], []
    cut = Cut(**told["cut"])
    for frame in data.frames:
        number = frame.img_id
        turn, off = error_of(frame.camera, truth.cameras[number])
        turns.append(turn)
        offs.append(off)
        moment = truth.seconds[number] - BEFORE
        np.testing.assert_allclose(frame.blendshapes, truth.take.at(moment), atol=0.02)
        mesh = MODEL.vertices(np.array(data.manifest.subject.shape), frame.blendshapes)[FACE]
        there = frame.camera.project(mesh, 96, 96)[0]
        true = truth.cameras[number].project(truth.mesh(number)[FACE], WIDTH, HEIGHT)[0]
        pictures.append(np.linalg.norm(there - cut.points(true), axis=1).mean())
    assert np.mean(turns) < 1.2
    assert np.mean(offs) < 0.15 * 1000 * np.linalg.norm(truth.cameras[0].position)
    assert np.mean(pictures) < 0.6
    # The parser got the face where it is in the cut, and what it said was written.
    assert len(parser.seen) == made.kept
    assert parser.seen[0].min() > 0
    assert parser.seen[0].max() < 96
    frame = data.frames[3]
    assert frame.load_matte()[:, 10].max() == 0
    assert frame.load_matte()[:, 60].min() == 255
    assert tuple(frame.load_parsing()[10, 10]) == (0, 0, 255)
    assert tuple(frame.load_parsing()[90, 10]) == (0, 255, 0)
    assert data.manifest.subject.name == "My-take-1"

    # Again: nothing is made anew.
    before = (out / "manifest.json").read_bytes()
    parser = Halves()
    again = make_footage(video, take_file, out, TruthFinder(truth, **faults), parser, settings)
    assert parser.seen == []
    assert again.kept == made.kept
    assert (out / "manifest.json").read_bytes() == before


def test_other_weights_of_the_same_name_begin_anew(
    truth: Truth, video: Path, take_file: Path, tmp_path: Path
) -> None:
    def asked(finder: str, parser: str, until: int) -> list[int]:
        """Frames that a run of these weights looks at before it is interrupted."""
        seeker = TruthFinder(truth, stop_at=until, digest=finder)
        with pytest.raises(KeyboardInterrupt):
            make_footage(
                video, take_file, tmp_path / "me", seeker, Halves(parser), FootageSettings(size=64)
            )
        return seeker.asked

    first = asked("a", "x", 12)
    assert asked("a", "x", 16) == list(range(12, 16))  # nothing is looked at twice
    assert asked("b", "x", 12) == first
    assert asked("b", "y", 12) == first


def test_too_few_frames_say_what_was_wrong_with_the_others(
    truth: Truth, video: Path, take_file: Path, tmp_path: Path
) -> None:
    def sentence(finder: TruthFinder, settings: FootageSettings) -> str:
        out = tmp_path / "me"
        with pytest.raises(BadInput) as caught:
            make_footage(video, take_file, out, finder, Halves(), settings)
        assert not (out / "manifest.json").exists()
        return str(caught.value)

    told = sentence(TruthFinder(truth, blind=range(3, 28)), FootageSettings(size=64, offset=1.8))
    covered = [k for k, s in enumerate(truth.seconds) if s + 1.8 <= truth.take.duration]
    assert covered[-1] > 31  # the two blurred ones of the film
    assert f"Only {len(covered) - 27} of {len(covered)} frames" in told
    assert "(no face in 25, blurred in 2; at least 10 " in told
    assert "the whole face in the picture" in told
    told = sentence(TruthFinder(truth), FootageSettings(size=64, offset=2.8))
    assert "lie within the take" in told


def test_with_a_known_lens_and_many_points_the_cameras_are_exact(
    truth: Truth, video: Path, take_file: Path, tmp_path: Path
) -> None:
    settings = FootageSettings(photos=8, size=64, fov_deg=FOV, max_frames=30)
    made = make_footage(
        video, take_file, tmp_path / "me", TruthFinder(truth, noise=0.3), Halves(), settings
    )
    assert made.facts["person"]["fov_deg"] == pytest.approx(FOV, abs=1e-3)
    assert 25 <= made.kept <= 30  # spread over the whole film
    data = MonocularDataset.open(tmp_path / "me")
    errors = np.array([error_of(f.camera, truth.cameras[f.img_id]) for f in data.frames])
    assert errors[:, 0].mean() < 0.6
    assert errors[:, 1].mean() < 12


def test_a_late_video_is_noticed(
    truth: Truth, video: Path, take_file: Path, tmp_path: Path
) -> None:
    late = replace(truth, late=0.15)
    made = make_footage(
        video, take_file, tmp_path / "me", TruthFinder(late), Halves(), FootageSettings(size=64)
    )
    assert made.facts["matched"]["lag"] == pytest.approx(0.15, abs=0.04)
    assert any("--offset -0.3" in note for note in made.facts["notes"])


# --- clocks ---------------------------------------------------------------------------------------


def test_clocks(video: Path, take_file: Path, tmp_path: Path) -> None:
    recording, take = open_recording(video), read_take(take_file)
    assert (recording.width, recording.height, recording.turned) == (WIDTH, HEIGHT, 0)
    assert recording.timecode == "13:59:58:18"
    assert recording.base == timecode_base(video) == 60  # though there are 30 frames a second
    assert take_start(take_file) == pytest.approx(START, abs=1e-4)
    clock = match_clocks(recording, take_file, take, None)
    assert (clock.matched, clock.offset) == ("timecode", pytest.approx(-BEFORE, abs=0.001))
    assert match_clocks(recording, take_file, take, 1.5).offset == 1.5
    with pytest.raises(BadInput, match="do not overlap"):
        match_clocks(replace(recording, start=START - 3600), take_file, take, None)
    bare = replace(recording, start=None, timecode="")
    assert match_clocks(bare, take_file, take, None).matched == "start"
    # Round midnight, and what is no timecode.
    assert since(10.0, 86390.0) == pytest.approx(20.0)
    assert since(86390.0, 10.0) == pytest.approx(-20.0)
    assert time_of_day("01:00:10;15", 30) == pytest.approx(3610.5)
    assert time_of_day("soon", 30) is None
    # A timecode's base is in the file; a file without one has none.
    other = encode(tmp_path / "b.mov", (0.0, 0.03), "10:00:00:10", rate=30)
    assert open_recording(other).start == pytest.approx(36000 + 10 / 30)
    assert timecode_base(take_file) == 0


def test_frames_keep_their_seconds_and_stand_upright(tmp_path: Path) -> None:
    seconds = (0.0, 0.031, 0.07, 0.1, 0.171)
    path = encode(tmp_path / "a.mov", seconds)
    frames = list(read_frames(open_recording(path)))
    np.testing.assert_allclose([frame.second for frame in frames], seconds, atol=2e-4)
    assert [decoded(frame.pixels) for frame in frames] == [0, 1, 2, 3, 4]
    # A phone held upright writes a matrix that turns the picture by a quarter, clockwise.
    one = (0x10000).to_bytes(4, "big")
    minus, zero, last = (0xFFFF0000).to_bytes(4, "big"), bytes(4), (0x40000000).to_bytes(4, "big")
    data = path.read_bytes()
    track = data.index(b"tkhd")
    still = one + zero * 3 + one + zero * 3 + last
    shift = HEIGHT.to_bytes(2, "big") + bytes(2)
    turned = zero + one + zero + minus + zero * 2 + shift + zero + last
    place = data.index(still, track)
    path.write_bytes(data[:place] + turned + data[place + 36 :])
    recording = open_recording(path)
    assert (recording.width, recording.height) == (HEIGHT, WIDTH)
    upright = next(read_frames(recording)).pixels
    assert upright.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(np.rot90(upright), frames[0].pixels)


# --- steadying ------------------------------------------------------------------------------------


def test_steady_takes_the_tremble_and_leaves_the_movement() -> None:
    rng = np.random.default_rng(2)
    seconds = np.cumsum(rng.uniform(0.025, 0.04, 150))
    seconds[90:] += 2.0  # a pause
    true = [
        from_camera(sight("orbit", 3, s, (0.2 * np.sin(3 * s), 0.0, 0.0)).camera, 512, 512)
        for s in seconds
    ]
    noisy = [
        pose.moved(np.concatenate([rng.normal(0, 0.01, 3), rng.normal(0, 0.8, 2), [0.0]]))
        for pose in true
    ]
    noisy[70] = noisy[70].moved(np.array([0.3, 0.0, 0.0, 15.0, 0.0, 0.0]))

    def error(poses: Sequence[Any]) -> NDArray:
        return np.array([
            np.degrees(Rotation.from_matrix(a.rotation @ b.rotation.T).magnitude())
            for a, b in zip(poses, true, strict=True)
        ])  # fmt: skip

    calm = error(steady(noisy, seconds))
    assert calm.mean() < 0.5 * error(noisy).mean()
    assert calm[70] < 1.5  # a single wild frame is drawn to its neighbours
    assert calm[88:93].max() < 2.0  # nobody is drawn over the pause
    line = 3.0 * seconds[:60] - 1
    np.testing.assert_allclose(smooth(seconds[:60], line), line, atol=1e-6)


# --- the command ----------------------------------------------------------------------------------


def test_command_says_what_is_wrong(
    video: Path, take_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sentence(*words: str) -> str:
        assert main(["dataset", "from-video", *words, "--json"]) == 2
        return json.loads(capsys.readouterr().out)["error"]["message"]

    out = str(tmp_path / "out")
    missing = str(tmp_path / "none.mov")
    common = ("--take", str(take_file), "--out", out)
    assert "--size 5 is out of range" in sentence(str(video), *common, "--size", "5")
    assert "none.mov" in sentence(missing, *common)
    assert "Cannot open the video" in sentence(str(take_file), *common)
    assert "do not overlap" not in sentence(str(video), *common, "--offset", "99")
    assert "timecode" not in sentence(str(video), "--take", str(video), "--out", out)
