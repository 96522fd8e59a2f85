"""Stable Diffusion 1.5 at its true shapes with random weights: a checkpoint without projection, and a full CLIP-L file.

The denoiser has one of SD1.5's four levels, which is all that ComfyUI's detection needs; the text encoder is whole.
"""

from __future__ import annotations

from pathlib import Path

import torch
from clip_files import conv, filled, image_tower, linear, norm, text_tower
from safetensors.torch import save_file


def write_sd15(checkpoint: Path, clip_l: Path, seed: int = 0) -> None:
    """Write both files in half precision; the text towers in them are the same."""
    text = filled(text_tower(12, 768, 3072), seed)
    both = text | filled(image_tower(24, 1024, 4096, 14, 768) | {"text_projection.weight": (768, 768)}, seed)
    save_file(
        {f"cond_stage_model.transformer.{k}": v for k, v in text.items()} | filled(unet() | _taesd(), seed), checkpoint
    )
    save_file(both | {"logit_scale": torch.tensor(4.6052)}, clip_l)


def unet(width: int = 320, context: int = 768) -> dict[str, tuple[int, ...]]:
    """One level, one residual block each way, attention to the text in all three parts."""
    shapes = linear("time_embed.0", width, 4 * width) | linear("time_embed.2", 4 * width, 4 * width)
    shapes |= conv("input_blocks.0.0", 4, width, 3)
    for block, before in (("input_blocks.1", width), ("output_blocks.0", 2 * width), ("output_blocks.1", 2 * width)):
        shapes |= _resnet(f"{block}.0", before, width) | _transformer(f"{block}.1", width, context)
    shapes |= _resnet("middle_block.0", width, width) | _resnet("middle_block.2", width, width)
    shapes |= _transformer("middle_block.1", width, context)
    shapes |= norm("out.0", width) | conv("out.2", width, 4, 3)
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def _resnet(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    shapes = norm(f"{name}.in_layers.0", before) | conv(f"{name}.in_layers.2", before, after, 3)
    shapes |= linear(f"{name}.emb_layers.1", 4 * after, after)
    shapes |= norm(f"{name}.out_layers.0", after) | conv(f"{name}.out_layers.3", after, after, 3)
    return shapes | (conv(f"{name}.skip_connection", before, after, 1) if before != after else {})


def _transformer(name: str, width: int, context: int) -> dict[str, tuple[int, ...]]:
    block = f"{name}.transformer_blocks.0"
    shapes = norm(f"{name}.norm", width) | conv(f"{name}.proj_in", width, width, 1)
    shapes |= conv(f"{name}.proj_out", width, width, 1)
    for attention, source in (("attn1", width), ("attn2", context)):
        shapes |= linear(f"{block}.{attention}.to_q", width, width, bias=False)
        for part in ("to_k", "to_v"):
            shapes |= linear(f"{block}.{attention}.{part}", source, width, bias=False)
        shapes |= linear(f"{block}.{attention}.to_out.0", width, width)
    for number in (1, 2, 3):
        shapes |= norm(f"{block}.norm{number}", width)
    shapes |= linear(f"{block}.ff.net.0.proj", width, 8 * width) | linear(f"{block}.ff.net.2", 4 * width, width)
    return shapes


def _taesd() -> dict[str, tuple[int, ...]]:
    """ComfyUI's tiny autoencoder: the one that a checkpoint may hold and that costs nothing."""
    width = 64
    encoder: dict[str, tuple[int, ...]] = conv("0", 3, width, 3) | _taesd_block("1", width)
    number = 2
    for _ in range(3):
        encoder[f"{number}.weight"] = (width, width, 3, 3)
        for block in range(number + 1, number + 4):
            encoder |= _taesd_block(str(block), width)
        number += 4
    encoder |= conv(str(number), width, 4, 3)
    decoder: dict[str, tuple[int, ...]] = conv("1", 4, width, 3)
    number = 3
    for _ in range(3):
        for block in range(number, number + 3):
            decoder |= _taesd_block(str(block), width)
        decoder[f"{number + 4}.weight"] = (width, width, 3, 3)
        number += 5
    decoder |= _taesd_block(str(number), width) | conv(str(number + 1), width, 3, 3)
    shapes = {f"taesd_encoder.{name}": shape for name, shape in encoder.items()}
    shapes |= {f"taesd_decoder.{name}": shape for name, shape in decoder.items()}
    shapes |= {"vae_scale": (), "vae_shift": ()}
    return {f"first_stage_model.{name}": shape for name, shape in shapes.items()}


def _taesd_block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return (
        conv(f"{name}.conv.0", width, width, 3)
        | conv(f"{name}.conv.2", width, width, 3)
        | conv(f"{name}.conv.4", width, width, 3)
    )
