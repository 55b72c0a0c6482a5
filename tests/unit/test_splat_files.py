"""Splats as PLY: the layout others read, and clear sentences about files that are none."""

from __future__ import annotations

import numpy as np
import pytest

from head360.errors import BadInput
from head360.geometry.splat32 import write_splat32
from head360.geometry.splatfile import SplatCloud, field_names, read_splats, write_splats


def cloud(count: int = 20, coefficients: int = 16, seed: int = 0) -> SplatCloud:
    rng = np.random.default_rng(seed)
    turns = rng.normal(size=(count, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    arrays = (
        rng.normal(size=(count, 3)) * 0.1, turns, rng.uniform(0.001, 0.01, (count, 3)),
        rng.normal(size=count) * 3, rng.normal(size=(count, coefficients, 3)),
    )  # fmt: skip
    return SplatCloud(*(a.astype(np.float32) for a in arrays))


def plain_reader(data: bytes) -> dict[str, np.ndarray]:
    """Knows only what the PLY format says: floats, named in the header, row by row."""
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(lines[2].removeprefix("element vertex "))
    names = [line.removeprefix("property float ") for line in lines[3:]]
    table = np.frombuffer(body, "<f4").reshape(count, len(names))
    return dict(zip(names, table.T, strict=True))


def test_the_file_has_the_fields_others_expect(tmp_path) -> None:
    splats = cloud()
    path = write_splats(tmp_path / "a.ply", splats)
    table = plain_reader(path.read_bytes())
    assert len(table) == 62
    assert list(table)[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert list(table)[-8:] == [
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    np.testing.assert_array_equal(table["y"], splats.means[:, 1])
    np.testing.assert_allclose(1 / (1 + np.exp(-table["opacity"])), splats.opacities, rtol=1e-5)
    np.testing.assert_allclose(np.exp(table["scale_2"]), splats.scales[:, 2], rtol=1e-5)
    np.testing.assert_array_equal(table["rot_0"], splats.quaternions[:, 0])  # scalar first
    np.testing.assert_array_equal(table["f_dc_1"], splats.sh[:, 0, 1])
    # Channel-major: 15 of red, 15 of green, 15 of blue.
    np.testing.assert_array_equal(table["f_rest_0"], splats.sh[:, 1, 0])
    np.testing.assert_array_equal(table["f_rest_14"], splats.sh[:, 15, 0])
    np.testing.assert_array_equal(table["f_rest_15"], splats.sh[:, 1, 1])
    np.testing.assert_array_equal(table["f_rest_44"], splats.sh[:, 15, 2])


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_what_is_written_is_read(coefficients: int, tmp_path) -> None:
    splats = cloud(coefficients=coefficients)
    back = read_splats(write_splats(tmp_path / "a.ply", splats))
    for name in ("means", "quaternions", "logits"):
        np.testing.assert_allclose(getattr(back, name), getattr(splats, name), atol=1e-6)
    np.testing.assert_allclose(back.scales, splats.scales, rtol=1e-5)
    np.testing.assert_array_equal(back.sh[:, :coefficients], splats.sh)
    assert not back.sh[:, coefficients:].any()


def test_other_orders_types_and_further_fields_are_read(tmp_path) -> None:
    splats = cloud(5, 1)
    rows = [
        ("double", "rot_3", splats.quaternions[:, 3]), ("uchar", "red", np.arange(5)),
        *(("float", f"rot_{k}", splats.quaternions[:, k]) for k in range(3)),
        *(("float", f"scale_{k}", np.log(splats.scales[:, k])) for k in range(3)),
        *(("float", f"f_dc_{k}", splats.sh[:, 0, k]) for k in range(3)),
        ("float", "opacity", splats.logits),
        *(("float", axis, splats.means[:, k]) for k, axis in enumerate("xyz")),
    ]  # fmt: skip
    codes = {"double": "<f8", "float": "<f4", "uchar": "u1"}
    table = np.zeros(5, np.dtype([(name, codes[kind]) for kind, name, _ in rows]))
    for _, name, values in rows:
        table[name] = values
    header = "ply\nformat binary_little_endian 1.0\ncomment made by hand\nelement vertex 5\n"
    header += "".join(f"property {kind} {name}\n" for kind, name, _ in rows) + "end_header\n"
    path = tmp_path / "b.ply"
    path.write_bytes(header.encode() + table.tobytes())
    back = read_splats(path)
    np.testing.assert_allclose(back.means, splats.means)
    np.testing.assert_allclose(back.quaternions, splats.quaternions, atol=1e-6)
    assert back.sh.shape == (5, 1, 3)


def broken(path, change) -> str:
    """The sentence about a file after ``change`` of its bytes."""
    data = write_splats(path, cloud()).read_bytes()
    path.write_bytes(change(data))
    with pytest.raises(BadInput) as caught:
        read_splats(path)
    return str(caught.value)


@pytest.mark.parametrize("field", ["opacity", "rot_2", "f_dc_0", "z", "f_rest_7"])
def test_a_missing_field_is_named(field: str, tmp_path) -> None:
    line = f"property float {field}\n".encode()
    said = broken(tmp_path / "a.ply", lambda d: d.replace(line, b"property float other\n"))
    assert f"lacks the field {field}" in said


def test_a_truncated_file_says_how_much_is_there(tmp_path) -> None:
    said = broken(tmp_path / "a.ply", lambda data: data[:-300])
    assert "truncated" in said
    assert "18 of 20" in said
    assert "header is cut off" in broken(tmp_path / "b.ply", lambda data: data[:100])


def swapped(data: bytes) -> bytes:
    header, body = data.split(b"end_header\n", 1)
    return header + b"end_header\n" + np.frombuffer(body, "<f4").astype(">f4").tobytes()


def test_the_wrong_byte_order_is_recognised(tmp_path) -> None:
    little, big = b"binary_little_endian", b"binary_big_endian"
    assert "is big endian" in broken(tmp_path / "a.ply", lambda d: swapped(d).replace(little, big))
    assert "numbers are big endian" in broken(tmp_path / "b.ply", swapped)
    assert "ascii" in broken(tmp_path / "c.ply", lambda d: d.replace(little, b"ascii"))


def test_other_files_are_refused(tmp_path) -> None:
    assert "no PLY" in broken(tmp_path / "a.ply", lambda _: b"P6 picture")
    nan = np.float32(np.nan).tobytes()
    said = broken(tmp_path / "b.ply", lambda d: d[:-4] + nan)
    assert "not finite" in said
    with pytest.raises(BadInput, match="Cannot read"):
        read_splats(tmp_path / "none.ply")
    with pytest.raises(ValueError, match="finite"):
        write_splats(tmp_path / "c.ply", SplatCloud(*(a * np.nan for a in vars(cloud()).values())))
    assert len(field_names()) == 62


def test_splat_files_have_32_bytes_a_gaussian(tmp_path) -> None:
    """Read by hand, after the format's own words."""
    splats = cloud(12, 4)
    kept = write_splat32(tmp_path / "a.splat", splats, keep_order=True).read_bytes()
    assert len(kept) == 12 * 32
    floats = np.frombuffer(kept, "<f4").reshape(12, 8)
    bytes8 = np.frombuffer(kept, np.uint8).reshape(12, 32)
    np.testing.assert_array_equal(floats[:, :3], splats.means)
    np.testing.assert_array_equal(floats[:, 3:6], splats.scales)  # no logarithm
    colours = np.clip(0.28209479 * splats.sh[:, 0] + 0.5, 0, 1)
    np.testing.assert_allclose(bytes8[:, 24:27] / 255, colours, atol=0.003)
    np.testing.assert_allclose(bytes8[:, 27] / 255, splats.opacities, atol=0.003)
    turns = (bytes8[:, 28:].astype(float) - 128) / 128
    assert np.abs((turns * splats.quaternions).sum(1)).min() > 0.99  # scalar first
    sorted_ = write_splat32(tmp_path / "b.splat", splats).read_bytes()
    seen = np.prod(splats.scales, 1) * splats.opacities
    order = np.argsort(-seen)
    np.testing.assert_array_equal(np.frombuffer(sorted_, "<f4").reshape(12, 8), floats[order])
    with pytest.raises(ValueError, match="finite"):
        write_splat32(
            tmp_path / "c.splat", SplatCloud(*(a * np.nan for a in vars(splats).values()))
        )
