"""Gaussians as a PLY that other programs read: the layout of 3-D Gaussian Splatting's own files.

Binary little endian, 62 float32 a Gaussian: ``x y z nx ny nz f_dc_0…2 f_rest_0…44 opacity
scale_0…2 rot_0…3``. Opacities are stored before the sigmoid, scales before the exponential,
quaternions scalar first; ``f_rest`` is channel-major: 15 red, 15 green, 15 blue. Harmonics are
stored up to degree 3 whatever the head uses, normals are zeros: strict readers want both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.files import write_bytes

Floats = NDArray[np.float32]

COEFFICIENTS = (1, 4, 9, 16)
_FULL = 16
_MAGIC = b"ply"
_END = b"end_header\n"
_MAX_HEADER = 1 << 16
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_NEEDED = (
    "x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
    "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
_ABSURD = 1e6  # metres, or logarithms: swapped bytes give such numbers, cameras never do


@dataclass(frozen=True)
class SplatCloud:
    """N Gaussians at one moment.

    Attributes:
        means: (N, 3) float32 head space, metres.
        quaternions: (N, 4) float32 unit, scalar first.
        scales: (N, 3) float32 standard deviations, metres.
        logits: (N,) float32; opacity = 1 / (1 + e^−logit).
        sh: (N, K, 3) float32 harmonics, K = 1, 4, 9 or 16; colour = max(0, sh + ½), sRGB.
    """

    means: Floats
    quaternions: Floats
    scales: Floats
    logits: Floats
    sh: Floats

    @property
    def opacities(self) -> Floats:
        """(N,) float32 in (0, 1)."""
        return np.asarray(1 / (1 + np.exp(-self.logits.astype(np.float64))), dtype=np.float32)


def field_names() -> list[str]:
    """The 62 properties in their order."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{k}" for k in range(3)),
        *(f"f_rest_{k}" for k in range(3 * (_FULL - 1))),
        "opacity",
        *(f"scale_{k}" for k in range(3)),
        *(f"rot_{k}" for k in range(4)),
    ]


def write_splats(path: Path | str, cloud: SplatCloud) -> Path:
    """Write a PLY atomically; returns its path.

    Raises:
        BadInput: the disk refuses. ValueError: arrays that do not fit, or numbers not finite.
    """
    count = len(cloud.means)
    if cloud.sh.ndim != 3 or cloud.sh.shape[1] not in COEFFICIENTS:
        raise ValueError(f"harmonics of shape {cloud.sh.shape}: (N, 1, 4, 9 or 16, 3) is wanted")
    full = np.zeros((count, _FULL, 3), dtype=np.float32)
    full[:, : cloud.sh.shape[1]] = cloud.sh
    table = np.concatenate(
        [
            cloud.means, np.zeros((count, 3)), full[:, 0],
            full[:, 1:].transpose(0, 2, 1).reshape(count, -1), cloud.logits[:, None],
            np.log(cloud.scales), cloud.quaternions,
        ],
        axis=1,
    ).astype("<f4")  # fmt: skip
    if not np.isfinite(table).all():
        raise ValueError("a Gaussian holds numbers that are not finite")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in field_names()]
    return write_bytes(path, "\n".join(header).encode() + b"\n" + _END + table.tobytes())


def read_splats(path: Path | str) -> SplatCloud:
    """Read a PLY of Gaussians; properties may come in any order and type, others are passed over.

    Raises:
        BadInput: not such a file; the sentence says which field is missing, how much is cut off, or
            that the bytes are in the wrong order.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"Cannot read {path} ({error.strerror}): choose a PLY file.") from error
    count, properties, start = _header(path, data)
    names = [name for name, _ in properties]
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(
            f"{path} lacks the field {missing[0]}{more}: it is no Gaussian splat; export it as a "
            "3DGS PLY that is not compressed."
        )
    kind = np.dtype([(name, "<" + code) for name, code in properties])
    whole = (len(data) - start) // kind.itemsize
    if whole < count:
        raise BadInput(
            f"{path} is truncated: it holds {whole} of {count} Gaussians; copy or export it again."
        )
    table = np.frombuffer(data, kind, count, start)
    rest = [int(n[7:]) for n in names if n.startswith("f_rest_") and n[7:].isdigit()]
    gap = next((k for k in range(max(rest, default=-1)) if k not in rest), None)
    if gap is not None:
        raise BadInput(f"{path} lacks the field f_rest_{gap}: export it again.")
    if len(rest) % 3 or 1 + len(rest) // 3 not in COEFFICIENTS:
        raise BadInput(
            f"{path} has {len(rest)} fields f_rest_…: harmonics have 0, 9, 24 or 45 of them; "
            "export it again."
        )
    _demand_sense(path, table)
    return _cloud(table, len(rest) // 3)


def _header(path: Path, data: bytes) -> tuple[int, list[tuple[str, str]], int]:
    """Number of vertices, their properties (name, numpy code), and where the data begins."""
    text = data[:_MAX_HEADER].replace(b"\r\n", b"\n")
    end = text.find(_END)
    if not text.startswith(_MAGIC) or end < 0:
        raise BadInput(f"{path} is no PLY file (or its header is cut off): choose another file.")
    shift = data[:_MAX_HEADER].find(b"end_header") + len(b"end_header")
    start = shift + (2 if data[shift : shift + 2] == b"\r\n" else 1)
    lines = [line.split() for line in text[:end].decode("latin-1").split("\n")]
    layout = next((line[1] for line in lines if line[:1] == ["format"] and len(line) > 1), "")
    if layout == "binary_big_endian":
        raise BadInput(
            f"{path} is big endian: splats are binary_little_endian; export it again as that."
        )
    if layout != "binary_little_endian":
        raise BadInput(
            f"{path} is written as {layout or 'nothing known'}: splats are binary_little_endian; "
            "export it again as that."
        )
    elements = [line for line in lines if line[:1] == ["element"]]
    if not elements or elements[0][1:2] != ["vertex"]:
        raise BadInput(f"{path} does not begin with the element vertex: it is no Gaussian splat.")
    try:
        count = int(elements[0][2])
        begin = lines.index(elements[0]) + 1
        stop = lines.index(elements[1]) if len(elements) > 1 else len(lines)
        properties = [
            (line[2], _TYPES[line[1]]) for line in lines[begin:stop] if line[:1] == ["property"]
        ]
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(f"The header of {path} is damaged ({error}): export it again.") from error
    if count < 0 or len({name for name, _ in properties}) != len(properties):
        raise BadInput(f"The header of {path} is damaged: export it again.")
    return count, properties, start


def _demand_sense(path: Path, table: NDArray) -> None:
    """Raise BadInput for numbers that are none, and for bytes in the wrong order."""

    def senseless(rows: NDArray) -> bool:
        with np.errstate(all="ignore"):
            picked = [np.asarray(rows[name], dtype=np.float64) for name in _NEEDED]
            return any(
                not np.isfinite(c).all() or np.abs(c).max(initial=0) > _ABSURD for c in picked
            )

    if not senseless(table):
        return
    if not senseless(table.view(table.dtype.newbyteorder())):
        raise BadInput(
            f"{path} says it is little endian, but its numbers are big endian: export it again."
        )
    raise BadInput(f"{path} holds numbers that are not finite or absurd: export it again.")


def _cloud(table: NDArray, rest: int) -> SplatCloud:
    def columns(*names: str) -> Floats:
        return np.stack([table[name].astype(np.float32) for name in names], 1)

    turns = columns(*(f"rot_{k}" for k in range(4)))
    length = np.linalg.norm(turns, axis=1, keepdims=True)
    turns = np.where(length > 0, turns / np.where(length > 0, length, 1), (1.0, 0.0, 0.0, 0.0))
    plain = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        more = columns(*(f"f_rest_{k}" for k in range(3 * rest)))
        plain = np.concatenate([plain, more.reshape(-1, 3, rest).transpose(0, 2, 1)], 1)
    return SplatCloud(
        columns("x", "y", "z"), turns.astype(np.float32),
        np.exp(columns("scale_0", "scale_1", "scale_2")),
        table["opacity"].astype(np.float32), np.ascontiguousarray(plain),
    )  # fmt: skip
