"""Bytes in, a typed message or a WireError out; nothing else, whatever the bytes are."""

from __future__ import annotations

import json
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from head360 import errors, protocol
from head360.protocol import ANSWERS, CHUNK, REQUESTS, Limits, WireError
from head360.rendering.cameras import orbit

LABEL = orbit(20, 10).flat25()


def requests() -> list[list[bytes]]:
    """One valid request of every kind."""
    weights = np.zeros(52, np.float32)
    bodies = [
        (protocol.Hello("x"), {}),
        (protocol.Ping(), {}),
        (protocol.GetStatus(), {}),
        (protocol.ListModels(), {}),
        (protocol.CreateHead("starter", "ann", None), {}),
        (protocol.GetMesh("h"), {}),
        (protocol.RenderFrame("h", 8, 8, "v"), {"blendshapes": weights, "camera": LABEL}),
        (
            protocol.RenderSequence("h", 8, 8),
            {
                "numbers": np.arange(3, dtype=np.int32),
                "blendshapes": np.zeros((3, 52), np.float32),
                "cameras": np.stack([LABEL] * 3),
            },
        ),
        (protocol.ExtractSurface("h", 64), {"blendshapes": weights}),
        (
            protocol.FitHead("starter", "Mia", ["a.jpg", "b.jpg"], "mine"),
            {"photo.0": np.zeros(9, np.uint8), "photo.1": np.zeros(5, np.uint8)},
        ),
        (protocol.EditHead("h", "Mia", "filter:aged", strength=0.5), {}),
        (protocol.ListEditors(), {}),
        (protocol.CancelJob("1"), {}),
        (protocol.Acknowledge("1", 2), {}),
        (protocol.Shutdown(), {}),
    ]
    return [
        [bytes(frame) for frame in REQUESTS.pack(body, id=f"r{index}", blobs=blobs, ttl=3.0)]
        for index, (body, blobs) in enumerate(bodies)
    ]


def test_every_request_survives_the_round_trip_and_its_check() -> None:
    for frames in requests():
        message = REQUESTS.unpack(frames)
        protocol.check_request(message, Limits())
        again = REQUESTS.pack(message.body, id=message.id, blobs=message.blobs, ttl=message.ttl)
        assert [bytes(frame) for frame in again] == frames


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(sorted(protocol.DTYPES)),
    shape=st.lists(st.integers(0, 7), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_arrays_survive_the_round_trip(dtype: str, shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 200, shape).astype(protocol.DTYPES[dtype])
    frames = ANSWERS.pack(protocol.Pong(), id="1", blobs={"a": array, "b": b"xyz"})
    blobs = ANSWERS.unpack(frames).blobs
    assert np.array_equal(blobs["a"], array)
    assert blobs["a"].dtype == array.dtype
    assert blobs["b"].tobytes() == b"xyz"
    assert not blobs["a"].flags.writeable


@pytest.mark.parametrize("size", [CHUNK - 4, CHUNK, CHUNK + 4, 3 * CHUNK])
def test_long_arrays_are_cut_into_chunks(size: int) -> None:
    array = np.random.default_rng(size).integers(0, 99, size // 4).astype(np.int32)
    frames = ANSWERS.pack(protocol.Pong(), id="1", blobs={"a": array, "empty": array[:0]})
    assert len(frames) == 1 + -(-size // CHUNK)
    assert max(len(frame) for frame in frames) <= CHUNK
    assert np.array_equal(ANSWERS.unpack(frames).blobs["a"], array)


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    with pytest.raises(WireError, match="limit"):
        REQUESTS.pack(protocol.CreateHead("x" * protocol.MAX_HEADER), id="1")
    with pytest.raises(WireError, match="limit"):
        REQUESTS.pack(protocol.Ping(), id="1", blobs={"a": np.zeros((65 << 20) // 8)})
    with pytest.raises(WireError, match="do not travel"):
        REQUESTS.pack(protocol.Ping(), id="1", blobs={"a": np.zeros(3, np.float16)})


def header(**changes: object) -> bytes:
    """A valid header of a frame request, with fields replaced."""
    content = json.loads(requests()[6][0])
    content.update(changes)
    return json.dumps(content).encode()


def blob(name: str = "a", dtype: str = "u8", shape: object = (4,)) -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape}


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([], "LIMIT"),
        ([b""], "LIMIT"),
        ([b" " * (protocol.MAX_HEADER + 1)], "LIMIT"),
        ([b"{}"] * (REQUESTS.max_frames + 1), "LIMIT"),
        ([b"[" * 200_000], "BAD_REQUEST"),
        ([b'{"v":1,"id":"a","body":{"type":"ping"},"x":' + b"[" * 100_000], "BAD_REQUEST"),
        ([b'{"v":1,"id":"\xff","body":{"type":"ping"}}'], "BAD_REQUEST"),
        ([header(v=2)], "VERSION"),
        ([b'{"v":9,"id":"a","body":{"type":"from the future"}}'], "VERSION"),
        ([header(body={"type": "from the future"})], "UNSUPPORTED"),
        ([header(body={})], "BAD_REQUEST"),
        ([header(id="")], "BAD_REQUEST"),
        ([header(id="x" * 65)], "BAD_REQUEST"),
        ([header(re="x" * 65)], "BAD_REQUEST"),
        ([header(ttl_ms=0)], "BAD_REQUEST"),
        ([header(ttl_ms=10**12)], "BAD_REQUEST"),
        ([header()], "BAD_REQUEST"),
        ([header(blobs=[blob()]), b"12345"], "BAD_REQUEST"),
        ([header(blobs=[blob()]), b"1234", b"5"], "BAD_REQUEST"),
        ([header(blobs=[blob(), blob()]), b"1234", b"1234"], "BAD_REQUEST"),
        ([header(blobs=[blob(name="../x")]), b"1234"], "BAD_REQUEST"),
        ([header(blobs=[blob(dtype="O")]), b"1234"], "BAD_REQUEST"),
        ([header(blobs=[blob(shape=[-4])]), b"1234"], "BAD_REQUEST"),
        ([header(blobs=[blob(shape=[1] * 7)]), b"1"], "BAD_REQUEST"),
        ([header(blobs=[blob(shape=[2**31])]), b"1"], "BAD_REQUEST"),
        ([header(blobs=[blob(shape=[2**30, 2**30, 2**30])]), b"1"], "LIMIT"),
        ([header(blobs=[blob(name=f"n{i}", shape=[0]) for i in range(65)])], "LIMIT"),
    ],
)
def test_broken_messages_are_refused_before_anything_is_allocated(
    frames: list[bytes], code: str
) -> None:
    with pytest.raises(WireError) as caught:
        REQUESTS.unpack(frames)
    assert caught.value.code == code


def test_unknown_fields_of_a_newer_minor_are_ignored() -> None:
    content = json.loads(requests()[1][0])
    content["minor"] = 7
    content["novel"] = content["body"]["novel"] = {"a": [1]}
    message = REQUESTS.unpack([json.dumps(content).encode()])
    assert isinstance(message.body, protocol.Ping)
    assert message.minor == 7


def mutate(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """Damage a message: bytes, whole values of its header, or its frames."""
    result = list(frames)
    kind = rng.randrange(6)
    raw = bytearray(result[0])
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    elif kind == 1:
        start = rng.randrange(len(raw))
        del raw[start : start + rng.randint(1, 40)]
    elif kind == 2:
        values = ["-1", "1e999", "NaN", "99999999999999999999", '"x"', "[]", "{}", "null", "0.5"]
        text = raw.decode()
        numbers = [i for i, letter in enumerate(text) if letter.isdigit()]
        place = rng.choice(numbers)
        raw = bytearray((text[:place] + rng.choice(values) + text[place + 1 :]).encode())
    elif kind == 3:
        raw = bytearray(rng.randbytes(rng.randint(0, 300)))
    elif kind == 4:
        result.insert(rng.randint(1, len(result)), rng.randbytes(rng.randint(0, 300)))
    elif len(result) > 1:
        place = rng.randrange(1, len(result))
        result[place] = rng.choice([result[place][:-1], result[place] * 2, b"", b"\xff" * 208])
    result[0] = bytes(raw)
    return result


def test_twenty_thousand_damaged_messages_raise_nothing_unexpected() -> None:
    rng = random.Random(360)
    vectors = requests()
    refused = 0
    for _ in range(20_000):
        frames = mutate(rng, rng.choice(vectors))
        try:
            protocol.check_request(REQUESTS.unpack(frames), Limits())
        except (WireError, errors.BadInput):
            refused += 1
        protocol.peek_header(frames[0])
    assert refused > 10_000


@pytest.mark.parametrize(
    ("blobs", "body"),
    [
        ({"blendshapes": np.zeros(51, np.float32), "camera": LABEL}, None),
        ({"blendshapes": np.zeros(52), "camera": LABEL}, None),
        ({"blendshapes": np.zeros((1, 52), np.float32), "camera": LABEL}, None),
        ({"camera": LABEL}, None),
        ({"blendshapes": np.full(52, np.inf, np.float32), "camera": LABEL}, None),
        ({"blendshapes": np.full(52, -0.1, np.float32), "camera": LABEL}, None),
        ({"blendshapes": np.zeros(52, np.float32), "camera": LABEL * np.nan}, None),
        ({"blendshapes": np.zeros(52, np.float32), "camera": LABEL * 1.1}, None),
        ({"blendshapes": np.zeros(52, np.float32), "camera": np.zeros(25)}, None),
        ({}, protocol.RenderFrame("h", -1, 8)),
        ({}, protocol.RenderFrame("h", 4097, 8)),
        ({}, protocol.ExtractSurface("h", 7)),
        ({"x": np.zeros(3)}, protocol.Ping()),
    ],
)
def test_values_that_cannot_be_rendered_are_refused(
    blobs: dict[str, np.ndarray], body: object
) -> None:
    body = body or protocol.RenderFrame("h", 8, 8)
    message = REQUESTS.unpack(REQUESTS.pack(body, id="1", blobs=blobs))
    with pytest.raises((WireError, errors.BadInput)):
        protocol.check_request(message, Limits())


def test_limits_hold_just_over_and_give_way_just_under() -> None:
    limits = Limits(sequence_frames=3)
    message = REQUESTS.unpack(requests()[7])
    protocol.check_request(message, limits)
    with pytest.raises(WireError, match="takes 1–2"):
        protocol.check_request(message, msgspec.structs.replace(limits, sequence_frames=2))


def test_errors_keep_their_kind_over_the_wire() -> None:
    for kind in (errors.BadInput, errors.ModelInvalid, errors.NoDevice, errors.TryAgain):
        back = protocol.exception(protocol.failure(kind("what to do")))
        assert type(back) is kind
        assert str(back) == "what to do"
    assert isinstance(protocol.exception(protocol.Failure("NEW", "x")), errors.Head360Error)
    lost = protocol.exception(protocol.failure(WireError("x", "WORKER_LOST")))
    assert isinstance(lost, errors.TryAgain)


def fit(**changes: object) -> protocol.Message:
    """A request to fit a head to one photograph, with fields or blobs replaced."""
    blobs = changes.pop("blobs", {"photo.0": np.zeros(9, np.uint8)})
    content = {"model": "m", "name": "n", "photos": ["a.jpg"], "consent": "mine"} | changes
    return protocol.Message("1", "", protocol.FitHead(**content), blobs)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../up"},
        {"name": ".hidden"},
        {"name": " x"},
        {"name": "a\nb"},
        {"name": "x" * 81},
        {"photos": ["/etc/passwd"]},
        {"photos": ["a", "b"]},
        {"photos": []},
        {"blobs": {"photo.1": np.zeros(9, np.uint8)}},
        {"blobs": {"photo.0": np.zeros(9, np.float32)}},
        {"blobs": {"photo.0": np.zeros((3, 3), np.uint8)}},
        {"blobs": {"photo.0": np.zeros(0, np.uint8)}},
        {"consent": ""},
        {"face": 0},
        {"steps": 0},
        {"seed": 1 << 31},
    ],
)
def test_fits_that_are_refused(changes: dict[str, object]) -> None:
    protocol.check_request(fit(), Limits())
    with pytest.raises(errors.Head360Error):
        protocol.check_request(fit(**changes), Limits())


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_becomes_a_name_that_is_accepted(text: str) -> None:
    name = protocol.tidy_name(text)
    protocol.check_request(fit(name=name, photos=[name]), Limits())
    assert protocol.tidy_name(name) == name


def test_a_tidy_name_keeps_what_it_can() -> None:
    assert protocol.tidy_name("Zoë 2.jpg") == "Zoë 2.jpg"
    assert protocol.tidy_name("C:\\me?.png") == "C__me_.png"
    assert protocol.tidy_name("x" * 100 + ".jpeg").endswith("x.jpeg")
    assert protocol.tidy_name("  . ") == "head"
