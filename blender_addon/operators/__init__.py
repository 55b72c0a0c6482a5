"""Operators, one file a capability."""

from __future__ import annotations

from . import (
    animation,
    backend,
    capture,
    check_rig,
    editing,
    export,
    fitting,
    hair,
    head,
    sequence,
    splat_import,
)

CLASSES = (
    *backend.CLASSES,
    *head.CLASSES,
    *fitting.CLASSES,
    *hair.CLASSES,
    *editing.CLASSES,
    *animation.CLASSES,
    *sequence.CLASSES,
    *export.CLASSES,
    *capture.CLASSES,
    *check_rig.CLASSES,
    *splat_import.CLASSES,
)
