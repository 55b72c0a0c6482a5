"""Which models are installed, and which heads clients have made of them. Never imports torch.

Models are package folders or zips with a ``manifest.json``. They are looked for in the folders
given with ``--models``, in the user's own folder, and in the package; the first of a name wins.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from head360.errors import BadInput, ModelInvalid
from head360.protocol import HeadInfo, ModelInfo

MAX_MANIFEST = 8 << 20
MAX_THUMBNAIL = 1 << 20
MAX_HEADS = 4096


@dataclass(frozen=True)
class Model:
    """One installed model package: where it is, what it says, and the hash of its manifest."""

    path: Path
    info: ModelInfo
    digest: str

    def thumbnail(self) -> bytes | None:
        """PNG bytes, or None where the package has no (reasonably small) thumbnail."""
        try:
            data = _member(self.path, "thumbnail.png", MAX_THUMBNAIL)
        except ModelInvalid:
            return None
        return data if data is not None and data.startswith(b"\x89PNG") else None


def user_models_dir() -> Path:
    """The per-user folder for model packages (may not exist)."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "head360" / "models"


def builtin_models_dir() -> Path:
    """The models inside the installed package."""
    return Path(__file__).resolve().parent.parent / "data" / "models"


def read_model(path: Path) -> Model | None:
    """The model package at ``path``, or None where there is none.

    Raises:
        ModelInvalid: there is a package but its manifest is missing or cannot be read.
    """
    raw = _member(path, "manifest.json", MAX_MANIFEST)
    if raw is None:
        if path.is_dir() and any(path.glob("*.safetensors")):
            raise ModelInvalid(f"The model {path} lacks its manifest: install the model again.")
        return None
    try:
        manifest = msgspec.json.decode(raw, type=dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelInvalid(
            f"The manifest of the model {path} cannot be read: install the model again."
        ) from error
    provenance = manifest.get("provenance")
    info = ModelInfo(
        name=_text(manifest, "name") or _stem(path),
        kind=_text(manifest, "kind"),
        subjects=_names(manifest, "subjects"),
        styles=_names(manifest, "styles"),
        licence=_text(manifest, "licence") or _text(manifest, "license"),
        preset=_text(manifest, "preset"),
        note=_text(manifest, "training_data") or _text(manifest, "notices"),
        made_by=_text(provenance, "made_by") if isinstance(provenance, dict) else "",
    )
    return Model(path.resolve(), info, hashlib.sha256(raw).hexdigest())


def check_places(extra: Sequence[Path]) -> None:
    """Say which of the ``--models`` does not exist.

    Raises:
        BadInput: one of them.
    """
    for place in extra:
        if not place.exists():
            raise BadInput(f"There is no folder or model package {place}: correct --models.")


def scan(extra: Sequence[Path] = ()) -> tuple[dict[str, Model], dict[str, ModelInvalid]]:
    """Installed models by name, and what is wrong with damaged packages by the name of their file.

    An ``extra`` entry is a folder of packages or one package.
    """
    found: dict[str, Model] = {}
    damaged: dict[str, ModelInvalid] = {}
    for root in (*extra, user_models_dir(), builtin_models_dir()):
        try:
            places = [root, *sorted(root.iterdir())] if root.is_dir() else [root]
        except OSError:
            continue
        for place in places:
            try:
                model = read_model(place)
            except ModelInvalid as error:
                damaged.setdefault(_stem(place), error)  # it must not hide its neighbours
                continue
            if model is not None:
                found.setdefault(model.info.name, model)
    return found, damaged


def find_models(extra: Sequence[Path] = ()) -> dict[str, Model]:
    """Installed models by name, without the damaged ones."""
    return scan(extra)[0]


def resolve(name_or_path: str, extra: Sequence[Path] = ()) -> Model:
    """The model of that name, or the package at that path.

    Raises:
        ModelInvalid: neither exists, or the package is damaged.
    """
    models, damaged = scan(extra)
    if name_or_path in models:
        return models[name_or_path]
    path = Path(name_or_path)
    model = read_model(path) if path.exists() else None
    if model is not None:
        return model
    if name_or_path in damaged:
        raise damaged[name_or_path]
    known = ", ".join(models) or "none"
    raise ModelInvalid(
        f'There is no model "{name_or_path}": give the path of a package or one of the '
        f"installed models ({known})."
    )


@dataclass(frozen=True)
class HeadEntry:
    """A head some client made: where its model lies and the resolved choice."""

    path: str
    info: HeadInfo


class HeadsTable:
    """Models by name and heads by id, for the gateway."""

    def __init__(self, extra: Sequence[Path] = ()) -> None:
        self._extra = tuple(extra)
        self._heads: dict[str, HeadEntry] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def models(self) -> dict[str, Model]:
        """Installed models, looked up anew: a package that was just trained appears."""
        return find_models(self._extra)

    def model(self, name: str) -> Model:
        """The model of that name; never a path from the wire.

        Raises:
            ModelInvalid: there is none, or it is damaged.
        """
        models, damaged = scan(self._extra)
        if name in models:
            return models[name]
        if name in damaged:
            raise damaged[name]
        known = ", ".join(models) or "none"
        raise ModelInvalid(
            f'The backend has no model "{name}": choose one of the installed ones ({known}) or put '
            f"the package into {user_models_dir()}."
        )

    def add(self, model: Model, subject: str, style: str | None, kind: str) -> HeadInfo:
        """Register a head; the same choice of the same package gives the same id."""
        text = msgspec.json.encode([model.info.name, model.digest, subject, style])
        head_id = hashlib.sha256(text).hexdigest()[:20]
        info = HeadInfo(head_id, model.info.name, subject, style, kind or model.info.kind)
        self._heads.pop(head_id, None)
        self._heads[head_id] = HeadEntry(str(model.path), info)
        while len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        return info

    def get(self, head_id: str) -> HeadEntry | None:
        return self._heads.get(head_id)


def _stem(path: Path) -> str:
    """A package's name where its manifest tells none."""
    return path.stem if path.suffix == ".zip" else path.name


# What ``zipfile`` raises at damaged, encrypted and unknown compressed members.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError
)  # fmt: skip


def _member(path: Path, name: str, limit: int) -> bytes | None:
    """One file of a package folder or zip, if it exists and is not larger than ``limit``.

    Raises:
        ModelInvalid: it exists but cannot be read.
    """
    try:
        if path.is_dir():
            file = path / name
            return file.read_bytes() if file.stat().st_size <= limit else None
        if path.suffix != ".zip" or not path.is_file():
            return None
        with zipfile.ZipFile(path) as archive:
            return archive.read(name) if archive.getinfo(name).file_size <= limit else None
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return None
    except (OSError, *ZIP_ERRORS) as error:
        raise ModelInvalid(
            f"{name} of the model {path} cannot be read: install the model again."
        ) from error


def _text(manifest: dict, key: str) -> str:
    """A text, or a list of texts as one; anything else is treated as absent."""
    value = manifest.get(key)
    if isinstance(value, list):
        value = "; ".join(item for item in value if isinstance(item, str))
    return value[:2000] if isinstance(value, str) else ""


def _names(manifest: dict, key: str) -> list[str]:
    """Names of a list of strings, a list of objects with ``name``, or the keys of an object."""
    value = manifest.get(key)
    if isinstance(value, dict):
        return [str(name) for name in value]
    if not isinstance(value, list):
        return []
    named = [item.get("name") if isinstance(item, dict) else item for item in value]
    return [name for name in named if isinstance(name, str)]
