"""What a training step runs: a denoiser, an autoencoder and text encoders, of a real model or of a known shape.

Shapes: B prompts, T tokens, H width of the conditioning, E of the pooled one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..steering import Generator
from ._shapes import SHAPES, Shape, parts_of

__all__ = ["Models", "models_of"]


@dataclass(eq=False)
class Models:
    """The parts of a model, on one device.

    Attributes:
        unet, vae: diffusers'. texts: transformers' CLIP text models, in their order. scheduler: diffusers'.
        vocabulary: Tokens that the text encoders know.
    """

    unet: Any
    vae: Any
    texts: list[Any]
    scheduler: Any
    vocabulary: int

    def latents(self, pixels: Tensor) -> Tensor:
        """(B, 4, h, w) of pictures (B, 3, 8 h, 8 w) in [-1, 1]."""
        found: Tensor = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        return found

    def conditioning(self, words: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, H) of token ids (B, T); and (B, E) where there are two text encoders, of the second."""
        if len(self.texts) == 1:
            return self.texts[0](words).last_hidden_state, None
        seen = [tower(words, output_hidden_states=True) for tower in self.texts]
        pooled = getattr(seen[1], "text_embeds", None)
        tokens = torch.cat([one.hidden_states[-2] for one in seen], dim=-1)
        return tokens, seen[1].pooler_output if pooled is None else pooled

    def only_the_denoiser(self) -> None:
        """Let go of the rest."""
        self.vae, self.texts = None, []


def models_of(name: str, device: torch.device, precision: torch.dtype) -> Models:
    """Return a model's parts, or those of a shape with random weights.

    Args:
        name: One of `SHAPES`, or as `palate generate` takes it.
        device: For all of them.
        precision: Of all weights.
    """
    if name in SHAPES:
        return _of_shape(SHAPES[name], device, precision)
    pipeline: Any = Generator(name, device)._pipeline
    texts = [tower for tower in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)) if tower is not None]
    for part in (pipeline.unet, pipeline.vae, *texts):
        if part.dtype != precision:
            part.to(precision)
    return Models(pipeline.unet, pipeline.vae, texts, pipeline.scheduler, pipeline.tokenizer.vocab_size)


def _of_shape(shape: Shape, device: torch.device, precision: torch.dtype) -> Models:
    from diffusers import DDPMScheduler

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        parts = parts_of(shape)
    draw = torch.Generator(device).manual_seed(0)
    unet, vae, *texts = [_filled(part.to(precision).to_empty(device=device), draw) for part in parts]
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return Models(unet, vae, texts, scheduler, texts[0].config.vocab_size)


def _filled(part: nn.Module, draw: torch.Generator) -> Any:
    """Random weights of a size that keeps numbers finite."""
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02, generator=draw)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        for buffer in part.buffers():  # CLIP's numbers of places are all that there are
            buffer.copy_(torch.arange(buffer.numel()).view(buffer.shape))
    return part.requires_grad_(False).eval()
