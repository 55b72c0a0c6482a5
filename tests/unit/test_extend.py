"""More hair styles for a trained head: all that it knows stays to the byte."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from head360 import heads
from head360.arkit import COUNT
from head360.cli import main
from head360.commands.train_stages import _own_data
from head360.errors import BadInput
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.heads import package
from head360.heads.hexplane import HexPlaneHead
from head360.heads.hexplane_files import write_extended
from head360.networks.banks import CodeConfig
from head360.networks.hexplane import HexPlaneConfig, HexPlaneNet
from head360.rendering.cameras import orbit
from head360.rendering.volume import GRID
from head360.training import checkpoint
from head360.training.hexplane import TrainSettings
from head360.training.hexplane_extend import StyleTrainer, check_styles, fingerprint, sitters
from head360.training.shoot import shoot
from head360.training.shots import Shots, SynthSpec

SIZES: dict[str, Any] = {
    "texture_size": 32, "texture_channels": 4, "plane_size": 48, "hair_size": 16,
    "hair_channels": 4, "decoder_width": 16, "features": 4, "superres_width": 8,
    "head_samples": 4, "hair_samples": 4, "raw_size": 32,
}  # fmt: skip
NEUTRAL = np.zeros(COUNT, dtype=np.float32)


def make_base(config: HexPlaneConfig | None = None) -> HexPlaneHead:
    """An untrained head of two of the studio's people with two of its styles."""
    torch.manual_seed(0)
    model = BilinearModel.builtin()
    rng = np.random.default_rng(0)
    subjects = OrderedDict(
        (name, {"shape": model.sample_shape(rng), "style": "short02"}) for name in ("kofi", "mina")
    )
    hulls = np.zeros((2, GRID, GRID, GRID), dtype=np.uint8)
    third, top = slice(GRID // 3, 2 * GRID // 3), slice(3 * GRID // 4, None)
    hulls[0, third, top, third] = 1
    hulls[1, third, : GRID // 4, third] = 1
    net = HexPlaneNet(config or HexPlaneConfig(**SIZES), 2, 2)
    facts = {"licence": "GPL-3.0-or-later", "notices": [], "training": {"steps": 7, "look": 1}}
    return HexPlaneHead("base", model, net, subjects, ("short02", "long01"), hulls, facts)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base"
    make_base().save(path)
    return path


def raw_arrays(path: Path) -> dict[str, Any]:
    return package.read_arrays(path, package.read_manifest(path), "head.safetensors")


def test_an_extended_package_keeps_what_was_there(base_path: Path, tmp_path: Path) -> None:
    base = heads.load(base_path)
    assert isinstance(base, HexPlaneHead)
    shape = tuple(base.net.hair_planes.entries[0].shape)
    planes = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    hull = np.ascontiguousarray(base._occupancy[0, :, ::-1])
    # Twice, as somebody would who wants one more style after the first.
    one, two = tmp_path / "one", tmp_path / "two"
    write_extended(base_path, one, "one", {"bun01": (planes, hull)}, {"a": 1})
    write_extended(one, two, "two", {"slick01": (-planes, hull)}, {"b": 1})
    before, after = raw_arrays(base_path), raw_arrays(two)
    for key, value in before.items():
        if key != "occupancy":  # one array for the hulls of all styles
            assert value.tobytes() == after[key].tobytes(), key
    assert set(after) - set(before) == {
        f"hair.{index}{end}" for index in (2, 3) for end in ("", ".scale")
    }
    for name in ("geometry.safetensors", "thumbnail.png"):
        assert (base_path / name).read_bytes() == (two / name).read_bytes()
    extended = heads.load(two)
    assert isinstance(extended, HexPlaneHead)
    assert extended.styles == ("short02", "long01", "bun01", "slick01")
    assert extended.manifest["extensions"] == [{"a": 1}, {"b": 1}]
    assert extended.manifest["training"] == base.manifest["training"]
    np.testing.assert_array_equal(extended._occupancy[:2], base._occupancy)
    np.testing.assert_array_equal(extended._occupancy[3], hull)
    learned = extended.net.hair_planes.entries[2].detach().numpy()
    assert np.corrcoef(learned[learned != 0], planes[learned != 0])[0, 1] > 0.99
    camera = orbit(20, 5)
    for style in (None, "short02", "long01"):
        pictures = [
            head.render(head.pose(head.codes("mina", style), NEUTRAL), camera, 48, 48).rgba
            for head in (base, extended)
        ]
        np.testing.assert_array_equal(*pictures)
    worn = extended.pose(extended.codes("mina", "bun01"), NEUTRAL)
    assert np.isfinite(extended.render(worn, camera, 48, 48).rgba).all()


def test_later_stages_see_the_added_styles() -> None:
    base = make_base()
    base.manifest["training_data"] = "synth:subjects=2,wear=short02+long01,samples=2"
    assert _own_data(base) == base.manifest["training_data"]
    base.manifest["extensions"] = [{"styles": ["bun01"]}]
    base._styles = (*base.styles, "bun01")
    assert _own_data(base) == "synth:subjects=2,samples=2,wear=short02+long01+bun01"


def test_who_sits_and_who_judges() -> None:
    base = make_base()
    assert sitters(base, 8) == (("kofi", "mina"), ("kofi", "mina"))
    assert sitters(base, 1) == (("kofi",), ("mina",))
    stranger = make_base()
    stranger._subjects = OrderedDict(nobody=stranger._subjects["kofi"])
    with pytest.raises(BadInput, match="none of the people of base"):
        sitters(stranger, 8)


@pytest.mark.parametrize(
    ("styles", "sentence"),
    [
        ((), "--styles A"),
        (("beehive",), "'beehive'"),
        (("bun01", "long01"), "base has the style long01 already"),
        (("bun01", "bun01"), "twice"),
    ],
)
def test_styles_that_cannot_be_learned_are_named(styles: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check_styles(make_base(), styles)


def test_hair_from_a_generator_is_not_extended() -> None:
    codes = CodeConfig(latent=4, w=8, layers=1, base=64, most=8, residual=0)
    base = make_base(HexPlaneConfig(**SIZES, hair_codes=codes))
    with pytest.raises(BadInput, match="one generator"):
        check_styles(base, ("bun01",))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--styles", "bun01", "--preset", "tiny"), "--preset"),
        (("--styles", "bun01", "--data", "synth:wear=slick01"), "--styles"),
        (("--styles", "bun01", "--data", "synth:subjects=0"), "subjects=0"),
        (("--styles", "bun01", "--resume"), "no checkpoint"),
    ],
)
def test_wrong_words_write_nothing(
    base_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    out = tmp_path / "run"
    line = ["train", "hexplane", "--extend", str(base_path), "--out", str(out), *words]
    assert main(line) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()
    assert main(["train", "hexplane", "--styles", "bun01", "--out", str(out)]) == 2
    assert "--extend" in capsys.readouterr().err


@pytest.fixture(scope="module")
def shots() -> Shots:
    try:
        find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")
    spec = SynthSpec(
        subjects=1, styles=1, groups=2, views=2, size=64, samples=1, bald=0.0, wear="bun01", look=1
    )
    shape = make_base().codes("mina", None).shape
    return shoot(spec, 1, {"mina": shape}, people=("mina",))


def run(shots: Shots, base_path: Path, out: Path, steps: int) -> StyleTrainer:
    base = heads.load(base_path)
    assert isinstance(base, HexPlaneHead)
    settings = TrainSettings(steps=4, crop=16, preview_seconds=1e9, checkpoint_seconds=1e9)
    trainer = StyleTrainer(base, base_path, shots, settings, out, name="more")
    if steps:
        trainer.resume()
    return trainer


@pytest.mark.assets
def test_only_the_new_planes_learn_and_a_resumed_run_is_the_same(
    shots: Shots, base_path: Path, tmp_path: Path
) -> None:
    assert shots.subjects == ("mina",)
    straight = run(shots, base_path, tmp_path / "straight", 0)
    before = {name: value.clone() for name, value in straight.net.state_dict().items()}
    start = straight.base.styles.index(straight.begun_as["bun01"])
    first = straight.base.net.hair_planes.entries[start]
    assert torch.equal(before["hair_planes.entries.0"], first)
    straight.run()
    after = straight.net.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"hair_planes.entries.0"}

    split = run(shots, base_path, tmp_path / "split", 0)
    for _ in range(2):
        split.train_step()
        split.step += 1
    split.save_checkpoint()
    split = run(shots, base_path, tmp_path / "split", 2)
    assert split.step == 2
    split.run()
    assert torch.equal(
        split.net.state_dict()["hair_planes.entries.0"], after["hair_planes.entries.0"]
    )

    manifest = json.loads((tmp_path / "split" / "head" / "manifest.json").read_text())
    assert manifest["styles"] == ["short02", "long01", "bun01"]
    assert manifest["training"] == {"steps": 7, "look": 1}
    (facts,) = manifest["extensions"]
    assert (facts["styles"], facts["people"], facts["pictures"]) == (["bun01"], ["mina"], 4)
    assert facts["steps"] == 4

    # Another base of the same sizes is another run.
    other = make_base()
    with torch.no_grad():
        other.net.hair_decoder.out.bias.add_(0.5)
    with pytest.raises(BadInput, match="base model"):
        checkpoint.check(
            tmp_path / "split" / "checkpoint.safetensors", {"base model": fingerprint(other)}
        )
