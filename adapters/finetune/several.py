"""Several processes that train one model, each on its part of every batch; alone, all of this does nothing.

`accelerate launch` starts them, on one machine or on several, and tells each who it is. All of them draw the same
pairs and noise and take their own part, so P processes with batches of B do what one does with batches of P B.

Shapes: B pairs of a process, P processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FineTuneError

__all__ = ["Several", "several"]


@dataclass(frozen=True)
class Several:
    """Who this process is among those that train together.

    Attributes:
        index: 0 is the one that writes files and tells. count: Of all.
        local: Among those of this machine; 0 prepares pictures for them.
        device: Where this one computes; None: wherever it likes.
    """

    index: int = 0
    count: int = 1
    device: torch.device | None = None
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this one writes files and tells."""
        return self.index == 0

    def part(self, each: int) -> slice:
        """Which rows of a batch of `each` rows a process are this one's."""
        return slice(self.index * each, (self.index + 1) * each)

    def gathered(self, mine: Tensor) -> Tensor:
        """(P B,) everybody's values in order; this process's own keep their gradient, the others have none."""
        if self.count == 1:
            return mine
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        torch.distributed.all_gather(parts, mine.detach().contiguous())
        parts[self.index] = mine
        return torch.cat(parts)

    def add(self, values: Tensor) -> Tensor:
        """The sum of everybody's values."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every parameter the mean of everybody's gradients, all in one message."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def told(self, value: Any) -> Any:
        """What the first process says."""
        if self.count == 1:
            return value
        box = [value if self.first else None]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def least(self, value: int | None) -> int | None:
        """The least number that any of them says; None where nobody says one."""
        if self.count == 1:
            return value
        most = torch.iinfo(torch.int64).max
        said = torch.tensor([most if value is None else value], device=self.device)
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN)
        return None if said.item() == most else int(said.item())

    def wait(self) -> None:
        """Go on when all of them have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def same(self, values: Iterable[Tensor]) -> None:
        """Give everybody the values of the first process, in place."""
        if self.count > 1:
            for value in values:
                torch.distributed.broadcast(value.detach(), src=0)

    def any(self, value: bool) -> bool:
        """Whether it is so for any of them."""
        if self.count == 1:
            return value
        return bool(self.add(torch.tensor([int(value)], device=self.device)).item())


def several() -> Several:
    """Who this process is, by what `accelerate launch` (or torchrun) said.

    Raises:
        FineTuneError: one of several, without accelerate.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Several()
    try:
        from accelerate import PartialState  # type: ignore[import-untyped]
    except ImportError as error:
        raise FineTuneError(
            "Cannot train in several processes: accelerate is not installed here. `python install.py train` makes an "
            "environment that has it."
        ) from error
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.cuda.is_available()
    # The first prepares what the others wait for, a large data set for many hours; one that dies is noticed without it.
    state = PartialState(cpu=cpu, timeout=timedelta(days=7))
    who = int(state.process_index), int(state.num_processes), state.device
    return Several(*who, int(state.local_process_index))
