"""What changes pictures: one interface for our own filters and for text-driven diffusion models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from head360.editing.guides import Guide
from head360.errors import BadInput

Floats = NDArray[np.float32]
Report = Callable[[str], None]

KINDS = ("filter", "diffusers")


class Editor(Protocol):
    """Changes pictures of one head.

    Attributes:
        name: for people and manifests, such as ``filter:aged``.
        once: the same picture always becomes the same result: all views are edited at the start
            and never again.
    """

    name: str
    once: bool

    def edit(
        self,
        pictures: Floats,
        originals: Floats,
        guides: Sequence[Guide],
        prompt: str,
        seed: int,
    ) -> Floats:
        """Edit a batch.

        Args:
            pictures: (B, H, W, 3) float32 sRGB in [0, 1], over a plain ground: what the head looks
                like now.
            originals: the same pictures before any edit.
            guides: what the head knows of each picture.
            prompt: the wish; filters ignore it.
            seed: of everything random in this call.

        Returns:
            (B, H, W, 3) float32 sRGB in [0, 1].
        """

    def facts(self) -> dict[str, Any]:
        """Plain settings, for the manifest and for a check at ``--resume``."""


def open_editor(
    name: str,
    *,
    strength: float = 1.0,
    guidance: float = 7.5,
    image_guidance: float = 1.5,
    diffusion_steps: int = 20,
    download: bool = False,
    device: str = "cpu",
    report: Report | None = None,
) -> Editor:
    """The editor called ``filter:NAME`` or ``diffusers:FOLDER_OR_HUB_ID``.

    Args:
        name: kind and name.
        strength: of a filter, 0 … 1.
        guidance, image_guidance, diffusion_steps: of a diffusion model.
        download: a model that is not on this machine may be fetched from the hub.
        device: torch device of a diffusion model.
        report: called with a line of text while a model is opened.

    Raises:
        BadInput: no such editor, a value out of range, or a model that cannot be used.
    """
    kind, colon, rest = name.partition(":")
    if not colon or not rest or kind not in KINDS:
        raise BadInput(
            f'There is no editor "{name}": write filter:NAME (see --list-editors) or '
            "diffusers:FOLDER with an InstructPix2Pix model."
        )
    if kind == "filter":
        from head360.editing.filters import FilterEditor

        return FilterEditor(rest, strength)
    from head360.editing.diffusion import InstructEditor

    return InstructEditor.open(
        rest, guidance=guidance, image_guidance=image_guidance, steps=diffusion_steps,
        download=download, device=device, report=report,
    )  # fmt: skip


def list_editors() -> dict[str, str]:
    """Name of every filter → what it does, in a few words."""
    from head360.editing.filters import FILTERS

    return {f"filter:{name}": entry.text for name, entry in FILTERS.items()}
