"""What a writer has finished, line by line, so that a killed run loses one shot at most."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Journal(Generic[T]):
    """A hidden file of JSON lines: first the key of what is written, then one line an item.

    Args:
        path: of the file.
        key: digest of all that the items depend on; lines under another key are forgotten.
        kind: type of the items.
    """

    def __init__(self, path: Path, key: str, kind: type[T]) -> None:
        self.path = path
        self.key = key
        self._kind = kind

    def read(self) -> list[T]:
        """The items so far; a torn last line is dropped, another key's journal deleted."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError:
            return []
        items: list[T] = []
        try:
            if msgspec.json.decode(lines[0], type=str) != self.key:
                self.path.unlink(missing_ok=True)
                return []
            for line in lines[1:]:
                if line:
                    items.append(msgspec.json.decode(line, type=self._kind))
        except msgspec.MsgspecError:
            # Appending behind a torn line would tear the next one too: begin a new file.
            self.path.unlink(missing_ok=True)
            for item in items:
                self.append(item)
        return items

    def append(self, item: T) -> None:
        """Add an item that is safely on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with open(self.path, "ab") as file:
            if fresh:
                file.write(msgspec.json.encode(self.key) + b"\n")
            file.write(msgspec.json.encode(item) + b"\n")

    def forget(self) -> None:
        """Delete the journal: what it says is now said elsewhere."""
        self.path.unlink(missing_ok=True)
