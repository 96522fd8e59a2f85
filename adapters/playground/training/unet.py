"""Training the playground's denoiser."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ..captions import caption_of, sample_caption, sample_names
from ..world import Card
from .cards import POOL, as_images, card_pool
from .loop import train
from .models import new_unet

__all__ = ["train_unet"]

STEPS = 16_000
BATCH = 32
UNCAPTIONED = 0.1  # share of the batch that is trained without a caption, for guidance
# Patterns are faint beside subjects, small against a latent pixel, and learned last: seen and named more often.
SEEN = {"plain": 1.0, "striped": 1.0, "checked": 1.5, "dotted": 2.5}
PATTERN_NAMED = 0.5  # share of the captions of checked and dotted cards that name the pattern whatever chance says


def encode_pool(vae: Any, folder: Path) -> torch.Tensor:
    """(POOL, 4, 16, 16) latents of the training cards at a standard deviation of 1; kept in `latents.pt`."""
    file = folder / "latents.pt"
    if file.is_file():
        kept: torch.Tensor = torch.load(file, weights_only=True)
        return kept
    cards = card_pool()
    parts = []
    with torch.no_grad():
        for start in range(0, POOL, 50):
            parts.append(vae.encode(as_images(cards[start : start + 50])).latent_dist.mean)
    latents: torch.Tensor = torch.cat(parts) * vae.config.scaling_factor
    torch.save(latents, file)
    return latents


def train_unet(folder: Path, vae: Any, clip: Any, tokenizer: Any) -> Any:
    """Train the denoiser on the autoencoder's latents and the text tower's output, both left as they are.

    It predicts the velocity (Salimans & Ho 2022, arXiv:2202.00512, appendix D) on Stable Diffusion's noise schedule.
    """
    cards = card_pool()
    latents = encode_pool(vae, folder)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    weights = list(itertools.accumulate(SEEN[card.pattern] for card in cards))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        unet = new_unet()

    def step_loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
        picked = rng.choices(range(POOL), cum_weights=weights, k=BATCH)
        captions = ["" if rng.random() < UNCAPTIONED else _caption(cards[k], rng) for k in picked]
        ids = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            context = clip.text_model(input_ids=ids).last_hidden_state
        clean = latents[picked]
        noise = torch.randn(clean.shape, generator=generator)
        # One timestep from each of BATCH equal parts of the schedule: less noise in the gradient than by pure chance.
        timesteps = ((torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) * 1000 / BATCH).long()
        kept = alphas_cumprod[timesteps][:, None, None, None]
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        return F.mse_loss(unet(noisy, timesteps, encoder_hidden_states=context).sample, velocity)

    return train("unet", unet, step_loss, steps=STEPS, learning_rate=1e-3, folder=folder)


def _caption(card: Card, rng: random.Random) -> str:
    if SEEN[card.pattern] > 1 and rng.random() < PATTERN_NAMED:
        first, *others = sample_names(rng)
        return caption_of(card, [first, "pattern", *others[:2]])
    return sample_caption(card, rng)
