"""Stable Diffusion 3 and Flux as bases of a PPD: their pipelines read prompts and pictures, and paint.

Shapes: C channels, h and w of the latents, T tokens, H width of the conditioning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..encoders import ImageTextEncoder
from ..errors import PPDError
from ..finetune.noising import noising_of
from ..finetune.prepared import latents_of
from ..places import typed_path
from ..steering.conditioning import Conditioning
from .base import Painter, Painting, Readers, Sheets, all_in, named_when_not_whole, weights_in

__all__ = ["DiffusionTransformer", "load_flux", "load_sd3"]

_TOWERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_T5 = 256  # tokens of T5, as both pipelines can have: a prompt in full
_SIDE = 1024  # pixels of both
_SIDES = 16  # pixels that sides are multiples of


class DiffusionTransformer:
    """Either of the two.

    Attributes:
        name: "custom": neither is a base by name; the layers say what a file fits.
        denoiser: diffusers' SD3Transformer2DModel or FluxTransformer2DModel.
        noising: Flow matching, along the scheduler's own shift where that is fixed. size, clip: As `Base` has them.
    """

    name, size, clip = "custom", _SIDE, None

    def __init__(self, pipeline: Any) -> None:
        """Take diffusers' StableDiffusion3Pipeline or FluxPipeline."""
        self._pipeline = pipeline
        self._flux = type(pipeline).__name__.startswith("Flux")
        self.denoiser, self.noising = pipeline.transformer, noising_of(pipeline.scheduler)

    def readers(self, encoder: ImageTextEncoder, size: int, device: torch.device) -> Readers:
        if size % _SIDES:
            raise PPDError(f"Cannot train at {size} pixels: this model takes sides that are multiples of {_SIDES}.")
        pipeline, vae = self._pipeline, self._pipeline.vae
        for part in (*self._towers(), vae):
            part.to(device)
        vae.float()

        def said(prompt: str) -> Conditioning:
            asked = {"prompt": prompt, "prompt_2": prompt, "device": device, "max_sequence_length": _T5}
            if self._flux:
                tokens, pooled, _ = pipeline.encode_prompt(**asked)
            else:
                tokens, _, pooled, _ = pipeline.encode_prompt(
                    **asked, prompt_3=prompt, do_classifier_free_guidance=False
                )
            return Conditioning(tokens.float().cpu(), pooled.float().cpu())

        return Readers(lambda picture: latents_of(vae, picture), said, encoder, size)

    def has_read(self) -> None:
        # What was read of the prompts is on the disk, and a T5 is larger than all else.
        for name in _TOWERS:
            if getattr(self._pipeline, name, None) is not None:
                setattr(self._pipeline, name, None)
        self._pipeline.vae.to("cpu")

    def painter(self, painting: Painting) -> Painter:
        return Sheets(painting, lambda said, nothing, seed: self._drawn(said, nothing, seed, painting))

    @torch.no_grad()
    def _drawn(self, said: Conditioning, nothing: Conditioning, seed: int, painting: Painting) -> Image.Image:
        pipeline, denoiser = self._pipeline, self.denoiser
        at, vae = denoiser.device, pipeline.vae
        asked = {"prompt_embeds": said.tokens, "pooled_prompt_embeds": said.pooled}
        steps, guidance = 28, 3.5
        if not self._flux:
            guidance = 7.0
            asked |= {
                "negative_prompt_embeds": nothing.tokens,
                "negative_pooled_prompt_embeds": nothing.pooled,
            }
        elif not denoiser.config.guidance_embeds:  # FLUX.1-schnell
            steps = 4
        asked = {name: tensor.to(at, denoiser.dtype) for name, tensor in asked.items() if tensor is not None}
        numbers = torch.Generator().manual_seed(seed)
        home = vae.device
        vae.to(at)  # in full precision, as it has read
        try:
            with torch.autocast(at.type, painting.precision, enabled=painting.precision != torch.float32):
                found: Image.Image = pipeline(
                    **asked, height=painting.size, width=painting.size, num_inference_steps=steps,
                    guidance_scale=guidance, generator=numbers,
                ).images[0]  # fmt: skip
        finally:
            vae.to(home)
        return found

    def _towers(self) -> list[Any]:
        parts = [getattr(self._pipeline, name, None) for name in _TOWERS]
        return [part for part in parts if part is not None]


def load_sd3(model: str | Path, kind: str, dtype: torch.dtype) -> DiffusionTransformer:
    """Stable Diffusion 3 or 3.5 from a diffusers folder or the hub; raises PPDError."""
    import diffusers

    return _loaded(diffusers.StableDiffusion3Pipeline, model, dtype)


def load_flux(model: str | Path, kind: str, dtype: torch.dtype) -> DiffusionTransformer:
    """Flux likewise; its variants for filling, depth and editing take other latents.

    Raises:
        PPDError: one of those, or not whole.
    """
    import diffusers

    if kind not in ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"):
        raise PPDError(f"Cannot train a PPD for {Path(model).name!r}: found a {kind}; expected FLUX.1-dev or -schnell.")
    return _loaded(diffusers.FluxPipeline, model, dtype)


def _loaded(pipeline: Any, model: str | Path, dtype: torch.dtype) -> DiffusionTransformer:
    where = str(typed_path(model) if typed_path(model).is_dir() else model)
    with named_when_not_whole(model, pipeline.__name__):
        found = pipeline.from_pretrained(where, **weights_in(dtype))
    found.set_progress_bar_config(disable=True)
    all_in(dtype, found.components.values())
    return DiffusionTransformer(found)
