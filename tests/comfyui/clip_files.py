"""CLIP towers at any shapes with random weights, and SDXL's text encoders with what steers them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]
_POOL = 1 << 22  # random numbers that all tensors are cut from; drawing a billion would take too long


def write_sdxl(text_encoders: Path, clip_vision: Path) -> None:
    """Write SDXL's two text encoders, whole, and for each a CLIP that steers it, with a small image tower.

    As people have them: clip_l without a projection, clip_g with its own. The CLIP for clip_l is `wide-768`, with the
    projection that clip_l lacks; the one for clip_g is `wide-1280`, an image tower alone. `wide-96` fits neither.
    """
    save_file(filled(text_tower(12, 768, 3072)), text_encoders / "clip_l.safetensors")
    projection = {"text_projection.weight": (1280, 1280)}
    save_file(filled(text_tower(32, 1280, 5120) | projection), text_encoders / "clip_g.safetensors")
    with_projection = image_tower(1, 64, 128, 32, 768) | {"text_projection.weight": (768, 768)}
    save_file(filled(with_projection), clip_vision / "wide-768.safetensors")
    save_file(filled(image_tower(1, 64, 128, 32, 1280)), clip_vision / "wide-1280.safetensors")
    save_file(filled(image_tower(1, 64, 128, 32, 96)), clip_vision / "wide-96.safetensors")


def filled(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of these names and shapes in half precision."""
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed)).mul_(0.02).half()
    return {name: _tensor(name, shape, pool) for name, shape in shapes.items()}


def text_tower(layers: int, width: int, inner: int) -> Shapes:
    """A text tower of CLIP in transformers' names, without projection."""
    start = "text_model.embeddings."
    shapes: Shapes = {
        f"{start}token_embedding.weight": (49408, width),
        f"{start}position_embedding.weight": (77, width),
    }
    return shapes | _layers("text_model", layers, width, inner) | norm("text_model.final_layer_norm", width)


def image_tower(layers: int, width: int, inner: int, patch: int, joint: int) -> Shapes:
    """An image tower of CLIP for 224 pixels, with its projection."""
    start = "vision_model.embeddings."
    shapes: Shapes = {
        f"{start}class_embedding": (width,),
        f"{start}patch_embedding.weight": (width, 3, patch, patch),
        f"{start}position_embedding.weight": ((224 // patch) ** 2 + 1, width),
        "visual_projection.weight": (joint, width),
    }
    shapes |= norm("vision_model.pre_layrnorm", width) | norm("vision_model.post_layernorm", width)
    return shapes | _layers("vision_model", layers, width, inner)


def linear(name: str, before: int, after: int, bias: bool = True) -> Shapes:
    """A linear layer."""
    return {f"{name}.weight": (after, before)} | ({f"{name}.bias": (after,)} if bias else {})


def conv(name: str, before: int, after: int, kernel: int) -> Shapes:
    """A convolution."""
    return {f"{name}.weight": (after, before, kernel, kernel), f"{name}.bias": (after,)}


def norm(name: str, width: int) -> Shapes:
    """A layer or group norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _layers(name: str, layers: int, width: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(layers):
        start = f"{name}.encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{start}self_attn.{part}", width, width)
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= norm(f"{start}{part}", width)
        shapes |= linear(f"{start}mlp.fc1", width, inner) | linear(f"{start}mlp.fc2", inner, width)
    return shapes


def _tensor(name: str, shape: tuple[int, ...], pool: torch.Tensor) -> torch.Tensor:
    size = 1
    for length in shape:
        size *= length
    if (name.endswith("weight") and len(shape) == 1) or name.endswith("vae_scale"):
        return torch.ones(shape, dtype=pool.dtype)  # of a norm
    start = sum(name.encode()) * 997 % (_POOL // 2)
    return torch.cat([pool[start:], pool.repeat(size // _POOL + 1)])[:size].reshape(shape).clone()
