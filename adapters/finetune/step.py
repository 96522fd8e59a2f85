"""One look at a batch: the denoiser's errors on both sides of each pair, with the LoRA and without.

Shapes: B pairs.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from .lora import reference
from .losses import PairErrors
from .noising import Noising
from .prepared import Batch

__all__ = ["Denoiser", "draw_noise", "seeded"]


class Denoiser:
    """A UNet with a LoRA on it, and the noise that it was trained with.

    Attributes:
        unet: diffusers' UNet2DConditionModel.
        noising: What it predicts.
        device: Where it computes. Forward passes run in `precision` there, errors and gradients in float32.
    """

    def __init__(self, unet: Any, noising: Noising, device: torch.device, precision: torch.dtype) -> None:
        self.unet, self.noising, self.device, self.precision = unet, noising, device, precision

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
        with reference(self.unet):
            return PairErrors(chosen, rejected, *self._both(batch, noise, timesteps))

    def _both(self, batch: Batch, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) errors on the chosen and on the rejected images, from one forward pass."""
        latents = torch.cat([batch.chosen, batch.rejected])
        noise, timesteps = noise.repeat(2, 1, 1, 1), timesteps.repeat(2)
        more: dict[str, Any] = {}
        if batch.pooled is not None and batch.sizes is not None:
            more["added_cond_kwargs"] = {
                "text_embeds": batch.pooled.repeat(2, 1).to(self.precision),
                "time_ids": batch.sizes.repeat(2, 1).to(self.precision),
            }
        noisy = self.noising.noised(latents, noise, timesteps)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            found = self.unet(noisy, timesteps, encoder_hidden_states=batch.tokens.repeat(2, 1, 1), **more).sample
        target = self.noising.target(latents, noise, timesteps)
        error = (found.float() - target.float()).square().mean(dim=(1, 2, 3))
        chosen, rejected = error.chunk(2)
        return chosen, rejected


def draw_noise(batch: Batch, timesteps: int, generator: torch.Generator, one_timestep: bool) -> tuple[Tensor, Tensor]:
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
        parts = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        picked = (parts * timesteps).long().clamp(max=timesteps - 1)
    return noise.to(batch.chosen.device), picked.to(batch.chosen.device)


def seeded(seed: int, step: int) -> tuple[random.Random, torch.Generator]:
    """A step's own sources of chance: a training that was stopped sees what one in one piece sees."""
    return random.Random(f"{seed}/{step}"), torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
