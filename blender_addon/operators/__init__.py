"""Operators, one file a capability."""

from __future__ import annotations

from . import animation, backend, export, head, sequence

CLASSES = (
    *backend.CLASSES,
    *head.CLASSES,
    *animation.CLASSES,
    *sequence.CLASSES,
    *export.CLASSES,
)
