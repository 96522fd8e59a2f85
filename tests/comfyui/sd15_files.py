"""Stable Diffusion 1.5 at its true shapes with random weights: a checkpoint without projection, and a full CLIP-L file.

The denoiser has one of SD1.5's four levels, which is all that ComfyUI's detection needs; the text encoder is whole.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

_POOL = 1 << 22  # random numbers that all tensors are cut from; drawing 430 million would take too long


def write_sd15(checkpoint: Path, clip_l: Path, seed: int = 0) -> None:
    """Write both files in half precision; the text towers in them are the same."""
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed)).mul_(0.02).half()

    def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        return {name: _tensor(name, shape, pool) for name, shape in shapes.items()}

    text = filled(_tower("text_model", 12, 768, 3072) | _TEXT)
    vision = filled(_tower("vision_model", 24, 1024, 4096) | _VISION)
    save_file(
        {f"cond_stage_model.transformer.{k}": v for k, v in text.items()} | filled(_unet() | _taesd()), checkpoint
    )
    save_file(text | vision | {"logit_scale": torch.tensor(4.6052)}, clip_l)


def _tensor(name: str, shape: tuple[int, ...], pool: torch.Tensor) -> torch.Tensor:
    size = 1
    for length in shape:
        size *= length
    if (name.endswith("weight") and len(shape) == 1) or name.endswith("vae_scale"):
        return torch.ones(shape, dtype=pool.dtype)  # of a norm
    start = sum(name.encode()) * 997 % (_POOL // 2)
    return torch.cat([pool[start:], pool.repeat(size // _POOL + 1)])[:size].reshape(shape).clone()


_TEXT: dict[str, tuple[int, ...]] = {
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    "text_model.embeddings.position_embedding.weight": (77, 768),
    "text_model.final_layer_norm.weight": (768,),
    "text_model.final_layer_norm.bias": (768,),
}
_VISION: dict[str, tuple[int, ...]] = {
    "vision_model.embeddings.class_embedding": (1024,),
    "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
    "vision_model.embeddings.position_embedding.weight": (257, 1024),
    "vision_model.pre_layrnorm.weight": (1024,),
    "vision_model.pre_layrnorm.bias": (1024,),
    "vision_model.post_layernorm.weight": (1024,),
    "vision_model.post_layernorm.bias": (1024,),
    "visual_projection.weight": (768, 1024),
    "text_projection.weight": (768, 768),
}


def _tower(name: str, layers: int, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        start = f"{name}.encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{start}self_attn.{part}", width, width)
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= _norm(f"{start}{part}", width)
        shapes |= _linear(f"{start}mlp.fc1", width, inner) | _linear(f"{start}mlp.fc2", inner, width)
    return shapes


def _linear(name: str, before: int, after: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (after, before)} | ({f"{name}.bias": (after,)} if bias else {})


def _conv(name: str, before: int, after: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (after, before, kernel, kernel), f"{name}.bias": (after,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _unet(width: int = 320, context: int = 768) -> dict[str, tuple[int, ...]]:
    """One level, one residual block each way, attention to the text in all three parts."""
    shapes = _linear("time_embed.0", width, 4 * width) | _linear("time_embed.2", 4 * width, 4 * width)
    shapes |= _conv("input_blocks.0.0", 4, width, 3)
    for block, before in (("input_blocks.1", width), ("output_blocks.0", 2 * width), ("output_blocks.1", 2 * width)):
        shapes |= _resnet(f"{block}.0", before, width) | _transformer(f"{block}.1", width, context)
    shapes |= _resnet("middle_block.0", width, width) | _resnet("middle_block.2", width, width)
    shapes |= _transformer("middle_block.1", width, context)
    shapes |= _norm("out.0", width) | _conv("out.2", width, 4, 3)
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def _resnet(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    shapes = _norm(f"{name}.in_layers.0", before) | _conv(f"{name}.in_layers.2", before, after, 3)
    shapes |= _linear(f"{name}.emb_layers.1", 4 * after, after)
    shapes |= _norm(f"{name}.out_layers.0", after) | _conv(f"{name}.out_layers.3", after, after, 3)
    return shapes | (_conv(f"{name}.skip_connection", before, after, 1) if before != after else {})


def _transformer(name: str, width: int, context: int) -> dict[str, tuple[int, ...]]:
    block = f"{name}.transformer_blocks.0"
    shapes = _norm(f"{name}.norm", width) | _conv(f"{name}.proj_in", width, width, 1)
    shapes |= _conv(f"{name}.proj_out", width, width, 1)
    for attention, source in (("attn1", width), ("attn2", context)):
        shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
        for part in ("to_k", "to_v"):
            shapes |= _linear(f"{block}.{attention}.{part}", source, width, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
    for norm in ("norm1", "norm2", "norm3"):
        shapes |= _norm(f"{block}.{norm}", width)
    shapes |= _linear(f"{block}.ff.net.0.proj", width, 8 * width) | _linear(f"{block}.ff.net.2", 4 * width, width)
    return shapes


def _taesd() -> dict[str, tuple[int, ...]]:
    """ComfyUI's tiny autoencoder: the one that a checkpoint may hold and that costs nothing."""
    width = 64
    encoder: dict[str, tuple[int, ...]] = _conv("0", 3, width, 3) | _taesd_block("1", width)
    number = 2
    for _ in range(3):
        encoder[f"{number}.weight"] = (width, width, 3, 3)
        for block in range(number + 1, number + 4):
            encoder |= _taesd_block(str(block), width)
        number += 4
    encoder |= _conv(str(number), width, 4, 3)
    decoder: dict[str, tuple[int, ...]] = _conv("1", 4, width, 3)
    number = 3
    for _ in range(3):
        for block in range(number, number + 3):
            decoder |= _taesd_block(str(block), width)
        decoder[f"{number + 4}.weight"] = (width, width, 3, 3)
        number += 5
    decoder |= _taesd_block(str(number), width) | _conv(str(number + 1), width, 3, 3)
    shapes = {f"taesd_encoder.{name}": shape for name, shape in encoder.items()}
    shapes |= {f"taesd_decoder.{name}": shape for name, shape in decoder.items()}
    shapes |= {"vae_scale": (), "vae_shift": ()}
    return {f"first_stage_model.{name}": shape for name, shape in shapes.items()}


def _taesd_block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return (
        _conv(f"{name}.conv.0", width, width, 3)
        | _conv(f"{name}.conv.2", width, width, 3)
        | _conv(f"{name}.conv.4", width, width, 3)
    )
