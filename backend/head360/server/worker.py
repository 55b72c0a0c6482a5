"""The process that holds the models and renders. Started by the gateway, never by hand.

It answers one task at a time and keeps nothing a restart would lose. Its life ends with its
standard input: when the gateway is gone the pipe closes, whatever the render loop is doing.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import platform
import secrets
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from head360 import protocol
from head360.errors import BadInput, Cancelled, Head360Error, ModelInvalid, NoDevice
from head360.heads.base import Codes, Frame, Head, Pose
from head360.protocol import Failure, Message, WireError
from head360.rendering.cameras import Camera
from head360.server import work
from head360.server.crafts import Crafts, Listener, thumbnail

log = logging.getLogger("head360.worker")

POSES = 4  # a pose may hold a hundred megabytes of features
HEADS = 4
_ADVANCE_GAP = 0.25  # seconds between two reports of progress


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one package from another of the same name; None for what is no file."""
    try:
        found = (path / "manifest.json" if path.is_dir() else path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Studio:
    """Loaded heads and recent poses; turns tasks into answers."""

    def __init__(self, device: str, factory: Callable[..., Head], diffusion: str = "") -> None:
        self._device = device
        self._factory = factory
        self._takes_device = "device" in inspect.signature(factory).parameters
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._poses: OrderedDict[tuple[work.HeadRef, bytes], Pose] = OrderedDict()
        self._stamps: dict[str, tuple[int, int] | None] = {}
        stand_in = "" if factory.__module__.startswith("head360.") else factory.__module__
        self.crafts = Crafts(device, diffusion, lambda path: self._head(str(path)), stand_in)

    def perform(self, message: Message, listener: Listener) -> tuple[Any, dict[str, Any]]:
        """(answer body, its blobs). ``listener`` hears of tasks that can tell how far they are.

        Raises:
            Head360Error: the task cannot be done; the text is for the user.
        """
        start = time.perf_counter()
        task = message.body
        if isinstance(task, work.FitTask | work.EditTask):
            return self.crafts.perform(message, listener), {}
        if isinstance(task, work.EditorsTask):
            return protocol.Editors(self.crafts.editors()), {}
        head = self._head(task.head.path)
        codes = head.codes(task.head.subject, task.head.style)
        if isinstance(task, work.LoadTask):
            return work.Loaded(codes.subject, codes.style, head.kind), {}
        if isinstance(task, work.MeshTask):
            mesh = head.mesh(codes)
            blobs: dict[str, Any] = {
                "vertices": _floats(mesh.vertices),
                "faces": _ints(mesh.faces),
                "uvs": _floats(mesh.uvs),
                "face_uvs": _ints(mesh.face_uvs),
                "deltas": _floats(mesh.deltas),
                "parts": np.asarray(mesh.parts, np.uint8),
            }
            done = work.TaskDone(time.perf_counter() - start, list(mesh.part_names))
            return done, blobs
        pose = self._pose(head, task.head, codes, message.blobs["blendshapes"])
        if isinstance(task, work.SurfaceTask):
            surface = head.surface(pose, task.resolution, **_extras(head, task.texture, listener))
            blobs = {
                "vertices": _floats(surface.vertices),
                "faces": _ints(surface.faces),
                "colours": _floats(surface.colours),
                "normals": _floats(surface.normals),
            }
            if surface.texture is not None:
                blobs |= {
                    "uvs": _floats(surface.uvs),
                    "face_uvs": _ints(surface.face_uvs),
                    "texture": np.asarray(surface.texture, np.uint8),
                }
            seconds = time.perf_counter() - start
            return work.TaskDone(seconds, removed=surface.removed), blobs
        camera = Camera.from_flat25(message.blobs["camera"])
        frame = head.render(pose, camera, task.width, task.height)
        rgba = to_bytes(frame, task.width, task.height)
        if task.png:
            blobs = {"png": encode_png(rgba)}
        else:
            blobs = {"rgba": rgba, "depth": np.asarray(frame.depth, np.float32)}
        return work.TaskDone(time.perf_counter() - start), blobs

    def forget(self) -> None:
        """Drop cached poses and heads, for instance to give memory back to the device."""
        self._poses.clear()
        self._heads.clear()

    def _head(self, path: str) -> Head:
        stamp = _stamp(Path(path))
        if self._stamps.get(path, stamp) != stamp:  # another model has taken the name
            self._heads.pop(path, None)
            for key in [key for key in self._poses if key[0].path == path]:
                del self._poses[key]
        self._stamps[path] = stamp
        if path not in self._heads:
            options = {"device": self._device} if self._takes_device else {}
            self._heads[path] = self._factory(Path(path), **options)
            while len(self._heads) > HEADS:
                gone, _ = self._heads.popitem(last=False)
                for key in [key for key in self._poses if key[0].path == gone]:
                    del self._poses[key]
        self._heads.move_to_end(path)
        return self._heads[path]

    def _pose(self, head: Head, ref: work.HeadRef, codes: Codes, weights: NDArray[Any]) -> Pose:
        # Clamped, because rounding on the way may leave 1.0000001.
        weights = np.clip(weights, 0.0, 1.0).astype(np.float32)
        key = (ref, weights.tobytes())
        if key not in self._poses:
            self._poses[key] = head.pose(codes, weights)
            while len(self._poses) > POSES:
                self._poses.popitem(last=False)
        self._poses.move_to_end(key)
        return self._poses[key]


def _extras(head: Head, texture: int, listener: Listener) -> dict[str, Any]:
    """What ``head.surface`` takes beyond the grid; not every kind of head has textures.

    Raises:
        BadInput: a texture was asked for that this kind of head cannot bake.
    """
    known = inspect.signature(head.surface).parameters
    if texture and "texture" not in known:
        raise BadInput(f"{head.name} has no textures: ask for vertex colours alone.")
    extras: dict[str, Any] = {"texture": texture} if texture else {}
    if "progress" in known:
        extras["progress"] = listener.advance
    return extras


def to_bytes(frame: Frame, width: int, height: int) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 of a rendered frame; colour space unchanged (sRGB, straight alpha).

    Raises:
        ModelInvalid: wrong size, or numbers that are not finite: such a frame is never delivered.
    """
    if frame.rgba.shape != (height, width, 4) or frame.depth.shape != (height, width):
        raise ModelInvalid("The model rendered a picture of the wrong size: update the backend.")
    if not np.isfinite(frame.rgba).all() or np.isnan(frame.depth).any():
        raise WireError(
            "The model produced numbers that are not finite: try other blendshapes, or install "
            "the model again.",
            "NUMERIC",
        )
    return (np.clip(frame.rgba, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def encode_png(rgba: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an (H, W, 4) uint8 picture."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _floats(array: Any) -> NDArray[np.float32]:
    result = np.asarray(array, np.float32)
    if not np.isfinite(result).all():
        raise WireError("The model produced a mesh with numbers that are not finite.", "NUMERIC")
    return result


def _ints(array: Any) -> NDArray[np.int32]:
    return np.asarray(array, np.int32)


def choose_device(wanted: str, with_torch: bool = True) -> tuple[str, str, str]:
    """(torch device, kind, name for people) for auto, cuda, mps or cpu.

    Raises:
        NoDevice: the device does not exist here.
    """
    processor = f"CPU ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"
    if not with_torch:
        if wanted not in ("auto", "cpu"):
            raise NoDevice(f"There is no {wanted} device here: use --device cpu.")
        return "cpu", "cpu", processor
    import torch

    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda", "cuda", torch.cuda.get_device_name(0)
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps", "mps", "Apple GPU"
    if wanted in ("auto", "cpu"):
        return "cpu", "cpu", processor
    raise NoDevice(f"There is no {wanted} device on this machine: use --device auto or cpu.")


def _factory(name: str) -> Callable[..., Head]:
    """``heads.load``, or the ``module:function`` that tests inject with ``--head-factory``."""
    if name:
        module, _, function = name.partition(":")
        return getattr(importlib.import_module(module), function)
    return importlib.import_module("head360.heads").load


def _watch_stdin() -> None:
    """Leave at once when the gateway is gone."""
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.buffer.read(4096):
            pass
    os._exit(0)


def _answer(
    studio: Studio, message: Message, listener: Listener
) -> tuple[Any, dict[str, Any], bool]:
    """(body, blobs, whether this process can go on) for one task."""
    try:
        return *studio.perform(message, listener), True
    except Head360Error as error:
        return protocol.failure(error), {}, True
    except Exception as error:
        incident = secrets.token_hex(4)
        log.exception("incident %s", incident)
        kind = type(error).__name__
        if kind == "OutOfMemoryError" or isinstance(error, MemoryError):
            studio.forget()
            _empty_cache()
            text = "Not enough memory for this: choose a smaller size or resolution."
            return Failure("RESOURCE_EXHAUSTED", text), {}, True
        if kind == "AcceleratorError" or "CUDA error" in str(error):
            # The CUDA context is poisoned for the rest of the process: only a new one helps.
            text = "The graphics device reported an error; the render process restarts: try again."
            return Failure("WORKER_LOST", text), {}, False
        text = f"The backend failed unexpectedly ({kind}, incident {incident} in its log)."
        return Failure("INTERNAL", text), {}, True


class Wire:
    """Passes on what a task tells, and hears when nobody wants it any more."""

    def __init__(self, socket: zmq.Socket[Any], send: Callable[..., None], task: str) -> None:
        self._socket, self._send, self._task = socket, send, task
        self._stopped = False
        self._last = 0.0

    def stopped(self) -> bool:
        """Whether the task was told to stop."""
        if not self._stopped and self._socket.poll(0):
            message = work.TASKS.unpack(self._socket.recv_multipart(copy=False))
            self._stopped = isinstance(message.body, work.StopTask)
        return self._stopped

    def advance(self, fraction: float, phase: str) -> None:
        """Tell progress, a few times a second; raises Cancelled once told to stop."""
        self._check()
        if time.monotonic() - self._last > _ADVANCE_GAP:
            self._last = time.monotonic()
            self._send(work.Advance(phase, fraction), self._task)

    def stage(self, stage: work.Stage, picture: NDArray[np.uint8] | None) -> None:
        """Tell a stage with a small copy of its picture; raises Cancelled once told to stop."""
        self._check()
        blobs = {} if picture is None else {"picture": thumbnail(picture)}
        self._send(stage, self._task, blobs)

    def _check(self) -> None:
        if self.stopped():
            raise Cancelled("The work was cancelled.")


def _empty_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> int:
    """Entry point of the process: configuration on the first line of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True
    )
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=work.Config)
    threading.Thread(target=_watch_stdin, daemon=True).start()
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 2000
    socket.identity = config.identity.encode()
    socket.maxmsgsize = protocol.MAX_FRAME
    socket.curve_serverkey = config.server_public.encode()
    socket.curve_publickey = config.public.encode()
    socket.curve_secretkey = config.secret.encode()
    socket.connect(config.endpoint)

    def send(body: Any, re: str, blobs: dict[str, Any] | None = None) -> None:
        frames = work.RESULTS.pack(body, id=f"r-{re}"[:64], re=re, blobs=blobs)
        socket.send_multipart(frames, copy=False)

    try:
        device, kind, name = choose_device(config.device, with_torch=not config.factory)
        studio = Studio(device, _factory(config.factory), config.diffusion)
        ready = work.WorkerReady(name, kind, studio.crafts.makes())
    except ImportError as error:
        log.exception("the backend is incomplete")
        text = f'The backend is incomplete ({error}): pip install "head360[backend]".'
        send(Failure("INTERNAL", text), "start")
        context.destroy(linger=2000)
        return 1
    except Head360Error as error:
        send(protocol.failure(error), "start")
        context.destroy(linger=2000)
        return error.exit_code
    send(ready, "start")
    going = True
    while going:
        message = work.TASKS.unpack(socket.recv_multipart(copy=False))
        if isinstance(message.body, work.StopTask):
            continue  # the task had ended already
        body, blobs, going = _answer(studio, message, Wire(socket, send, message.id))
        try:
            send(body, message.id, blobs)
        except WireError as error:
            send(protocol.failure(error), message.id)
    context.destroy(linger=2000)
    return 1


if __name__ == "__main__":
    sys.exit(main())
