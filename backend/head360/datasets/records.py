"""What both layouts say about themselves: people, styles, licences; and how JSON is read."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from head360.errors import BadInput
from head360.files import write_bytes

MANIFEST = "manifest.json"
LANDMARKS, DENSE = 68, 468
T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.I)  # never files on Windows


class Head(msgspec.Struct):
    """The two fields of a manifest that say how to read the others."""

    kind: Any = None
    schema: Any = None


class Made(msgspec.Struct):
    """What a finished data set was drawn with; an artist's has no seed."""

    seed: int | None = None
    size: int | None = None
    key: str | None = None


class Notice(msgspec.Struct, forbid_unknown_fields=True):
    """Licence of material that went into the pictures."""

    what: str
    licence: str
    holder: str


class SubjectRecord(msgspec.Struct, omit_defaults=True):
    """One sitter. Only ``name``, ``person`` and ``style`` are known of an artist's own character.

    Attributes:
        name: of the sitter, also the folder's name.
        person: who it is; the same person may sit with several styles under several names.
        style: hair that is worn.
        seed: of the shape.
        shape: identity coefficients of the bilinear model; empty where there are none.
        looks: skin, eyes, brows and so on, as the generator calls them.
    """

    name: str
    person: str
    style: str
    seed: int | None = None
    shape: list[float] = []
    looks: dict[str, Any] = {}


class StyleRecord(msgspec.Struct):
    """One hair style that occurs in the data set."""

    name: str
    label: str


def decode(path: Path, kind: type[T]) -> T:
    """Read a JSON file of a known kind.

    Raises:
        BadInput: missing, unreadable, truncated or of another form; the sentence names the file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise BadInput(
            f"Cannot read {path} ({error.strerror}): choose a complete data set."
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is damaged or not of this kind ({error}): make the data set again."
        ) from error


def spare_finished(root: Path, **same: Any) -> None:
    """See that a finished data set of the studio is not overwritten by another one.

    An artist's (without a seed) may be: it is photographed again when the character has changed.

    Args:
        root: folder that will be written.
        same: fields of :class:`Made` in which both must agree.

    Raises:
        BadInput: there is one, and it was made with other settings.
    """
    path = root / MANIFEST
    try:
        made = decode(path, Made)
    except BadInput:
        return  # none, or not a whole one
    if made.seed is not None and any(getattr(made, name) != value for name, value in same.items()):
        raise BadInput(
            f"{root} already holds a finished data set that was made with other settings (seed "
            f"{made.seed}): choose another folder, or delete {MANIFEST} to make it anew."
        )


# Named like a writer's leftover: it goes with the others when nobody goes on with the set.
_STAMP = ".settings.tmp"


def spare_unfinished(root: Path, **settings: Any) -> None:
    """See that an interrupted data set is not replaced by one with other settings.

    Args:
        root: folder that will be written.
        settings: what both must agree in, as JSON values.

    Raises:
        BadInput: one with other settings was begun here.
    """
    try:
        begun = msgspec.json.decode((root / _STAMP).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return
    other = [f"{name} {value}" for name, value in begun.items() if settings.get(name) != value]
    if other:
        raise BadInput(
            f"{root} holds an unfinished data set with {' and '.join(other)}: go on with these "
            f"settings, choose another folder, or delete {root / _STAMP} to give it up."
        )


def stamp_unfinished(root: Path, **settings: Any) -> None:
    """Leave a note of the settings for :func:`spare_unfinished`."""
    write_bytes(root / _STAMP, msgspec.json.encode(settings))


def unstamp(root: Path) -> None:
    """Take the note away: the set is whole."""
    (root / _STAMP).unlink(missing_ok=True)


def safe_name(name: str) -> bool:
    """Whether a name may be a folder on every system and sorts as the release's loader sorts."""
    return (
        _NAME.fullmatch(name) is not None
        and _DEVICE.fullmatch(name) is None
        and not name.endswith(".")
        and len(name) <= 64
    )


def inside(place: str) -> bool:
    """Whether a path of a manifest stays in the data set and is written the one portable way."""
    path = PurePosixPath(place)
    return (
        bool(path.parts)
        and place.isprintable()
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in place
        and ":" not in place
        and path.as_posix() == place
    )
