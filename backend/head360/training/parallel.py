"""One or many processes, each with its own device, training one network (``torchrun``).

Every process draws its own moments; gradients are averaged after each step, so all processes hold
the same weights at all times. Process 0 alone writes files and decides when; the others follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from head360.errors import BadInput


class Ranks:
    """This process among the others.

    Attributes:
        rank: number of this process; 0 writes files.
        world: number of processes.
        device: torch device of this process.
    """

    def __init__(self, rank: int, world: int, device: str) -> None:
        self.rank, self.world, self.device = rank, world, device

    @staticmethod
    def join(device: str) -> Ranks:
        """Join the group that ``torchrun`` describes in the environment; alone without one.

        Args:
            device: "cuda" becomes the process's own GPU.

        Raises:
            BadInput: the environment of ``torchrun`` is incomplete.
        """
        if "RANK" not in os.environ:
            return Ranks(0, 1, device)
        try:
            rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            local = int(os.environ.get("LOCAL_RANK", rank))
        except (KeyError, ValueError) as error:
            raise BadInput(
                f"The environment speaks of torchrun, but {error} is missing or no number: start "
                "the training with torchrun, or unset RANK."
            ) from error
        if device.startswith("cuda"):
            device = f"cuda:{local % torch.cuda.device_count()}"
            torch.cuda.set_device(device)
        if world > 1:
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return Ranks(rank, world, device)

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes.

        A parameter that had no part in this process's pictures (another subject's texture) counts
        as zero; one that had no part anywhere keeps no gradient, as in a run of one process.
        """
        if self.world == 1:
            return
        owned = list(parameters)
        used = torch.tensor([p.grad is not None for p in owned], dtype=torch.int32)
        used = used.to(self.device)
        dist.all_reduce(used)
        for parameter, count in zip(owned, used.tolist(), strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.world

    def decided(self, decision: int) -> int:
        """What process 0 decided, in every process."""
        if self.world == 1:
            return decision
        value = torch.tensor([decision], device=self.device)
        dist.broadcast(value, 0)
        return int(value.item())

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """End the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
