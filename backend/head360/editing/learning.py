"""Learning a head's texture and hair from edited pictures; networks and mesh stay as they are.

After Instruct-NeRF2NeRF (Haque et al. 2023): a set of views is rendered once; every few steps one
of them is replaced by what the editor makes of its *current* render, and in between random patches
of the set are fitted. An editor that always gives the same result edits all views at the start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from head360.editing.editors import Editor
from head360.editing.guides import Guide, Places
from head360.editing.pyramid import Pyramid
from head360.editing.settings import EditSettings
from head360.editing.views import (
    GROUND,
    View,
    head_planes,
    held_out_plan,
    make_guide,
    measure_tones,
    over_ground,
    plan,
    snapshot,
    take,
    undyed,
)
from head360.errors import BadInput
from head360.heads.base import Codes
from head360.heads.hexplane import HexPlaneHead
from head360.heads.windows import autocast, render_window
from head360.networks.banks import PlaneBank
from head360.training import checkpoint

Floats = NDArray[np.float32]
Report = Callable[[str], None]

_BALD_EVERY = {True: 3, False: 6}  # moments, for editors that edit once and for the others
_RAW, _ALPHA, _HAIR = 0.4, 0.5, 0.5  # weights beside the colour of the finished picture


class _Looks(nn.Module):
    """What is learned, and the pictures it is learned from: all that a checkpoint holds."""

    def __init__(self, texture: Pyramid, hair: Pyramid | None, pictures: Tensor) -> None:
        super().__init__()
        self.texture = texture
        self.hair = hair
        self.pictures: Tensor
        self.register_buffer("pictures", pictures)


class Learning:
    """One edit: the views, the editor's pictures of them, and the looks that are fitted to both.

    Args:
        head: of one person, see ``alone``; its texture and the hair it wears are changed.
        codes: of that person.
        editor: see ``editors``.
        settings: schedule.
        report: called with a line of text while views are taken and edited; what it raises stops
            the work.
        perceptual: (B, 3, H, W) × 2 in [−1, 1] → (B,) distances, or None.
    """

    def __init__(
        self,
        head: HexPlaneHead,
        codes: Codes,
        editor: Editor,
        settings: EditSettings,
        report: Report,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.head, self.codes, self.editor, self.settings = head, codes, editor, settings
        self.perceptual = perceptual
        self.places = Places.of(head.model)
        style = codes.style
        bald = 0 if style is None else _BALD_EVERY[editor.once]
        shots = plan(settings.views, settings.seed, bald=bald)

        def count(number: int) -> None:
            report(f"photographing the head, view {number + 1} of {len(shots)}")

        self.views = take(head, codes, shots, settings.size, count)
        self.held_out = take(head, codes, held_out_plan(), settings.size)
        self.worn = head.look(codes)
        tones = measure_tones(self.views, self.places)
        self.guides = [make_guide(view, self.places, tones) for view in self.views]
        self._held_guides = [make_guide(view, self.places, tones) for view in self.held_out]
        self.rng = np.random.default_rng([settings.seed, 62])
        self.step = 0
        self.base = self._digest()
        originals = np.stack([view.original for view in self.views])
        texture = Pyramid(head.net.textures.entries[0])
        hair = None
        if settings.hair and style is not None and isinstance(head.net.hair_planes, PlaneBank):
            hair = Pyramid(head.net.hair_planes.entries[head.styles.index(style)])
            if codes.hair_colour is not None:
                # From now on the planes themselves have the colour that dye gave them.
                head.adopt(dataclasses.replace(codes, hair_colour=None))
                self.views, self.held_out = undyed(self.views), undyed(self.held_out)
        self.looks = _Looks(texture, hair, torch.from_numpy(_bytes(originals)))
        self.optimiser = torch.optim.Adam(
            self.looks.parameters(), lr=settings.rate, betas=(0.9, 0.99)
        )

    # -- pictures ----------------------------------------------------------------------------

    def edit_all(self, report: Report) -> None:
        """Replace every view by what the editor makes of it now."""
        for number in range(len(self.views)):
            report(f"editing view {number + 1} of {len(self.views)}")
            self.edit_view(number)

    def edit_view(self, number: int) -> None:
        """Replace one view by what the editor makes of its current render."""
        view = self.views[number]
        if self.step:
            self.write()
            current = over_ground(snapshot(self.head, view)[0])
        else:
            current = view.original
        edited = self._edited(current, view, self.guides[number], int(self.rng.integers(2**31)))
        self.looks.pictures[number] = torch.from_numpy(_bytes(edited))

    def _edited(self, current: Floats, view: View, guide: Guide, seed: int) -> Floats:
        # A filter's noise must be the same in all views; a sampler's must not.
        seed = self.settings.seed if self.editor.once else seed
        edited = self.editor.edit(
            current[None], view.original[None], [guide], self.settings.prompt, seed
        )
        if edited.shape != (1, *current.shape) or not np.isfinite(edited).all():
            raise BadInput(
                f"The editor {self.editor.name} gave no picture of {current.shape[1]} × "
                f"{current.shape[0]} pixels back: choose another editor."
            )
        return np.clip(edited[0], 0.0, 1.0)

    # -- learning ----------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a view is to be edited before the next step."""
        return not self.editor.once and self.step % self.settings.interval == 0

    def next_view(self) -> int:
        """The view that is edited at this step: each in turn, in an order of its own per round."""
        turn, place = divmod(self.step // self.settings.interval, len(self.views))
        order = np.random.default_rng([self.settings.seed, 63, turn]).permutation(len(self.views))
        return int(order[place])

    def rate(self) -> float:
        """Factor on the learning rate at the current step: warm-up, then a cosine."""
        warm = max(1, min(10, self.settings.steps // 10))
        if self.step < warm:
            return (self.step + 1) / warm
        progress = (self.step - warm) / max(1, self.settings.steps - warm)
        return 0.08 + 0.92 * 0.5 * (1 + math.cos(math.pi * progress))

    def train_step(self) -> float:
        """Fit random patches of one moment; returns the loss.

        Raises:
            BadInput: the loss became non-finite.
        """
        settings, head = self.settings, self.head
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate * self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        first = int(self.rng.integers(len(self.views)))
        moment = self.views[first].moment
        mates = [k for k, view in enumerate(self.views) if view.moment is moment]
        chosen = [first]
        while len(chosen) < settings.patches:
            chosen.append(mates[int(self.rng.integers(len(mates)))])
        side = min(settings.patch, settings.size) // 2
        corners = [self._corner(self.views[k], side) for k in chosen]
        inputs = [
            self.views[k].window(left, top, side)
            for k, (left, top) in zip(chosen, corners, strict=True)
        ]
        truth, alpha, hair = self._targets(chosen, corners, side)
        planes, dye = None, None
        with torch.enable_grad():
            texture = self.looks.texture()
            if moment.codes.style is not None and self.looks.hair is not None:
                planes = self.looks.hair()
            elif moment.codes.style is not None:
                planes, dye = self.worn.hair, self.worn.dye
            with autocast(head.device):
                out, raw, _ = render_window(
                    head.net, texture, planes, head_planes(head, texture, moment), inputs,
                    moment.hair_box, moment.lattice, self.rng, dye, opaque=True,
                )  # fmt: skip
            total = self._loss(out.float(), raw.float(), truth, alpha, hair)
            # Texels that no picture ties down stay near what they were.
            change = texture - self.looks.texture.start
            total = total + settings.anchor * change.square().mean()
        if not torch.isfinite(total):
            raise BadInput(
                f"The edit became non-finite at step {self.step}: start again with another --seed."
            )
        total.backward()
        self.optimiser.step()
        self.step += 1
        return float(total.detach())

    def _loss(self, out: Tensor, raw: Tensor, truth: Tensor, alpha: Tensor, hair: Tensor) -> Tensor:
        """L1 of colour and of coverage; geometry is to stay what it was."""
        predicted = out[:, :3] + GROUND * (1 - out[:, 3:])
        if not self.editor.once:
            # A diffusion model may change what is behind the head, too.
            truth = alpha * truth + (1 - alpha) * GROUND
        total = (predicted - truth).abs().mean()
        total = total + _ALPHA * (out[:, 3:] - alpha).abs().mean()
        pool = nn.functional.avg_pool2d
        small = pool(alpha, 2)
        difference = raw[:, :3] + GROUND * (1 - raw[:, -2:-1]) - pool(truth, 2)
        total = total + _RAW * (small * difference.abs()).mean()
        if self.looks.hair is not None:
            total = total + _HAIR * (raw[:, -1:] - hair).abs().mean()
        if self.perceptual is not None:
            weight = self.settings.perceptual
            total = total + weight * self.perceptual(predicted * 2 - 1, truth * 2 - 1).mean()
        return total

    def _corner(self, view: View, side: int) -> tuple[int, int]:
        """Left and top of a patch of the raw render that shows some of the head."""
        raw = self.settings.size // 2
        rows, columns = np.nonzero(view.alpha[::8, ::8] > 0.5)
        if not len(rows) or side >= raw:
            return 0, 0
        pick = int(self.rng.integers(len(rows)))
        shift = self.rng.integers(-side // 3, side // 3 + 1, 2)
        left = int(np.clip(columns[pick] * 4 + shift[0] - side // 2, 0, raw - side))
        return left, int(np.clip(rows[pick] * 4 + shift[1] - side // 2, 0, raw - side))

    def _targets(
        self, chosen: list[int], corners: list[tuple[int, int]], side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) colours, (B, 1, H, W) coverage, (B, 1, H/2, W/2) coverage by hair."""
        truths, alphas, hairs = [], [], []
        for k, (left, top) in zip(chosen, corners, strict=True):
            fine = (slice(2 * top, 2 * (top + side)), slice(2 * left, 2 * (left + side)))
            truths.append(self.looks.pictures[k][fine])
            alphas.append(self.views[k].alpha[fine])
            hairs.append(self.views[k].hair[top : top + side, left : left + side])
        device = self.head.device
        truth = torch.stack(truths).permute(0, 3, 1, 2).float().to(device) / 255
        alpha = torch.from_numpy(np.stack(alphas))[:, None].to(device)
        return truth, alpha, torch.from_numpy(np.stack(hairs))[:, None].to(device)

    def write(self) -> None:
        """Let the head show what has been learned so far."""
        self.looks.texture.write()
        if self.looks.hair is not None:
            self.looks.hair.write()
        self.head.refresh()

    # -- figures -----------------------------------------------------------------------------

    def distances(self) -> tuple[float, float]:
        """Mean difference (0 … 1) from the edited pictures on the head: before, and now."""
        chosen = range(0, len(self.views), max(1, len(self.views) // 8))
        truths = [np.asarray(self.looks.pictures[k] / 255, dtype=np.float32) for k in chosen]
        return self._distances([self.views[k] for k in chosen], truths)

    def held_out_distances(self) -> tuple[float, float] | tuple[None, None]:
        """The same in views that nothing was learned from; None where the editor draws lots."""
        if not self.editor.once:
            return None, None
        pairs = zip(self.held_out, self._held_guides, strict=True)
        truths = [self._edited(view.original, view, guide, 0) for view, guide in pairs]
        return self._distances(self.held_out, truths)

    def _distances(self, views: list[View], truths: list[Floats]) -> tuple[float, float]:
        self.write()
        before = now = weight = 0.0
        for view, truth in zip(views, truths, strict=True):
            current = over_ground(snapshot(self.head, view)[0])
            share = view.alpha[..., None] / 3
            before += float((share * np.abs(view.original - truth)).sum())
            now += float((share * np.abs(current - truth)).sum())
            weight += float(view.alpha.sum())
        return before / max(weight, 1e-6), now / max(weight, 1e-6)

    def preview(self) -> NDArray[np.uint8]:
        """(H, W, 3) the head from the front, now."""
        self.write()
        return _bytes(over_ground(snapshot(self.head, self.held_out[0])[0]))

    # -- files -------------------------------------------------------------------------------

    def save(self, path: Path, seconds: float) -> None:
        """Write the checkpoint atomically."""
        facts = {"step": self.step, "seconds": seconds, **self._facts()}
        checkpoint.save(path, self.looks, self.optimiser, self.rng, facts)

    def resume(self, path: Path) -> float:
        """Go on from a checkpoint; returns the seconds that were spent on it.

        Raises:
            BadInput: it is missing, damaged, or belongs to another edit.
        """
        checkpoint.check(path, self._facts())
        facts = checkpoint.load(path, self.looks, self.optimiser, self.rng)
        self.step = int(facts["step"])
        return float(facts["seconds"])

    def _facts(self) -> dict[str, Any]:
        return {"head": self.base, **self.editor.facts(), **self.settings.facts()}

    def _digest(self) -> str:
        """Tells the head before the edit from others."""
        look = self.head.look(self.codes)
        digest = hashlib.sha256(self.codes.shape.tobytes())
        for planes in (look.texture, look.hair):
            if planes is not None:
                digest.update(planes.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _bytes(picture: Floats) -> NDArray[np.uint8]:
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, dtype=np.uint8)
