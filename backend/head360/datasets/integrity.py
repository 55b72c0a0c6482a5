"""Does a folder hold what its manifest names, nothing else, unchanged? Told in sentences.

Files are hashed by threads (reading and hashing release Python's lock). A file that lies under a
wrong name, or whose contents belong to another one, is recognised by its hash.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from head360.errors import BadInput

Progress = Callable[[int, int, str], None]
Inspect = Callable[[bytes], str]

THREADS = 8
AGAIN = "make the data set again; what is whole is kept"
# What file managers leave in folders that they show.
_SYSTEM = {".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "Icon\r"}


@dataclass(frozen=True)
class Expected:
    """One file of a data set.

    Attributes:
        path: from the root.
        sha256: of its bytes.
        inspect: what to say against its contents ("" when nothing), asked of every file: a
            sentence's end that begins with a verb.
        explain: the same, asked only where the hash differs.
    """

    path: str
    sha256: str
    inspect: Inspect | None = None
    explain: Inspect | None = None


@dataclass
class Inventory:
    """What lies in a folder.

    Attributes:
        files: paths of planned files that exist.
        strays: paths of files that nobody planned.
        links: paths of symbolic links, planned or not.
        folders: unplanned folder → number of files below it.
        unreadable: folder → reason.
    """

    files: set[str] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    folders: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


class Places:
    """Which paths are planned; the views' names are shared by all folders, so millions fit."""

    def __init__(self) -> None:
        self._names: dict[str, Collection[str]] = {}
        self._folders: set[str] = {""}

    @classmethod
    def of(cls, paths: Collection[str]) -> Places:
        """Planned are exactly these paths."""
        names: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            folder, _, name = path.rpartition("/")
            names[folder].add(name)
        places = cls()
        for folder, members in names.items():
            places.add(folder, members)
        return places

    def add(self, folder: str, names: Collection[str]) -> None:
        """Plan files of these names in ``folder`` ("" is the root), beside those it has."""
        former = self._names.get(folder)
        self._names[folder] = names if former is None else {*former, *names}
        while folder not in self._folders:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]

    def has_file(self, path: str) -> bool:
        """Whether a file may lie there."""
        folder, _, name = path.rpartition("/")
        return name in self._names.get(folder, ())

    def has_folder(self, path: str) -> bool:
        """Whether a planned file lies there or below."""
        return path in self._folders


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, "" where it cannot be read."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return ""


def take_stock(root: Path, places: Places) -> Inventory:
    """Everything below ``root``; links are not followed."""
    found = Inventory()
    _walk(root, "", places, found)
    found.strays.sort()
    found.links.sort()
    return found


def make_ready(root: Path, places: Places, own: Collection[str] = ()) -> None:
    """See that nothing foreign lies in a folder that will be written; delete leftovers of writers.

    Args:
        root: the folder.
        places: where files may lie.
        own: folders that may be there as well, whatever they hold.

    Raises:
        BadInput: it holds something else.
    """
    found = take_stock(root, places)
    strangers = list(found.links)
    for folder, inside in found.folders.items():
        strangers += inside if folder not in own else []
    for path in found.strays:
        if path.rpartition("/")[2].startswith(".") and path.endswith(".tmp"):
            (root / path).unlink(missing_ok=True)  # a killed writer's; see head360.files
        else:
            strangers.append(path)
    # Whoever looked at the folder in a file manager shall be able to go on all the same.
    strangers = [path for path in strangers if not _is_systems(path)]
    if strangers:
        raise BadInput(
            f"{root} already holds {strangers[0]}, which is not part of this data set "
            f"({len(strangers)} such files): choose an empty folder or the settings it was made "
            "with."
        )


def _is_systems(path: str) -> bool:
    """Whether a file manager put a file there."""
    name = path.rpartition("/")[2]
    return name in _SYSTEM or name.startswith("._")


def _walk(root: Path, folder: str, places: Places, found: Inventory) -> None:
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable[folder] = error.strerror or "unknown reason"
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_symlink():
            found.links.append(path)
        elif entry.is_dir(follow_symlinks=False):
            if places.has_folder(path):
                _walk(root, path, places, found)
            else:
                found.folders[path] = sorted(_below(root, path))
        elif places.has_file(path):
            found.files.add(path)
        else:
            found.strays.append(path)


def _below(root: Path, folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(root / folder):
        place = Path(parent).relative_to(root).as_posix()
        yield from (f"{place}/{name}" for name in names)


def examine(
    root: Path,
    expected: Sequence[Expected],
    free: Collection[str] = (),
    progress: Progress | None = None,
    judged: Collection[str] | None = None,
) -> list[str]:
    """Sentences about everything that is not as it should be; empty when all is.

    Args:
        root: the data set.
        expected: every file of it.
        free: paths that may be there as well and are judged elsewhere (the manifest).
        progress: called with (files read, files in all, what).
        judged: the only folders in which strays are told of; None for everywhere.
    """
    by_path = {item.path: item for item in expected}
    found = take_stock(root, Places.of([*by_path, *free]))
    links = [path for path in found.links if path in by_path]
    present = [item for item in expected if item.path in found.files]
    missing = {path for path in by_path if path not in found.files and path not in links}
    digests: dict[str, str] = {}
    notes: dict[str, str] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for number, (item, told) in enumerate(
            zip(present, pool.map(lambda item: _look(root, item), present), strict=True), 1
        ):
            digests[item.path], notes[item.path] = told
            if progress is not None:
                progress(number, len(present), PurePosixPath(item.path).parent.as_posix())
        strangers = [*found.strays, *(p for paths in found.folders.values() for p in paths)]
        known: dict[str, str] = {}
        if missing:
            hashes = pool.map(lambda path: digest_file(root / path), strangers)
            known = dict(zip(strangers, hashes, strict=True))
    moved = _moved(by_path, missing, known)
    changed = {p: d for p, d in digests.items() if d != by_path[p].sha256}
    problems = [f"{root / p} cannot be opened ({why})." for p, why in found.unreadable.items()]
    problems += list(_tell_moved(root, moved, found))
    problems += list(_tell_missing(root, missing - set(moved.values())))
    problems += list(_tell_changed(root, by_path, changed, notes))
    problems += [
        f"{root / path} {note}: {AGAIN}."
        for path, note in notes.items()
        if note and path not in changed
    ]
    if judged is not None:
        found.strays = [path for path in found.strays if path.partition("/")[0] in judged]
        found.links = [path for path in found.links if path.partition("/")[0] in judged]
        found.folders.clear()
    problems += [
        f"{root / path} is a link: put the file itself there, a data set holds its own files."
        for path in found.links
    ]
    problems += list(_tell_strays(root, found, set(moved)))
    return problems


def _look(root: Path, item: Expected) -> tuple[str, str]:
    """Digest and what speaks against the contents."""
    try:
        data = (root / item.path).read_bytes()
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    found = digest(data)
    note = item.inspect(data) if item.inspect is not None else ""
    if not note and found != item.sha256 and item.explain is not None:
        note = item.explain(data)
    return found, note


def _moved(
    by_path: Mapping[str, Expected], missing: Collection[str], strangers: Mapping[str, str]
) -> dict[str, str]:
    """Stray path → the missing path whose contents it has."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for path in sorted(missing):
        wanted[by_path[path].sha256].append(path)
    moved: dict[str, str] = {}
    for path in sorted(strangers):
        options = wanted.get(strangers[path])
        if options:
            name = path.rpartition("/")[2]
            same = [option for option in options if option.rpartition("/")[2] == name]
            chosen = (same or options)[0]
            options.remove(chosen)
            moved[path] = chosen
    return moved


def _tell_moved(root: Path, moved: Mapping[str, str], found: Inventory) -> Iterator[str]:
    """One sentence a file, or one for a folder that was renamed with all it holds."""
    told: set[tuple[str, str]] = set()
    whole: set[str] = set()  # what lies in unplanned folders all of whose files were moved
    for inside in found.folders.values():
        if all(inner in moved for inner in inside):
            whole.update(inside)
    for path, home in moved.items():
        folder, target = path.rpartition("/")[0], home.rpartition("/")[0]
        if (
            path in whole
            and folder != target
            and path.rpartition("/")[2] == home.rpartition("/")[2]
        ):
            if (folder, target) not in told:
                told.add((folder, target))
                yield f"The folder {root / folder} looks like the missing {target}: rename it back."
            continue
        yield f"{root / path} looks like the missing {home}: rename it back."


def _tell_missing(root: Path, missing: Collection[str]) -> Iterator[str]:
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in sorted(missing):
        by_folder[path.rpartition("/")[0]].append(path)
    for folder, paths in by_folder.items():
        if len(paths) > 1 and not (root / folder).is_dir():
            yield f"The folder {root / folder} is missing with its {len(paths)} files: {AGAIN}."
            continue
        for path in paths:
            if (root / path).is_dir():
                yield f"{root / path} is a folder where a file should be: move it away."
            else:
                yield f"{root / path} is missing: {AGAIN}."


def _tell_changed(
    root: Path,
    by_path: Mapping[str, Expected],
    changed: Mapping[str, str],
    notes: Mapping[str, str],
) -> Iterator[str]:
    owners: dict[str, list[str]] = defaultdict(list)
    for item in by_path.values():
        owners[item.sha256].append(item.path)
    swapped: set[str] = set()
    for path, found in changed.items():
        if path in swapped:
            continue
        owner = next(iter(owners.get(found, [])), "")
        partner = next(
            (p for p in owners.get(found, []) if changed.get(p) == by_path[path].sha256), ""
        )
        if partner:
            swapped.add(partner)
            yield f"{root / path} and {partner} have changed places: exchange their names."
        elif owner:
            yield (
                f"{root / path} holds the contents of {owner}, not its own: delete it and {AGAIN}."
            )
        else:
            note = notes.get(path) or "was changed after it was written"
            yield f"{root / path} {note}: delete it and {AGAIN}."


def _tell_strays(root: Path, found: Inventory, moved: Collection[str]) -> Iterator[str]:
    for path in found.strays:
        if path in moved:
            continue
        name = path.rpartition("/")[2]
        if _is_systems(path):
            yield f"{root / path} was left by the operating system's file manager: delete it."
        elif name.startswith(".") and name.endswith((".tmp", ".part")):
            yield f"{root / path} was left by an interrupted run: delete it."
        else:
            yield f"{root / path} does not belong to the data set: move it away."
    for folder, inside in found.folders.items():
        rest = [path for path in inside if path not in moved]
        if rest or not inside:
            what = f" with its {len(rest)} files" if len(rest) > 1 else ""
            what = f" with {rest[0]}" if len(rest) == 1 else what
            yield f"The folder {root / folder}{what} does not belong here: move it away."
