"""How fast the synthetic studio takes pictures, and what that depends on. Prints one JSON object.

An image is a haired picture and its bald twin. "full" means under every light, with every truth;
"plain" means the default light alone. Rates are of pictures in memory; writing them is timed apart.
A machine may be shared and noisy: compare the ratios within one run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
from PIL import Image

from head360.files import write_bytes
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import rig72
from head360.synthesis.lights import LIGHTS
from head360.synthesis.processes import prepare_worker
from head360.synthesis.studio import Photograph, Studio
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import open_wardrobe

FULL: dict[str, Any] = {"lights": tuple(LIGHTS), "passes": True}
VIEWS = (30, 33, 27, 42, 8, 55)


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Median wall time of ``work()``."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def make_studio(subjects: int, device: str) -> Studio:
    """A studio of the latest look."""
    return Studio(BilinearModel.builtin(), open_wardrobe(), cast(subjects), device=device)


def shoot(
    studio: Studio, subject: str, style: str | None, size: int, options: dict[str, Any]
) -> list[Photograph]:
    """One pose from several views, with its bald twins."""
    cameras = [rig72()[view] for view in VIEWS]
    vertices = studio.pose(subject, np.zeros(52, dtype=np.float32))
    shots = []
    for worn in (style, None):
        scene, cutout = studio.scene(subject, worn, vertices)
        shots += studio.photograph_batch(scene, cutout, cameras, size, size, **options)
    return shots


def rate(studio: Studio, size: int, options: dict[str, Any], repeats: int) -> float:
    """Images per second of one subject in steady state, poses included."""
    person = next(iter(studio.subjects))
    style = studio.subjects[person].style
    shoot(studio, person, style, size, options)
    return len(VIEWS) / seconds(lambda: shoot(studio, person, style, size, options), repeats)


def _worker_rate(size: int) -> float:
    """In a worker of one thread: seconds per full image."""
    return 1 / rate(make_studio(1, "cpu"), size, FULL, 2)


def pool_rate(size: int) -> float:
    """Full images per second of as many single-threaded workers as there are cores."""
    count = os.cpu_count() or 1
    context = get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=prepare_worker) as pool:
        return sum(1 / each for each in pool.map(_worker_rate, [size] * count))


def growth_with_triangles(studio: Studio, size: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds per full haired view, twin not counted, over styles of growing weight."""
    person = next(iter(studio.subjects))
    vertices = studio.pose(person, np.zeros(52, dtype=np.float32))
    rows = []
    for style in (None, *sorted(studio.styles)[:: max(1, len(studio.styles) // 5)]):
        scene, cutout = studio.scene(person, style, vertices)
        cameras = [rig72()[view] for view in VIEWS]

        def work(scene: Any = scene, cutout: Any = cutout, cameras: Any = cameras) -> object:
            return studio.photograph_batch(scene, cutout, cameras, size, size, **FULL)

        rows.append(
            {"style": style or "bald", "triangles": len(scene.faces),
             "ms": round(seconds(work, repeats) / len(VIEWS) * 1e3, 1)}
        )  # fmt: skip
    return sorted(rows, key=lambda row: row["triangles"])


def growth_with_subjects(device: str, size: int) -> list[dict[str, Any]]:
    """First use and steady state of each further subject."""
    studio, rows = make_studio(4, device), []
    for number, (name, spec) in enumerate(studio.subjects.items(), 1):
        first = seconds(lambda n=name, s=spec: shoot(studio, n, s.style, size, FULL))
        steady = seconds(lambda n=name, s=spec: shoot(studio, n, s.style, size, FULL))
        rows.append(
            {"subjects": number, "first_pose_s": round(first, 2), "next_pose_s": round(steady, 2)}
        )
    return rows


def writing_ms(shots: list[Photograph]) -> float:
    """Milliseconds to encode and write the colour files of one picture."""
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            for number, shot in enumerate(shots):
                for name, picture in shot.lit.items():
                    buffer = io.BytesIO()
                    pixels = np.round(picture * 255).astype(np.uint8)
                    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
                    write_bytes(Path(folder) / f"{number}_{name}.png", buffer.getvalue())

        return seconds(write) / len(shots) * 1e3


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="256² alone, no growth")
    arguments = parser.parse_args()
    studio, device = make_studio(1, arguments.device), arguments.device
    sizes = (256,) if arguments.quick else (256, 512)
    rates: dict[str, dict[str, float]] = {}
    for size in sizes:
        rates[str(size)] = {
            "plain": round(rate(studio, size, {}, arguments.repeats), 2),
            "full": round(rate(studio, size, FULL, arguments.repeats), 2),
        }
        if device == "cpu":
            threads = numba.get_num_threads()
            numba.set_num_threads(1)
            rates[str(size)]["full_one_thread"] = round(rate(studio, size, FULL, 1), 2)
            numba.set_num_threads(threads)
            rates[str(size)]["full_all_processes"] = round(pool_rate(size), 2)
    person = next(iter(studio.subjects))
    shots = shoot(studio, person, studio.subjects[person].style, 256, FULL)
    result: dict[str, Any] = {
        "device": device,
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "lights": len(LIGHTS),
        "images_per_second": rates,
        "full_to_plain": round(rates["256"]["plain"] / rates["256"]["full"], 2),
        "writing_ms_per_picture_256": round(writing_ms(shots), 1),
    }
    if not arguments.quick:
        result["triangles_256"] = growth_with_triangles(studio, 256, arguments.repeats)
        result["subjects_256"] = growth_with_subjects(device, 256)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
