"""``head360 render --resume --passes``: nothing of an older take stays beside new pictures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from head360 import provenance
from head360.arkit import COUNT
from head360.arkit.takes import write_take
from head360.cli import main
from head360.client import FrameDone
from head360.commands import local, passes
from head360.commands.passes import DEPTH_SCALE
from head360.datasets.png import encode
from head360.provenance import read

SIZE = 4


class Stub:
    """A backend whose depth in metres and alpha tell the first blendshape; counts what it drew."""

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.gain = 1.0  # of what this version draws
        self.fail_after = 10**6
        limits = SimpleNamespace(sequence_frames=100)
        self.welcome = SimpleNamespace(limits=limits, device="stub")

    def render_frame(self, head_id: str, weights: Any, *_: Any) -> tuple[Any, Any]:
        if len(self.drawn) >= self.fail_after:
            raise KeyboardInterrupt
        self.drawn.append(round(float(weights[0]), 3))
        return None, np.full((SIZE, SIZE), 1 + self.gain * weights[0], np.float32)

    def render_sequence(self, head_id: str, frames: Any, *_: Any) -> Any:
        def wait(on_event: Any) -> None:
            for step, frame in enumerate(frames, 1):
                value = round(255 * self.gain * float(frame.blendshapes[0]))
                pixels = np.full((SIZE, SIZE, 4), value, "u1")
                on_event(FrameDone(frame.number, encode(pixels), 0.0, step, len(frames)))

        return SimpleNamespace(wait=wait, cancel=lambda: None)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    client = Stub()
    head = SimpleNamespace(head_id="h", subject="ann", style=None)
    model = SimpleNamespace(info=SimpleNamespace(name="fake", made_by=""))

    @contextlib.contextmanager
    def open_head(_: Any) -> Iterator[Any]:
        yield client, head, model

    monkeypatch.setattr(local, "open_head", open_head)
    return client


def take(folder: Path, name: str, first: list[float]) -> str:
    weights = np.zeros((len(first), COUNT), np.float32)
    weights[:, 0] = first
    return str(write_take(folder / f"{name}.csv", None, weights))


def shown(out: Path, name: str) -> list[float]:
    """What the pictures of a pass tell, frame by frame."""
    found = []
    for path in sorted((out / name).glob("*.png")):
        with Image.open(path) as picture:
            value = float(np.asarray(picture).max())
        found.append(round(value / DEPTH_SCALE - 1 if name == "depth" else value / 255, 2))
    return found


def test_passes_of_an_older_take_do_not_stay(tmp_path: Path, stub: Stub) -> None:
    old, new = take(tmp_path, "old", [0.2, 0.4, 0.6]), take(tmp_path, "new", [0.2, 0.8, 1.0])
    out = tmp_path / "out"

    def render(taken: str, passes: str, *more: str) -> int:
        words = ["render", "starter", "--take", taken, "--frames", "1-3", "--size", str(SIZE)]
        return main([*words, "--out", str(out), "--passes", passes, *more])

    assert render(old, "rgba,depth,alpha") == 0
    assert shown(out, "depth") == shown(out, "alpha") == [0.2, 0.4, 0.6]
    # Other pictures alone, then the passes of pictures that are kept.
    assert render(new, "rgba", "--resume") == 0
    stub.drawn.clear()
    assert render(new, "rgba,depth,alpha", "--resume") == 0
    assert shown(out, "depth") == shown(out, "alpha") == [0.2, 0.8, 1.0]
    assert stub.drawn == [0.8, 1.0]  # the first is the same in both takes
    # Interrupted between the pictures and their depth: what is missing is made, and no more.
    stub.drawn.clear()
    stub.fail_after = 1
    assert render(old, "rgba,depth", "--resume") == 130
    stub.fail_after = 10**6
    assert render(old, "rgba,depth", "--resume") == 0
    assert shown(out, "depth") == [0.2, 0.4, 0.6]
    assert stub.drawn == [0.4, 0.6]
    # A damaged file is no result either, and without --resume everything is made anew.
    (out / "depth" / "0002.png").write_bytes(encode(np.zeros((SIZE, SIZE), np.uint16)))
    stub.drawn.clear()
    assert render(old, "rgba,depth", "--resume") == 0
    assert stub.drawn == [0.4]
    assert render(old, "rgba,depth") == 0
    assert stub.drawn == [0.4, 0.2, 0.4, 0.6]
    assert sorted(path.name for path in out.iterdir()) == [
        "0001.png", "0002.png", "0003.png", "alpha", "depth", "frames.jsonl"
    ]  # fmt: skip
    lines = (out / "depth" / "frames.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [1, 2, 3]
    assert read((out / "0001.png").read_bytes()) is not None  # only the pictures say what they are
    assert read((out / "depth" / "0001.png").read_bytes()) is None


def test_passes_are_of_the_version_that_made_the_pictures(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["render", "starter", "--take", take(tmp_path, "one", [0.4, 0.8]), "--frames", "1-2"]
    words += ["--size", str(SIZE), "--out", str(out), "--passes", "rgba,depth,alpha", "--resume"]
    assert main(words) == 0
    assert main(words) == 0
    assert stub.drawn == [0.4, 0.8]  # kept
    for module in (provenance, passes):
        monkeypatch.setattr(module, "__version__", "99.0")
    stub.gain = 0.5
    assert main(words) == 0
    assert shown(out, ".") == shown(out, "depth") == shown(out, "alpha") == [0.2, 0.4]
