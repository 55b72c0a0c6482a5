"""The film that an avatar was learned from, as its manifest tells it, made again by the studio.

Judging an avatar needs the held-out tail alone. That the studio draws the same pictures as then is
proved by the digest of the whole film, which depends on everything the pictures depend on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from head360.arkit.takes import read_take
from head360.errors import BadInput
from head360.files import write_text
from head360.geometry.assets import find_assets, find_wardrobe

if TYPE_CHECKING:
    from head360.datasets.monocular import MonocularManifest
    from head360.datasets.monocular_read import Frame

Progress = Callable[[int, int, str], None]

_TAKES = "arkit_takes"  # folder of the raw assets
_STUDIO = " studio "  # what made the film says so
_SPANS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True)
class Recipe:
    """How a film was made.

    Attributes:
        subject, style, seed, motion, light, size, image_format: see ``film_plan.FilmSpec``.
        takes: names of the takes among the raw assets; several are woven into one.
        every: of each take every so-manieth row; turn: rows of one take in a row.
        rows: of the (woven) take, such as ``1-240,300``; empty for all.
        test: frames held out at the end.
        key: digest of the film.
    """

    subject: str
    style: str
    seed: int
    motion: str
    light: str
    size: int
    image_format: str
    takes: tuple[str, ...]
    test: int
    key: str
    every: int = 1
    turn: int = 0
    rows: str = ""

    def facts(self) -> dict[str, Any]:
        """For a manifest; :meth:`from_facts` is the inverse."""
        return asdict(self)

    @staticmethod
    def from_facts(facts: Any) -> Recipe | None:
        """The recipe that a manifest holds, or None where it holds none that is whole."""
        if not isinstance(facts, dict):
            return None
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()
        }
        try:
            recipe = Recipe(**values)
        except TypeError:
            return None
        return recipe if not recipe.rows or _SPANS.fullmatch(recipe.rows) else None

    @staticmethod
    def of(manifest: MonocularManifest, test: int) -> Recipe | None:
        """Of a data set with ``test`` frames held out; None unless the studio filmed it."""
        spans = "" if manifest.take is None else manifest.take.rows
        known = manifest.seed is not None and manifest.take is not None
        if _STUDIO not in manifest.generator or not known or not _SPANS.fullmatch(spans):
            return None
        assert manifest.seed is not None
        assert manifest.take is not None
        image = manifest.frames[0].files["image"]
        return Recipe(
            manifest.subject.name, manifest.style.name, manifest.seed, manifest.camera_motion,
            manifest.light, manifest.width, image.rpartition(".")[2], (manifest.take.name,), test,
            manifest.key, rows=spans,
        )  # fmt: skip

    def numbers(self) -> tuple[int, ...]:
        """Rows as numbers."""
        found: list[int] = []
        for span in filter(None, self.rows.split(",")):
            first, _, last = span.partition("-")
            found += range(int(first), int(last or first) + 1)
        return tuple(found)


@dataclass(frozen=True)
class Refilmed:
    """Frames to judge by.

    Attributes:
        frames: the held-out tail.
        performance: (T, 52) float32 weights of the whole film.
        same: the pictures are those that the avatar's film had.
        take: name of the take or takes.
    """

    frames: list[Frame]
    performance: NDArray[np.float32]
    same: bool
    take: str


def weave(takes: Sequence[Sequence[str]], every: int, turn: int) -> list[str]:
    """Lines of one CSV from the lines of several that have the same header.

    Every ``every``-th row of each is taken, ``turn`` rows of one take in a row, at 30 a second.

    Raises:
        BadInput: the takes have different columns.
    """
    if any(take[0] != takes[0][0] for take in takes):
        raise BadInput("The takes have different columns: weave takes of one app's version.")
    rows = [take[1::every] for take in takes]
    woven: list[str] = []
    for first in range(0, max(map(len, rows)), turn):
        for take in rows:
            woven += take[first : first + turn]
    lines = [takes[0][0]]
    for number, row in enumerate(woven):
        second, frame = divmod(2 * number, 60)  # timecodes count sixtieths
        rest = row.partition(",")[2]
        lines.append(f"10:{second // 60:02d}:{second % 60:02d}:{frame:02d}.000,{rest}")
    return lines


def find_take(recipe: Recipe, folder: Path) -> Path:
    """The take of a recipe among the raw assets; woven ones are written into ``folder``.

    Raises:
        BadInput: it is not there.
    """
    places = [find_assets() / _TAKES / f"{name}.csv" for name in recipe.takes]
    for place in places:
        if not place.is_file():
            raise BadInput(
                f"The take {place.stem}, to which the avatar's film was performed, is not among "
                "the raw assets: add --data with the film's folder."
            )
    if len(places) == 1 and recipe.every == 1:
        return places[0]
    texts = [place.read_text(encoding="utf-8").splitlines() for place in places]
    lines = weave(texts, recipe.every, recipe.turn or max(map(len, texts)))
    return write_text(folder / "take.csv", "\n".join(lines) + "\n")


def film_again(
    recipe: Recipe,
    folder: Path,
    most: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Refilmed:
    """Film the held-out tail into ``folder``, at most ``most`` frames spread over it.

    Raises:
        BadInput: the raw assets or the take are missing, or the studio knows the sitter, style,
            light or motion no more.
    """
    from head360.datasets.monocular_read import MonocularDataset
    from head360.synthesis.film import film, film_key
    from head360.synthesis.film_plan import FilmSpec, moments

    path = find_take(recipe, folder)
    take = read_take(path)
    whole = FilmSpec(
        take=path, rows=recipe.numbers(), subject=recipe.subject, style=recipe.style,
        size=recipe.size, seed=recipe.seed, motion=recipe.motion, light=recipe.light,
        image_format=recipe.image_format, test_share=0.0, assets=find_wardrobe(),
    ).checked()  # fmt: skip
    frames = moments(whole, take)
    if not 0 < recipe.test < len(frames):
        raise BadInput("The avatar's manifest holds out no frame of its film: add --data FOLDER.")
    same = film_key(whole, whole.person(), frames) == recipe.key
    tail = frames[len(frames) - recipe.test :]
    count = len(tail) if most is None else min(most, len(tail))
    chosen = [tail[k] for k in np.unique(np.linspace(0, len(tail) - 1, count).round().astype(int))]
    spec = dataclasses.replace(whole, rows=tuple(moment.row for moment in chosen))
    film(spec, folder / "film", workers, progress)
    data = MonocularDataset.open(folder / "film")
    return Refilmed(
        data.frames, np.stack([moment.weights for moment in frames]), same, " + ".join(recipe.takes)
    )
