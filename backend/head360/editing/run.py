"""``edit``: from a head and an editor to a head package with a new look."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.editing import sheet
from head360.editing.alone import alone
from head360.editing.editors import Editor
from head360.editing.learning import Learning
from head360.editing.settings import EditSettings
from head360.errors import BadInput, Cancelled, Checkpointed
from head360.files import writable_folder
from head360.fitting.provenance import KEY, provenance
from head360.heads.base import Codes, Head
from head360.networks.perceptual import load_lpips

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
_UNFINISHED = ".head.tmp"
_PREVIEW_SECONDS = 4.0
_PREPARED, _LEARNED = 0.2, 0.9  # shares of the whole that are over when learning starts and ends


@dataclass(frozen=True)
class EditProgress:
    """How far an edit is.

    Attributes:
        step, steps: of learning; 0 while views are taken and edited.
        fraction: of the whole work, 0 … 1, never smaller than before.
        text: for people.
        picture: (H, W, 3) uint8 sRGB, the head from the front as it is now; mostly None.
    """

    step: int
    steps: int
    fraction: float
    text: str
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class EditResult:
    """What an edit left in its folder.

    Attributes:
        head_path: the head package; sheet_path: before above after.
        subject: the only one of the package; name: of the new model.
        seconds: of work, resumed ones included.
        steps: of learning.
        distance_before, distance_after: mean difference from the edited pictures, 0 … 1.
        held_out_before, held_out_after: the same in views that nothing was learned from; None for
            editors that draw lots.
    """

    head_path: Path
    sheet_path: Path
    subject: str
    name: str
    seconds: float
    steps: int
    distance_before: float
    distance_after: float
    held_out_before: float | None
    held_out_after: float | None


def edit(
    head: Head,
    codes: Codes,
    editor: Editor,
    settings: EditSettings,
    out: Path,
    on_progress: Callable[[EditProgress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    stop: Callable[[], bool] | None = None,
    lpips: Sequence[Path] = (),
    model_name: str = "",
) -> EditResult:
    """Give a person another look. ``head`` stays; ``out`` gets ``head/`` and ``sheet.png``.

    Args:
        head, codes: who; the head must be a hex-plane head.
        editor: see ``editors.open_editor``.
        settings: schedule.
        out: folder of the result; a checkpoint lies in it while the work goes on.
        on_progress: called often.
        cancelled: asked often; True ends the work and leaves nothing behind.
        stop: asked often; True ends the work with a checkpoint.
        lpips: weight files of a perceptual distance; none leaves it out.
        model_name: what the manifest calls the head that was edited; its own name by default.

    Raises:
        BadInput: the head cannot be edited, a value is out of range, the folder is not writable or
            holds an interrupted edit that is not to be resumed.
        Cancelled: ``cancelled`` said so. Checkpointed: ``stop`` said so.
    """
    settings = settings.checked(once=editor.once)
    existed = out.is_dir()
    out = writable_folder(out)
    taken = out / "head"
    if taken.exists() and not (taken / "manifest.json").is_file():
        raise BadInput(f"{taken} is no head package and would be replaced: choose another --out.")
    checkpoint = out / CHECKPOINT
    if checkpoint.is_file() and not settings.resume:
        raise BadInput(f"{out} holds an interrupted edit: add --resume, or choose another --out.")
    if settings.resume and not checkpoint.is_file():
        raise BadInput(f"{out} holds no interrupted edit: leave --resume out.")
    job = _Job(head, codes, editor, settings, out, on_progress, cancelled, stop)
    try:
        return job.run(lpips, model_name or head.name)
    except Checkpointed:
        raise
    except BaseException:
        # Also for what nobody expected: half an edit is of no use to anybody.
        if not settings.resume or (cancelled is not None and cancelled()):
            _clear(out, existed)
        raise


def _clear(out: Path, existed: bool) -> None:
    """Take away what an edit that did not end has written; earlier results stay."""
    (out / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    if not existed and out.is_dir() and not any(out.iterdir()):
        out.rmdir()


class _Job:
    """One call of :func:`edit`."""

    def __init__(
        self,
        head: Head,
        codes: Codes,
        editor: Editor,
        settings: EditSettings,
        out: Path,
        on_progress: Callable[[EditProgress], None] | None,
        cancelled: Callable[[], bool] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.head, self.codes, self.editor, self.settings = head, codes, editor, settings
        self.out = out
        self.checkpoint = out / CHECKPOINT
        self._on_progress = on_progress
        self._cancelled, self._stop = cancelled, stop
        self.seconds = 0.0
        self._started = time.monotonic()
        self._prepared = 0.0

    def run(self, lpips: Sequence[Path], model_name: str) -> EditResult:
        """Views, edits, learning, package and sheet; see :func:`edit`."""
        settings, editor = self.settings, self.editor
        name = settings.name or _name(model_name, self.codes.subject, editor.name)
        alone_head, codes = alone(self.head, self.codes, name, free_hair=settings.hair)
        perceptual = load_lpips(lpips, alone_head.device) if lpips else None
        before = sheet.pictures(alone_head, codes, settings.size, self._prepare)
        learning = Learning(alone_head, codes, editor, settings, self._prepare, perceptual)
        if settings.resume:
            self.seconds = learning.resume(self.checkpoint)
            log.info("resumed at step %d", learning.step)
        elif editor.once:
            learning.edit_all(self._prepare)
        return self._learn(learning, before, model_name)

    def _learn(self, learning: Learning, before: sheet.Pictures, model_name: str) -> EditResult:
        settings = self.settings
        saved = shown = time.monotonic()
        loss = 0.0
        while learning.step < settings.steps:
            self._check(learning)
            if learning.due():
                number = learning.next_view()
                self._say(learning, f"editing view {number + 1} of {len(learning.views)}")
                learning.edit_view(number)
            value = learning.train_step()
            loss = 0.9 * loss + 0.1 * value if loss else value
            picture, now = None, time.monotonic()
            if self._on_progress is not None and now - shown > _PREVIEW_SECONDS:
                picture, shown = learning.preview(), time.monotonic()
            self._say(learning, f"learning the new look, loss {loss:.4f}", picture)
            if now - saved > settings.checkpoint_seconds and learning.step < settings.steps:
                saved = now
                learning.save(self.checkpoint, self._elapsed())
        head, codes = learning.head, learning.codes
        distances = (*learning.distances(), *learning.held_out_distances())
        learning.write()
        after = sheet.pictures(
            head, head.codes(), settings.size, lambda text: self._finish(learning, text)
        )
        facts = {**self.editor.facts(), **settings.facts()}
        how = provenance("head360 edit", [model_name], model_name, facts)
        if KEY in head.manifest:
            how["before"] = head.manifest[KEY]
        head.manifest[KEY] = how
        self._check(learning)
        head.save(self.out / _UNFINISHED)
        shutil.rmtree(self.out / "head", ignore_errors=True)
        (self.out / _UNFINISHED).rename(self.out / "head")
        sheet.write(self.out / sheet.NAME, before, after)
        self.checkpoint.unlink(missing_ok=True)
        self._tell(EditProgress(settings.steps, settings.steps, 1.0, "done"))
        return EditResult(
            self.out / "head", self.out / sheet.NAME, codes.subject, head.name,
            round(self._elapsed(), 2), learning.step, *distances,
        )  # fmt: skip

    # -- progress ----------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def _tell(self, progress: EditProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def _prepare(self, text: str) -> None:
        """Before learning: how long it takes is not known, so the fraction creeps up to its end."""
        self._check(None)
        self._prepared += 0.02 * (_PREPARED - self._prepared)
        self._tell(EditProgress(0, self.settings.steps, self._prepared, text))

    def _finish(self, learning: Learning, text: str) -> None:
        self._check(learning)
        steps = self.settings.steps
        self._tell(EditProgress(steps, steps, _LEARNED, text))

    def _say(self, learning: Learning, text: str, picture: NDArray[np.uint8] | None = None) -> None:
        steps = self.settings.steps
        fraction = _PREPARED + (_LEARNED - _PREPARED) * learning.step / steps
        self._tell(EditProgress(learning.step, steps, fraction, text, picture))

    def _check(self, learning: Learning | None) -> None:
        """Stop where somebody asked for it.

        Raises:
            Cancelled, Checkpointed: see :func:`edit`.
        """
        if self._cancelled is not None and self._cancelled():
            raise Cancelled("The edit was stopped: nothing was kept, the head is as it was.")
        if self._stop is None or not self._stop():
            return
        if learning is None and self.checkpoint.is_file():
            raise Checkpointed(f"Stopped; continue with --resume --out {self.out}.")
        if learning is None:
            # Nothing has been learned yet that would be worth a checkpoint.
            raise Cancelled("Stopped before learning began: run the same command again.")
        learning.save(self.checkpoint, self._elapsed())
        raise Checkpointed(
            f"Stopped at step {learning.step} of {self.settings.steps}; continue with --resume "
            f"--out {self.out}."
        )


def _name(model: str, subject: str, editor: str) -> str:
    """``starter-felix-aged``: a name that a file may have."""
    last = editor.replace("\\", "/").rstrip("/").split("/")[-1].split(":")[-1]
    words = [part for part in (model, subject, last) if part]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words))[:80]
