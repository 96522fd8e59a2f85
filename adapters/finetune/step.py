"""One look at a batch: the errors of the denoiser and of its reference on both sides of each pair.

Shapes: B pairs.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any, Protocol

import torch
from torch import Tensor

from .lora import reference
from .losses import PairErrors
from .noising import Noising
from .predicting import predicted
from .prepared import Batch
from .weights import Kept

__all__ = ["Denoiser", "Noised", "draw_noise", "draw_timesteps", "seeded"]


class Noised(Protocol):
    """Pairs that noise is drawn for."""

    @property
    def chosen(self) -> Tensor:
        """(B, C, h, w) latents."""


class Denoiser:
    """A model under training, and the noise that it was trained with.

    Attributes:
        unet: As `predicted` takes it.
        noising: What it predicts.
        device: Where it computes. Forward passes run in `precision` there, errors and gradients in float32.
        frozen: The reference's weights; None: the model with its LoRA off.
    """

    def __init__(self, unet: Any, noising: Noising, device: torch.device, precision: torch.dtype) -> None:
        self.unet, self.noising, self.device, self.precision = unet, noising, device, precision
        self.frozen: Kept | None = None

    def reference(self) -> contextlib.AbstractContextManager[None]:
        """The reference in the model's place, without gradients."""
        return reference(self.unet) if self.frozen is None else self.frozen.in_place()

    def errors(self, batch: Batch, noise: Tensor, timesteps: Tensor, with_reference: bool) -> PairErrors:
        """Errors of the model as it is now, and without gradient those of the reference.

        Args:
            batch: B pairs.
            noise: (B, C, h, w), the same for both sides of a pair.
            timesteps: (B,) likewise.
            with_reference: Whether the reference is asked, too.
        """
        chosen, rejected = self._both(batch, noise, timesteps)
        if not with_reference:
            return PairErrors(chosen, rejected)
        with self.reference():
            return PairErrors(chosen, rejected, *self._both(batch, noise, timesteps))

    def _both(self, batch: Batch, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) errors on the chosen and on the rejected images, from one forward pass."""
        latents = torch.cat([batch.chosen, batch.rejected])
        noise, timesteps = noise.repeat(2, 1, 1, 1), timesteps.repeat(2)
        noisy = self.noising.noised(latents, noise, timesteps)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            found = self._predicted(noisy, self.noising.told(timesteps), batch)
        target = self.noising.target(latents, noise, timesteps)
        error = (found.float() - target.float()).square().mean(dim=(1, 2, 3))
        chosen, rejected = error.chunk(2)
        return chosen, rejected

    def _predicted(self, noisy: Tensor, told: Tensor, batch: Batch) -> Tensor:
        tokens, pooled, sizes = batch.tokens.repeat(2, 1, 1), None, None
        if batch.pooled is not None:
            pooled = batch.pooled.repeat(2, 1).to(self.precision)
        if batch.sizes is not None:
            sizes = batch.sizes.repeat(2, 1).float()  # bfloat16 has no 1365 pixels, only 1368
        return predicted(self.unet, noisy, told, tokens, pooled, sizes)


def draw_noise(batch: Noised, timesteps: int, generator: torch.Generator, one_timestep: bool) -> tuple[Tensor, Tensor]:
    """Return noise (B, C, h, w) and timesteps (B,), drawn on the CPU so that every device sees the same.

    Args:
        batch: Whose shape.
        timesteps: How many the schedule has.
        generator: On the CPU.
        one_timestep: The same for all pairs, as a contrast across them needs; else one from each of B equal parts of
            the schedule, in random order.
    """
    count = len(batch.chosen)
    noise = torch.randn(batch.chosen.shape, generator=generator)
    if one_timestep:
        picked = torch.randint(timesteps, (1,), generator=generator).expand(count)
    else:
        picked = draw_timesteps(count, timesteps, generator)
    return noise.to(batch.chosen.device), picked.to(batch.chosen.device)


def draw_timesteps(count: int, timesteps: int, generator: torch.Generator) -> Tensor:
    """Return (count,) timesteps: one from each of `count` equal parts of the schedule, in random order."""
    parts = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (parts * timesteps).long().clamp(max=timesteps - 1)


def seeded(seed: int, step: int) -> tuple[random.Random, torch.Generator]:
    """A step's own sources of chance: a training that was stopped sees what one in one piece sees."""
    return random.Random(f"{seed}/{step}"), torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
