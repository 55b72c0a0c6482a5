"""Fits and edits as the worker does them: bytes come in, a finished package lies in a folder.

What does the work is looked up by name when it is wanted, so a worker that only renders never
loads it, and tests put their own module in its place.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from head360 import protocol
from head360.errors import BadInput, Head360Error, ModelInvalid
from head360.files import write_text
from head360.heads.base import Head
from head360.protocol import Message
from head360.server import work

DIFFUSION = "diffusers"  # the editor's name on the wire; which model it is, the backend knows
_FITTING = "head360.fitting.pipeline"
_EDITING = "head360.editing.run"
_EDITORS = "head360.editing.editors"
_PREVIEW_GAP = 0.5  # seconds between two previews of one stage


class Listener(Protocol):
    """Where a task tells how far it is; both raise Cancelled once nobody wants it any more."""

    def advance(self, fraction: float, phase: str) -> None: ...

    def stage(self, stage: work.Stage, picture: NDArray[np.uint8] | None) -> None: ...

    def stopped(self) -> bool: ...


class Crafts:
    """What this worker can make, and the making.

    Args:
        device: torch device.
        diffusion: folder or hub id of the model behind the editor ``diffusers``; "": none.
        load: opens a package.
        stand_in: name of a test's module with ``fit``, ``FitSettings``, ``edit``,
            ``EditSettings``, ``open_editor`` and ``list_editors``; "" for the real ones.
    """

    def __init__(
        self, device: str, diffusion: str, load: Callable[[Path], Head], stand_in: str = ""
    ) -> None:
        self._device, self._diffusion, self._load = device, diffusion, load
        self._stand_in = stand_in

    def makes(self) -> list[str]:
        """Which of ``protocol.MAKING`` there is code for; nothing is loaded for the answer."""
        if self._stand_in:
            module = importlib.import_module(self._stand_in)
            return [name for name in protocol.MAKING if hasattr(module, name)]
        places = dict(zip(protocol.MAKING, (_FITTING, _EDITING), strict=True))
        return [name for name, place in places.items() if _exists(place)]

    def editors(self) -> dict[str, str]:
        """Names for ``protocol.EditHead`` and what each does; loads the editors."""
        if "edit" not in self.makes():
            return {}
        known = dict(self._module(_EDITORS).list_editors())
        return {DIFFUSION: "What the prompt says", **known} if self._diffusion else known

    def perform(self, message: Message, listener: Listener) -> work.Made:
        """Do a ``FitTask`` or ``EditTask``; the package is then in ``folder``/head.

        Raises:
            Head360Error: it cannot be done; the text is for the user. Cancelled: told to stop.
        """
        start = time.monotonic()
        task = message.body
        folder = Path(task.folder)
        if isinstance(task, work.FitTask):
            made, result = self._fit(task, message, folder, listener)
        else:
            made, result = self._edit(task, folder, listener)
        package = folder / "head"
        if made != package:
            made.rename(package)
        _sign(package, task.name, getattr(task, "consent", ""))
        codes = self._load(package).codes()  # what cannot be opened is not installed
        facts = {
            name: float(value)
            for name in ("landmark_px", "psnr_front", "steps")
            if isinstance(value := getattr(result, name, None), int | float)
            and math.isfinite(value)
        }
        styles = [(str(name), float(p)) for name, p in getattr(result, "style_top3", ())]
        notes = [str(note) for note in getattr(result, "notes", ())]
        seconds = time.monotonic() - start
        return work.Made(codes.subject, codes.style, seconds, styles, facts, notes)

    def _fit(
        self, task: work.FitTask, message: Message, folder: Path, listener: Listener
    ) -> tuple[Path, Any]:
        module = self._module(_FITTING)
        photos = []
        for index, name in enumerate(task.photos):
            # A folder each: two files of different folders may have one name.
            place = folder / "photos" / str(index)
            place.mkdir(parents=True)
            photos.append(place / name)
            photos[-1].write_bytes(message.blobs[f"photo.{index}"].tobytes())
        base = self._drivable(Path(task.path))
        settings = module.FitSettings(
            name=task.name,
            style=task.style,
            face=task.face,
            seed=task.seed,
            invert_planes=task.planes,
            device=self._device,
            **_given(steps=task.steps),
        )

        def on_stage(stage: Any) -> None:
            # Where we work is nobody's business, and gone soon.
            text = stage.text.replace(str(folder / "fit" / "head"), task.name)
            told = work.Stage(stage.name, stage.number, stage.count, text)
            listener.stage(told, stage.picture)

        result = _without_places(photos, module.fit)(
            photos,
            base,
            settings,
            folder / "fit",
            on_stage=on_stage,
            on_progress=listener.advance,
            cancelled=listener.stopped,
        )
        return Path(result.head_path), result

    def _edit(self, task: work.EditTask, folder: Path, listener: Listener) -> tuple[Path, Any]:
        module = self._module(_EDITING)
        listener.advance(0.0, "opening the editor")
        name = f"{DIFFUSION}:{self._diffusion}" if task.editor == DIFFUSION else task.editor
        if task.editor == DIFFUSION and not self._diffusion:
            raise BadInput(
                "This backend has no diffusion model: set Diffusion Model in the preferences, or "
                "start it with --diffusion."
            )
        if task.editor == DIFFUSION and not task.prompt.strip():
            raise BadInput('Say what to change, such as "make him older".')
        if task.editor.startswith(f"{DIFFUSION}:"):  # a path from the wire opens nothing
            raise BadInput(f'There is no editor "{task.editor}": choose one of the listed ones.')
        editor = self._module(_EDITORS).open_editor(
            name,
            device=self._device,
            report=lambda text: listener.advance(0.0, text),
            **_given(
                strength=task.strength,
                guidance=task.guidance,
                image_guidance=task.image_guidance,
            ),
        )
        head = self._drivable(Path(task.head.path))
        settings = module.EditSettings(
            name=task.name, prompt=task.prompt, seed=task.seed, **_given(steps=task.steps)
        )
        last = 0.0

        def on_progress(progress: Any) -> None:
            nonlocal last
            listener.advance(progress.fraction, progress.text)
            if progress.picture is not None and time.monotonic() - last > _PREVIEW_GAP:
                last = time.monotonic()
                told = work.Stage("preview", progress.step, progress.steps, progress.text)
                listener.stage(told, progress.picture)

        result = module.edit(
            head,
            head.codes(task.head.subject, task.head.style),
            editor,
            settings,
            folder / "edit",
            on_progress=on_progress,
            cancelled=listener.stopped,
        )
        return Path(result.head_path), result

    def _drivable(self, path: Path) -> Head:
        head = self._load(path)
        if head.kind == "gaussian":
            raise BadInput(
                f"{head.name} is a head of Gaussians, which cannot be fitted or edited: choose a "
                "hex-plane model such as starter."
            )
        return head

    def _module(self, name: str) -> Any:
        return importlib.import_module(self._stand_in or name)


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small copy of (H, W, 3) uint8, at most ``protocol.THUMBNAIL`` a side."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((protocol.THUMBNAIL, protocol.THUMBNAIL))
    return np.array(image)


def _given(**wanted: Any) -> dict[str, Any]:
    """Without what is None, so that the defaults stay with those who know them."""
    return {key: value for key, value in wanted.items() if value is not None}


def _exists(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # its package is not there
        return importlib.util.find_spec(module) is not None
    return False


def _sign(package: Path, name: str, consent: str) -> None:
    """Write the new model's name, and what its maker declared, into its manifest.

    Raises:
        ModelInvalid: there is no whole manifest.
    """
    file = package / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        manifest["name"] = name
        if consent:
            manifest.setdefault("provenance", {})["declaration"] = consent
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelInvalid(f"The new model in {package} has no manifest: try again.") from error
    write_text(file, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _without_places(photos: Sequence[Path], made: Callable[..., Any]) -> Callable[..., Any]:
    """``made``, its errors naming photographs without the hidden folder that they lie in."""

    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return made(*arguments, **options)
        except Head360Error as error:
            text = str(error)
            for photo in photos:
                text = text.replace(str(photo), photo.name)
            raise type(error)(text) from error

    return call
