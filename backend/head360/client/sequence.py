"""Numbered pictures on disk that survive a killed process and can be resumed.

``0001.png …`` are written whole or not at all; after each rename one line is appended to
``frames.jsonl``. A resumed run keeps a frame only if the file is there, is listed, and both its
bytes and the parameters it was rendered with are the same. Pictures can carry a note of where they
come from, see ``provenance``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from head360 import files, provenance
from head360.client.values import SequenceFrame
from head360.errors import BadInput

LISTING = "frames.jsonl"


def parameters_hash(head_id: str, frame: SequenceFrame, width: int, height: int) -> str:
    """Hash of everything that decides how a frame looks (16 hex digits)."""
    digest = hashlib.sha256(f"{head_id} {width} {height} ".encode())
    digest.update(np.ascontiguousarray(frame.blendshapes, dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(frame.camera.flat25(), dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


class SequenceWriter:
    """Writes the frames of one sequence into ``out_dir``.

    Args:
        out_dir: created if needed; receives only ``NNNN.png`` and ``frames.jsonl``.
        resume: keep what an earlier run finished; otherwise start a new listing.
        note: what every picture says about itself, such as ``provenance.facts``; None: nothing.

    Raises:
        BadInput: the folder cannot be written.
    """

    def __init__(
        self, out_dir: Path | str, resume: bool = False, note: dict[str, Any] | None = None
    ) -> None:
        self.folder = files.writable_folder(out_dir)
        self._note = note
        self._noted = _sha256(json.dumps(note, sort_keys=True).encode())[:16] if note else ""
        self._sweep()
        self._listed = self._read() if resume else {}
        # Also heals a last line that was cut by a kill: the listing is rewritten whole.
        text = "".join(json.dumps(line) + "\n" for line in self._listed.values())
        files.write_text(self.folder / LISTING, text)

    def path(self, number: int) -> Path:
        """Where frame ``number`` lies."""
        return self.folder / f"{number:04d}.png"

    def is_done(self, number: int, params: str) -> bool:
        """True if the frame needs no rendering: present, listed, same bytes, parameters, note."""
        line = self._listed.get(number)
        if line is None or line.get("params") != params or line.get("note", "") != self._noted:
            return False
        try:
            data = self.path(number).read_bytes()
        except OSError:
            return False
        return len(data) == line.get("bytes") and _sha256(data) == line.get("sha256")

    def write(self, number: int, png: bytes, params: str) -> Path:
        """Write one frame atomically, then list it.

        Raises:
            BadInput: the file system refused (full, read-only, folder gone).
        """
        if not png:
            raise BadInput(f"Frame {number} arrived empty: render it again.")
        if self._note is not None:
            try:
                png = provenance.tag(png, self._note)
            except ValueError as error:
                raise BadInput(f"Frame {number} arrived damaged: render it again.") from error
        target = files.write_bytes(self.path(number), png)
        line = {
            "frame": number,
            "file": target.name,
            "bytes": len(png),
            "sha256": _sha256(png),
            "params": params,
        }
        if self._noted:
            line["note"] = self._noted
        try:
            with open(self.folder / LISTING, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise BadInput(
                f"Cannot write {self.folder / LISTING} ({error.strerror}): free some space."
            ) from error
        self._listed[number] = line
        return target

    def _read(self) -> dict[int, dict[str, Any]]:
        try:
            text = (self.folder / LISTING).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        listed = {}
        for raw in text.splitlines():
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                continue  # the line a killed process did not finish
            if isinstance(line, dict) and isinstance(line.get("frame"), int):
                listed[line["frame"]] = line  # the last one counts
        return listed

    def _sweep(self) -> None:
        """Remove temporary files of our own that a killed run left behind."""
        for pattern in (".[0-9]*.png.*.tmp", f".{LISTING}.*.tmp", ".probe.*.tmp"):
            for stale in self.folder.glob(pattern):
                stale.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
