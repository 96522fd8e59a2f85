"""Stable Cascade as the base of a PPD: stage C is trained, on latents that another model's encoder gives.

diffusers' pipelines only draw: what makes a picture into stage C's latents is an EfficientNet of its own file, and what
makes a picture of them are stages B and A, which only the combined pipeline has.

Shapes: 16 channels, h and w of the latents: a picture's sides by 42.67.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..errors import PPDError
from ..finetune.noising import noising_of
from ..finetune.samples import Painter, Painting, Sheets
from ..places import typed_path
from ..steering.conditioning import Conditioning
from ..steering.pipelines import all_in, named_when_not_whole, weights_in
from .base import Readers
from .effnet import STRIDE, EfficientNetEncoder, load_effnet

__all__ = ["EFFNET", "StableCascade", "load_cascade"]

EFFNET = "effnet_encoder.safetensors"
_SIDE, _MULTIPLE = 1024, 42.67  # pixels of its own pictures, and to a place of stage C's latents
_STEPS, _GUIDANCE, _LAST_STEPS = 20, 4.0, 10  # of stage C and of stage B, as its pipeline draws


class StableCascade:
    """Stage C with its text encoder, and what there is to draw with.

    Attributes:
        name: "cascade". denoiser: diffusers' StableCascadeUNet. noising: Its own cosine, which predicts noise.
        size, clip: As `Base` has them.
    """

    name, size, clip = "cascade", _SIDE, None

    def __init__(self, prior: Any, decoder: Any, effnet: EfficientNetEncoder) -> None:
        """Take diffusers' StableCascadePriorPipeline, its StableCascadeDecoderPipeline or None, and the encoder."""
        self._prior, self._decoder, self._effnet = prior, decoder, effnet
        self.denoiser, self.noising = prior.prior, noising_of(prior.scheduler)

    def readers(self, encoder: ImageTextEncoder, size: int, device: torch.device) -> Readers:
        side = STRIDE * math.ceil(size / self._prior.config.resolution_multiple)

        # Each goes to the device when it has something to read: a training that goes on has read all of it.
        def latents(picture: Image.Image) -> Tensor:
            self._effnet.to(device)
            fitting = picture.resize((side, side), Image.Resampling.BICUBIC)
            return self._effnet.latents(fitting)

        def said(prompt: str) -> Conditioning:
            self._prior.text_encoder.to(device)
            tokens, pooled, _, _ = self._prior.encode_prompt(device, 1, 1, False, prompt)
            return Conditioning(tokens.float().cpu(), pooled[:, 0].float().cpu())

        return Readers(latents, said, encoder, size)

    def has_read(self) -> None:
        self._effnet.to("cpu")
        self._prior.text_encoder.to("cpu")

    def painter(self, painting: Painting) -> Painter:
        if self._decoder is None:
            raise PPDError(
                "Cannot paint samples: found stage C alone; expected stages B and A beside it, which make pictures of "
                "what it gives. Train without samples, or give a StableCascadeCombinedPipeline as the model."
            )
        return Sheets(painting, lambda said, nothing, seed: self._drawn(said, nothing, seed, painting))

    @torch.no_grad()
    def _drawn(self, said: Conditioning, nothing: Conditioning, seed: int, painting: Painting) -> Image.Image:
        at, numbers = self.denoiser.device, torch.Generator().manual_seed(seed)
        text = self._prior.text_encoder
        assert said.pooled is not None and nothing.pooled is not None
        told = {
            "prompt_embeds": said.tokens,
            "prompt_embeds_pooled": said.pooled[:, None],
            "negative_prompt_embeds": nothing.tokens,
            "negative_prompt_embeds_pooled": nothing.pooled[:, None],
        }
        told = {name: part.to(at, self.denoiser.dtype) for name, part in told.items()}
        for part in (text, *self._last()):  # the pipelines compute where they find any of their parts
            part.to(at)
        try:
            with torch.autocast(at.type, painting.precision, enabled=painting.precision != torch.float32):
                latents = self._prior(
                    **told, height=painting.size, width=painting.size, num_inference_steps=_STEPS,
                    guidance_scale=_GUIDANCE, generator=numbers,
                ).image_embeddings  # fmt: skip
                found: Image.Image = self._decoder(
                    latents, **told, num_inference_steps=_LAST_STEPS, guidance_scale=0.0, generator=numbers
                ).images[0]  # fmt: skip
        finally:
            for part in (text, *self._last()):
                part.to("cpu")
        return found

    def _last(self) -> tuple[Any, ...]:
        return self._decoder.text_encoder, self._decoder.decoder, self._decoder.vqgan


def load_cascade(model: str | Path, kind: str, dtype: torch.dtype) -> StableCascade:
    """Stage C from a diffusers folder of a StableCascadePriorPipeline, or of the combined one, with EFFNET in it.

    Raises:
        PPDError: another part of it, not whole, or without EFFNET.
    """

    known = {"StableCascadePriorPipeline": False, "StableCascadeCombinedPipeline": True}
    if kind not in known:
        raise PPDError(
            f"Cannot train a PPD for {Path(model).name!r}: found a {kind}; expected stage C: one of {', '.join(known)}."
        )
    folder = typed_path(model)
    if not folder.is_dir():
        raise PPDError(
            f"Cannot train a PPD for {str(model)!r}: found a name; expected a folder on this disk, with {EFFNET} of "
            "Stable Cascade's own release in it, which makes pictures into stage C's latents."
        )
    effnet, combined = load_effnet(folder / EFFNET), known[kind]
    with named_when_not_whole(model, kind):
        prior = _stage_c(folder, "prior_" if combined else "", dtype)
        decoder = _stages_b_and_a(folder, prior, dtype) if combined else None
    for pipeline in (prior, decoder):
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)
            all_in(dtype, pipeline.components.values())
    return StableCascade(prior, decoder, effnet)


def _stage_c(folder: Path, before: str, dtype: torch.dtype) -> Any:
    """Part by part: newer diffusers don't find all parts of the combined pipeline by what its folder calls them."""
    import diffusers
    import transformers

    multiple = diffusers.DiffusionPipeline.load_config(str(folder)).get("resolution_multiple", _MULTIPLE)
    return diffusers.StableCascadePriorPipeline(
        transformers.CLIPTokenizer.from_pretrained(str(folder / f"{before}tokenizer")),
        transformers.CLIPTextModelWithProjection.from_pretrained(str(folder / f"{before}text_encoder")),
        diffusers.StableCascadeUNet.from_pretrained(str(folder / f"{before}prior"), **weights_in(dtype)),
        diffusers.DDPMWuerstchenScheduler.from_pretrained(str(folder / f"{before}scheduler")),
        resolution_multiple=multiple,
    )


def _stages_b_and_a(folder: Path, prior: Any, dtype: torch.dtype) -> Any:
    """With stage C's text encoder, which is the same one."""
    import diffusers
    from diffusers.pipelines.stable_cascade import pipeline_stable_cascade

    return diffusers.StableCascadeDecoderPipeline(
        diffusers.StableCascadeUNet.from_pretrained(str(folder / "decoder"), **weights_in(dtype)),
        prior.tokenizer,
        prior.text_encoder,
        diffusers.DDPMWuerstchenScheduler.from_pretrained(str(folder / "scheduler")),
        pipeline_stable_cascade.PaellaVQModel.from_pretrained(str(folder / "vqgan")),
    )
