"""Noise that is fixed for each pair, so that the reference's errors are computed once, before the training.

Each pair has K draws of noise and timestep, one from each of K equal parts of the schedule; a step then takes one of
them for each of its pairs, and the reference is never asked again: no forward pass for it, and with full fine-tuning no
copy of the weights. Whether a pair is seen without its prompt, or mirrored, belongs to the draw, since the reference's
error does.

Shapes: N pairs, K draws of each, B pairs of a step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..errors import CancelledError, FineTuneError
from ..steering.placement import as_many_as_fit
from .losses import PairErrors
from .prepared import Batch, Prepared
from .several import Several
from .step import Denoiser

__all__ = ["FixedNoise"]


class FixedNoise:
    """The draws of all pairs, and the reference's errors at them.

    Attributes:
        errors: (N, K, 2) of the reference on the chosen and on the rejected image; None until `measure`.
    """

    def __init__(
        self, data: Prepared, denoiser: Denoiser, draws: int, seed: int, caption_dropout: float, one_timestep: bool
    ) -> None:
        self._data, self._denoiser, self._draws, self._seed = data, denoiser, draws, seed
        self._dropout, self._one_timestep = caption_dropout, one_timestep
        self.errors: Tensor | None = None

    def choose(self, count: int, rng: random.Random) -> list[int]:
        """Which draw each of B pairs takes: spread over the schedule, or one for all."""
        if self._one_timestep:
            return [rng.randrange(self._draws)] * count
        order = rng.sample(range(count), count)
        return [int((place + rng.random()) / count * self._draws) for place in order]

    def batch(self, rows: Sequence[int], draws: Sequence[int]) -> tuple[Batch, Tensor, Tensor]:
        """The pairs, noise (B, C, h, w) and timesteps (B,) of these draws."""
        device, total = self._denoiser.device, self._denoiser.noising.timesteps
        uncaptioned, turned, noises, timesteps = [], [], [], []
        for row, draw in zip(rows, draws, strict=True):
            own = torch.Generator().manual_seed(((self._seed * 1_000_003 + row) * 1_009 + draw) % 2**63)
            noises.append(torch.randn(self._data.shape(row), generator=own))
            shared = torch.Generator().manual_seed((self._seed * 1_000_003 + draw) % 2**63)
            within = torch.rand((), generator=shared if self._one_timestep else own).item()
            timesteps.append(min(total - 1, int((draw + within) / self._draws * total)))
            rng = random.Random(f"{self._seed}/{row}/{draw}")
            uncaptioned.append(rng.random() < self._dropout)
            turned.append(rng.random() < 0.5)
        batch = self._data.batch(rows, device, uncaptioned, turned)
        return batch, torch.stack(noises).to(device), torch.tensor(timesteps, device=device)

    def reference(self, rows: Sequence[int], draws: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The reference's errors (B,) on both sides; None where nothing was measured."""
        if self.errors is None:
            return None
        found = self.errors[list(rows), list(draws)].to(self._denoiser.device)
        return found[:, 0], found[:, 1]

    def measure(
        self,
        reference: Callable[[], AbstractContextManager[object]],
        together: int,
        among: Several,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Ask the reference once for every draw of every pair.

        Args:
            reference: Puts it in the model's place.
            together: Pairs per forward pass.
            among: Processes that share the work.
            cancelled: Asked before each pass, unless several share the work.

        Raises:
            CancelledError: `cancelled` said so.
        """
        asked = [(row, draw) for row in range(len(self._data)) for draw in range(self._draws)]
        asked.sort(key=lambda one: self._data.shape(one[0]))  # of one shape in a pass
        errors = torch.zeros(len(self._data), self._draws, 2, device=self._denoiser.device)
        groups = _alike([self._data.shape(row) for row, _ in asked], together)
        for start, end in groups[among.index :: among.count]:
            if among.count == 1 and cancelled is not None and cancelled():
                raise CancelledError("Stopped before the first step.")
            rows, draws = zip(*asked[start:end], strict=True)

            def measured(most: int, rows: Sequence[int] = rows, draws: Sequence[int] = draws) -> PairErrors:
                with reference(), torch.no_grad():
                    parts = [slice(first, first + most) for first in range(0, len(rows), most)]
                    return PairErrors.joined(
                        [self._denoiser.errors(*self.batch(rows[part], draws[part]), False) for part in parts]
                    )

            found, fitted = as_many_as_fit(measured, min(together, len(rows)), _too_large)
            together = fitted if fitted < len(rows) else together
            errors[list(rows), list(draws)] = torch.stack([found.chosen, found.rejected], dim=1)
        self.errors = among.add(errors).cpu()


def _too_large(found: str) -> FineTuneError:
    return FineTuneError(
        f"Cannot measure the reference's errors: memory ran out, one pair at a time ({found}); expected more of it. "
        "Close what else uses it, or train without fixed noise, or with smaller pictures (size)."
    )


def _alike(shapes: Sequence[tuple[int, ...]], most: int) -> list[tuple[int, int]]:
    """Start and end of runs of equal shapes, `most` long at most."""
    found, start = [], 0
    for place in range(1, len(shapes) + 1):
        if place == len(shapes) or shapes[place] != shapes[start] or place - start == most:
            found.append((start, place))
            start = place
    return found
