"""What a run says of itself: ``log.jsonl``, previews, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.files import writable_folder, write_bytes, write_text
from head360.heads.package import png_bytes

log = logging.getLogger(__name__)


class Reports:
    """Scalars and preview sheets of one run folder.

    Args:
        out: run folder.
        active: False says and writes nothing (processes that do not lead).
    """

    def __init__(self, out: Path, active: bool = True) -> None:
        self.out, self.active = out, active
        self._board: Any = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.debug("no TensorBoard: install it to watch scalars and previews in a browser")
            else:
                self._board = SummaryWriter(str(out / "tensorboard"))  # type: ignore[no-untyped-call]

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One line of ``log.jsonl``; what is no plain number stays out of TensorBoard."""
        if not self.active:
            return
        path = self.out / "log.jsonl"
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        write_text(path, old + json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def sheet(self, step: int, picture: NDArray[np.floating]) -> None:
        """``previews/<step>.png`` from (H, W, 3) in [0, 1]."""
        if not self.active:
            return
        folder = writable_folder(self.out / "previews")
        pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        write_bytes(folder / f"{step:06d}.png", png_bytes(pixels))
        if self._board is not None:
            self._board.add_image("truth above, prediction below", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()
