"""Model packages: a folder or zip with ``manifest.json``, ``*.safetensors``, ``thumbnail.png``.

Never pickle. Every file is listed in the manifest with size and sha256 and checked before use.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from head360.errors import ModelInvalid
from head360.files import writable_folder, write_bytes, write_text

SCHEMA = 1
# What ``zipfile`` raises at damaged, encrypted and unknown compressed members.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
MANIFEST = "manifest.json"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the package at ``path``, schema checked.

    Raises:
        ModelInvalid: no package there, not JSON, or a schema this version cannot read.
    """
    try:
        manifest = json.loads(_read(path, MANIFEST))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelInvalid(
            f"The manifest of the model {path} is not valid JSON: restore or reinstall the model."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise ModelInvalid(
            f"The model {path} has package schema {found}, this version reads {SCHEMA}: "
            "update Head360 or export the model again."
        )
    return manifest


def read_file(path: Path, manifest: dict[str, Any], name: str) -> bytes:
    """One listed file of a package, its hash verified.

    Raises:
        ModelInvalid: not listed, missing or damaged.
    """
    files = manifest.get("files")
    entry = files.get(name) if isinstance(files, dict) else None
    if not isinstance(entry, dict):
        raise ModelInvalid(f"The model {path} does not list {name}: reinstall the model.")
    data = _read(path, name)
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise ModelInvalid(
            f"{name} of the model {path} is damaged (its checksum differs): reinstall the model."
        )
    return data


def read_arrays(path: Path, manifest: dict[str, Any], name: str) -> dict[str, NDArray]:
    """The arrays of one safetensors file, finite throughout.

    Raises:
        ModelInvalid: damaged, or it holds NaN or infinity.
    """
    try:
        arrays = load_safetensors(read_file(path, manifest, name))
    except SafetensorError as error:
        raise ModelInvalid(
            f"{name} of the model {path} cannot be read: reinstall the model."
        ) from error
    for key, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ModelInvalid(f"{name} of the model {path} holds non-finite numbers in {key}.")
    return arrays


def _read(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        if path.is_file():
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
    except (OSError, KeyError, *_ZIP_ERRORS) as error:
        raise ModelInvalid(
            f"The model {path} lacks a readable {name}: restore or reinstall the model."
        ) from error
    raise ModelInvalid(f"There is no model at {path}: check the name (`head360 models` lists all).")


def write_package(
    folder: Path, manifest: dict[str, Any], files: dict[str, bytes], arrays: dict[str, dict]
) -> None:
    """Write a package folder; the manifest goes last, so a torn package is never readable.

    Args:
        folder: created if needed.
        manifest: without ``schema`` and ``files``, which are filled in here.
        files: name → bytes.
        arrays: safetensors name → {key: array}.
    """
    folder = writable_folder(folder)
    blobs = dict(files)
    for name, tensors in arrays.items():
        contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        blobs[name] = save_safetensors(contiguous)
    (folder / MANIFEST).unlink(missing_ok=True)
    listing = {}
    for name, data in blobs.items():
        write_bytes(folder / name, data)
        listing[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    document = {"schema": SCHEMA, **manifest, "files": listing}
    write_text(folder / MANIFEST, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def quantise(values: NDArray, bits: int = 8) -> tuple[NDArray, NDArray[np.float32]]:
    """Symmetric integers with one scale per last-axis channel: (…, C) → (intN (…, C), (C,))."""
    limit = 2 ** (bits - 1) - 1
    peak = np.abs(values).reshape(-1, values.shape[-1]).max(0)
    scale = (np.maximum(peak, 1e-8) / limit).astype(np.float32)
    whole = np.clip(np.rint(values / scale), -limit, limit)
    return whole.astype(np.int8 if bits == 8 else np.int16), scale


def png_bytes(rgba: NDArray) -> bytes:
    """PNG of a uint8 (H, W, 3|4) picture."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
