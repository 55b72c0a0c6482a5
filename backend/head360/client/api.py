"""The client: what Blender and the command line call. Needs numpy, msgspec and pyzmq alone.

Every call has a ``submit_*`` twin that returns a :class:`Job` at once. Blocking calls raise
``Head360Error`` subclasses whose text can be shown as it is.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360 import connection as connection_file
from head360 import protocol
from head360.client.jobs import Job, SequenceResult
from head360.client.transport import Transport
from head360.client.values import (
    Floats,
    HeadMesh,
    ModelInfo,
    Photo,
    RenderedFrame,
    SequenceFrame,
    SurfaceMesh,
    frame_of,
    mesh_of,
    models_of,
    surface_of,
)
from head360.errors import BadInput, TryAgain
from head360.protocol import HeadInfo, HeadMade, Status, Welcome
from head360.rendering.cameras import Camera


class Client:
    """One connection to one backend. Thread-safe; usable as a context manager."""

    def __init__(self, transport: Transport, welcome: Welcome) -> None:
        self._transport = transport
        self._welcome = welcome
        # Unique across the clients of one launch, so a log line names one job.
        self._prefix = f"{os.getpid():x}-{time.monotonic_ns() & 0xFFFFFF:x}"
        self._numbers = itertools.count(1)

    @classmethod
    def connect(cls, connection: Path | str, timeout: float = 10.0) -> Client:
        """Connect to the backend that wrote the connection file and say hello.

        Raises:
            TryAgain: no such backend, or no answer within ``timeout`` seconds.
            BadInput: damaged or foreign file, or client and server versions do not fit.
        """
        transport = Transport(connection_file.read(connection))
        client = cls(transport, _NOBODY)
        try:
            job: Job[Welcome] = client._submit(
                protocol.Hello(client=f"head360 {protocol.MAJOR}.{protocol.MINOR}"),
                "hello",
                timeout=timeout,
            )
            try:
                client._welcome = job.wait(timeout=timeout + 1)
            except TryAgain as error:
                if transport.reason:
                    raise
                raise TryAgain(
                    f"The backend does not answer (waited {timeout:.0f} s): start it again."
                ) from error
        except BaseException:
            transport.close()
            raise
        return client

    @property
    def welcome(self) -> Welcome:
        """Server version, protocol, boot id, device name and kind, limits, model names."""
        return self._welcome

    @property
    def features(self) -> frozenset[str]:
        """What the backend can do: ``frames``, ``sequences``, ``surfaces``, ``cancel``, …; see
        ``protocol.FEATURES``. An unknown name is simply not in it."""
        return frozenset(self._welcome.features)

    @property
    def state(self) -> str:
        """``connected``, ``unresponsive`` (may recover), ``lost`` or ``closed`` (both final)."""
        return self._transport.state

    @property
    def alive(self) -> bool:
        """False once a new client is needed."""
        return self._transport.state not in ("lost", "closed")

    def close(self) -> None:
        """Cut the connection; pending jobs fail. Returns within about a second, idempotent."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- blocking calls -----------------------------------------------------------------------

    def ping(self, timeout: float = 5.0) -> float:
        """Seconds of one round trip to the gateway (answered while the renderer is busy)."""
        start = time.perf_counter()
        self._submit(protocol.Ping(), "ping", timeout=timeout).wait()
        return time.perf_counter() - start

    def status(self, timeout: float = 5.0) -> Status:
        """Worker state, queue length, up-time."""
        return self.submit_status(timeout).wait()

    def models(self, timeout: float = 10.0, thumbnails: bool = True) -> list[ModelInfo]:
        """The installed models."""
        return self.submit_models(timeout, thumbnails).wait()

    def editors(self, timeout: float = 60.0) -> dict[str, str]:
        """Names for :meth:`edit_head` and what each does; empty where nothing can be edited."""
        return self.submit_editors(timeout).wait()

    def create_head(
        self, model: str, subject: str | None = None, style: str | None = "", timeout: float = 180.0
    ) -> HeadInfo:
        """Load a model and pick a person. ``subject`` None: the first; ``style`` "": their own
        hair, None: bald. The same arguments give the same ``head_id``, also after a restart.

        Raises:
            ModelInvalid: no such model, or damaged. BadInput: no such subject or style.
        """
        return self.submit_create_head(model, subject, style, timeout).wait()

    def head_mesh(self, head_id: str, timeout: float = 60.0) -> HeadMesh:
        """The parametric mesh that a rig shows."""
        return self.submit_head_mesh(head_id, timeout).wait()

    def render_frame(
        self,
        head_id: str,
        blendshapes: ArrayLike,
        camera: Camera,
        width: int,
        height: int,
        timeout: float = 300.0,
    ) -> tuple[NDArray[np.uint8], Floats]:
        """Render one picture: (rgba (H, W, 4) uint8 sRGB straight alpha, depth (H, W) float32
        planar metres with +inf background), top row first."""
        job = self.submit_render_frame(head_id, blendshapes, camera, width, height, timeout=timeout)
        frame = job.wait()
        return frame.rgba, frame.depth

    def shutdown(self, timeout: float = 5.0) -> None:
        """Ask the backend to leave; pending jobs of everybody end as cancelled."""
        self._submit(protocol.Shutdown(), "shutdown", timeout=timeout).wait()

    # --- jobs ---------------------------------------------------------------------------------

    def submit_status(self, timeout: float = 5.0) -> Job[Status]:
        return self._submit(protocol.GetStatus(), "status", timeout=timeout)

    def submit_models(self, timeout: float = 10.0, thumbnails: bool = True) -> Job[list[ModelInfo]]:
        return self._submit(
            protocol.ListModels(thumbnails), "models.list", timeout=timeout, decode=models_of
        )

    def submit_editors(self, timeout: float = 60.0) -> Job[dict[str, str]]:
        return self._submit(
            protocol.ListEditors(),
            "editors.list",
            timeout=timeout,
            decode=lambda message: message.body.editors,
        )

    def submit_create_head(
        self, model: str, subject: str | None = None, style: str | None = "", timeout: float = 180.0
    ) -> Job[HeadInfo]:
        return self._submit(
            protocol.CreateHead(model, subject, style), "head.create", timeout=timeout
        )

    def submit_head_mesh(self, head_id: str, timeout: float = 60.0) -> Job[HeadMesh]:
        return self._submit(protocol.GetMesh(head_id), "head.mesh", timeout=timeout, decode=mesh_of)

    def submit_render_frame(
        self,
        head_id: str,
        blendshapes: ArrayLike,
        camera: Camera,
        width: int,
        height: int,
        *,
        view: str = "",
        timeout: float = 300.0,
    ) -> Job[RenderedFrame]:
        """``view``: a newer request with the same view replaces an older one that still waits
        (which ends as Cancelled): give each viewport its own name to see only its newest state."""
        return self._submit(
            protocol.RenderFrame(head_id, width, height, view),
            "render.frame",
            blobs={"blendshapes": _weights(blendshapes), "camera": _labels([camera])[0]},
            timeout=timeout,
            decode=frame_of,
        )

    def render_sequence(
        self, head_id: str, frames: Sequence[SequenceFrame], width: int, height: int
    ) -> Job[SequenceResult]:
        """Render ``frames`` in order; each arrives as a FrameDone event with PNG bytes."""
        limit = self._welcome.limits.sequence_frames
        if not 0 < len(frames) <= limit:
            raise BadInput(f"A sequence has 1 to {limit} frames, this one {len(frames)}.")
        return self._submit(
            protocol.RenderSequence(head_id, width, height),
            "render.sequence",
            blobs={
                "numbers": np.array([frame.number for frame in frames], np.int32),
                "blendshapes": np.stack([_weights(frame.blendshapes) for frame in frames]),
                "cameras": _labels([frame.camera for frame in frames]),
            },
            decode=lambda message: SequenceResult(message.body.frames, message.body.seconds),
        )

    def extract_surface(
        self, head_id: str, blendshapes: ArrayLike, resolution: int = 256, texture: int = 0
    ) -> Job[SurfaceMesh]:
        """Extract the neural surface, hair included, as a coloured mesh.

        ``texture``: side of a baked texture in pixels (512, 1024, 2048), 0 for none. Progress
        events tell how far it is.
        """
        return self._submit(
            protocol.ExtractSurface(head_id, resolution, texture),
            "surface.extract",
            blobs={"blendshapes": _weights(blendshapes)},
            decode=surface_of,
        )

    def fit_head(
        self,
        photos: Sequence[Photo],
        name: str,
        *,
        consent: str,
        model: str = "starter",
        style: str | None = "",
        face: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        planes: bool = False,
    ) -> Job[HeadMade]:
        """Fit ``model`` to photographs of one person; the result is a new model of that ``name``
        (or ``name 2`` …), which ``create_head`` takes. Stages arrive as StageDone events.

        Args:
            consent: that, and by whom, the photographs may be used; kept in the model's manifest.
            style: hair style; "": the likeliest, None: bald.
            face: which face of a group, from 1.
            steps, seed, planes: of the texture's inversion, see ``protocol.FitHead``.

        Raises:
            BadInput: too many photographs, too large, or a name that cannot be used.
        """
        limits = self._welcome.limits
        if len(photos) > limits.photos:
            raise BadInput(
                f"A head is fitted to at most {limits.photos} photographs, not to {len(photos)}."
            )
        total = sum(len(photo.data) for photo in photos)
        if total > protocol.MAX_REQUEST_BYTES:
            raise BadInput(
                f"The photographs have {total >> 20} MiB together, the backend takes "
                f"{protocol.MAX_REQUEST_BYTES >> 20}: choose fewer, or save smaller copies."
            )
        names = [protocol.tidy_name(photo.name) for photo in photos]
        return self._making(
            "fit",
            protocol.FitHead(
                model, protocol.tidy_name(name), names, consent, style, face, steps, seed, planes
            ),
            {f"photo.{index}": photo.data for index, photo in enumerate(photos)},
        )

    def edit_head(
        self,
        head_id: str,
        name: str,
        editor: str,
        prompt: str = "",
        *,
        strength: float | None = None,
        guidance: float | None = None,
        image_guidance: float | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> Job[HeadMade]:
        """Change how a head looks; the result is a new model of that ``name`` (or ``name 2`` …).

        ``editor`` is one of :meth:`editors`. Previews arrive as StageDone events.
        """
        body = protocol.EditHead(
            head_id, protocol.tidy_name(name), editor, prompt,
            strength, guidance, image_guidance, steps, seed,
        )  # fmt: skip
        return self._making("edit", body, {})

    submit_render_sequence = render_sequence
    submit_extract_surface = extract_surface
    submit_fit_head = fit_head
    submit_edit_head = edit_head

    def _making(self, ability: str, body: Any, blobs: dict[str, Any]) -> Job[HeadMade]:
        if ability not in self.features:
            raise BadInput(
                f"This backend cannot {ability} heads: start one of this extension's version."
            )
        message = protocol.Message("", "", body, {k: _bytes(v) for k, v in blobs.items()})
        try:  # before anything is sent
            protocol.check_request(message, self._welcome.limits)
        except protocol.WireError as error:  # in the form in which the backend would say it
            raise protocol.exception(protocol.failure(error)) from None
        return self._submit(body, f"head.{ability}", blobs=blobs)

    def _submit(
        self,
        body: Any,
        kind: str,
        *,
        blobs: dict[str, Any] | None = None,
        timeout: float | None = None,
        decode: Any = None,
    ) -> Job[Any]:
        job: Job[Any] = Job(
            id=f"{self._prefix}-{next(self._numbers)}",
            kind=kind,
            _cancel=self._cancel,
            _acknowledge=self._acknowledge,
            deadline=None if timeout is None else time.monotonic() + timeout,
            decode=decode,
        )
        frames = protocol.REQUESTS.pack(body, id=job.id, blobs=blobs, ttl=timeout)
        self._transport.submit(job, frames)
        return job

    def _cancel(self, job: Job[Any]) -> None:
        body = protocol.CancelJob(job.id)
        self._transport.submit(None, protocol.REQUESTS.pack(body, id=f"{job.id}.stop"))

    def _acknowledge(self, job: Job[Any], frames: int) -> None:
        body = protocol.Acknowledge(job.id, frames)
        self._transport.submit(None, protocol.REQUESTS.pack(body, id=f"{job.id}.ack"))


_NOBODY = Welcome("", 0, 0, "", "", "", protocol.Limits(), [])


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _weights(blendshapes: ArrayLike) -> Floats:
    weights = np.asarray(blendshapes, dtype=np.float32)
    if weights.shape != (protocol.BLENDSHAPES,):
        raise BadInput(f"A frame needs 52 blendshape weights, not {weights.size}.")
    return np.array(weights)  # a copy: the caller may change theirs before the message is sent


def _labels(cameras: Sequence[Camera]) -> NDArray[np.float64]:
    return np.stack([np.asarray(camera.flat25(), dtype=np.float64) for camera in cameras])
