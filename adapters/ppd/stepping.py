"""One step of a PPD's training: pairs with what their people are known by, forwards, backwards, and the optimiser's.

What a step sees depends on the seed and the step's number alone, whoever takes part in it: so a training that was
stopped goes on to the bit, and P processes do what one does with P times the batch.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn

from ..errors import PPDError
from ..finetune.losses import LOSSES, REFERENCE_FREE, PairLoss
from ..finetune.several import Several
from ..finetune.step import draw_timesteps, seeded
from .batches import PersonalBatch, PersonalDenoiser, batch_of
from .data import PPDData, PPDPair, support_of
from .settings import PPDSettings

__all__ = ["Stepper"]

_LOWEST = 0.01  # of the learning rate, at the end of a cosine


class Stepper:
    """Takes steps; `train_ppd` says how many.

    Attributes:
        optimizer: AdamW of the weights.
    """

    def __init__(
        self,
        denoiser: PersonalDenoiser,
        data: PPDData,
        settings: PPDSettings,
        several: Several,
        weights: list[nn.Parameter],
    ) -> None:
        """Take what is trained, on what, and how; settings are settled."""
        assert settings.steps and settings.beta is not None
        self._denoiser, self._data, self._settings, self._several = denoiser, data, settings, several
        self._steps, self._beta, self._weights = settings.steps, settings.beta, weights
        self.optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def step(self, step: int) -> tuple[float, float, float]:
        """Mean loss, margin and accuracy of the step's pairs, everybody's."""
        rng, generator = seeded(self._settings.seed, step)
        settings = self._settings
        each = settings.batch * settings.accumulate
        count = each * self._several.count
        rows = [rng.randrange(len(self._data)) for _ in range(count)]
        timesteps = draw_timesteps(count, self._denoiser.noising.timesteps, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        mine = range(count)[self._several.part(each)]
        found = [
            self._passed(step, rows, mine[start : start + settings.batch], timesteps)
            for start in range(0, each, settings.batch)
        ]
        told = torch.tensor([[float(one.loss.mean()), float(one.margin.mean()), one.accuracy] for one in found])
        told = self._several.add(told.mean(dim=0).to(self._denoiser.device)) / self._several.count
        loss, margin, accuracy = told.tolist()
        self._several.mean_gradients(self._weights)
        length = float(nn.utils.clip_grad_norm_(self._weights, settings.clip))
        for what, number in (("loss", loss), ("gradient", length)):
            if not math.isfinite(number):
                raise PPDError(
                    f"Cannot go on training: the {what} is {number} at step {step + 1}. The last checkpoint is safe. "
                    "Train under another name with a lower learning rate."
                )
        self.optimizer.step()
        return loss, margin, accuracy

    def _passed(self, step: int, rows: list[int], places: range, timesteps: Tensor) -> PairLoss:
        """Forward and backward of a batch: the pairs at these places of the step's."""
        batch, noise = self._drawn(step, [rows[place] for place in places], places)
        asked = timesteps[places.start : places.stop].to(self._denoiser.device)
        errors = self._denoiser.errors(batch, noise, asked, self._settings.loss not in REFERENCE_FREE)
        more = {"flip_rate": self._settings.flip_rate} if self._settings.loss in ("cdpo", "rdpo") else {}
        loss = LOSSES[self._settings.loss](errors, beta=self._beta, **more)
        (loss.loss.mean() / self._settings.accumulate).backward()  # type: ignore[no-untyped-call]
        self._denoiser.forget()
        return PairLoss(loss.loss.detach(), loss.margin)

    def _drawn(self, step: int, rows: list[int], places: range) -> tuple[PersonalBatch, Tensor]:
        """A batch with its noise. Each place has its own chance, so how places are shared out changes nothing."""
        support, uncaptioned, noises = [], [], []
        for row, place in zip(rows, places, strict=True):
            rng = random.Random(f"{self._settings.seed}/{step}/{place}")
            pair = PPDPair(*self._data.pair(row))
            count = rng.randint(self._settings.fewest, self._settings.most)
            known = support_of(self._data, pair.person, row, count, rng)
            support.append([] if rng.random() < self._settings.user_dropout else known)
            uncaptioned.append(rng.random() < self._settings.caption_dropout)
            generator = torch.Generator().manual_seed(rng.getrandbits(63))
            noises.append(torch.randn(pair.chosen.shape, generator=generator))
        device = self._denoiser.device
        return batch_of(self._data, rows, support, device, uncaptioned), torch.stack(noises).to(device)

    def _rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        warm = max(1.0, self._settings.warm_up * self._steps)
        if step + 1 < warm or self._settings.schedule == "constant":
            return min(1.0, (step + 1) / warm)
        done = (step + 1 - warm) / max(1.0, self._steps - warm)
        return _LOWEST + (1.0 - _LOWEST) * 0.5 * (1.0 + math.cos(math.pi * done))
