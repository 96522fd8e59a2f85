"""How good a LoRA is on pairs that it was not trained on, by the same noise at every look.

Shapes: N held-out pairs, K draws of noise for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import FineTuneError
from ..steering.placement import as_many_as_fit
from .losses import PairErrors
from .noising import Noising
from .step import draw_noise

__all__ = ["Judge", "Judgement", "surprises"]

DRAWS = 8
_SUREST, _SCALES = 3.0, 60  # of log-odds over their spread: the largest scale that is tried, and how many
TOGETHER = 4  # pairs per forward pass


@dataclass(frozen=True)
class Judgement:
    """One look at the held-out pairs.

    Attributes:
        step: After how many steps.
        accuracy: Share of the pairs of which the model moved towards the chosen picture, in [0, 1].
        log_loss: Mean of `surprises` of the pairs' log-odds, in nats; log 2 = 0.693 is a model that learned nothing.
        chosen_error: Error on the chosen pictures over the reference's; above 1 it got worse at them.
        uncertainty: Standard error of `log_loss` over the pairs, in nats.
    """

    step: int
    accuracy: float
    log_loss: float
    chosen_error: float
    uncertainty: float = 0.0


def surprises(log_odds: Tensor) -> Tensor:
    """-log sigmoid of (N,) log-odds at the scale that fits all of them best, in nats; their mean is at most log 2.

    How far a training has moved the model says nothing of how right it is: at one scale for all, a model that is right
    about most pairs and moved far is worse than one that hardly moved. So the scale is fitted to the pairs themselves,
    up to `_SUREST` over their root mean square, lest a few that are all right count as certain.
    """
    known = log_odds.detach().cpu().double()
    spread = float(known.square().mean().sqrt())
    scales = torch.linspace(0.0, _SUREST, _SCALES + 1, dtype=torch.float64)[:, None]
    found = -F.logsigmoid(scales * known / (spread or 1.0))
    return found[found.mean(dim=1).argmin()]


class JudgedPairs(Protocol):
    """Held-out pairs, as `Prepared` has them."""

    @property
    def chosen(self) -> Sequence[Tensor]:
        """N latents (C, h, w)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], device: torch.device, /) -> Any:
        """What `JudgedModel.errors` takes of these pairs."""


class JudgedModel(Protocol):
    """A model to judge, as `Denoiser` is one."""

    @property
    def device(self) -> torch.device: ...

    @property
    def noising(self) -> Noising: ...

    def errors(self, batch: Any, noise: Tensor, timesteps: Tensor, with_reference: bool, /) -> PairErrors: ...


class Judge:
    """Looks at the same held-out pairs with the same noise; the reference's errors are computed once.

    Attributes:
        hits: (N,) of the last look: 1 where the model moved towards the chosen picture, 0.5 where it didn't move.
    """

    def __init__(self, denoiser: JudgedModel, data: JudgedPairs, seed: int) -> None:
        self._denoiser, self._data, self._seed = denoiser, data, seed
        self._reference: tuple[Tensor, Tensor] | None = None
        self._together = TOGETHER
        self.hits = torch.zeros(0)

    def __len__(self) -> int:
        """How many pairs."""
        return len(self._data)

    def begin(self) -> None:
        """Compare all looks with the model as it is now."""
        chosen, rejected = self._errors(with_reference=False)
        self._reference = chosen, rejected

    def look(self, step: int) -> Judgement:
        """Judge the model as it is; against its reference, where nothing was begun."""
        chosen, rejected, *reference = self._errors(with_reference=self._reference is None)
        if self._reference is None:
            self._reference = reference[0], reference[1]
        errors = PairErrors(chosen, rejected, *self._reference)
        log_odds = errors.log_odds(1.0)  # in any unit: only their proportions count
        self.hits = (log_odds > 0).float() + 0.5 * (log_odds == 0).float()
        losses = surprises(log_odds)
        return Judgement(
            step,
            float(self.hits.mean()),
            float(losses.mean()),
            float(chosen.sum() / self._reference[0].sum()),
            float(losses.std(correction=0)) / math.sqrt(len(losses)),
        )

    def _errors(self, with_reference: bool) -> tuple[Tensor, ...]:
        """(N,) mean errors over the draws on both sides; after them the reference's, where they are asked for."""
        found: list[list[Tensor]] = [[] for _ in range(4 if with_reference else 2)]
        parts = self._denoiser.noising.timesteps
        with torch.no_grad():
            for group in self._groups():
                batch = self._data.batch(group, self._denoiser.device)
                sums = [torch.zeros(len(group)) for _ in found]
                for draw in range(DRAWS):
                    seed = (self._seed * 1_000_003 + group[0] * DRAWS + draw) % 2**63
                    noise, timesteps = draw_noise(batch, parts, torch.Generator().manual_seed(seed), False)
                    # Each pair of a draw at a part of the schedule of its own, and each draw somewhere else.
                    timesteps = (timesteps + draw * parts // DRAWS) % parts
                    errors = self._asked(group, batch, noise, timesteps, with_reference)
                    four = (errors.chosen, errors.rejected, errors.ref_chosen, errors.ref_rejected)
                    for total, part in zip(sums, four, strict=False):
                        assert part is not None
                        total += part.cpu() / DRAWS
                for kept, total in zip(found, sums, strict=True):
                    kept.append(total)
        return tuple(torch.cat(sides) for sides in found)

    def _asked(
        self, group: Sequence[int], batch: Any, noise: Tensor, timesteps: Tensor, with_reference: bool
    ) -> PairErrors:
        """The errors of a group, of as many pairs at a time as memory holds."""

        def asked(most: int) -> PairErrors:
            if most >= len(group):
                return self._denoiser.errors(batch, noise, timesteps, with_reference)
            parts = [slice(start, start + most) for start in range(0, len(group), most)]
            return PairErrors.joined(
                [
                    self._denoiser.errors(
                        self._data.batch(group[mine], self._denoiser.device),
                        noise[mine],
                        timesteps[mine],
                        with_reference,
                    )
                    for mine in parts
                ]
            )

        most = min(self._together, len(group))
        found, fitted = as_many_as_fit(asked, most, _too_large)
        if fitted < most:
            self._together = fitted
        return found

    def _groups(self) -> list[list[int]]:
        """Indices of pairs of one shape, a few at a time."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, latents in enumerate(self._data.chosen):
            shapes.setdefault(tuple(latents.shape), []).append(index)
        return [
            alike[start : start + TOGETHER] for alike in shapes.values() for start in range(0, len(alike), TOGETHER)
        ]


def _too_large(found: str) -> FineTuneError:
    return FineTuneError(
        f"Cannot look at the held-out pairs: memory ran out, one of them at a time ({found}); expected more of it. "
        "Close what else uses it, or begin anew with smaller pictures (size)."
    )
