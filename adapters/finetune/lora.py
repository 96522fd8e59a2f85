"""A LoRA on a denoiser: low-rank additions to the attention's projections, which can be switched off.

With it off the model is the reference, so no second model is ever in memory.
Source: Hu et al. 2021, LoRA, arXiv:2106.09685, through peft.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TARGETS", "add_lora", "load_lora", "lora_of", "reference"]

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
# In SD3 and Flux text is attended to jointly, through projections of its own; UNets have none of these.
_OF_TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_NAME = "palate"


def add_lora(unet: Any, rank: int, seed: int = 0) -> list[nn.Parameter]:
    """Put a LoRA on a denoiser that changes nothing yet, freeze all else, and return what is to be trained.

    Args:
        unet: diffusers' UNet2DConditionModel, SD3Transformer2DModel or FluxTransformer2DModel.
        rank: >= 1; lora_alpha is the same, so that its scale is 1.
        seed: Of the random half. The other half is zero.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = [*TARGETS, *_OF_TEXT]
        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
        unet.add_adapter(config, adapter_name=_NAME)
    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            # In half precision forward passes run under autocast, which rounds to it anyway: what comes in would be
            # copied to float32 and back for each of the projections, to the same bits.
            module.cast_input_dtype_enabled = False
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


@contextlib.contextmanager
def reference(unet: Any) -> Iterator[None]:
    """The model as it was before, without gradients, while this lasts."""
    unet.disable_adapters()
    try:
        with torch.no_grad():
            yield
    finally:
        unet.enable_adapters()


def lora_of(unet: Any) -> dict[str, Tensor]:
    """Both halves of every addition, by diffusers' name of its layer: `<layer>.down` (r, in), `<layer>.up` (out, r)."""
    found = {}
    for name, parameter in unet.named_parameters():
        match = re.fullmatch(rf"(.+)\.lora_([AB])\.{_NAME}\.weight", name)
        if match:
            half = {"A": "down", "B": "up"}[match[2]]
            found[f"{match[1]}.{half}"] = parameter.detach().float().cpu().clone()
    return found


def load_lora(unet: Any, state: Mapping[str, Tensor]) -> None:
    """Put the halves that `lora_of` gave back in."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            match = re.fullmatch(rf"(.+)\.lora_([AB])\.{_NAME}\.weight", name)
            if match:
                parameter.copy_(state[f"{match[1]}.{'down' if match[2] == 'A' else 'up'}"])
