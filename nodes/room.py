"""Whether there is memory for steering, said before it is tried."""

from __future__ import annotations

from typing import Any

import comfy.model_management

from ..adapters.errors import SteeringError
from .host_text import HostText

__all__ = ["free_memory", "make_room"]

# Of the text encoder's weights in float32: a copy for the gradients; the moved weights, their gradients, Adam's two
# moments.
_COPIES = {"encoder": 5.0, "pooled": 0.0}
_INSTEAD = {"encoder": "token_input, which copies the weights once", "token_input": "eos_token", "eos_token": "pooled"}


def make_room(model: Any, text: HostText, method: str) -> None:
    """Have the host make room for steering one text encoder.

    Raises:
        SteeringError: there won't be enough memory.
    """
    needed = 4.0 * text.weights * _COPIES.get(method, 1.0)
    if method in ("encoder", "token_input"):  # what a backward pass keeps of each layer
        needed += 4.0 * text.ids.numel() * text.width * text.layers * 30
    device = comfy.model_management.text_encoder_device()
    if device.type != "cpu":
        mine = [one for one in comfy.model_management.current_loaded_models if one.model and one.model.model is model]
        comfy.model_management.free_memory(needed, device, keep_loaded=mine)
    free = free_memory(device)
    if free < needed:
        raise SteeringError(
            f"Cannot steer {text.name} by {method!r}: found {free / 1e9:.1f} GB of free memory; expected about "
            f"{needed / 1e9:.1f} GB. Choose the method {_INSTEAD.get(method, 'eos_token')}, or a shorter prompt."
        )


def free_memory(device: Any) -> float:
    """Bytes that are free on a device."""
    return float(comfy.model_management.get_free_memory(device))
