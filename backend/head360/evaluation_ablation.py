"""The ablations of GaussianHead's paper, trained and measured on one film by one command.

Every row is one short training run of the method as published (Gaussians moved by a network,
colours read at deformed places) with one switch turned. All rows have the same film, schedule and
number of Gaussians. A row that is finished is kept; one that was stopped goes on where it stood.

Runs of a minute cannot repeat the paper's hours: ``spread`` says how far two seeds of the same row
lie apart, and smaller differences mean nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import head360
from head360 import sheets
from head360.datasets.monocular_read import Frame, MonocularDataset
from head360.errors import BadInput, Checkpointed
from head360.evaluation_monocular import evaluate_video, pose_of
from head360.files import atomic_path, writable_folder, write_bytes, write_text
from head360.heads.gaussian import GaussianHead
from head360.heads.package import png_bytes
from head360.networks.perceptual import Lpips
from head360.training.footage import Footage, over_white, speaks_arkit
from head360.training.gaussian import CHECKPOINT, GaussianTrainer, Sitter
from head360.training.gaussian_settings import GaussianSettings
from head360.training.metrics import on_white

STEPS = 500
BUNDLED_TAKE = Path(head360.__file__).parent / "data" / "takes" / "demo_take.csv"
FULL, AGAIN = "full", "full_again"
_GAUSSIANS, _MOST, _CHANNELS = 3000, 5000, 32  # 32 channels: K = 16 leaves two
_SHOWN = 5
_CELL = 176  # pixels of a picture in the table
_SLOWER, _TEST_SHARE = 3.0, 0.1  # of the film that is made for it
_ROW, _STRIP = "row.json", "held_out.png"


@dataclass(frozen=True)
class Study:
    """One row.

    Attributes:
        label: for people.
        config, densify, rates: what differs from the full method.
        rig: of the training. seed: added to the run's.
        published: PSNR in dB of the paper's own table, on its own data.
    """

    label: str
    config: dict[str, Any] = field(default_factory=dict)
    densify: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)
    rig: str = "free"
    seed: int = 0
    published: float | None = None


STUDIES: dict[str, Study] = {
    FULL: Study("full, K = 4", published=31.85),
    AGAIN: Study("full, another seed", seed=1),
    "no_triplane": Study("no tri-plane", {"texture": "direct"}, published=30.47),
    "no_derivation": Study("no derivation", {"derivation": "none"}, published=31.35),
    "global_rotation": Study("global rotation", {"derivation": "global"}, published=31.31),
    "k1": Study("K = 1", {"copies": 1}),
    "k2": Study("K = 2", {"copies": 2}),
    "k8": Study("K = 8", {"copies": 8}),
    "k16": Study("K = 16", {"copies": 16}),
    "random_children": Study("children: random", densify={"tau_child": "random"}),
    "zero_children": Study("children: no rotation", densify={"tau_child": "zero"}),
    "euclidean": Study("plain Adam for rotations", rates={"tau_manifold": "euclidean"}),
    "last_block": Study("last block only", {"slicing": "last"}),
    "mesh": Study("on the mesh (ours)", rig="mesh"),
}


def settings_of(study: Study, steps: int, seed: int) -> GaussianSettings:
    """The run behind a row."""
    made = GaussianSettings.preset("tiny", study.rig, steps, seed + study.seed)
    sizes: dict[str, Any] = {"gaussians": _GAUSSIANS, "channels": _CHANNELS}
    return dataclasses.replace(
        made,
        config=dataclasses.replace(made.config, **sizes, **study.config),
        densify=dataclasses.replace(made.densify, most=_MOST, **study.densify),
        rates=dataclasses.replace(made.rates, **study.rates),
        preview_seconds=1e9,
    )


def ablate(
    data: MonocularDataset,
    out: Path,
    names: Sequence[str] = (),
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
    lpips: Lpips | None = None,
    on_row: Callable[[str, int, int, bool], None] | None = None,
) -> dict[str, Any]:
    """Train and measure rows; returns what ``ablation.json`` then holds.

    ``out`` gets ``rows/NAME/`` with each run, ``table.png`` (rows by held-out frames) and
    ``ablation.json``.

    Args:
        data: film whose tail is held out.
        names: of :data:`STUDIES`; empty for all that the film allows.
        steps, seed: of every run.
        on_row: called before each row with (label, number from 1, count, kept from before).

    Raises:
        BadInput: an unknown row, a film that cannot be split, steps below 1, an unwritable folder.
        Checkpointed: stopped by a signal; the same command goes on.
    """
    chosen = _chosen(data, names)
    writable_folder(out)
    footage: dict[str, Footage] = {}
    held_out = data.split()[1]
    if not held_out:
        raise BadInput(f"{data.root} holds out no frame: make a film with a held-out tail.")
    shown = np.unique(np.linspace(0, len(held_out) - 1, min(_SHOWN, len(held_out))).round())
    frames = [held_out[int(k)] for k in shown]
    results: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(chosen, 1):
        study = STUDIES[name]
        settings = settings_of(study, steps, seed)
        facts = json.loads(json.dumps({**settings.facts(), "film": _film_facts(data)}))
        folder = out / "rows" / name
        row = _kept(folder, facts)
        if on_row is not None:
            on_row(study.label, number, len(chosen), row is not None)
        if row is None:
            if study.rig not in footage:
                footage[study.rig] = Footage(data, study.rig == "mesh")
            head, facts_of_run = _trained(footage[study.rig], settings, folder, device)
            figures = evaluate_video(head, held_out, lpips=lpips)
            _strip(head, frames, folder / _STRIP)
            row = {**facts_of_run, **figures}
            write_text(folder / _ROW, json.dumps({"facts": facts, "row": row}, indent=1) + "\n")
        results[name] = {"label": study.label, **row}
    report = _report(results, steps, seed, data)
    _table(results, frames, out)
    write_text(out / "ablation.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def _chosen(data: MonocularDataset, names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        raise BadInput(f"There is no row {unknown[0]!r}: choose from {', '.join(STUDIES)}.")
    posed = speaks_arkit(data) and data.manifest is not None
    if names:
        return list(dict.fromkeys(names))
    return [name for name, study in STUDIES.items() if posed or study.rig == "free"]


def _film_facts(data: MonocularDataset) -> list[Any]:
    key = "" if data.manifest is None else data.manifest.key
    return [key, len(data.frames), data.width, data.height]


def _kept(folder: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run measured with the same settings on the same film."""
    try:
        found = json.loads((folder / _ROW).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("facts") == facts
    return found["row"] if same and (folder / _STRIP).is_file() else None


def _trained(
    footage: Footage, settings: GaussianSettings, folder: Path, device: str
) -> tuple[GaussianHead, dict[str, Any]]:
    trainer = GaussianTrainer(footage, settings, folder, Sitter(folder.name, "sitter", {}), device)
    if (folder / CHECKPOINT).is_file():
        try:
            trainer.resume()
        except BadInput:  # of other settings: this row begins anew
            (folder / CHECKPOINT).unlink()
            trainer = GaussianTrainer(footage, settings, folder, trainer.sitter, device)
    try:
        trainer.run()
    except Checkpointed as stop:
        raise Checkpointed(
            f"Stopped at step {trainer.step} of the row {folder.name}: the same command goes on."
        ) from stop
    return trainer.head, {"seconds": round(trainer.seconds, 1)}


def _strip(head: GaussianHead, frames: Sequence[Frame], target: Path) -> None:
    pictures = [
        on_white(head.render(pose_of(head, f), f.camera, f.width, f.height).rgba) for f in frames
    ]
    write_bytes(target, png_bytes(_bytes8(np.concatenate(pictures, 1))))


def _bytes8(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def _report(
    results: dict[str, dict[str, Any]], steps: int, seed: int, data: MonocularDataset
) -> dict[str, Any]:
    whole = {name: row["cropped"]["psnr"] for name, row in results.items()}
    rows = []
    for name, row in results.items():
        against = round(whole[name] - whole[FULL], 3) if FULL in whole else None
        rows.append({"name": name, **row, "against_full": against,
                     "published_psnr": STUDIES[name].published})  # fmt: skip
    spread = None
    if FULL in whole and AGAIN in whole:
        spread = round(abs(whole[FULL] - whole[AGAIN]), 3)
    return {
        "steps": steps, "seed": seed, "film": _film_facts(data),
        "compared_by": "PSNR around the matte, dB", "spread": spread,
        "seconds": round(sum(row["seconds"] for row in results.values()), 1), "rows": rows,
    }  # fmt: skip


def _table(results: dict[str, dict[str, Any]], frames: Sequence[Frame], out: Path) -> None:
    """``table.png``: truth above, then every row with its PSNR."""
    from PIL import Image

    mattes = np.stack([frame.load_matte() for frame in frames])
    left, upper, right, lower = _window(mattes)

    def cells(strip: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        return [
            np.asarray(
                Image.fromarray(part[upper:lower, left:right]).resize(
                    (_CELL, round(_CELL * (lower - upper) / (right - left))),
                    Image.Resampling.LANCZOS,
                )
            )
            for part in np.split(strip, len(frames), axis=1)
        ]

    truth = [over_white(frame.load_rgb(), frame.load_matte()) for frame in frames]
    lines = [("film", cells(_bytes8(np.concatenate(truth, 1))))]
    for name, row in results.items():
        with Image.open(out / "rows" / name / _STRIP) as picture:
            strip = np.asarray(picture.convert("RGB"))
        lines.append((f"{row['label']}: {row['cropped']['psnr']:.2f} dB", cells(strip)))
    sheet = sheets.table(lines, [f"frame {frame.img_id + 1}" for frame in frames])
    with atomic_path(out / "table.png") as temporary:
        sheet.save(temporary, "PNG")


def _window(mattes: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, upper, right, lower edge of what any of (N, H, W) mattes shows, a little more."""
    seen = mattes.max(0) >= 128
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return 0, 0, mattes.shape[2], mattes.shape[1]
    margin = max(2, len(rows) // 20)
    return (
        max(0, int(columns[0]) - margin), max(0, int(rows[0]) - margin),
        min(mattes.shape[2], int(columns[-1]) + 1 + margin),
        min(mattes.shape[1], int(rows[-1]) + 1 + margin),
    )  # fmt: skip


def film_for(text: str, out: Path, workers: int, progress: Callable[[int, int, str], None]) -> Path:
    """The folder of a film that ``synth:key=value,…`` describes, made in ``out/film``.

    Keys: subject, style, motion (words), size, frames, seed (numbers). What is there is kept.

    Raises:
        BadInput: an unknown key, a value out of range, or the raw assets are missing.
    """
    from head360.arkit.takes import read_take, write_take
    from head360.synthesis.film import film
    from head360.synthesis.film_plan import FilmSpec

    words = {"subject": "felix", "style": "short02", "motion": "orbit"}
    numbers = {"size": 128, "frames": 120, "seed": 0}
    for item in filter(None, text.removeprefix("synth").removeprefix(":").split(",")):
        key, _, value = item.partition("=")
        if key in words:
            words[key] = value
        elif key in numbers and value.isdigit():
            numbers[key] = int(value)
        else:
            known = ", ".join([*words, *numbers])
            raise BadInput(f"synth: cannot take {item!r}: use {known}, numbers without a sign.")
    count, take = numbers["frames"], read_take(BUNDLED_TAKE)
    if not 10 <= count <= 1000:
        raise BadInput(f"synth: frames={count} is out of range: choose 10 to 1000.")
    # Performed slowly: the camera gets around, and the held-out end is seen from several sides.
    moments = np.linspace(0, take.duration, count)
    slow = write_take(out / "take.csv", moments * _SLOWER, take.at(moments))
    spec = FilmSpec(
        take=slow, size=numbers["size"], seed=numbers["seed"], image_format="png",
        test_share=_TEST_SHARE, subject=words["subject"], style=words["style"],
        motion=words["motion"],
    )  # fmt: skip
    film(spec, out / "film", workers, progress)
    return out / "film"
