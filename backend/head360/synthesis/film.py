"""A moving camera films one subject who performs a take: the monocular layout."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from head360.arkit.takes import read_take
from head360.datasets import monocular, monocular_write, png
from head360.datasets.monocular import FrameTruth
from head360.datasets.monocular_write import Filmed
from head360.datasets.synhead_write import to_bytes8
from head360.errors import Cancelled
from head360.files import sole_writer
from head360.geometry.assets import find_wardrobe
from head360.synthesis import plan
from head360.synthesis.camera_path import Sight, backdrop
from head360.synthesis.film_plan import (
    BALD,
    FilmSpec,
    Moment,
    default_take,
    film_manifest,
    moments,
)
from head360.synthesis.processes import Stopped, Tell, share_out
from head360.synthesis.shooting import look_digest, points_of, studio_for
from head360.synthesis.studio import Photograph
from head360.synthesis.subjects import SubjectSpec

FRAMES_PER_JOB = 16
JPEG_QUALITY = 95
_BYTES_PER_PIXEL, _BYTES_PER_FRAME = 0.75, 14_000  # measured, with a margin


@dataclass(frozen=True)
class FilmResult:
    """What a run did: frames ``taken`` and ``kept``, ``seconds``, the manifest's path and take."""

    manifest: Path
    taken: int
    kept: int
    seconds: float
    take: str


def film(
    spec: FilmSpec,
    out: Path | str,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
    announce: Callable[[int], None] | None = None,
) -> FilmResult:
    """Film a data set into ``out``; frames of an interrupted run are kept.

    Args:
        spec: what.
        out: folder; created if needed.
        workers: processes that share the frames.
        progress: called with (frames done, frames in all, what is done).
        announce: called once with the bytes that are still to be written, as estimated.

    Raises:
        BadInput: a value out of range, the take unreadable, assets missing, the folder unwritable
            or another's, or the disk too full.
        TryAgain: another process writes the same folder.
    """
    started = time.monotonic()
    spec = dataclasses.replace(spec.checked(), assets=spec.assets or find_wardrobe())
    path = spec.take or default_take(spec.assets)
    take = read_take(path)
    frames, person = moments(spec, take), spec.person()
    need = len(frames) * round(_BYTES_PER_FRAME + _BYTES_PER_PIXEL * spec.size**2)
    rest = plan.demand_room(Path(out), need)
    if announce is not None:
        announce(rest)
    key = film_key(spec, person, frames)
    with sole_writer(out):
        root = monocular_write.prepare(out, key, [m.img_id for m in frames], spec.image_format)
        filmed = monocular_write.kept_frames(root, key)
        kept = done = len(filmed)
        report = progress or (lambda done, total, what: None)
        report(done, len(frames), person.name)

        def tell(message: tuple[int, int, str]) -> None:
            nonlocal done
            done += message[0]
            report(done, len(frames), message[2])

        jobs = []
        for first in range(0, len(frames), FRAMES_PER_JOB):
            part = [m for m in frames[first : first + FRAMES_PER_JOB] if m.img_id not in filmed]
            if part:
                jobs.append((spec, person, part, key, root))
        for items in share_out(film_job, jobs, workers, tell):
            filmed |= {item.record.img_id: item for item in items}
        manifest = film_manifest(spec, person, take, path, frames, key)
        written = monocular_write.finish(
            root, manifest, [filmed[m.img_id] for m in frames], [m.view.camera for m in frames],
            [m.weights.tolist() for m in frames],
        )  # fmt: skip
        seconds = time.monotonic() - started
        return FilmResult(written, len(frames) - kept, kept, seconds, take.name)


def film_job(
    spec: FilmSpec,
    person: SubjectSpec,
    part: Sequence[Moment],
    key: str,
    root: Path,
    tell: Tell,
    stopped: Stopped,
) -> list[Filmed]:
    """Film some frames; returns their records."""
    studio = studio_for((person,), spec.assets, spec.samples)
    style = None if person.style == BALD else person.style
    journal = monocular_write.journal(root, key, part[0].img_id // FRAMES_PER_JOB)
    journal.read()  # forgets what belongs to another key
    filmed = []
    for moment in part:
        if stopped():
            raise Cancelled("Stopped; what was finished is kept.")
        scene = studio.scene(person.name, style, studio.pose(person.name, moment.weights))
        picture = studio.photograph(
            *scene, moment.view.camera, spec.size, spec.size, lights=(spec.light,), passes=True
        )
        files = _encode(spec, moment.view, picture)
        record = monocular_write.write_files(root, moment.img_id, files, spec.image_format)
        truth = FrameTruth(
            moment.img_id, moment.row, moment.second, moment.head, *points_of(picture)
        )
        filmed.append(Filmed(record, truth))
        journal.append(filmed[-1])
        tell((1, 0, f"row {moment.row}"))
    return filmed


def _encode(spec: FilmSpec, view: Sight, picture: Photograph) -> dict[str, bytes]:
    rgba = picture.lit[spec.light]
    alpha = rgba[..., 3:]
    whole = rgba[..., :3] * alpha + backdrop(view, spec.size, spec.size) * (1 - alpha)
    pixels = to_bytes8(whole)
    if spec.image_format == "png":
        image = png.encode(pixels)
    else:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        image = buffer.getvalue()
    assert picture.labels is not None
    return {
        "image": image,
        "matte": png.encode(to_bytes8(rgba[..., 3])),
        "parsing": png.encode(monocular.parsing_picture(picture.labels)),
    }


def film_key(spec: FilmSpec, person: SubjectSpec, frames: Sequence[Moment]) -> str:
    """A digest of everything the pictures depend on; ``spec.assets`` is decided."""
    studio = studio_for((person,), spec.assets, spec.samples)
    style = None if person.style == BALD else person.style
    facts = [
        monocular.SCHEMA, look_digest(studio, person.name, style), spec.size, spec.light,
        spec.image_format, JPEG_QUALITY,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode())
    for moment in frames:
        camera = moment.view.camera
        digest.update(json.dumps([moment.img_id, moment.row, moment.second]).encode())
        digest.update(moment.weights.tobytes() + camera.flat25().round(9).tobytes())
        digest.update(moment.view.room.round(9).tobytes())
    return digest.hexdigest()
