"""Adaptive-DPO's other annotators: the policy as it was, in two moving averages of its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .losses import PairErrors
from .prepared import Batch
from .step import Denoiser

__all__ = ["PastSelves"]

DECAYS = (0.9999, 0.5)


class PastSelves:
    """Averages of the trained weights, each of which can take their place for a look.

    They are kept in float32: a change of a ten-thousandth would round to nothing in half precision.

    Attributes:
        averages: One list of tensors for each of `DECAYS`, as the parameters.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.averages = [[parameter.detach().clone() for parameter in self._parameters] for _ in DECAYS]

    def follow(self, step: int) -> None:
        """Move towards the weights after a step, as diffusers' averages do: fast at first."""
        for decay, average in zip(DECAYS, self.averages, strict=True):
            share = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
            for slow, fast in zip(average, self._parameters, strict=True):
                slow.lerp_(fast.detach(), share)

    def errors(
        self, denoiser: Denoiser, batch: Batch, noise: Tensor, timesteps: Tensor, now: PairErrors
    ) -> list[PairErrors]:
        """Return what each average makes of a batch, without gradients; the reference's errors are those of `now`."""
        found = []
        for average in self.averages:
            with self._in_place(average), torch.no_grad():
                past = denoiser.errors(batch, noise, timesteps, False)
            found.append(PairErrors(past.chosen, past.rejected, now.ref_chosen, now.ref_rejected))
        return found

    @contextlib.contextmanager
    def _in_place(self, average: Sequence[Tensor]) -> Iterator[None]:
        now = [parameter.data for parameter in self._parameters]
        for parameter, before in zip(self._parameters, average, strict=True):
            parameter.data = before
        try:
            yield
        finally:
            for parameter, value in zip(self._parameters, now, strict=True):
                parameter.data = value
