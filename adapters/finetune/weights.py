"""The trained weights, and copies of them that take their place for a look: references, averages, the best so far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .lora import load_lora, lora_of

__all__ = ["Kept", "all_parameters", "load_state", "state_of"]


class Kept:
    """A copy of the trained weights.

    In float32: a change of a ten-thousandth, as an average takes it, would round to nothing in half precision.

    Attributes:
        values: One tensor for each parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.values = [parameter.detach().float().clone() for parameter in self._parameters]

    def follow(self, decay: float, step: int) -> None:
        """Move towards the weights after a step, as diffusers' averages do: fast at first.

        Args:
            decay: Share of the average that stays at each step, in [0, 1], once many are done.
            step: Number of the step, from 0.
        """
        share = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
        for slow, fast in zip(self.values, self._parameters, strict=True):
            slow.lerp_(fast.detach().float(), share)

    def put_back(self, values: Sequence[Tensor]) -> None:
        """Take the values that a checkpoint held."""
        self.values = [value.to(mine.device) for value, mine in zip(values, self.values, strict=True)]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with these weights, without gradients, while this lasts."""
        now = [parameter.data for parameter in self._parameters]
        for parameter, value in zip(self._parameters, self.values, strict=True):
            parameter.data = value
        try:
            with torch.no_grad():
                yield
        finally:
            for parameter, value in zip(self._parameters, now, strict=True):
                parameter.data = value


def all_parameters(unet: Any) -> list[nn.Parameter]:
    """Make all of a denoiser trainable, in float32, and return its parameters; for full fine-tuning."""
    unet.requires_grad_(True)
    parameters: list[nn.Parameter] = list(unet.parameters())
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


def state_of(unet: Any, full: bool) -> dict[str, Tensor]:
    """A copy of what was trained, by diffusers' names, float32, on the CPU: the LoRA's halves, or all parameters."""
    if not full:
        return lora_of(unet)
    return {name: parameter.detach().float().cpu().clone() for name, parameter in unet.named_parameters()}


def load_state(unet: Any, state: Mapping[str, Tensor], full: bool) -> None:
    """Put in what `state_of` gave."""
    if not full:
        load_lora(unet, state)
        return
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            parameter.copy_(state[name])
