"""Operators, one file a capability."""

from __future__ import annotations

from . import animation, backend, capture, check_rig, export, head, sequence

CLASSES = (
    *backend.CLASSES,
    *head.CLASSES,
    *animation.CLASSES,
    *sequence.CLASSES,
    *export.CLASSES,
    *capture.CLASSES,
    *check_rig.CLASSES,
)
