"""The Gram route against plain tensorly: same sub-tensor, each alone in a fresh process.

A process of its own makes the memory figure honest: the growth of the peak resident set while the
method runs, LAPACK's workspaces included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from head360.geometry.population import Population
from head360.geometry.tucker import gram_tucker, tensorly_tucker

METHODS = {"gram": gram_tucker, "tensorly": tensorly_tucker}
STRIDE = 16


def _peak_bytes() -> int:
    # Linux carries ru_maxrss over from the parent through fork and exec; VmHWM starts afresh.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_method(method: str, tensor_file: str, rank: int) -> dict[str, float]:
    """Run one method in this process: seconds, CPU seconds, bytes of peak growth, error.

    ``tensor_file``: .npy (M, I, E) float32.
    """
    tensor = np.load(tensor_file)
    if method == "tensorly":
        import tensorly.decomposition  # noqa: F401  importing is not part of the timing
    small = np.random.default_rng(0).standard_normal((60, 10, 4)).astype(np.float32)
    METHODS[method](small, 3)  # loads BLAS threads and lazy imports
    before = _peak_bytes()
    began, began_cpu = time.perf_counter(), time.process_time()
    core, factors = METHODS[method](tensor, rank)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    grown = _peak_bytes() - before
    error = norm = 0.0
    for e in range(tensor.shape[2]):
        truth = tensor[:, :, e].astype(np.float64)
        error += float(((truth - core[:, :, e].astype(np.float64) @ factors.T) ** 2).sum())
        norm += float((truth**2).sum())
    return {"seconds": seconds, "cpu": cpu, "bytes": grown, "error": float(np.sqrt(error / norm))}


def compare_with_tensorly(population: Population, rank: int) -> dict[str, Any]:
    """Figures on every 16th vertex of the kept identities, all 53 slices."""
    some = np.arange(0, population.neutrals.shape[1], STRIDE)
    tensor = np.empty((3 * len(some), population.kept, 53), dtype=np.float32)
    for e, x in enumerate(population.slices(some)):
        tensor[:, :, e] = x[: population.kept].T
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tensor.npy"
        np.save(file, tensor)
        for method in METHODS:
            code = (
                "import json, sys; from head360.geometry.compare import run_method; "
                "sys.stdout.write(json.dumps(run_method(sys.argv[1], sys.argv[2], "
                "int(sys.argv[3]))))"
            )
            source = str(Path(__file__).resolve().parents[2])
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import sys; sys.path.insert(0, {source!r}); {code}",
                    method,
                    str(file),
                    str(rank),
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            results[method] = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = results["gram"], results["tensorly"]
    return {
        "speedup_vs_tensorly": theirs["seconds"] / max(ours["seconds"], 1e-9),
        "speedup_cpu_vs_tensorly": theirs["cpu"] / max(ours["cpu"], 1e-9),
        "gram_seconds": ours["seconds"],
        "tensorly_seconds": theirs["seconds"],
        "gram_peak_mib": ours["bytes"] / 2**20,
        "tensorly_peak_mib": theirs["bytes"] / 2**20,
        "gram_relative_error": ours["error"],
        "tensorly_relative_error": theirs["error"],
        "comparison_tensor_mib": tensor.nbytes / 2**20,
    }
