"""diffusers' and transformers' configurations of Stable Diffusion 3, 3.5 and FLUX.1, read off their tensors.

What all models of a family share (schedules, scales, activations) is written down here.

Source: the configurations published with SD3 medium, SD3.5, FLUX.1-dev and FLUX.1-schnell.
"""

from __future__ import annotations

import math
from typing import Any

from .checkpoint_kind import Shapes
from .joint_parts import Part

__all__ = ["clip_of", "scheduler_of", "t5_of", "transformer_of", "vae_of"]

Config = dict[str, Any]
_START, _END = 49406, 49407  # CLIP's start and end tokens
_SIDE = 128  # of latents, at 1024 pixels
_HEAD = 64  # of SD3's attention, where no norm says it, and of CLIP's
_SCALES = {"sd3": (1.5305, 0.0609), "flux": (0.3611, 0.1159)}  # scaling_factor and shift_factor of latents


def transformer_of(denoiser: Part) -> Config:
    """Of diffusers' SD3Transformer2DModel or FluxTransformer2DModel."""
    return _sd3(denoiser) if denoiser.family == "sd3" else _flux(denoiser)


def _sd3(denoiser: Part) -> Config:
    shapes = denoiser.shapes
    width, channels, patch = shapes["x_embedder.proj.weight"][:3]
    head = shapes.get("joint_blocks.0.x_block.attn.ln_q.weight", (_HEAD,))[0]
    blocks = _count(shapes, "joint_blocks.")
    return {
        "_class_name": "SD3Transformer2DModel",
        "attention_head_dim": head,
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "dual_attention_layers": [
            block for block in range(blocks) if f"joint_blocks.{block}.x_block.attn2.qkv.weight" in shapes
        ],
        "in_channels": channels,
        "joint_attention_dim": denoiser.width,
        "num_attention_heads": width // head,
        "num_layers": blocks,
        "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
        "patch_size": patch,
        "pooled_projection_dim": denoiser.pooled,
        "pos_embed_max_size": math.isqrt(shapes["pos_embed"][1]),
        "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in shapes else None,
        "sample_size": _SIDE,
    }


def _flux(denoiser: Part) -> Config:
    shapes = denoiser.shapes
    width, channels = shapes["img_in.weight"]
    head = shapes["double_blocks.0.img_attn.norm.key_norm.scale"][0]
    first = 2 * (head // 16)  # of 128 numbers 16 tell which picture, 56 the row, 56 the column
    return {
        "_class_name": "FluxTransformer2DModel",
        "attention_head_dim": head,
        "axes_dims_rope": [first, (head - first) // 2, (head - first) // 2],
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
        "in_channels": channels,
        "joint_attention_dim": denoiser.width,
        "num_attention_heads": width // head,
        "num_layers": _count(shapes, "double_blocks."),
        "num_single_layers": _count(shapes, "single_blocks."),
        "patch_size": 1,
        "pooled_projection_dim": denoiser.pooled,
    }


def scheduler_of(denoiser: Part) -> Config:
    """Of diffusers' FlowMatchEulerDiscreteScheduler."""
    if denoiser.family == "sd3":
        return {"num_train_timesteps": 1000, "shift": 3.0}
    dev = "guidance_in.in_layer.weight" in denoiser.shapes
    return {
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0 if dev else 1.0,
        "use_dynamic_shifting": dev,
    }


def vae_of(part: Part, family: str) -> Config:
    """Of diffusers' AutoencoderKL, whichever of the two ways its tensors are named in."""
    shapes = part.shapes
    level, block = "encoder.down.", "block"
    if f"{level}0.block.0.conv1.weight" not in shapes:
        level, block = "encoder.down_blocks.", "resnets"
    levels = _count(shapes, level)
    widths = [shapes[f"{level}{number}.{block}.0.conv1.weight"][0] for number in range(levels)]
    scale, shift = _SCALES[family]
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "force_upcast": True,
        "latent_channels": part.width,
        "layers_per_block": _count(shapes, f"{level}0.{block}."),
        "norm_num_groups": 32,
        "sample_size": 8 * _SIDE,
        "scaling_factor": scale,
        "shift_factor": shift,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
    }


def clip_of(part: Part, large: bool) -> Config:
    """Of transformers' CLIPTextModel; `large`: CLIP-G."""
    shapes, start = part.shapes, "text_model."
    words, width = shapes[f"{start}embeddings.token_embedding.weight"]
    return {
        "bos_token_id": _START,
        "eos_token_id": _END,
        "hidden_act": "gelu" if large else "quick_gelu",
        "hidden_size": width,
        "intermediate_size": shapes[f"{start}encoder.layers.0.mlp.fc1.weight"][0],
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": shapes[f"{start}embeddings.position_embedding.weight"][0],
        "num_attention_heads": max(width // _HEAD, 1),
        "num_hidden_layers": _count(shapes, f"{start}encoder.layers."),
        "pad_token_id": 1,
        "projection_dim": part.pooled if large else width,
        "vocab_size": words,
    }


def t5_of(part: Part) -> Config:
    """Of transformers' T5EncoderModel."""
    shapes, first = part.shapes, "encoder.block.0.layer.0.SelfAttention."
    buckets, heads = shapes[f"{first}relative_attention_bias.weight"]
    return {
        "d_ff": shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        "d_kv": shapes[f"{first}q.weight"][0] // heads,
        "d_model": part.width,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "num_heads": heads,
        "num_layers": _count(shapes, "encoder.block."),
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": buckets,
        "tie_word_embeddings": False,
        "vocab_size": shapes["shared.weight"][0],
    }


def _count(shapes: Shapes, start: str) -> int:
    return len({name.removeprefix(start).split(".", 1)[0] for name in shapes if name.startswith(start)})
