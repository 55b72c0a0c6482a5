"""The bodies of all messages: requests, answers, and the limits a server announces."""

from __future__ import annotations

from typing import Literal

import msgspec

# What a server of this version can do; sent in ``Welcome`` so that a client of another minor
# version can ask before it uses something.
FEATURES = (
    "models", "heads", "meshes", "frames", "depth", "views", "sequences", "surfaces", "cancel",
)  # fmt: skip
# Added to them where the backend has what it takes.
MAKING = ("fit", "edit")
THUMBNAIL = 256  # pixels a side of a stage's picture


class Limits(msgspec.Struct, frozen=True):
    """What one server accepts; sent in ``Welcome`` so that a client can check first."""

    width: int = 4096
    height: int = 4096
    sequence_frames: int = 20_000
    resolution: int = 512
    in_flight: int = 64
    window: int = 16  # finished frames of a sequence that may wait unacknowledged
    photos: int = 8  # of one fit
    photo_bytes: int = 32 << 20  # of one photograph; a request is limited as a whole, too
    prompt: int = 1000  # characters


# --- requests ---------------------------------------------------------------------------------


class Hello(msgspec.Struct, tag="hello"):
    client: str = ""


class Ping(msgspec.Struct, tag="ping"):
    pass


class GetStatus(msgspec.Struct, tag="status"):
    pass


class ListModels(msgspec.Struct, tag="models.list"):
    thumbnails: bool = True


class ListEditors(msgspec.Struct, tag="editors.list"):
    pass


class CreateHead(msgspec.Struct, tag="head.create"):
    """``subject`` None: the first one. ``style`` "": the subject's own hair, None: bald."""

    model: str
    subject: str | None = None
    style: str | None = ""


class GetMesh(msgspec.Struct, tag="head.mesh"):
    head: str


class RenderFrame(msgspec.Struct, tag="render.frame"):
    """Blobs: ``blendshapes`` f32 (52,), ``camera`` f64 (25,) = cam2world 16 + intrinsics 9.

    ``view``: requests of one client with the same non-empty view replace each other while they
    wait (the older one is answered ``Stopped``), so a viewport always gets its newest state.
    """

    head: str
    width: int
    height: int
    view: str = ""


class RenderSequence(msgspec.Struct, tag="render.sequence"):
    """Blobs: ``numbers`` i32 (F,), ``blendshapes`` f32 (F, 52), ``cameras`` f64 (F, 25)."""

    head: str
    width: int
    height: int


class ExtractSurface(msgspec.Struct, tag="surface.extract"):
    """Blob: ``blendshapes`` f32 (52,). ``resolution``: grid cells along one edge of the box;
    ``texture``: side of a baked texture in pixels, 0 for vertex colours alone."""

    head: str
    resolution: int
    texture: int = 0


class FitHead(msgspec.Struct, tag="head.fit"):
    """Blobs ``photo.0`` … u8: the files' bytes, one for each of ``photos``.

    Attributes:
        model: name of the model that is fitted.
        name: wanted name of the new model; the backend makes it unique.
        photos: file names, for the new model's provenance; never a path.
        consent: what the person who sent them declared about their use, for the same.
        style: hair style; "" takes the likeliest, None is bald.
        face: which face of a picture with several, from 1; None: the only or clearly main one.
        steps: of the texture's inversion; None: the backend's own choice.
        planes: refine the hex-planes' features as well.
    """

    model: str
    name: str
    photos: list[str]
    consent: str
    style: str | None = ""
    face: int | None = None
    steps: int | None = None
    seed: int = 0
    planes: bool = False


class EditHead(msgspec.Struct, tag="head.edit"):
    """``head``: the head that changes, as it is on the server; the result is a new model.

    Attributes:
        name: wanted name of the new model; the backend makes it unique.
        editor: one of those that ``ListEditors`` asks for.
        prompt: what to change; filters need none.
        strength, guidance, image_guidance, steps: None takes the editor's own choice.
    """

    head: str
    name: str
    editor: str
    prompt: str = ""
    strength: float | None = None
    guidance: float | None = None
    image_guidance: float | None = None
    steps: int | None = None
    seed: int = 0


class CancelJob(msgspec.Struct, tag="job.cancel"):
    job: str


class Acknowledge(msgspec.Struct, tag="job.ack"):
    """The client took ``frames`` finished frames of a sequence; the only message with no answer."""

    job: str
    frames: int


class Shutdown(msgspec.Struct, tag="shutdown"):
    pass


# --- answers ----------------------------------------------------------------------------------


class Welcome(msgspec.Struct, tag="welcome"):
    """``device_kind`` is cuda, mps or cpu; ``models`` are names for ``CreateHead``; what may be in
    ``features`` is listed in ``FEATURES`` and ``MAKING``."""

    server: str
    major: int
    minor: int
    boot_id: str
    device: str
    device_kind: str
    limits: Limits
    models: list[str]
    pid: int = 0
    features: list[str] = []


class Pong(msgspec.Struct, tag="pong"):
    pass


class Status(msgspec.Struct, tag="status.answer"):
    """``worker``: starting, ready, busy or disabled. ``queued``: waiting jobs of all clients.
    ``making``: the fit or edit under way, beside what is ``running``."""

    boot_id: str
    worker: str
    queued: int
    running: str
    heads: int
    clients: int
    uptime_s: float
    restarts: int
    making: str = ""


class ModelInfo(msgspec.Struct):
    """One model package as its manifest describes it."""

    name: str
    kind: str = ""
    subjects: list[str] = []
    styles: list[str] = []
    licence: str = ""
    preset: str = ""
    note: str = ""
    made_by: str = ""


class Models(msgspec.Struct, tag="models"):
    """Blob ``thumbnail.<index>``: PNG bytes of ``models[index]`` where the package has one."""

    models: list[ModelInfo]


class Editors(msgspec.Struct, tag="editors"):
    """``editors``: names for ``EditHead``, and what each does."""

    editors: dict[str, str]


class HeadInfo(msgspec.Struct, tag="head"):
    """A head on the server. Its id is a hash of model, subject and style: stable over restarts."""

    head_id: str
    model: str
    subject: str
    style: str | None
    kind: str = ""


class MeshReady(msgspec.Struct, tag="mesh"):
    """Blobs of ``heads.base.HeadMesh``: vertices, faces, uvs, face_uvs, deltas, parts."""

    part_names: list[str]


class FrameReady(msgspec.Struct, tag="frame"):
    """Blobs: ``rgba`` u8 (H, W, 4) sRGB straight alpha, ``depth`` f32 (H, W) metres, +inf empty."""

    seconds: float = 0.0


class SequenceFrameReady(msgspec.Struct, tag="sequence.frame"):
    """Not terminal. Blob ``png``: u8 (N,), an RGBA PNG. ``step`` of ``of`` frames are finished."""

    number: int
    step: int
    of: int
    seconds: float = 0.0


class Advance(msgspec.Struct, tag="progress"):
    """Not terminal. ``fraction`` in [0, 1]."""

    phase: str
    fraction: float


class StageReady(msgspec.Struct, tag="stage"):
    """Not terminal: a stage of a long piece of work is finished, or has a newer preview.

    Blob ``picture`` where there is one: u8 (H, W, 3) sRGB, at most ``THUMBNAIL`` a side.
    """

    name: str
    number: int
    count: int
    text: str = ""


class HeadMade(msgspec.Struct, tag="head.made"):
    """A new model is installed under the name ``model``.

    Attributes:
        subject, style: of the head that was made.
        styles: (name, probability) of the hair styles that were considered, likeliest first.
        facts: figures by name, such as ``landmark_px`` and ``psnr_front``.
        notes: sentences for the person at the screen.
    """

    model: str
    subject: str
    style: str | None
    seconds: float = 0.0
    styles: list[tuple[str, float]] = []
    facts: dict[str, float] = {}
    notes: list[str] = []


class SequenceReady(msgspec.Struct, tag="sequence.done"):
    frames: int
    seconds: float


class SurfaceReady(msgspec.Struct, tag="surface"):
    """Blobs of ``heads.base.Surface``: vertices, faces, colours, normals, and where a texture was
    asked for uvs, face_uvs, texture. ``removed``: floaters and hidden cavities dropped."""

    seconds: float = 0.0
    removed: int = 0


class CancelAnswer(msgspec.Struct, tag="cancel.answer"):
    state: Literal["cancelling", "not_found"]


class ShutdownAnswer(msgspec.Struct, tag="shutdown.answer"):
    pass


class Stopped(msgspec.Struct, tag="cancelled"):
    """Terminal: the job ended because somebody asked for it. ``reached``: finished frames."""

    reached: int = 0
    reason: str = ""


class Failure(msgspec.Struct, tag="error"):
    """Terminal: ``message`` is for the person at the screen, ``code`` for the program."""

    code: str
    message: str


Request = (
    Hello | Ping | GetStatus | ListModels | ListEditors | CreateHead | GetMesh | RenderFrame
    | RenderSequence | ExtractSurface | FitHead | EditHead | CancelJob | Acknowledge | Shutdown
)  # fmt: skip
Answer = (
    Welcome | Pong | Status | Models | Editors | HeadInfo | MeshReady | FrameReady
    | SequenceFrameReady | Advance | StageReady | SequenceReady | SurfaceReady | HeadMade
    | CancelAnswer | ShutdownAnswer | Stopped | Failure
)  # fmt: skip
NOT_TERMINAL = (SequenceFrameReady, Advance, StageReady)
