"""Adaptive-DPO's other annotators: the policy as it was, in two moving averages of its weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .losses import PairErrors
from .prepared import Batch
from .step import Denoiser
from .weights import Kept

__all__ = ["PastSelves"]

DECAYS = (0.9999, 0.5)


class PastSelves:
    """Averages of the trained weights, each of which can take their place for a look.

    Attributes:
        averages: One for each of `DECAYS`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.averages = [Kept(parameters) for _ in DECAYS]

    def follow(self, step: int) -> None:
        """Move towards the weights after a step."""
        for decay, average in zip(DECAYS, self.averages, strict=True):
            average.follow(decay, step)

    def errors(
        self, denoiser: Denoiser, batch: Batch, noise: Tensor, timesteps: Tensor, now: PairErrors
    ) -> list[PairErrors]:
        """Return what each average makes of a batch, without gradients; the reference's errors are those of `now`."""
        found = []
        for average in self.averages:
            with average.in_place():
                past = denoiser.errors(batch, noise, timesteps, False)
            found.append(PairErrors(past.chosen, past.rejected, now.ref_chosen, now.ref_rejected))
        return found
