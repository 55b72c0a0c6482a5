"""Hair styles and hair colours of photographed heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from portrait_tools import landmarks, write_set

from head360.datasets.labels import BROWS, HAIR, SKIN
from head360.errors import BadInput, ModelInvalid
from head360.fitting import hairstyle
from head360.fitting.parsing import Parsing
from head360.networks.hairstyle_net import ResNet50, StyleConfig, style_network, style_planes
from head360.networks.weights_file import save_network
from head360.synthesis.hair import STYLES
from head360.training.portrait_figures import portrait_figures, questions
from head360.training.portrait_hairstyle import (
    StyleLesson,
    StyleSettings,
    augment,
    style_names,
)
from head360.training.portrait_run import Run, RunSettings

NAMES = ("cap", "long", "tail", "bald")
TINY = {"size": 32, "widths": (8, 16), "depths": (1, 1)}


@dataclass(frozen=True)
class Face:
    landmarks: NDArray[np.float32]


def weights(path: Path, config: StyleConfig) -> Path:
    torch.manual_seed(1)
    network = style_network(config)
    for name, value in network.named_parameters():
        if name.startswith("leave"):  # far from even, so that orders mean something
            torch.nn.init.normal_(value, std=2.0)
    save_network(path, network, hairstyle.KIND, config.__dict__, {})
    return path


def head(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Parsing, Face]:
    """A photograph of 96² whose hair is textured and lopsided."""
    y, x = np.mgrid[0:96, 0:96]
    face = ((x - 48) / 13) ** 2 + ((y - 50) / 18) ** 2 < 1
    hair = (((x - 52) / 22) ** 2 + ((y - 40) / 24) ** 2 < 1) & ~face
    pixels = np.full((96, 96, 3), 90, dtype=np.uint8)
    pixels[face] = (220, 170, 140)
    pixels[hair] = np.clip(rng.normal((120, 80, 60), 18, (hair.sum(), 3)), 0, 255)
    labels = np.where(face, SKIN, np.where(hair, HAIR, 0)).astype(np.uint8)
    soft = (hair | face).astype(np.float32), hair.astype(np.float32)
    return pixels, Parsing(labels, *soft), Face(landmarks(48, 52, 12))


# ------------------------------------------------------------------ colour


def test_oklab_agrees_with_published_values() -> None:
    white = hairstyle.to_oklab(np.ones(3))
    red = hairstyle.to_oklab(np.array([1.0, 0, 0]))
    assert white == pytest.approx([1, 0, 0], abs=1e-6)
    # CSS Color 4 gives oklch(62.796 % 0.25768 29.234°) for red.
    assert red[0] == pytest.approx(0.62796, abs=1e-4)
    assert np.hypot(red[1], red[2]) == pytest.approx(0.25768, abs=1e-4)
    assert np.degrees(np.arctan2(red[2], red[1])) == pytest.approx(29.234, abs=0.01)
    some = np.random.default_rng(0).random((20, 3))
    assert hairstyle.from_oklab(hairstyle.to_oklab(some)) == pytest.approx(some, abs=1e-6)


@pytest.mark.parametrize("colour", [(40, 30, 25), (150, 85, 45), (210, 180, 130), (60, 90, 160)])
def test_hair_colour_ignores_highlights_shadows_and_all_that_is_no_hair(colour: tuple) -> None:
    rng = np.random.default_rng(2)
    hair = np.zeros((60, 60), dtype=np.float32)
    hair[10:50, 10:50] = 1
    pixels = rng.integers(0, 256, (60, 60, 3))  # a loud background
    strands = np.array(colour) * rng.normal(1, 0.08, (40, 40, 1))
    strands[:4], strands[4:7] = 255, 0  # a tenth shines, some lies in the dark
    pixels[10:50, 10:50] = np.clip(strands, 0, 255)
    found = hairstyle.hair_colour(
        pixels.astype(np.uint8), Parsing(np.zeros((60, 60), np.uint8), hair, hair)
    )
    assert found is not None
    assert np.abs(found * 255 - colour).max() < 6


def test_too_little_hair_has_no_colour() -> None:
    hair = np.full((40, 40), 0.2, dtype=np.float32)
    hair[0, :8] = 1
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    assert hairstyle.hair_colour(pixels, Parsing(np.zeros((40, 40), np.uint8), hair, hair)) is None


def test_under_a_hat_the_brows_tell_the_colour() -> None:
    labels, hair = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.float32)
    labels[20:22, 5:35] = BROWS
    hair[2:4, 5:17] = 1.0  # crumbs of a blue hat
    pixels = np.full((40, 40, 3), (20, 40, 200), dtype=np.uint8)
    pixels[20:22, 5:35] = (80, 50, 30)
    found = hairstyle.hair_colour(pixels, Parsing(labels, hair, hair))
    assert found is not None
    assert np.abs(found * 255 - (80, 50, 30)).max() < 2


# ------------------------------------------------------------------ networks


def test_resnet50_has_the_published_size() -> None:
    styles = tuple(f"s{k}" for k in range(48))
    network = ResNet50(StyleConfig(styles, "resnet50"))
    # 25 557 032 with 1000 classes and 3 input planes (He et al. 2016, as commonly published).
    backbone = 25_557_032 - 1000 * 2049
    assert backbone == 23_508_032
    wanted = backbone + 2 * 64 * 49 + 48 * 2049
    assert sum(p.numel() for p in network.parameters()) == wanted
    assert network.eval()(torch.zeros(1, 5, 64, 64)).shape == (1, 48)


def test_the_networks_see_no_colour_of_hair() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 16, 16) * 0.3
    hair = (torch.rand(1, 1, 16, 16) > 0.4).float()
    face = 1 - hair
    first = style_planes(pixels, hair, face)
    dyed = style_planes(pixels + torch.tensor([0.3, 0.1, 0.6]).view(1, 3, 1, 1), hair, face)
    assert torch.allclose(first, dyed, atol=1e-5)
    # What is no hair is not seen at all.
    elsewhere = pixels + torch.rand_like(pixels) * (1 - hair)
    assert torch.allclose(first, style_planes(elsewhere, hair, face), atol=1e-6)


def test_an_exact_window_stays_exact() -> None:
    settings = StyleSettings(shift=0, scale=0, turn=0, worn=0)
    ramp = torch.linspace(0, 1, 144).expand(2, 5, 144, 144).contiguous()
    torch.manual_seed(0)
    cut = augment(ramp, StyleConfig(NAMES, size=48), settings)
    line = (torch.arange(48) + 0.5) / 24 - 1
    wanted = ((line / 1.3 + 1) * 72 - 0.5) / 143
    for window in cut:
        straight = torch.allclose(window, wanted.expand(5, 48, 48), atol=1e-4)
        mirrored = torch.allclose(window, wanted.flip(0).expand(5, 48, 48), atol=1e-4)
        assert straight or mirrored


# ------------------------------------------------------------------ ranking


def test_ranking_is_whole_sorted_and_the_same_in_a_mirror(tmp_path: Path) -> None:
    ranker = hairstyle.style_ranker(weights(tmp_path / "w.safetensors", StyleConfig(NAMES, **TINY)))
    pixels, parsing, face = head(np.random.default_rng(0))
    ranks = ranker.rank(pixels, parsing, face)
    assert {name for name, _ in ranks} == set(NAMES)
    chances = [chance for _, chance in ranks]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1, abs=1e-5)
    assert chances[0] > 0.3
    flipped = Parsing(
        parsing.labels[:, ::-1], parsing.matte[:, ::-1].copy(), parsing.hair[:, ::-1].copy()
    )
    again = ranker.rank(pixels[:, ::-1].copy(), flipped, Face(np.float32(landmarks(48, 52, 12))))
    assert [name for name, _ in again] == [name for name, _ in ranks]
    assert [c for _, c in again] == pytest.approx(chances, abs=0.02)


def test_weights_that_cannot_serve_say_why(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="cannot be read"):
        hairstyle.style_ranker(tmp_path / "absent.safetensors")
    network = style_network(StyleConfig(NAMES, **TINY))
    for name, kind, config, said in (
        ("a", "portrait-parsing", {}, "portrait-parsing"),
        ("b", hairstyle.KIND, {"styles": NAMES, "network": "vit"}, "unknown here"),
        ("c", hairstyle.KIND, {"styles": NAMES}, "cannot be read"),  # of another size
    ):
        path = tmp_path / f"{name}.safetensors"
        save_network(path, network, kind, config, {})
        with pytest.raises(ModelInvalid, match=said):
            hairstyle.style_ranker(path)
    with pytest.raises(BadInput, match="no style ranker 'x'"):
        hairstyle.style_ranker(name="x")


def test_the_shipped_ranker_knows_every_style() -> None:
    assert hairstyle.SHIPPED.stat().st_size <= 0.8 * 2**20
    ranker = hairstyle.style_ranker()
    names = {name for name, _ in ranker.rank(*head(np.random.default_rng(0)))}
    assert names == {style.name for style in STYLES} | {hairstyle.BALD}


# ------------------------------------------------------------------ training and figures


def test_styles_are_learned_from_their_shapes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = write_set(tmp_path / "set")
    others = write_set(tmp_path / "held_out", people=4, seed=9)
    config = StyleConfig(style_names(data), **TINY)
    lesson = StyleLesson(data, others, config, StyleSettings(batch=12))
    run = Run(lesson, RunSettings(steps=60, rate=1e-2, warmup=5, memory=0.8), tmp_path / "run")
    ranker = hairstyle.style_ranker(run.run())
    assert lesson.measure(run.average)["top1"] > 0.8
    # The same through what users run, and with the truth for a parser.
    asked = {q.pixels.tobytes(): q for q in questions(others)}

    def parse(pixels: NDArray[np.uint8], at: NDArray[np.float32]) -> Parsing:
        labels = asked[pixels.tobytes()].labels
        return Parsing(labels, (labels > 0).astype(np.float32), (labels == HAIR).astype(np.float32))

    figures = portrait_figures(
        tmp_path / "held_out",
        parse,
        lambda pixels, parsed, at: ranker.rank(pixels, parsed, Face(at)),
    )
    assert figures["pictures"] == 12
    # Six labels are there and right; brows and the inside of the mouth are nowhere.
    assert figures["miou"] == pytest.approx(6 / 8)
    assert figures["top1"] > 0.7
    assert figures["categories"]["bald"]["pictures"] == 4


def test_a_parser_that_errs_has_worse_figures(tmp_path: Path) -> None:
    write_set(tmp_path, people=1)
    blank = portrait_figures(
        tmp_path, lambda pixels, at: Parsing(np.zeros(pixels.shape[:2], np.uint8), None, None)
    )
    assert blank["miou"] < 0.15
    assert blank["iou"]["hair"] == 0
