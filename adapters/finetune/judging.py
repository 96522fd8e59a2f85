"""How good a LoRA is on pairs that it was not trained on, by the same noise at every look.

Shapes: N held-out pairs, K draws of noise for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .losses import PairErrors
from .prepared import Prepared
from .step import Denoiser, draw_noise

__all__ = ["Judge", "Judgement"]

DRAWS = 8
BETA = 2000.0  # of the log-odds that looks are compared by, whatever the loss
TOGETHER = 4  # pairs per forward pass


@dataclass(frozen=True)
class Judgement:
    """One look at the held-out pairs.

    Attributes:
        step: After how many steps.
        accuracy: Share of the pairs of which the model moved towards the chosen picture, in [0, 1].
        log_loss: Mean -log sigmoid of the pairs' log-odds, in nats; log 2 = 0.693 is a model that learned nothing.
        chosen_error: Error on the chosen pictures over the reference's; above 1 it got worse at them.
    """

    step: int
    accuracy: float
    log_loss: float
    chosen_error: float


class Judge:
    """Looks at the same held-out pairs with the same noise; the reference's errors are computed once."""

    def __init__(self, denoiser: Denoiser, data: Prepared, seed: int) -> None:
        self._denoiser, self._data, self._seed = denoiser, data, seed
        self._reference: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """How many pairs."""
        return len(self._data)

    def look(self, step: int) -> Judgement:
        """Judge the model as it is."""
        chosen, rejected = self._errors(with_reference=self._reference is None)
        assert self._reference is not None
        errors = PairErrors(chosen, rejected, *self._reference)
        log_odds = errors.log_odds(BETA)
        hits = (log_odds > 0).float() + 0.5 * (log_odds == 0).float()
        return Judgement(
            step,
            float(hits.mean()),
            float(-F.logsigmoid(log_odds).mean()),
            float(chosen.sum() / self._reference[0].sum()),
        )

    def _errors(self, with_reference: bool) -> tuple[Tensor, Tensor]:
        """(N,) mean errors over the draws on both sides; keeps the reference's when they are asked for."""
        found: list[list[Tensor]] = [[], [], [], []]
        with torch.no_grad():
            for group in self._groups():
                batch = self._data.batch(group, self._denoiser.device)
                sums = [torch.zeros(len(group)) for _ in found]
                for draw in range(DRAWS):
                    generator = torch.Generator().manual_seed(
                        (self._seed * 1_000_003 + group[0] * DRAWS + draw) % 2**63
                    )
                    noise, timesteps = draw_noise(batch, self._denoiser.noising.timesteps, generator, False)
                    # All pairs of a draw at their own part of the schedule, and every pair at all parts in the end.
                    timesteps = (timesteps + draw * self._denoiser.noising.timesteps // DRAWS) % (
                        self._denoiser.noising.timesteps
                    )
                    errors = self._denoiser.errors(batch, noise, timesteps, with_reference)
                    for total, part in zip(sums, vars(errors).values(), strict=True):
                        if part is not None:
                            total += part.cpu() / DRAWS
                for kept, total in zip(found, sums, strict=True):
                    kept.append(total)
        chosen, rejected, *reference = (torch.cat(parts) for parts in found)
        if with_reference:
            self._reference = (reference[0], reference[1])
        return chosen, rejected

    def _groups(self) -> list[list[int]]:
        """Indices of pairs of one shape, a few at a time."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, latents in enumerate(self._data.chosen):
            shapes.setdefault(tuple(latents.shape), []).append(index)
        return [
            alike[start : start + TOGETHER] for alike in shapes.values() for start in range(0, len(alike), TOGETHER)
        ]
