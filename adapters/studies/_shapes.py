"""Models of known shapes without weights, and what passes through them cost: operations and bytes, not seconds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from ..finetune.activations import kept_for_backward
from ..finetune.frozen import hold_in_bytes
from ..finetune.lora import add_lora

__all__ = ["SHAPES", "Passes", "Shape", "count_passes", "parts_of"]

_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


@dataclass(frozen=True, eq=False)
class Shape:
    """A model family.

    Attributes:
        size: Side of its pictures in pixels.
        unet, texts: Arguments of diffusers' UNet2DConditionModel and of transformers' CLIPTextConfig, one per tower.
    """

    size: int
    unet: Mapping[str, Any]
    texts: tuple[Mapping[str, Any], ...]


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "sd15": Shape(512, {"cross_attention_dim": 768}, (_CLIP_L,)),
        "sdxl": Shape(1024, _SDXL, (_CLIP_L, _CLIP_G)),
    }
)


def parts_of(shape: Shape) -> list[Any]:
    """Make a model of this shape: diffusers' UNet, its autoencoder, and transformers' text encoders."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    texts = [CLIPTextModel(CLIPTextConfig(**config)) for config in shape.texts]
    return [UNet2DConditionModel(**shape.unet), AutoencoderKL(**_VAE), *texts]


@dataclass(frozen=True)
class Passes:
    """What one pair costs, both pictures together, in operations (a multiplication and an addition are two) and bytes.

    Attributes:
        forward: The denoiser's forward pass on both. backward: With a LoRA. full_backward: With all weights.
        lean: Of the forward pass what `forget_inputs` has computed once more for a LoRA's backward pass. again: What
            `spare_memory` has on a processor.
        images: Both pictures through the autoencoder. text: The prompt through the text encoders.
        held: Bytes that wait for the backward pass with a LoRA. plain_held: The same where frozen convolutions keep
            what comes in. full_held: The same with all weights trained. spared: With a LoRA and `spare_memory`.
        unet, vae, texts: Weights. lora: Trained ones. in_bytes: Bytes of the UNet's as `hold_in_bytes` has them.
    """

    forward: float
    backward: float
    full_backward: float
    lean: float
    again: float
    images: float
    text: float
    held: float
    plain_held: float
    full_held: float
    spared: float
    unet: int
    vae: int
    texts: int
    lora: int
    in_bytes: int


def count_passes(shape: Shape, rank: int) -> Passes:
    """Run every part once on tensors without memory, in bfloat16."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        whole, vae, *texts = (part.bfloat16() for part in parts_of(shape))
        pixels = torch.empty(2, 3, shape.size, shape.size, dtype=torch.bfloat16)
        ids = torch.empty(1, 77, dtype=torch.long)
        images = _operations(lambda: vae.encode(pixels).latent_dist.mean)
        text = sum(_operations(lambda tower=tower: tower(ids).last_hidden_state) for tower in texts)
        full = _trained(whole, shape)
        unet = _count(whole)
        adapted, other, held_small = (parts_of(shape)[0].bfloat16() for _ in range(3))
        hold_in_bytes(held_small)
        small = sum(value.nbytes for value in (*held_small.parameters(), *held_small.buffers()))
    lora = sum(parameter.numel() for parameter in [*add_lora(adapted, rank), *add_lora(other, rank)]) // 2
    with torch.device("meta"):
        adapted_passes = _trained(adapted, shape)
    plain_held, once = _held(adapted, shape, False, False, False)
    held, some_twice = _held(adapted, shape)
    spared, most_twice = _held(other, shape, True, True)
    return Passes(
        forward=full[0],
        backward=adapted_passes[1],
        full_backward=full[1],
        lean=some_twice - once,
        again=most_twice - once,
        images=images,
        text=text,
        held=held,
        plain_held=plain_held,
        full_held=_held(whole, shape, False, False, False)[0],
        spared=spared,
        unet=unet,
        vae=_count(vae.encoder),
        texts=sum(_count(tower) for tower in texts),
        lora=lora,
        in_bytes=small,
    )


def _held(unet: Any, shape: Shape, *how: bool) -> tuple[float, float]:
    """Bytes that wait for the backward pass of two pictures, and operations of both passes; the UNet is changed."""
    found: list[int] = []
    work = _operations(
        lambda: found.append(kept_for_backward(unet, 2, shape.size, torch.bfloat16, *(how or (False,)))), gradient=True
    )
    return float(found[0]), work


def _trained(unet: Any, shape: Shape) -> tuple[float, float]:
    """Operations of a forward and of a backward pass on two pictures."""
    side = shape.size // 8
    latents = torch.empty(2, 4, side, side, dtype=torch.bfloat16)
    tokens = torch.empty(2, 77, unet.config.cross_attention_dim, dtype=torch.bfloat16)
    more: dict[str, Any] = {}
    if unet.config.addition_embed_type == "text_time":
        pooled, times = torch.empty(2, 1280, dtype=torch.bfloat16), torch.empty(2, 6, dtype=torch.bfloat16)
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    found: list[Any] = []

    def forward() -> None:
        steps = torch.empty(2, dtype=torch.long)
        found.append(unet(latents, steps, encoder_hidden_states=tokens, **more).sample)

    first = _operations(forward, gradient=True)
    loss: Any = found[0].float().square().mean()
    return first, _operations(loss.backward, gradient=True)


def _operations(run: Any, gradient: bool = False) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(gradient):
        run()
    return float(counter.get_total_flops())


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
