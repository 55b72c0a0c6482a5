"""From the studio to a data set on disk: who photographs what, in how many processes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from head360.datasets import synhead, synhead_write
from head360.files import sole_writer
from head360.geometry.assets import find_wardrobe
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera
from head360.synthesis.plan import CaptureSpec, demand_room, disk_need, plan
from head360.synthesis.processes import share_out
from head360.synthesis.shooting import shoot_job

Progress = Callable[[int, int, str], None]

_JOBS_PER_WORKER = 3  # enough that nobody waits long for the last one


@dataclass(frozen=True)
class Captured:
    """What a run did: shots ``taken`` and ``kept``, ``seconds``, and the manifest's path."""

    manifest: Path
    taken: int
    kept: int
    seconds: float


def capture(
    spec: CaptureSpec,
    out: Path | str,
    workers: int = 1,
    progress: Progress | None = None,
    announce: Callable[[int], None] | None = None,
) -> Captured:
    """Photograph a data set into ``out``; shots of an interrupted run are kept.

    Args:
        spec: what.
        out: folder; created if needed.
        workers: processes; each takes poses of one person at a time.
        progress: called with (shots done, shots in all, what is done).
        announce: called once with the bytes that are still to be written, as estimated.

    Raises:
        BadInput: a value out of range, assets missing, the folder unwritable or another's, or the
            disk too full.
        TryAgain: another process writes the same folder.
    """
    started = time.monotonic()
    spec = dataclasses.replace(spec.checked(), assets=spec.assets or find_wardrobe())
    manifest = plan(spec, BilinearModel.builtin())
    rest = demand_room(Path(out), disk_need(manifest))
    if announce is not None:
        announce(rest)
    with sole_writer(out):
        return _write(spec, manifest, Path(out), workers, progress, started)


def _write(
    spec: CaptureSpec,
    manifest: synhead.Manifest,
    out: Path,
    workers: int,
    progress: Progress | None,
    started: float,
) -> Captured:
    root = synhead_write.prepare(out, manifest)
    report = progress or (lambda done, total, what: None)
    total = len(manifest.poses) * len(manifest.views)
    done = kept = 0

    def tell(message: tuple[int, int, str]) -> None:
        nonlocal done, kept
        done, kept = done + message[0], kept + message[1]
        report(done, total, message[2])

    for _ in share_out(shoot_job, _jobs(spec, manifest, root, workers), workers, tell):
        pass
    path = synhead_write.finish(root, manifest)
    return Captured(path, done - kept, kept, time.monotonic() - started)


def _jobs(
    spec: CaptureSpec, manifest: synhead.Manifest, root: Path, workers: int
) -> list[tuple[object, ...]]:
    """Arguments of ``shoot_job``: poses of one person, in pieces where people are few."""
    cameras = {view.index: Camera.from_flat25(view.camera) for view in manifest.views}
    people = {name: person for name, person, _ in spec.sitters()}
    by_person: dict[str, list[synhead.PoseRecord]] = {}
    for pose in manifest.poses:
        by_person.setdefault(people[pose.subject].name, []).append(pose)
    wanted = _JOBS_PER_WORKER * workers if workers > 1 else 1
    pieces = max(1, -(-wanted // len(by_person)))
    jobs: list[tuple[object, ...]] = []
    for poses in by_person.values():
        step = -(-len(poses) // pieces)
        jobs += [
            (spec, people[part[0].subject], part, cameras, root)
            for part in (poses[k : k + step] for k in range(0, len(poses), step))
        ]
    return jobs
