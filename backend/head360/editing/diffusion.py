"""InstructPix2Pix (Brooks et al. 2023) through diffusers, as an editor of views.

The noise level is drawn anew for each edit, as in Instruct-NeRF2NeRF: the current render is noised
to a level t and denoised again under the prompt, with the original as the picture to be edited. So
later edits start from what earlier ones agreed on. The parts of the published pipeline are used as
they are; only the loop over noise levels is our own, because the pipeline's starts at pure noise.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from head360.editing.editors import Report
from head360.editing.guides import Guide
from head360.errors import BadInput

Floats = NDArray[np.float32]

NOISE = (0.02, 0.98)  # range of the noise level, of all training steps
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_INSTALL = 'pip install "head360[edit]"'


class InstructEditor:
    """An InstructPix2Pix pipeline as an editor.

    Args:
        pipe: ``StableDiffusionInstructPix2PixPipeline``, on its device.
        name: of the model, for manifests.
        guidance, image_guidance: of prompt and picture.
        steps: of denoising.

    Raises:
        BadInput: a value out of range, or a model of another kind.
    """

    once = False

    def __init__(
        self,
        pipe: Any,
        name: str,
        guidance: float = 7.5,
        image_guidance: float = 1.5,
        steps: int = 20,
    ) -> None:
        for what, value, low, high in (
            ("--guidance", guidance, 1.0, 30.0), ("--image-guidance", image_guidance, 1.0, 10.0),
            ("--diffusion-steps", steps, 1, 1000),
        ):  # fmt: skip
            if not low <= value <= high:  # also catches NaN
                raise BadInput(f"{what} {value} is out of range: choose {low:g} to {high:g}.")
        taken = pipe.unet.config.in_channels
        latent = pipe.vae.config.latent_channels
        if taken != 2 * latent:
            raise BadInput(
                f"The model {name} takes {taken} channels, an InstructPix2Pix model {2 * latent}: "
                "choose a model that was trained to follow instructions."
            )
        self.name = f"diffusers:{name}"
        self.pipe = pipe
        self.guidance, self.image_guidance, self.steps = guidance, image_guidance, steps
        self._words: tuple[str, Tensor] | None = None

    @staticmethod
    def open(
        name: str,
        *,
        guidance: float,
        image_guidance: float,
        steps: int,
        download: bool = False,
        device: str = "cpu",
        report: Report | None = None,
    ) -> InstructEditor:
        """Load a pipeline from a folder or, where it was fetched before or may be now, a hub id.

        Weights are read from safetensors only: other formats can run code.

        Raises:
            BadInput: diffusers is missing, or there is no such model.
        """
        try:
            # By name: a type checker would read all of both packages.
            importlib.import_module("transformers")
            pipeline = importlib.import_module("diffusers").StableDiffusionInstructPix2PixPipeline
        except (ImportError, RuntimeError) as error:
            # diffusers turns what a late import raises into RuntimeError.
            raise BadInput(
                f"Editing by text needs diffusers and transformers: {_INSTALL}."
            ) from error
        folder = Path(name).expanduser()
        if folder.exists():
            if not (folder / "model_index.json").is_file():
                raise BadInput(
                    f"{folder} is no diffusers model (it has no model_index.json): give the folder "
                    "that holds unet, vae and text_encoder."
                )
        elif _HUB_ID.fullmatch(name) is None:
            raise BadInput(f"There is no folder {name}: give the folder of a model, or its hub id.")
        if report is not None:
            report(f"opening the model {name}")
        try:
            pipe = pipeline.from_pretrained(
                str(folder) if folder.exists() else name,
                local_files_only=folder.exists() or not download,
                use_safetensors=True,
                # The pictures are of a synthetic head and never shown as they are.
                safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            )  # fmt: skip
        except (
            Exception
        ) as error:  # hub, JSON, safetensors and transformers raise types of their own
            reason = str(error).strip().splitlines()
            what = reason[0] if reason else type(error).__name__
            if not folder.exists() and not download:
                raise BadInput(
                    f"The model {name} is not on this machine: add --download to fetch it from the "
                    "hub (gigabytes), or give its folder."
                ) from error
            raise BadInput(
                f"The model {name} cannot be loaded ({what}): choose another one."
            ) from error
        pipe.set_progress_bar_config(disable=True)
        pipe = pipe.to(device, torch.float16 if device.startswith("cuda") else torch.float32)
        # A folder's place on this machine is nobody's business in a manifest.
        name = folder.resolve().name if folder.exists() else name
        return InstructEditor(pipe, name, guidance, image_guidance, steps)

    def facts(self) -> dict[str, Any]:
        """See ``Editor``."""
        return {
            "editor": self.name, "guidance": self.guidance, "image_guidance": self.image_guidance,
            "diffusion_steps": self.steps,
        }  # fmt: skip

    def edit(
        self,
        pictures: Floats,
        originals: Floats,
        guides: Sequence[Guide],
        prompt: str,
        seed: int,
    ) -> Floats:
        """See ``Editor``. The noise level is drawn from :data:`NOISE` by ``seed``."""
        generator = torch.Generator("cpu").manual_seed(seed)
        trained = self.pipe.scheduler.config.num_train_timesteps
        low, high = (int(share * trained) for share in NOISE)
        level = int(torch.randint(low, high + 1, (1,), generator=generator))
        times = np.linspace(level, 0, self.steps + 1)[:-1].round().astype(int)
        latent = self.encode(pictures)
        noise = torch.randn(latent.shape, generator=generator).to(latent)
        alpha = self._alphas()[level].to(latent)
        start = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
        denoised = self.denoise(start, originals, prompt, times.tolist())
        return self.decode(denoised, pictures.shape[1:3])

    # -- the three parts of an edit --------------------------------------------------------------

    def encode(self, pictures: Floats) -> Tensor:
        """(B, H, W, 3) → scaled latents (B, C, h, w) at the model's own resolution."""
        vae = self.pipe.vae
        with torch.no_grad():
            return vae.encode(self._sized(pictures)).latent_dist.mode() * vae.config.scaling_factor

    def denoise(self, latent: Tensor, originals: Floats, prompt: str, times: list[int]) -> Tensor:
        """Follow the prompt from noise level ``times[0]`` down, without further noise (DDIM).

        Args:
            latent: (B, C, h, w) at the first level.
            originals: (B, H, W, 3) the pictures that are edited.
            prompt: the wish.
            times: training steps to stop at, falling; the last step ends without noise.
        """
        pipe, alphas = self.pipe, self._alphas()
        kind = pipe.scheduler.config.prediction_type
        words = self._embedded(prompt)
        batch = len(latent)
        with torch.no_grad():
            shown = pipe.vae.encode(self._sized(originals)).latent_dist.mode()
            shown = torch.cat([shown, shown, torch.zeros_like(shown)])
            words = words.repeat_interleave(batch, 0)
            for time, then in zip(times, [*times[1:], -1], strict=True):
                now = alphas[time].to(latent)
                after = alphas[then].to(latent) if then >= 0 else torch.ones_like(now)
                three = torch.cat([torch.cat([latent] * 3), shown], 1)
                out = pipe.unet(three, time, encoder_hidden_states=words, return_dict=False)[0]
                text, picture, nothing = out.chunk(3)
                guided = (
                    nothing
                    + self.guidance * (text - picture)
                    + self.image_guidance * (picture - nothing)
                )
                noise, clean = _parts(guided, latent, now, kind)
                latent = after.sqrt() * clean + (1 - after).sqrt() * noise
        return latent

    def decode(self, latent: Tensor, size: tuple[int, ...]) -> Floats:
        """Scaled latents → (B, H, W, 3) of the given height and width."""
        vae = self.pipe.vae
        with torch.no_grad():
            out = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0].float()
            out = F.interpolate(out, size=tuple(size), mode="bilinear", antialias=True)
        pictures = (out / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return np.ascontiguousarray(pictures, dtype=np.float32)

    # -- inside ----------------------------------------------------------------------------------

    def side(self) -> int:
        """Pixels per side that the model was trained at."""
        config = self.pipe.unet.config
        return int(config.sample_size * 2 ** (len(self.pipe.vae.config.block_out_channels) - 1))

    def _sized(self, pictures: Floats) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2) * 2 - 1
        side = self.side()
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        return x.to(self.pipe.vae.device, self.pipe.vae.dtype)

    def _embedded(self, prompt: str) -> Tensor:
        """(3, L, D): the prompt for its own branch, nothing for the two others."""
        if self._words is None or self._words[0] != prompt:
            tokenizer, encoder = self.pipe.tokenizer, self.pipe.text_encoder
            tokens = tokenizer(
                [prompt, "", ""], padding="max_length", max_length=tokenizer.model_max_length,
                truncation=True, return_tensors="pt",
            )  # fmt: skip
            with torch.no_grad():
                words = encoder(tokens.input_ids.to(encoder.device))[0]
            self._words = prompt, words.to(self.pipe.unet.dtype)
        return self._words[1]

    def _alphas(self) -> Tensor:
        """(T,) share of the picture (not of noise) in the variance at each training step."""
        alphas: Tensor = self.pipe.scheduler.alphas_cumprod
        return alphas


def _parts(out: Tensor, latent: Tensor, alpha: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """(noise, clean picture) from what the network predicted.

    Raises:
        BadInput: it predicts something else than noise, velocity or the picture.
    """
    signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
    if kind == "epsilon":
        return out, (latent - spread * out) / signal
    if kind == "v_prediction":
        return signal * out + spread * latent, signal * latent - spread * out
    if kind == "sample":
        return (latent - signal * out) / spread, out
    raise BadInput(f"The model predicts {kind!r}, which is not known: choose another model.")
