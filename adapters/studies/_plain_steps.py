"""Training steps as the papers' public scripts take them, and as Palate does, on one model, to be timed.

The scripts' steps are written anew from what they compute (papers.md 2.7, 6.1): pictures go through the autoencoder and
prompts through the text encoder at every step, and the reference is a second model in memory.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..finetune.lora import add_lora
from ..finetune.losses import BETAS, LOSSES, REFERENCE_FREE, PairErrors
from ..finetune.noising import noising_of
from ..finetune.prepared import Batch
from ..finetune.step import Denoiser
from ..steering import Generator

__all__ = ["time_steps"]

_SIZE = 128  # pixels, of pictures of noise


def time_steps(generator: Generator, pairs: int, rank: int, repeats: int, seed: int) -> dict[str, float]:
    """Return each step's median seconds; all take turns.

    Args:
        pairs: Of a step.
        repeats: Of which the median is taken, after one that isn't counted.
    """
    pipeline: Any = generator._pipeline
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.rand(2 * pairs, 3, _SIZE, _SIZE, generator=draw) * 2.0 - 1.0
    ids = pipeline.tokenizer(["a large red star"] * pairs, padding="max_length", max_length=77, return_tensors="pt")
    second = copy.deepcopy(pipeline.unet).requires_grad_(False)
    parameters = add_lora(pipeline.unet, rank, seed)
    optimizer = torch.optim.AdamW(parameters)
    denoiser = Denoiser(pipeline.unet, noising_of(pipeline.scheduler), generator.device, torch.float32)
    with torch.no_grad():
        chosen, rejected = _latents(pipeline, pixels).chunk(2)
        batch = Batch(chosen, rejected, pipeline.text_encoder(ids.input_ids).last_hidden_state)
    noise = torch.randn(batch.chosen.shape, generator=draw)
    steps = torch.randint(denoiser.noising.timesteps, (pairs,), generator=draw)
    known = denoiser.errors(batch, noise, steps, True)

    def ours(loss: str, fixed: bool = False) -> Tensor:
        errors = denoiser.errors(batch, noise, steps, loss not in REFERENCE_FREE and not fixed)
        if fixed:
            errors = PairErrors(errors.chosen, errors.rejected, known.ref_chosen, known.ref_rejected)
        return LOSSES[loss](errors, beta=BETAS[loss]).loss.mean()

    def script(loss: str) -> Tensor:
        with torch.no_grad():
            seen = _latents(pipeline, pixels)
            tokens = pipeline.text_encoder(ids.input_ids).last_hidden_state.repeat(2, 1, 1)
        noisy = denoiser.noising.noised(seen, noise.repeat(2, 1, 1, 1), steps.repeat(2))
        errors = [_errors(pipeline.unet, noisy, steps, tokens, noise)]
        if loss not in REFERENCE_FREE:
            with torch.no_grad():
                errors.append(_errors(second, noisy, steps, tokens, noise))
        return LOSSES[loss](PairErrors(*(side for one in errors for side in one)), beta=BETAS[loss]).loss.mean()

    kinds: Mapping[str, Callable[[], Tensor]] = {
        "Palate, mapo": lambda: ours("mapo"),
        "Palate, dpo, fixed noise": lambda: ours("dpo", True),
        "Palate, dpo": lambda: ours("dpo"),
        "as MaPO's script": lambda: script("mapo"),
        "as Diffusion-DPO's script": lambda: script("dpo"),
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats + 1):
        for name, run in kinds.items():
            started = time.process_time()
            optimizer.zero_grad()
            run().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            taken[name].append(time.process_time() - started)
    pipeline.unet.delete_adapters("palate")
    return {name: float(np.median(seconds[1:])) for name, seconds in taken.items()}


def _latents(pipeline: Any, pixels: Tensor) -> Tensor:
    found: Tensor = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
    return found


def _errors(unet: Any, noisy: Tensor, steps: Tensor, tokens: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    predicted = unet(noisy, steps.repeat(2), encoder_hidden_states=tokens).sample
    errors = F.mse_loss(predicted, noise.repeat(2, 1, 1, 1), reduction="none").mean(dim=(1, 2, 3))
    chosen, rejected = errors.chunk(2)
    return chosen, rejected
