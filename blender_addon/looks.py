"""Which model, person and hair a head object shows, as one value; and a small picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from head360.errors import BadInput
from head360.rendering.cameras import orbit

from . import album, rig
from .flows import Steps
from .session import session

_SIZE = 256  # pixels a side of the small picture
_FROM = orbit(18.0, 4.0)  # a little from the side: nose, hair and both eyes show


@dataclass(frozen=True)
class Look:
    """``style`` None: bald."""

    model: str
    subject: str
    style: str | None

    @property
    def picture(self) -> str:
        """Key of its picture in the album."""
        return f"look:{self.model}/{self.subject}/{self.style}"


def look_of(settings: Any) -> Look:
    """The look that ``object.head360`` or its ``other`` holds."""
    style = None if settings.is_bald else settings.style
    return Look(settings.model, settings.subject, style)


def wear(settings: Any, look: Look) -> None:
    """Write a look into ``object.head360`` or its ``other``."""
    settings.model, settings.subject = look.model, look.subject
    settings.style, settings.is_bald = look.style or "", look.style is None


def head_named(name: str, look: Look) -> Any:
    """The head object as it is now: pointers do not survive an undo, names do.

    Raises:
        BadInput: it is gone, or shows another look than when the work began.
    """
    head = bpy.data.objects.get(name)
    if not rig.is_head(head) or look_of(head.head360) != look:
        raise BadInput("The head changed meanwhile: start again.")
    return head


def look_steps(model: str, subject: str | None, style: str | None) -> Steps:
    """Flow: make the head known to the backend and picture it; returns (HeadInfo, pixels)."""
    info = yield from session.head_steps(model, subject, style)
    frame = yield session.connected().submit_render_frame(
        info.head_id, np.zeros(52), _FROM, _SIZE, _SIZE
    )
    return info, frame.rgba


def show(info: Any, rgba: Any) -> Look:
    """Put the picture of a head that the backend knows into the album."""
    look = Look(info.model, info.subject, info.style)
    album.put(look.picture, rgba)
    return look
