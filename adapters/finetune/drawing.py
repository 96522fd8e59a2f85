"""What a step sees: which pairs, with which noise, at which timesteps.

Shapes: B pairs of a process, P processes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .fixed import FixedNoise
from .prepared import Batch, Prepared
from .settings import TrainSettings
from .several import Several
from .step import Denoiser, draw_noise, seeded

__all__ = ["Draw", "Drawing"]


@dataclass(frozen=True, eq=False)
class Draw:
    """One batch of a step.

    Attributes:
        rows: P B indices of pairs, those of all processes in their order.
        batch, noise, timesteps: This process's B.
        reference: (B,) the reference's errors on both sides, where they are known already.
    """

    rows: tuple[int, ...]
    batch: Batch
    noise: Tensor
    timesteps: Tensor
    reference: tuple[Tensor, Tensor] | None = None

    def parts(self, most: int) -> list[Draw]:
        """The same pairs, so many of this process's at a time; those at the same places in the others go along."""
        each = len(self.noise)
        if each <= most:
            return [self]
        return [self._part(slice(start, min(start + most, each))) for start in range(0, each, most)]

    def _part(self, mine: slice) -> Draw:
        each = len(self.noise)
        rows = [row for first in range(0, len(self.rows), each) for row in self.rows[first : first + each][mine]]
        batch = sliced(self.batch, mine)
        known = None if self.reference is None else (self.reference[0][mine], self.reference[1][mine])
        return Draw(tuple(rows), batch, self.noise[mine], self.timesteps[mine], known)


def sliced(batch: Batch, mine: slice) -> Batch:
    """Some pairs of a batch."""
    parts: dict[str, Any] = {name: None if value is None else value[mine] for name, value in vars(batch).items()}
    return Batch(**parts)


class Drawing:
    """Draws the batches of every step; the same ones in a training that was stopped, and in every process its part."""

    def __init__(
        self, data: Prepared, denoiser: Denoiser, settings: TrainSettings, among: Several, fixed: FixedNoise | None
    ) -> None:
        self._data, self._denoiser, self._settings, self._among, self._fixed = data, denoiser, settings, among, fixed
        self._each = settings.batch or 1
        # A contrast goes over all pairs of a step, so all of them have one timestep.
        self._one_timestep = settings.loss == "rpo"

    def step(self, number: int) -> list[Draw]:
        """The batches of a step, as many as are accumulated."""
        rng, generator = seeded(self._settings.seed, number)
        count = self._settings.accumulate
        if self._fixed is not None:
            return self._of_fixed(self._fixed, rng, count)
        drawn = [self._anew(rng, generator) for _ in range(count)]
        if self._one_timestep:
            first = drawn[0].timesteps[:1]
            drawn = [replace(draw, timesteps=first.expand(self._each)) for draw in drawn]
        return drawn

    def _anew(self, rng: random.Random, generator: torch.Generator) -> Draw:
        rows = self._data.draw(self._each * self._among.count, rng)
        uncaptioned = [rng.random() < self._settings.caption_dropout for _ in rows]
        # Only where there is a choice, so that a training without it draws what it always drew.
        turned = [] if self._data.mirrored is None else [rng.random() < 0.5 for _ in rows]
        batch = self._data.batch(rows, self._denoiser.device, uncaptioned, turned)
        noise, timesteps = draw_noise(batch, self._denoiser.noising.timesteps, generator, self._one_timestep)
        mine = self._among.part(self._each)
        return Draw(tuple(rows), sliced(batch, mine), noise[mine], timesteps[mine])

    def _of_fixed(self, fixed: FixedNoise, rng: random.Random, count: int) -> list[Draw]:
        found = []
        shared: list[int] | None = None
        for _ in range(count):
            rows = self._data.draw(self._each * self._among.count, rng)
            draws = fixed.choose(len(rows), rng)
            if self._one_timestep:
                draws = shared = shared or draws
            mine = self._among.part(self._each)
            own = rows[mine], draws[mine]
            found.append(Draw(tuple(rows), *fixed.batch(*own), fixed.reference(*own)))
        return found
