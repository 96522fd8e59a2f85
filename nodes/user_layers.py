"""Where a user enters a MODEL of ComfyUI: its cross-attentions, under diffusers' names and ComfyUI's."""

from __future__ import annotations

import re
from typing import Any

import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..adapters.errors import PPDError
from ..adapters.ppd.layers import LayerShape
from .user_patch import UserLayer

__all__ = ["user_layers"]

_ENDING = ".to_q.weight"
_BLOCK = re.compile(r"^(input|middle|output)_blocks?\.(\d+)\.")
_PARTS = ("down_blocks", "up_blocks", "mid_block")  # the order of diffusers' attention processors


def user_layers(model: Any) -> tuple[tuple[UserLayer, ...], int]:
    """Find the cross-attentions of a model.

    Args:
        model: A MODEL; only looked at.

    Returns:
        The layers in the order of diffusers' attention processors, and the width of the text tokens that they take.

    Raises:
        PPDError: a kind of model that has no such layers; it names the class and those that have.
    """
    base = model.model
    denoiser = getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)  # torch.compile wraps it
    if not isinstance(denoiser, UNetModel):
        raise PPDError(
            f"Cannot apply a user: the model is a {type(base).__name__} with a denoiser of class "
            f"{type(denoiser).__name__}; expected a UNet of SD1.x, SD2.x or SDXL, or the playground's. Load a "
            "checkpoint of the family that the PPD was trained for."
        )
    # ComfyUI's own table, by which it loads LoRAs with diffusers' names.
    table = comfy.utils.unet_to_diffusers(base.model_config.unet_config)
    paths = {
        name.removesuffix(_ENDING): path.removesuffix(_ENDING)
        for name, path in table.items()
        if name.endswith(f".attn2{_ENDING}")
    }
    modules = dict(denoiser.named_modules())
    names = sorted((name for name, path in paths.items() if path in modules), key=_diffusers_order)
    layers = tuple(_layer(name, paths[name], modules[paths[name]]) for name in names)
    if not layers:
        raise PPDError(
            f"Cannot apply a user: found no cross-attention to text in this {type(base).__name__}; expected a UNet of "
            "SD1.x, SD2.x or SDXL, or the playground's. Load a checkpoint of the family that the PPD was trained for."
        )
    return layers, int(modules[layers[0].path].to_k.in_features)


def _layer(name: str, path: str, attention: Any) -> UserLayer:
    heads, inner = int(attention.heads), int(attention.heads * attention.dim_head)
    shape = LayerShape(name, int(attention.to_q.in_features), inner, heads, int(attention.to_out[0].out_features))
    (part, number), transformer = _BLOCK.findall(path)[0], path.split(".")[-2]
    # The middle block's number is the place of its transformer; while it runs ComfyUI calls it 0.
    return UserLayer(shape, (part, 0 if part == "middle" else int(number), int(transformer)), path)


def _diffusers_order(name: str) -> tuple[int, list[int]]:
    return _PARTS.index(name.partition(".")[0]), [int(number) for number in re.findall(r"\.(\d+)(?=\.|$)", name)]
