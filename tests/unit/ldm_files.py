"""Small single-file checkpoints in the layout of the original ones: Stable Diffusion 1.5 and SDXL."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]
UNET_WIDTH, SMALL, LARGE, WORDS = 32, 64, 128, 49408
START = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}


def write_checkpoint(path: Path, family: str, extra: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a whole checkpoint with random weights in half precision."""
    save_file(tensors(shapes(family)) | (extra or {}), path)
    return path


def shapes(family: str) -> Shapes:
    """Names and shapes of all tensors."""
    large = family == "sdxl"
    found = {f"model.diffusion_model.{name}": shape for name, shape in _unet(large).items()}
    found |= {f"first_stage_model.{name}": shape for name, shape in _vae().items()}
    found |= {f"{START[family]}{name}": shape for name, shape in _clip_l().items()}
    if large:
        found |= {f"conditioner.embedders.1.model.{name}": shape for name, shape in _clip_g().items()}
    return found


def tensors(wanted: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors; those of norms are ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in wanted.items():
        drawn = torch.randn(shape, generator=generator) * 0.05
        made[name] = (torch.ones(shape) if name.endswith("weight") and len(shape) == 1 else drawn).half()
    return made


def _layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def _unet(large: bool) -> Shapes:
    levels = (1, 2, 4) if large else (1, 2, 4, 4)
    with_text = (1, 2) if large else (0, 1, 2)
    context = SMALL + LARGE if large else SMALL
    time = 4 * UNET_WIDTH
    out = _layer("time_embed.0", time, UNET_WIDTH) | _layer("time_embed.2", time, time)
    if large:
        out |= _layer("label_emb.0.0", time, LARGE + 6 * 32) | _layer("label_emb.0.2", time, time)
    out |= _layer("input_blocks.0.0", UNET_WIDTH, 4, 3, 3)
    width, skips, number = UNET_WIDTH, [UNET_WIDTH], 1
    for level, times in enumerate(levels):
        for _ in range(2):
            out |= _resnet(f"input_blocks.{number}.0", width, times * UNET_WIDTH, time)
            width = times * UNET_WIDTH
            if level in with_text:
                out |= _attention(f"input_blocks.{number}.1", width, context, large)
            skips.append(width)
            number += 1
        if level < len(levels) - 1:
            out |= _layer(f"input_blocks.{number}.0.op", width, width, 3, 3)
            skips.append(width)
            number += 1
    out |= _resnet("middle_block.0", width, width, time) | _resnet("middle_block.2", width, width, time)
    out |= _attention("middle_block.1", width, context, large)
    number = 0
    for level, times in reversed(list(enumerate(levels))):
        for last in (False, False, True):
            out |= _resnet(f"output_blocks.{number}.0", width + skips.pop(), times * UNET_WIDTH, time)
            width = times * UNET_WIDTH
            if level in with_text:
                out |= _attention(f"output_blocks.{number}.1", width, context, large)
            if last and level:
                out |= _layer(f"output_blocks.{number}.{1 + (level in with_text)}.conv", width, width, 3, 3)
            number += 1
    return out | _layer("out.0", UNET_WIDTH) | _layer("out.2", 4, UNET_WIDTH, 3, 3)


def _resnet(name: str, before: int, after: int, time: int) -> Shapes:
    out = _layer(f"{name}.in_layers.0", before) | _layer(f"{name}.in_layers.2", after, before, 3, 3)
    out |= _layer(f"{name}.emb_layers.1", after, time)
    out |= _layer(f"{name}.out_layers.0", after) | _layer(f"{name}.out_layers.3", after, after, 3, 3)
    return out | (_layer(f"{name}.skip_connection", after, before, 1, 1) if before != after else {})


def _attention(name: str, width: int, context: int, linear: bool) -> Shapes:
    ends = () if linear else (1, 1)
    out = _layer(f"{name}.norm", width)
    out |= _layer(f"{name}.proj_in", width, width, *ends) | _layer(f"{name}.proj_out", width, width, *ends)
    block = f"{name}.transformer_blocks.0"
    for part, source in (("attn1", width), ("attn2", context)):
        for letter, before in (("q", width), ("k", source), ("v", source)):
            out |= _layer(f"{block}.{part}.to_{letter}", width, before, bias=False)
        out |= _layer(f"{block}.{part}.to_out.0", width, width)
    for number in (1, 2, 3):
        out |= _layer(f"{block}.norm{number}", width)
    return out | _layer(f"{block}.ff.net.0.proj", 8 * width, width) | _layer(f"{block}.ff.net.2", width, 4 * width)


def _vae() -> Shapes:
    widths = [32, 64, 128, 128]
    out = _layer("encoder.conv_in", widths[0], 3, 3, 3) | _layer("decoder.conv_in", widths[-1], 4, 3, 3)
    before = widths[0]
    for level, width in enumerate(widths):
        for block in (0, 1):
            out |= _vae_resnet(f"encoder.down.{level}.block.{block}", before, width)
            before = width
        if level < 3:
            out |= _layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    for level, width in reversed(list(enumerate(widths))):
        for block in (0, 1, 2):
            out |= _vae_resnet(f"decoder.up.{level}.block.{block}", before, width)
            before = width
        if level:
            out |= _layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    for half in ("encoder", "decoder"):
        for block in (1, 2):
            out |= _vae_resnet(f"{half}.mid.block_{block}", 128, 128)
        out |= _layer(f"{half}.mid.attn_1.norm", 128)
        for part in ("q", "k", "v", "proj_out"):
            out |= _layer(f"{half}.mid.attn_1.{part}", 128, 128, 1, 1)
    out |= _layer("encoder.norm_out", 128) | _layer("encoder.conv_out", 8, 128, 3, 3)
    out |= _layer("decoder.norm_out", 32) | _layer("decoder.conv_out", 3, 32, 3, 3)
    return out | _layer("quant_conv", 8, 8, 1, 1) | _layer("post_quant_conv", 4, 4, 1, 1)


def _vae_resnet(name: str, before: int, after: int) -> Shapes:
    out = _layer(f"{name}.norm1", before) | _layer(f"{name}.conv1", after, before, 3, 3)
    out |= _layer(f"{name}.norm2", after) | _layer(f"{name}.conv2", after, after, 3, 3)
    return out | (_layer(f"{name}.nin_shortcut", after, before, 1, 1) if before != after else {})


def _clip_l() -> Shapes:
    start = "text_model."
    out = {f"{start}embeddings.token_embedding.weight": (WORDS, SMALL)}
    out[f"{start}embeddings.position_embedding.weight"] = (77, SMALL)
    for number in (0, 1):
        layer = f"{start}encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _layer(f"{layer}.self_attn.{part}", SMALL, SMALL)
        out |= _layer(f"{layer}.layer_norm1", SMALL) | _layer(f"{layer}.layer_norm2", SMALL)
        out |= _layer(f"{layer}.mlp.fc1", 2 * SMALL, SMALL) | _layer(f"{layer}.mlp.fc2", SMALL, 2 * SMALL)
    return out | _layer(f"{start}final_layer_norm", SMALL)


def _clip_g() -> Shapes:
    out: Shapes = {"token_embedding.weight": (WORDS, LARGE), "positional_embedding": (77, LARGE)}
    for number in (0, 1):
        layer = f"transformer.resblocks.{number}"
        out |= {f"{layer}.attn.in_proj_weight": (3 * LARGE, LARGE), f"{layer}.attn.in_proj_bias": (3 * LARGE,)}
        out |= _layer(f"{layer}.attn.out_proj", LARGE, LARGE)
        out |= _layer(f"{layer}.ln_1", LARGE) | _layer(f"{layer}.ln_2", LARGE)
        out |= _layer(f"{layer}.mlp.c_fc", 2 * LARGE, LARGE) | _layer(f"{layer}.mlp.c_proj", LARGE, 2 * LARGE)
    return out | _layer("ln_final", LARGE) | {"text_projection": (LARGE, LARGE), "logit_scale": ()}
