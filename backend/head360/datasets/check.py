"""Is a data set whole? Finds out which layout it has and asks the one that knows."""

from __future__ import annotations

from pathlib import Path

from head360.datasets import monocular, synhead
from head360.datasets.integrity import Progress
from head360.datasets.monocular_check import check as check_monocular
from head360.datasets.records import MANIFEST, Head, decode
from head360.datasets.synhead_check import check as check_synhead
from head360.errors import BadInput


def check(folder: Path | str, progress: Progress | None = None) -> list[str]:
    """Sentences about everything wrong with a data set of either layout; empty when it is whole.

    A folder without a manifest, or with a broken one, is one such sentence.
    """
    root = Path(folder)
    try:
        kind = kind_of(root)
        return (check_synhead if kind == synhead.KIND else check_monocular)(root, progress)
    except BadInput as error:
        return [str(error)]


def kind_of(root: Path) -> str:
    """ "synhead" or "monocular".

    Raises:
        BadInput: neither can be told.
    """
    if not root.is_dir():
        raise BadInput(f"{root} is no folder: choose the folder of a data set.")
    path = root / MANIFEST
    if path.is_file():
        kind = decode(path, Head).kind
        if kind in (synhead.KIND, monocular.KIND):
            return str(kind)
        raise BadInput(
            f"{path} is of the kind {kind!r}, not {synhead.KIND!r} or {monocular.KIND!r}: choose "
            "the folder of a data set."
        )
    if (root / monocular.TRANSFORMS).is_file():
        return monocular.KIND
    begun = (root / "truth").is_dir() or (root / "images").is_dir() or (root / "ori_imgs").is_dir()
    raise BadInput(
        f"{root} has no {MANIFEST}: "
        + (
            "it was never finished or the manifest was removed; run head360 synth with the same "
            "settings again, what is whole is kept."
            if begun
            else "choose the folder of a data set."
        )
    )
