"""Training the playground's autoencoder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from .cards import as_images, training_cards
from .loop import train
from .models import new_vae

__all__ = ["train_vae"]

STEPS = 2600
BATCH = 6
KL = 1e-3  # weight of the divergence from a standard normal, in nats per latent number


def train_vae(folder: Path) -> Any:
    """Train the autoencoder; its `scaling_factor` brings latents to a standard deviation of 1.

    Absolute error, plus the same of the colours averaged over 8x8 pixels: without the second, pale backgrounds lose
    their hue, which costs little of the first but is what a caption names.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae = new_vae()

    def step_loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
        images = as_images(training_cards(rng, BATCH))
        latents = vae.encode(images).latent_dist
        noise = torch.randn(latents.mean.shape, generator=generator)
        decoded = vae.decode(latents.mean + latents.std * noise).sample
        error = decoded - images
        areas = F.avg_pool2d(error, 8).abs().mean()
        loss: torch.Tensor = error.abs().mean() + areas + KL * latents.kl().mean() / latents.mean[0].numel()
        return loss

    average = train("vae", vae, step_loss, steps=STEPS, learning_rate=1.5e-3, folder=folder, averaging=0.998)
    with torch.no_grad():
        images = as_images(training_cards(random.Random("scale"), 64))
        spread = average.encode(images).latent_dist.mean.std().item()  # type: ignore[operator]
    average.register_to_config(scaling_factor=round(1 / spread, 5))  # type: ignore[operator]
    return average
