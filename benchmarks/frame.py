"""What one frame of a head costs: new expression, camera move, size. Ratios within one run.

    python benchmarks/frame.py [MODEL] [--repeats 7]

Prints one JSON object: medians in milliseconds and, beside them, each as a multiple of the 256²
camera move of the same run. Machines are shared and noisy: compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from head360 import heads
from head360.rendering.cameras import orbit
from head360.server.heads_table import resolve
from head360.server.worker import choose_device


def median_ms(work: Callable[[int], object], repeats: int) -> float:
    """Median wall time of ``work(k)`` in milliseconds, the first call not counted."""
    work(0)
    times = []
    for k in range(1, repeats + 1):
        start = time.perf_counter()
        work(k)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device, _, name = choose_device(arguments.device)
    head = heads.load(resolve(arguments.model).path, device)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0, 0.4, (arguments.repeats + 1, 52)).astype(np.float32)
    codes, bald = head.codes(), head.codes(style=None)
    pose, bald_pose = head.pose(codes, weights[0]), head.pose(bald, weights[0])
    cameras = [orbit(7.0 * k, 5) for k in range(arguments.repeats + 1)]
    work: dict[str, Callable[[int], object]] = {
        "camera_256": lambda k: head.render(pose, cameras[k], 256, 256),
        "camera_256_bald": lambda k: head.render(bald_pose, cameras[k], 256, 256),
        "camera_512": lambda k: head.render(pose, cameras[k], 512, 512),
        "expression": lambda k: head.pose(codes, weights[k]),
    }
    milliseconds = {key: median_ms(call, arguments.repeats) for key, call in work.items()}
    base = milliseconds["camera_256"]
    result = {
        "device": name,
        "ms": {key: round(value, 1) for key, value in milliseconds.items()},
        "times_camera_256": {key: round(value / base, 2) for key, value in milliseconds.items()},
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
