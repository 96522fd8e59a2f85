"""Asking a denoiser what it predicts, each family as it wants to be asked.

Shapes: B rows, C channels, h and w of the latents, T tokens, H width of the conditioning, E of the pooled one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["predicted"]

_GUIDANCE = 3.5  # that FLUX.1-dev, which has its guidance inside, is drawn with
_PATCH = 2  # latents' places on a side of what Flux takes as one


def predicted(
    model: Any, noisy: Tensor, told: Tensor, tokens: Tensor, pooled: Tensor | None, sizes: Tensor | None
) -> Tensor:
    """What a denoiser predicts (B, C, h, w).

    Args:
        model: diffusers' UNet2DConditionModel, SD3Transformer2DModel, FluxTransformer2DModel or StableCascadeUNet (of
            stage C).
        noisy: (B, C, h, w). told: (B,) the times as `Noising.told` gives them.
        tokens: (B, T, H). pooled: (B, E), or None where the model takes none.
        sizes: (B, 6) SDXL's micro-conditioning, or None.
    """
    ask = {"FluxTransformer2DModel": _flux, "StableCascadeUNet": _cascade}.get(type(model).__name__)
    if ask is not None:
        assert pooled is not None
        return ask(model, noisy, told, tokens, pooled)
    more = dict[str, Any]()
    if hasattr(model.config, "pooled_projection_dim"):  # a DiT, as SD3 is
        if pooled is not None:
            more["pooled_projections"] = pooled
        found: Tensor = model(noisy, timestep=told, encoder_hidden_states=tokens, **more).sample
        return found
    if pooled is not None and sizes is not None:
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    found = model(noisy, told, encoder_hidden_states=tokens, **more).sample
    return found


def _flux(model: Any, noisy: Tensor, told: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
    rows, height, width = len(noisy), noisy.shape[2] // _PATCH, noisy.shape[3] // _PATCH
    up, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([torch.zeros_like(up), up, right], dim=-1).flatten(0, 1).to(noisy)
    guidance = told.new_full((rows,), _GUIDANCE) if model.config.guidance_embeds else None
    found = model(
        hidden_states=F.pixel_unshuffle(noisy, _PATCH).flatten(2).transpose(1, 2),
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        timestep=told / 1000,
        img_ids=places,
        txt_ids=tokens.new_zeros(tokens.shape[1], 3),
        guidance=guidance,
    ).sample
    return F.pixel_shuffle(found.transpose(1, 2).unflatten(2, (height, width)), _PATCH)


def _cascade(model: Any, noisy: Tensor, told: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
    nothing = noisy.new_zeros(len(noisy), 1, model.config.clip_image_in_channels)  # no picture beside the text
    found: Tensor = model(
        noisy, timestep_ratio=told, clip_text_pooled=pooled[:, None], clip_text=tokens, clip_img=nothing
    ).sample
    return found
