"""The InstructPix2Pix editor on a true diffusers pipeline, tiny and with random weights."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_editing import SETTINGS, painted_head

from head360 import heads
from head360.editing.diffusion import NOISE, InstructEditor
from head360.editing.editors import open_editor
from head360.editing.run import edit
from head360.editing.settings import EditSettings
from head360.errors import BadInput, Checkpointed

# Nothing here may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
diffusers = pytest.importorskip(
    "diffusers", reason="needs diffusers and transformers: pip install head360[edit]"
)
transformers = pytest.importorskip("transformers", reason="needs transformers")


def tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer that knows single letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(c + "</w>" for c in letters)]
    (folder / "vocab.json").write_text(json.dumps({t: k for k, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8
    )


def make_pipe(folder: Path, prediction: str = "epsilon", channels: int = 8) -> Any:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=4, block_out_channels=(8, 16),
        layers_per_block=1, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16,
        attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4, sample_size=32,
    )  # fmt: skip
    words = tokenizer(folder / "words")
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=54, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=8, projection_dim=16,
            bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, timestep_spacing="trailing", prediction_type=prediction,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=vae, text_encoder=text.eval(), tokenizer=words, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_pipe(tmp_path_factory.mktemp("pipe"))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_denoising_from_pure_noise_is_the_published_pipeline(
    tmp_path: Path, pictures: np.ndarray, prediction: str
) -> None:
    pipe = make_pipe(tmp_path, prediction)
    editor = InstructEditor(pipe, "tiny", guidance=3.0, image_guidance=1.7, steps=4)
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    image = torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2)
    with torch.no_grad():
        published = pipe(
            "make it old", image=image, num_inference_steps=4, guidance_scale=3.0,
            image_guidance_scale=1.7, latents=latent.clone(), output_type="np",
        ).images  # fmt: skip
    times = [int(t) for t in pipe.scheduler.timesteps]
    mine = editor.decode(editor.denoise(latent, pictures[:1], "make it old", times), (32, 32))
    assert np.ptp(published) > 0.05
    np.testing.assert_allclose(mine, published, atol=2e-5)


def test_noise_levels_reach_from_nearly_none_to_nearly_all(
    pipe: Any, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = InstructEditor(pipe, "tiny", steps=3)
    seen: list[list[int]] = []

    def record(latent: torch.Tensor, originals: Any, prompt: str, times: list[int]) -> torch.Tensor:
        seen.append(times)
        return latent

    monkeypatch.setattr(editor, "denoise", record)
    monkeypatch.setattr(editor, "encode", lambda _: torch.zeros(1, 4, 2, 2))
    monkeypatch.setattr(editor, "decode", lambda *_: pictures[:1])
    for seed in range(120):
        editor.edit(pictures[:1], pictures[:1], [], "x", seed)
    first = np.array([times[0] for times in seen])
    assert first.min() >= 1000 * NOISE[0]
    assert first.max() <= 1000 * NOISE[1]
    assert first.min() < 100
    assert first.max() > 900
    assert all(times == sorted(times, reverse=True) and len(times) == 3 for times in seen)


def test_edits_depend_on_prompt_seed_and_original(pipe: Any, pictures: np.ndarray) -> None:
    editor = InstructEditor(pipe, "tiny", steps=2)
    one, other = pictures[:1], pictures[1:]
    base = editor.edit(one, one, [], "old", 7)
    assert base.shape == one.shape
    np.testing.assert_array_equal(base, editor.edit(one, one, [], "old", 7))
    for changed in (
        editor.edit(one, one, [], "young", 7),
        editor.edit(one, one, [], "old", 8),
        editor.edit(one, other, [], "old", 7),
        editor.edit(other, one, [], "old", 7),
    ):
        assert np.abs(changed - base).max() > 1e-4
    wide = np.zeros((1, 48, 40, 3), dtype=np.float32)
    assert editor.edit(wide, wide, [], "old", 0).shape == wide.shape


def test_the_loop_runs_with_a_pipeline_and_resumes_exactly(pipe: Any, tmp_path: Path) -> None:
    head = painted_head()
    editor = InstructEditor(pipe, "tiny", steps=2)
    edits: list[int] = []
    real = editor.edit

    def counted(*words: Any) -> np.ndarray:
        edits.append(words[-1])
        return real(*words)

    editor.edit = counted  # type: ignore[method-assign]
    settings = EditSettings(prompt="make it old", steps=6, views=3, size=64, patch=32, interval=2)
    whole = edit(head, head.codes("one"), editor, settings, tmp_path / "whole")
    assert len(edits) == 3  # one view every second step
    assert len(set(edits)) == 3
    assert whole.held_out_after is None
    state = {"step": 0}

    def watch(progress: Any) -> None:
        state["step"] = progress.step

    with pytest.raises(Checkpointed):
        edit(
            head, head.codes("one"), editor, settings, tmp_path / "parts", watch,
            stop=lambda: state["step"] >= 3,
        )  # fmt: skip
    on = EditSettings(**{**settings.__dict__, "resume": True})
    resumed = edit(head, head.codes("one"), editor, on, tmp_path / "parts")
    files = [r.head_path / "head.safetensors" for r in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    manifest = json.loads((whole.head_path / "manifest.json").read_text())
    assert manifest["provenance"]["settings"]["prompt"] == "make it old"
    assert manifest["provenance"]["settings"]["guidance"] == 7.5
    assert heads.load(whole.head_path).subjects == ("one",)


def test_a_wish_is_needed(pipe: Any, tmp_path: Path) -> None:
    head = painted_head()
    with pytest.raises(BadInput, match="--prompt"):
        edit(head, head.codes(), InstructEditor(pipe, "tiny"), SETTINGS, tmp_path / "out")


def test_models_come_from_folders_and_nothing_is_fetched_unasked(
    pipe: Any, pictures: np.ndarray, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = open_editor(f"diffusers:{tmp_path / 'model'}", diffusion_steps=2)
    wanted = InstructEditor(pipe, "tiny", steps=2).edit(pictures, pictures, [], "old", 1)
    np.testing.assert_allclose(opened.edit(pictures, pictures, [], "old", 1), wanted, atol=1e-5)
    with pytest.raises(BadInput, match="--download"):
        open_editor("diffusers:some-body/no-such-model")
    with pytest.raises(BadInput, match="no folder"):
        open_editor("diffusers:./no/such/model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"model_index\.json"):
        open_editor(f"diffusers:{tmp_path / 'empty'}")
    (tmp_path / "model" / "unet" / "config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be loaded"):
        open_editor(f"diffusers:{tmp_path / 'model'}")


def test_other_models_and_values_are_refused(pipe: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="instructions"):
        InstructEditor(make_pipe(tmp_path, channels=4), "plain")
    for wrong in ({"guidance": 0.0}, {"image_guidance": float("nan")}, {"steps": 0}):
        with pytest.raises(BadInput, match="out of range"):
            InstructEditor(pipe, "tiny", **wrong)


def test_without_diffusers_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BadInput, match=r"pip install .*head360\[edit\]"):
        open_editor("diffusers:some-body/some-model")
