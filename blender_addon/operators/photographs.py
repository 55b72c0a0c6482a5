"""Photographs for a fit: reading them, and what is said about them in the words of the buttons."""

from __future__ import annotations

from head360.errors import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_BUTTONS = {"--style": "Hair", "--face": "Face"}  # of the command line, and here


def read_photos(paths, limits):
    """``client.Photo`` of every file. Reads files: never on the main thread.

    Raises:
        BadInput: a file cannot be read, is no picture, or is too large.
    """
    from head360.client import Photo

    if len(paths) > limits.photos:
        raise BadInput(f"Choose at most {limits.photos} photographs of one person.")
    photos = []
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput(f"{path.name} is not a photograph: choose JPEG, PNG, WebP, TIFF or BMP.")
        try:
            size = path.stat().st_size
            if size > limits.photo_bytes:
                raise BadInput(
                    f"{path.name} has {size >> 20} MiB, more than {limits.photo_bytes >> 20}: "
                    "save a smaller copy."
                )
            photos.append(Photo(path.name, path.read_bytes()))
        except OSError as error:
            raise BadInput(
                f"The photograph {path} cannot be read ({error.strerror}): choose another file."
            ) from error
    return photos


def spoken(text: str) -> str:
    """What the backend says, without options of a command line that nobody typed."""
    for option, button in _BUTTONS.items():
        text = text.replace(option, button)
    return text
