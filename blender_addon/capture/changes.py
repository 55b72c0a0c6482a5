"""Changing the artist's data for a moment, and putting every single value back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import bpy
import mathutils

logger = logging.getLogger(__name__)
_LIVE = (bpy.types.bpy_prop_array, mathutils.Vector, mathutils.Color, mathutils.Euler)


class Changes(AbstractContextManager["Changes"]):
    """Remembers what was there before; on leaving, undoes it in reverse, whatever happened.

    One thing that cannot be put back (its owner was deleted) does not keep the rest from it.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set one property, unless it has that value already."""
        before = getattr(owner, name)
        if isinstance(before, _LIVE):  # a colour or a vector: a view of the value, not a copy
            before = tuple(before)
        if before == value:
            return
        self._undo.append(lambda: setattr(owner, name, before))
        setattr(owner, name, value)

    def later(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` on leaving."""
        self._undo.append(undo)

    def __exit__(self, *_error: object) -> None:
        while self._undo:
            try:
                self._undo.pop()()
            except (ReferenceError, RuntimeError, AttributeError, TypeError):
                logger.warning("a value could not be put back", exc_info=True)
