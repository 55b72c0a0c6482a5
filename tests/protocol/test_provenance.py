"""The note inside a picture: other programs read it, and the pixels stay as they are."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from head360 import provenance
from head360.datasets import png

PIXELS = np.random.default_rng(0).integers(0, 255, (7, 5, 4)).astype(np.uint8)


def test_pillow_reads_the_note_and_the_same_pixels() -> None:
    note = provenance.facts("Zoë", "ann", None, "head360 fit")
    assert note["style"] == "bald"
    tagged = provenance.tag(png.encode(PIXELS), note)
    assert png.damage(tagged) == ""
    with Image.open(io.BytesIO(tagged)) as picture:
        picture.load()
        assert json.loads(picture.text["head360"]) == note
        assert np.array_equal(np.asarray(picture), PIXELS)
    assert provenance.read(tagged) == note


def test_a_picture_has_one_note_and_the_same_note_gives_the_same_bytes() -> None:
    plain = png.encode(PIXELS)
    first = provenance.tag(plain, provenance.facts("a"))
    second = provenance.tag(first, provenance.facts("b"))
    assert second == provenance.tag(plain, provenance.facts("b"))
    assert provenance.read(second) == provenance.facts("b")


def test_a_note_of_others_stays() -> None:
    buffer = io.BytesIO()
    from PIL.PngImagePlugin import PngInfo

    theirs = PngInfo()
    theirs.add_itxt("Comment", "hello")
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=theirs)
    tagged = provenance.tag(buffer.getvalue(), provenance.facts("a"))
    with Image.open(io.BytesIO(tagged)) as picture:
        assert picture.text["Comment"] == "hello"


def test_what_is_no_picture() -> None:
    plain = png.encode(PIXELS)
    assert provenance.read(plain) is None
    for data in (b"", b"\xff\xd8 jpeg", plain[:20]):
        with pytest.raises(ValueError, match="PNG"):
            provenance.tag(data, {})
    tagged = provenance.tag(plain, provenance.facts("a"))
    for end in range(len(tagged)):
        provenance.read(tagged[:end])  # a torn file is not an error
