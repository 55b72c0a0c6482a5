"""Client of the backend: blocking calls, jobs, and the writer of numbered pictures.

Runs inside Blender: numpy, msgspec and pyzmq alone.
"""

from head360.client.api import Client
from head360.client.jobs import (
    Cancelled,
    Done,
    Event,
    Failed,
    FrameDone,
    Job,
    Progress,
    SequenceResult,
    StageDone,
)
from head360.client.sequence import SequenceWriter, parameters_hash
from head360.client.values import (
    HeadMesh,
    ModelInfo,
    Photo,
    RenderedFrame,
    SequenceFrame,
    SurfaceMesh,
)
from head360.protocol import HeadInfo, HeadMade, Status, Welcome

__all__ = [
    "Cancelled",
    "Client",
    "Done",
    "Event",
    "Failed",
    "FrameDone",
    "HeadInfo",
    "HeadMade",
    "HeadMesh",
    "Job",
    "ModelInfo",
    "Photo",
    "Progress",
    "RenderedFrame",
    "SequenceFrame",
    "SequenceResult",
    "SequenceWriter",
    "StageDone",
    "Status",
    "SurfaceMesh",
    "Welcome",
    "parameters_hash",
]
